/* Which kernels this CPU runs. */
#ifndef FD_CPU_CPU_H
#define FD_CPU_CPU_H

#include "base/status.h"
#include "kernels/kernels.h"

/* The i-th ISA of the build, best first, or NULL past the last. */
const fd_kernels *fd_cpu_kernels(size_t i);

/* Whether CPU and operating system run the i-th ISA. */
int fd_cpu_usable(size_t i);

/* The best usable ISA, or the one that FASTDIGIT_ISA names: FD_ERR_ISA if it is unknown or not usable. */
fd_status fd_cpu_select(const fd_kernels **kernels, fd_error *error);

#endif

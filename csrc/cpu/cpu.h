/* The ISAs of the build, and which of them runs on this CPU. */
#ifndef FD_CPU_CPU_H
#define FD_CPU_CPU_H

#include "base/status.h"
#include "cpu/features.h"
#include "kernels/kernels.h"

/* A row of isa/isas.def. */
typedef struct fd_isa {
    const char *name;
    const fd_float_kernels *floats;
    const fd_byte_kernels *bytes;
    uint32_t features; /* FD_CPU_*: what it requires */
} fd_isa;

/* The i-th ISA of the build, best first, or NULL past the last. */
const fd_isa *fd_isa_at(size_t i);

/* Whether a CPU with these features runs it. */
int fd_isa_usable(const fd_isa *isa, uint32_t features);

/* The best ISA for a CPU with these features, or the one that is `wanted` by name: FD_ERR_ISA if it is unknown or not
 * usable, and `who` is what the error says is wrong. */
fd_status fd_isa_choose(uint32_t features, const char *wanted, const char *who, const fd_isa **isa, fd_error *error);

/* The best ISA for this CPU, or the one that FASTDIGIT_ISA names. */
fd_status fd_isa_select(const fd_isa **isa, fd_error *error);

#endif

/* Every kernel on bytes once, for the ISA whose dot_*.h came before, and their table. Included by isa/isa_*.c only. */
#include "kernels/common.inl.h"

#include "kernels/dynamic.inl.h"
#include "kernels/probe_dot.inl.h"

extern const fd_byte_kernels FD_FN(byte_kernels);
const fd_byte_kernels FD_FN(byte_kernels) = {
#define FD_BYTE_KERNEL(name, type, params) .name = FD_FN(name),
#include "kernels/kernels.def"
};

/* Every kernel once, for the ISA whose simd_*.h came before, and its table. Included by isa/isa_*.c only. */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "format/format.h"
#include "kernels/kernels.h"

#define FD_CONCAT_(a, b) fd_##a##_##b
#define FD_CONCAT(a, b) FD_CONCAT_(a, b)
#define FD_FN(name) FD_CONCAT(name, FD_ISA)
#define FD_STRING_(x) #x
#define FD_STRING(x) FD_STRING_(x)

/* Everything is static: were two ISA files to share a symbol, the linker would keep one of them, and the generic
 * kernels might call code for a CPU that is not there. */
#define FD_LOCAL static
#define FD_INLINE static inline __attribute__((always_inline))
#define FD_UNROLL _Pragma("GCC unroll 64")

/* The most inputs or vectors of weights in a tile. */
#define FD_TILE_SIDE 12

#include "kernels/math.inl.h"
#include "kernels/tile.inl.h"

#include "kernels/epilogue.inl.h"

#include "kernels/eltwise.inl.h"
#include "kernels/input.inl.h"
#include "kernels/pool2d.inl.h"

#include "kernels/binary.inl.h"
#include "kernels/conv2d.inl.h"
#include "kernels/copy.inl.h"
#include "kernels/dense.inl.h"

#include "kernels/dynamic.inl.h"
#include "kernels/layernorm.inl.h"
#include "kernels/probe.inl.h"
#include "kernels/softmax.inl.h"

#include "kernels/depthwise.inl.h"
#include "kernels/winograd.inl.h"

const fd_kernels FD_FN(kernels);
const fd_kernels FD_FN(kernels) = {
    .isa = FD_STRING(FD_ISA),
    .vector_floats = FD_VL,
#define FD_KERNEL(name, type, params) .name = FD_FN(name),
#include "kernels/kernels.def"
#undef FD_KERNEL
};

/* What every kernel is written with, after a vocabulary (simd_*.h). Included by floats.inl.h and bytes.inl.h only. */
#ifndef FD_KERNELS_COMMON_INL_H
#define FD_KERNELS_COMMON_INL_H

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

/* The kernels on floats of FD_FLOATS: the ISA's own, or those of the ISA that it adds kernels on bytes to. */
#define FD_FLOAT_TABLE FD_CONCAT(float_kernels, FD_FLOATS)
extern const fd_float_kernels FD_FLOAT_TABLE;

/* All else is static: were two ISA files to share a symbol, the linker would keep one of them, and the generic kernels
 * might call code for a CPU that is not there. */
#define FD_LOCAL static
#define FD_INLINE static inline __attribute__((always_inline))
/* After FD_LOCAL: once an ISA, for what is rarely used, or used in many places. Such a function takes no vectors, for
 * how wide ones are passed depends on the compiler's flags. */
#define FD_APART __attribute__((noinline))
#ifndef FD_UNROLL
#define FD_UNROLL _Pragma("GCC unroll 64")
#endif

/* The most inputs or vectors of weights in a tile. */
#define FD_TILE_SIDE 12

#include "kernels/epilogue.inl.h"

#include "kernels/dense_put.inl.h"

#endif

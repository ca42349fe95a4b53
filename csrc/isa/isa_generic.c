/* Any CPU: SSE2 on x86-64, whatever the compiler makes of 16-byte vectors elsewhere. */
#define FD_ISA generic
#define FD_FLOATS generic
#include "simd/dot_generic.h"
#include "simd/simd_generic.h"

/* Register tiles: two groups of FD_CONV_COLS pixels by FD_CONV_NV vectors; FD_PATCH_MR patches; rows by vectors for
 * dense layers. Up to FD_DENSE_ALONE rows are cheaper one by one, without their zeros. */
#define FD_CONV_COLS 2
#define FD_CONV_NV 2
#define FD_PATCH_MR 3
#define FD_DENSE_MR 4
#define FD_DENSE_ACCUMULATORS 8
#define FD_DENSE_ALONE 2
#define FD_NARROW_MR 1
#define FD_NARROW_NV 2

#include "kernels/floats.inl.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 3
#define FD_DOT_ACCUMULATORS 6
#define FD_DOT_ALONE 6

#include "kernels/bytes.inl.h"

/* AArch64 Advanced SIMD: 32 registers of 4 floats; 8 x 3 or 4 x 6 accumulators. */
#define FD_ISA neon
#define FD_FLOATS neon
#include "simd/dot_neon.h"
#include "simd/simd_neon.h"

/* Register tiles: two groups of FD_CONV_COLS pixels by FD_CONV_NV vectors; FD_PATCH_MR patches; rows by vectors for
 * dense layers. Up to FD_DENSE_ALONE rows are cheaper one by one, without their zeros. */
#define FD_CONV_COLS 4
#define FD_CONV_NV 3
#define FD_PATCH_MR 9
#define FD_DENSE_MR 4
#define FD_DENSE_ACCUMULATORS 24
#define FD_DENSE_ALONE 1
#define FD_NARROW_MR 2
#define FD_NARROW_NV 2

#include "kernels/floats.inl.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 8
#define FD_DOT_ALONE 8

#include "kernels/bytes.inl.h"

/* AVX-512: 32 registers of 16 floats; 8 x 3 or 4 x 6 accumulators. */
#define FD_ISA avx512
#define FD_FLOATS avx512
#include "simd/dot_avx512.h"
#include "simd/simd_avx512.h"

/* Register tiles: two groups of FD_CONV_COLS pixels by FD_CONV_NV vectors; FD_PATCH_MR patches; rows by vectors for
 * dense layers. Up to FD_DENSE_ALONE rows are cheaper one by one, without their zeros. */
#define FD_CONV_COLS 4
#define FD_CONV_NV 3
#define FD_PATCH_MR 9
#define FD_DENSE_MR 4
#define FD_DENSE_ACCUMULATORS 24
#define FD_DENSE_ALONE 1
#define FD_NARROW_MR 4
#define FD_NARROW_NV 1

#include "kernels/floats.inl.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 12
#define FD_DOT_ALONE 6

#include "kernels/bytes.inl.h"

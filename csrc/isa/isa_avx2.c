/* AVX2 and FMA: 16 registers of 8 floats; 4 x 3 accumulators, 3 weights and an input fill them. */
#define FD_ISA avx2
#define FD_FLOATS avx2
#include "simd/dot_avx2.h"
#include "simd/simd_avx2.h"

/* Register tiles: two groups of FD_CONV_COLS pixels by FD_CONV_NV vectors; FD_PATCH_MR patches; rows by vectors for
 * dense layers. Up to FD_DENSE_ALONE rows are cheaper one by one, without their zeros. */
#define FD_CONV_COLS 2
#define FD_CONV_NV 3
#define FD_PATCH_MR 4
#define FD_DENSE_MR 4
#define FD_DENSE_ACCUMULATORS 12
#define FD_DENSE_ALONE 1
#define FD_NARROW_MR 1
#define FD_NARROW_NV 2

#include "kernels/floats.inl.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 8
#define FD_DOT_ALONE 12

#include "kernels/bytes.inl.h"

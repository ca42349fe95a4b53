/* AVX-512 and VNNI: 32 registers of 16 floats; 8 x 3 or 4 x 6 accumulators. */
#define FD_ISA avx512vnni
#include "simd/simd_avx512vnni.h"

/* Register tiles: two groups of FD_CONV_COLS pixels by FD_CONV_NV vectors; FD_PATCH_MR patches; rows by vectors for
 * dense layers, and for those on bytes (FD_DOT). Up to FD_DENSE_ALONE rows are cheaper one by one, without their zeros.
 */
#define FD_CONV_COLS 4
#define FD_CONV_NV 3
#define FD_PATCH_MR 9
#define FD_DENSE_MR 4
#define FD_DENSE_ACCUMULATORS 24
#define FD_DENSE_ALONE 1
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 24
#define FD_DOT_ALONE 6
#define FD_NARROW_MR 4
#define FD_NARROW_NV 1

#include "kernels/all.inl.h"

/* VNNI on top of AVX2, for CPUs without AVX-512: 4 x 3 accumulators, 3 weights and an input fill the registers. */
#define FD_ISA avxvnni
#define FD_FLOATS avx2
#include "simd/dot_avxvnni.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 12
#define FD_DOT_ALONE 12

#include "kernels/bytes.inl.h"

/* VNNI on top of AVX-512: four multiply-adds of bytes in one instruction, and so 4 x 6 accumulators. */
#define FD_ISA avx512vnni
#define FD_FLOATS avx512
#include "simd/dot_avx512vnni.h"

/* Rows by vectors for dense layers on bytes; vectors of a row alone. */
#define FD_DOT_MR 4
#define FD_DOT_ACCUMULATORS 24
#define FD_DOT_ALONE 6

#include "kernels/bytes.inl.h"

/* Dot products of bytes: AVX-VNNI, which are VNNI's with the encoding of AVX2. See simd_generic.h for what each word
 * means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_avx2.h"

#define FD_DOT_MIN 0

typedef __m256i fd_dot_weight;
typedef __m256i fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    return (fd_vi)_mm256_dpbusd_avx_epi32((__m256i)acc, x, w);
}

#endif

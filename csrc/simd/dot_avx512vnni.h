/* Dot products of bytes: AVX-512 VNNI. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_avx512.h"

#define FD_DOT_MIN 0

typedef __m512i fd_dot_weight;
typedef __m512i fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) { return _mm512_loadu_si512(p); }
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    return (fd_vi)_mm512_dpbusd_epi32((__m512i)acc, x, w);
}

#endif

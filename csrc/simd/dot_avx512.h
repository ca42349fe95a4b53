/* Dot products of bytes: AVX-512 (BW). See simd_generic.h for what each word means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_avx512.h"

#define FD_DOT_MIN (-128)

typedef __m512i fd_dot_weight;
typedef struct fd_dot_input {
    __m512i magnitude;
    __mmask64 negative;
} fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) { return _mm512_loadu_si512(p); }
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const __m512i x = _mm512_set1_epi32(four);
    return (fd_dot_input){_mm512_abs_epi8(x), _mm512_movepi8_mask(x)};
}
/* Unsigned times signed bytes, the sign having moved from input to weight: 2 * 128 * 127 does not saturate. */
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    const __m512i with_sign = _mm512_mask_sub_epi8(w, x.negative, _mm512_setzero_si512(), w);
    const __m512i pairs = _mm512_maddubs_epi16(x.magnitude, with_sign);
    return acc + (fd_vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}

#endif

/* Dot products of bytes: AVX2. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_avx2.h"

#define FD_DOT_MIN (-128)

typedef __m256i fd_dot_weight;
typedef struct fd_dot_input {
    __m256i magnitude, x;
} fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const __m256i x = _mm256_set1_epi32(four);
    return (fd_dot_input){_mm256_abs_epi8(x), x};
}
/* Unsigned times signed bytes, the sign having moved from input to weight: 2 * 128 * 127 does not saturate. */
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    const __m256i pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.x));
    return acc + (fd_vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#endif

/* Dot products of bytes without vectors, for tests: with any FD_VL, and input bytes of either sign, as FD_DOT_MIN says.
 * What each word means is in simd_generic.h. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_generic.h"

typedef int8_t fd_dot_weight __attribute__((vector_size(4 * FD_VL)));
typedef int32_t fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) {
    fd_dot_weight w;
    memcpy(&w, p, sizeof w);
    return w;
}
static inline fd_dot_input v_dot_input(const void *p) {
    fd_dot_input x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    for (int lane = 0; lane < FD_VL; lane++) {
        for (int k = 0; k < 4; k++) {
            const int32_t byte = x >> 8 * k & 0xFF;
            acc[lane] += (FD_DOT_MIN < 0 ? (int8_t)byte : byte) * w[4 * lane + k];
        }
    }
    return acc;
}

#endif

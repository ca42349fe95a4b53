/* Dot products of bytes: AArch64 Advanced SIMD. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_neon.h"

#define FD_DOT_MIN (-128)

typedef int8x16_t fd_dot_weight;
typedef int8x16_t fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) { return vld1q_s8(p); }
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
/* Two products make at most 2 * 128 * 127, which fits 16 bits. */
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w)), high = vmull_high_s8(x, w);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
}

#endif

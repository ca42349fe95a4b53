/* Vector vocabulary: AArch64 Advanced SIMD. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_H
#define FD_SIMD_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FD_VL 4
#define FD_VREGS 32
#define FD_KEEP(v) __asm__("" : "+w"(v))

#include "simd/put_nonzero.h"

typedef float32x4_t fd_v;
typedef int32x4_t fd_vi;

static inline fd_v v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, fd_v v) { vst1q_f32(p, v); }
static inline fd_v v_set1(float x) { return vdupq_n_f32(x); }

static inline fd_v v_load_n(const float *p, size_t n) {
    float lanes[FD_VL] = {0};
    memcpy(lanes, p, n * sizeof(float));
    return vld1q_f32(lanes);
}
static inline void v_store_n(float *p, fd_v v, size_t n) {
    float lanes[FD_VL];
    vst1q_f32(lanes, v);
    memcpy(p, lanes, n * sizeof(float));
}

static inline fd_v v_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline fd_v v_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

static inline fd_v v_fma(fd_v a, fd_v b, fd_v c) { return vfmaq_f32(c, a, b); }
/* Not vmaxq: x86 returns the second operand if either is a NaN, and so do we. */
static inline fd_v v_max(fd_v a, fd_v b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline fd_v v_min(fd_v a, fd_v b) { return vbslq_f32(vcltq_f32(a, b), a, b); }

static inline fd_v v_if_positive(fd_v x, fd_v a, fd_v b) { return vbslq_f32(vcgtzq_f32(x), a, b); }
static inline int v_all_within(fd_v x, fd_v lo, fd_v hi) {
    return vminvq_u32(vandq_u32(vcgeq_f32(x, lo), vcleq_f32(x, hi))) != 0;
}
static inline fd_v v_round(fd_v x) { return vrndnq_f32(x); }
static inline fd_v v_scale2(fd_v x, fd_v n) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}

static inline fd_v v_exponent(fd_v x) {
    return vcvtq_f32_s32(vsubq_s32(vshrq_n_s32(vreinterpretq_s32_f32(x), 23), vdupq_n_s32(127)));
}
static inline fd_v v_sqrt(fd_v x) { return vsqrtq_f32(x); }
static inline float v_sum(fd_v x) { return vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x))); }

static inline fd_vi v_iset1(int32_t x) { return vdupq_n_s32(x); }
static inline fd_vi v_iload(const int32_t *p) { return vld1q_s32(p); }
static inline fd_v v_from_int(fd_vi x) { return vcvtq_f32_s32(x); }
static inline void v_store_bytes(void *p, fd_v x) {
    const int16x4_t halves = vmovn_s32(vcvtq_s32_f32(x));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

#endif

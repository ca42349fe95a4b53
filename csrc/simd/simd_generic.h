/* Vector vocabulary: any CPU, through the vector types of GNU C, which the compiler lowers to what there is.
 *
 * This is the definition of the vocabulary; the other simd_*.h say the same words with intrinsics. +, -, * and / work
 * on fd_v everywhere.
 *
 *   FD_VL, FD_VREGS      floats in a vector; vector registers that a kernel may count on
 *   FD_KEEP(v)           the vector v, just loaded, stays in a register. Otherwise gcc folds the load into each
 *                        multiply-add that uses it, and the loop waits for load ports instead of multipliers
 *   v_load, v_store      any alignment
 *   v_load_n, v_store_n  the first n lanes, 0 <= n < FD_VL; nothing beyond is touched; the other lanes load as 0
 *   v_load_f16           FD_VL finite binary16 values; any alignment
 *   v_load_i8            FD_VL signed bytes
 *   v_set1               one value in all lanes
 *   v_fma(a, b, c)       a * b + c; rounded once where the ISA has a fused multiply-add
 *   v_max, v_min         a > b ? a : b and a < b ? a : b: the second operand for equals and for NaN, so that
 *                        v_max(x, +0) is never -0
 *   v_if_positive        x > 0 ? a : b
 *   v_all_within         1 if every lane is in [lo, hi], 0 if one is not or is NaN
 *   v_round              to the nearest integer, ties to even; |x| < 2^22
 *   v_scale2(x, n)       x * 2^n for an integral n in [-126, 127]
 *   v_exponent(x)        the integral n with 2^n <= x < 2^(n + 1), for a normal x > 0
 *   v_sqrt               rounded to nearest
 *   v_sum                one float: the second half of the lanes is added to the first, until one is left
 *   v_put_nonzero        of FD_VL floats at p, those that are not 0, in order, and their indices, that of p[0] being
 *                        `first`; returns how many. FD_VL of each may be written
 *
 * Integers, exact everywhere:
 *
 *   fd_vi                FD_VL lanes of int32_t; +, - and * work, and must not overflow
 *   v_iset1, v_iload     one value in all lanes; any alignment
 *   v_from_int           int32_t to the nearest float, ties to even
 *   v_store_bytes(p, x)  the low bytes of FD_VL integral floats, |x| < 2^15
 *
 * Dot products of bytes, exact as well, in dot_*.h: an ISA may have better ones and nothing else of its own.
 *
 *   FD_DOT_MIN           input bytes of v_dot are FD_DOT_MIN to FD_DOT_MIN + 255: signed or unsigned
 *   v_dot_input          four input bytes, any alignment, the same in all lanes
 *   v_dot_weight         four weights for each lane, signed bytes -127 to 127, any alignment
 *   v_dot(acc, x, w)     acc + x[0] w[0] + x[1] w[1] + x[2] w[2] + x[3] w[3] in each lane
 */
#ifndef FD_SIMD_H
#define FD_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The build of the engine has vectors of 16 bytes. Tests define another width, and so run the loops of every ISA on
 * any machine. */
#ifndef FD_VL
#define FD_VL 4
#define FD_VREGS 16
#endif

#if FD_VL == 4 && defined(__x86_64__)
#define FD_KEEP(v) __asm__("" : "+v"(v))
#elif FD_VL == 4 && defined(__aarch64__)
#define FD_KEEP(v) __asm__("" : "+w"(v))
#else
#define FD_KEEP(v) ((void)(v))
#endif

#include "simd/put_nonzero.h"

typedef float fd_v __attribute__((vector_size(4 * FD_VL)));
typedef int32_t fd_vi __attribute__((vector_size(4 * FD_VL)));
typedef uint16_t fd_vh __attribute__((vector_size(2 * FD_VL)));
typedef int8_t fd_vb __attribute__((vector_size(FD_VL)));

static inline fd_v v_load(const float *p) {
    fd_v v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v_store(float *p, fd_v v) { memcpy(p, &v, sizeof v); }
static inline fd_v v_set1(float x) { return x - (fd_v){0}; }

static inline fd_v v_load_n(const float *p, size_t n) {
    fd_v v = v_set1(0.0f);
    memcpy(&v, p, n * sizeof(float));
    return v;
}
static inline void v_store_n(float *p, fd_v v, size_t n) { memcpy(p, &v, n * sizeof(float)); }

/* A binary16 shifted to where binary32 has its fraction is 2^-112 times too small, subnormals included. */
static inline fd_v v_load_f16(const uint16_t *p) {
    fd_vh half;
    memcpy(&half, p, sizeof half);
    const fd_vi bits = __builtin_convertvector(half, fd_vi);
    return (fd_v)((bits & 0x8000) << 16 | (bits & 0x7FFF) << 13) * v_set1(0x1p112f);
}
static inline fd_v v_load_i8(const int8_t *p) {
    fd_vb byte;
    memcpy(&byte, p, sizeof byte);
    return __builtin_convertvector(__builtin_convertvector(byte, fd_vi), fd_v);
}

static inline fd_v v_select(fd_vi mask, fd_v a, fd_v b) { return (fd_v)((mask & (fd_vi)a) | (~mask & (fd_vi)b)); }

/* Tests define FD_FUSED too, and so hold the bits of every ISA that has a fused multiply-add to those of the others. */
#ifdef FD_FUSED
static inline fd_v v_fma(fd_v a, fd_v b, fd_v c) {
    for (int i = 0; i < FD_VL; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
}
#else
static inline fd_v v_fma(fd_v a, fd_v b, fd_v c) { return a * b + c; }
#endif
static inline fd_v v_max(fd_v a, fd_v b) { return v_select(a > b, a, b); }
static inline fd_v v_min(fd_v a, fd_v b) { return v_select(a < b, a, b); }

static inline fd_v v_if_positive(fd_v x, fd_v a, fd_v b) { return v_select(x > v_set1(0.0f), a, b); }
static inline int v_all_within(fd_v x, fd_v lo, fd_v hi) {
    const fd_vi in = (x >= lo) & (x <= hi);
    int32_t all = -1;
    for (int i = 0; i < FD_VL; i++) all &= in[i];
    return all != 0;
}
/* Adding and subtracting 1.5 * 2^23 leaves the nearest integer: the spacing of floats there is 1. */
static inline fd_v v_round(fd_v x) { return (x + v_set1(12582912.0f)) - v_set1(12582912.0f); }
static inline fd_v v_scale2(fd_v x, fd_v n) {
    const fd_vi exponent = __builtin_convertvector(n, fd_vi) + 127;
    return x * (fd_v)(exponent << 23);
}

static inline fd_v v_exponent(fd_v x) { return __builtin_convertvector(((fd_vi)x >> 23) - 127, fd_v); }
static inline fd_v v_sqrt(fd_v x) {
    for (int i = 0; i < FD_VL; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}

static inline float v_sum(fd_v x) {
    for (int half = FD_VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

static inline fd_vi v_iset1(int32_t x) { return x - (fd_vi){0}; }
static inline fd_vi v_iload(const int32_t *p) {
    fd_vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline fd_v v_from_int(fd_vi x) { return __builtin_convertvector(x, fd_v); }
static inline void v_store_bytes(void *p, fd_v x) {
    const fd_vb bytes = __builtin_convertvector(__builtin_convertvector(x, fd_vi), fd_vb);
    memcpy(p, &bytes, sizeof bytes);
}

#endif

/* Vector vocabulary: AVX2, FMA and F16C. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_H
#define FD_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FD_VL 8
#define FD_VREGS 16
#define FD_KEEP(v) __asm__("" : "+v"(v))

#include "simd/put_nonzero.h"

typedef __m256 fd_v;
typedef int32_t fd_vi __attribute__((vector_size(32)));

static inline fd_v v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, fd_v v) { _mm256_storeu_ps(p, v); }
static inline fd_v v_set1(float x) { return _mm256_set1_ps(x); }

/* Lanes 0 to n-1 on. */
static inline __m256i v_mask_n(size_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}
static inline fd_v v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_mask_n(n)); }
/* In parts: a masked store is 42 micro-operations of a Zen 1, where the last channels of every pixel are stored so. */
static inline void v_store_n(float *p, fd_v v, size_t n) {
    __m128 part = _mm256_castps256_ps128(v);
    if (n & 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, part);
        part = _mm_movehl_ps(part, part);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, part);
}

static inline fd_v v_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline fd_v v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

static inline fd_v v_fma(fd_v a, fd_v b, fd_v c) { return _mm256_fmadd_ps(a, b, c); }
static inline fd_v v_max(fd_v a, fd_v b) { return _mm256_max_ps(a, b); }
static inline fd_v v_min(fd_v a, fd_v b) { return _mm256_min_ps(a, b); }

static inline fd_v v_if_positive(fd_v x, fd_v a, fd_v b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}
static inline int v_all_within(fd_v x, fd_v lo, fd_v hi) {
    const fd_v in = _mm256_and_ps(_mm256_cmp_ps(x, lo, _CMP_GE_OQ), _mm256_cmp_ps(x, hi, _CMP_LE_OQ));
    return _mm256_movemask_ps(in) == 0xFF;
}
static inline fd_v v_round(fd_v x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline fd_v v_scale2(fd_v x, fd_v n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

static inline fd_v v_exponent(fd_v x) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
}
static inline fd_v v_sqrt(fd_v x) { return _mm256_sqrt_ps(x); }
static inline float v_sum(fd_v x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline fd_vi v_iset1(int32_t x) { return (fd_vi)_mm256_set1_epi32(x); }
static inline fd_vi v_iload(const int32_t *p) { return (fd_vi)_mm256_loadu_si256((const __m256i *)(const void *)p); }
static inline fd_v v_from_int(fd_vi x) { return _mm256_cvtepi32_ps((__m256i)x); }
static inline void v_store_bytes(void *p, fd_v x) {
    const __m128i first = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_cvtps_epi32(x), _mm256_broadcastsi128_si256(first));
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64((__m128i *)p, _mm_unpacklo_epi32(low, high));
}

#endif

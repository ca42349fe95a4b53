/* Vector vocabulary: AVX-512 (F, CD, BW, DQ, VL). See simd_generic.h for what each word means. */
#ifndef FD_SIMD_H
#define FD_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FD_VL 16
#define FD_VREGS 32
#define FD_KEEP(v) __asm__("" : "+v"(v))

typedef __m512 fd_v;
typedef int32_t fd_vi __attribute__((vector_size(64)));

static inline fd_v v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, fd_v v) { _mm512_storeu_ps(p, v); }
static inline fd_v v_set1(float x) { return _mm512_set1_ps(x); }

static inline fd_v v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
static inline void v_store_n(float *p, fd_v v, size_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v); }

static inline fd_v v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline fd_v v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

static inline fd_v v_fma(fd_v a, fd_v b, fd_v c) { return _mm512_fmadd_ps(a, b, c); }
static inline fd_v v_max(fd_v a, fd_v b) { return _mm512_max_ps(a, b); }
static inline fd_v v_min(fd_v a, fd_v b) { return _mm512_min_ps(a, b); }

static inline fd_v v_if_positive(fd_v x, fd_v a, fd_v b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
static inline int v_all_within(fd_v x, fd_v lo, fd_v hi) {
    return (_mm512_cmp_ps_mask(x, lo, _CMP_GE_OQ) & _mm512_cmp_ps_mask(x, hi, _CMP_LE_OQ)) == 0xFFFF;
}
static inline fd_v v_round(fd_v x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline fd_v v_scale2(fd_v x, fd_v n) { return _mm512_scalef_ps(x, n); }
static inline fd_v v_exponent(fd_v x) { return _mm512_getexp_ps(x); }
static inline fd_v v_sqrt(fd_v x) { return _mm512_sqrt_ps(x); }
static inline float v_sum(fd_v x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline size_t v_put_nonzero(float *values, uint32_t *indices, const float *p, uint32_t first) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)first));
    const fd_v x = _mm512_loadu_ps(p);
    const __mmask16 nonzero = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    /* Into a register and from there to memory: compressing to memory is microcode on Zen 4. */
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(nonzero, x));
    _mm512_storeu_si512(indices, _mm512_maskz_compress_epi32(nonzero, index));
    return (size_t)__builtin_popcount(nonzero);
}

static inline fd_vi v_iset1(int32_t x) { return (fd_vi)_mm512_set1_epi32(x); }
static inline fd_vi v_iload(const int32_t *p) { return (fd_vi)_mm512_loadu_si512(p); }
static inline fd_v v_from_int(fd_vi x) { return _mm512_cvtepi32_ps((__m512i)x); }
static inline void v_store_bytes(void *p, fd_v x) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

#endif

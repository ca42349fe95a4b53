/* Every word of a vector vocabulary as a function on arrays, for tests. The compiler reads the vocabulary first, by
 * -include, so that this file does not choose one. */
#define SHOWN __attribute__((visibility("default")))

/* A word of one to three vectors that gives one. */
#define WORD1(name, word) \
    SHOWN void word_##name(const float *a, float *out) { v_store(out, word(v_load(a))); }
#define WORD2(name, word)                                                \
    SHOWN void word_##name(const float *a, const float *b, float *out) { \
        const fd_v x = v_load(a), y = v_load(b);                         \
        v_store(out, word(x, y));                                        \
    }
#define WORD3(name, word)                                                                \
    SHOWN void word_##name(const float *a, const float *b, const float *c, float *out) { \
        const fd_v x = v_load(a), y = v_load(b), z = v_load(c);                          \
        v_store(out, word(x, y, z));                                                     \
    }
/* The same of two vectors of integers. */
#define INTEGERS(name, word)                                                   \
    SHOWN void word_##name(const int32_t *a, const int32_t *b, int32_t *out) { \
        const fd_vi x = v_iload(a), y = v_iload(b), result = word(x, y);       \
        memcpy(out, &result, sizeof result);                                   \
    }

#define SAME(x) (x)
#define SUM(x, y) ((x) + (y))
#define DIFFERENCE(x, y) ((x) - (y))
#define PRODUCT(x, y) ((x) * (y))
#define QUOTIENT(x, y) ((x) / (y))

SHOWN int word_floats(void) { return FD_VL; }
SHOWN int word_dot_min(void) { return FD_DOT_MIN; }

WORD1(load, SAME)
WORD2(add, SUM)
WORD2(sub, DIFFERENCE)
WORD2(mul, PRODUCT)
WORD2(div, QUOTIENT)
WORD3(fma, v_fma)
WORD2(max, v_max)
WORD2(min, v_min)
WORD3(if_positive, v_if_positive)
WORD1(round, v_round)
WORD2(scale2, v_scale2)
WORD1(exponent, v_exponent)
WORD1(sqrt, v_sqrt)

SHOWN float word_sum(const float *a) { return v_sum(v_load(a)); }
SHOWN void word_set1(float x, float *out) { v_store(out, v_set1(x)); }
SHOWN void word_keep(const float *a, float *out) {
    fd_v x = v_load(a);
    FD_KEEP(x);
    v_store(out, x);
}
SHOWN void word_load_n(const float *a, size_t n, float *out) { v_store(out, v_load_n(a, n)); }
SHOWN void word_store_n(const float *a, size_t n, float *out) { v_store_n(out, v_load(a), n); }
SHOWN void word_load_f16(const uint16_t *a, float *out) { v_store(out, v_load_f16(a)); }
SHOWN void word_load_i8(const int8_t *a, float *out) { v_store(out, v_load_i8(a)); }
SHOWN int word_all_within(const float *a, const float *lo, const float *hi) {
    return v_all_within(v_load(a), v_load(lo), v_load(hi));
}
SHOWN size_t word_put_nonzero(float *values, uint32_t *indices, const float *a, uint32_t first) {
    return v_put_nonzero(values, indices, a, first);
}

INTEGERS(iadd, SUM)
INTEGERS(isub, DIFFERENCE)
INTEGERS(imul, PRODUCT)
SHOWN void word_iset1(int32_t x, int32_t *out) {
    const fd_vi result = v_iset1(x);
    memcpy(out, &result, sizeof result);
}
SHOWN void word_iload(const int32_t *a, int32_t *out) {
    const fd_vi result = v_iload(a);
    memcpy(out, &result, sizeof result);
}
SHOWN void word_from_int(const int32_t *a, float *out) { v_store(out, v_from_int(v_iload(a))); }
SHOWN void word_store_bytes(const float *a, uint8_t *out) { v_store_bytes(out, v_load(a)); }

SHOWN void word_dot(const int32_t *acc, const uint8_t *x, const int8_t *w, int32_t *out) {
    const fd_vi result = v_dot(v_iload(acc), v_dot_input(x), v_dot_weight(w));
    memcpy(out, &result, sizeof result);
}

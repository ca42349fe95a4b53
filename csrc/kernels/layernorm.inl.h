/* Layer normalization of one vector. Ba, Kiros and Hinton, Layer Normalization, 2016. The mean is taken first, then the
 * variance around it: one pass for both would cancel. */

/* Vectors that make up all chains of a sum. */
#define FD_CHAIN_VECTORS (FD_CHAINS / FD_VL)

FD_INLINE float FD_FN(chains_sum)(fd_v *sums) {
    FD_UNROLL
    for (int half = FD_CHAIN_VECTORS / 2; half > 0; half /= 2) {
        FD_UNROLL
        for (int v = 0; v < half; v++) sums[v] = sums[v] + sums[v + half];
    }
    return v_sum(sums[0]);
}

/* The sum of n values. A chain that has no value left takes 0. */
FD_INLINE float FD_FN(sum)(const float *x, size_t n) {
    fd_v sums[FD_CHAIN_VECTORS];
    size_t i = 0;
    FD_UNROLL
    for (int v = 0; v < FD_CHAIN_VECTORS; v++) sums[v] = v_set1(0.0f);
    for (; n - i >= FD_CHAINS; i += FD_CHAINS) {
        FD_UNROLL
        for (int v = 0; v < FD_CHAIN_VECTORS; v++) sums[v] = sums[v] + v_load(x + i + v * FD_VL);
    }
    FD_UNROLL
    for (int v = 0; v < FD_CHAIN_VECTORS; v++, i += FD_VL) {
        if (i >= n) break;
        sums[v] = sums[v] + (n - i >= FD_VL ? v_load(x + i) : v_load_n(x + i, n - i));
    }
    return FD_FN(chains_sum)(sums);
}

/* The sum of squares of n values' differences from their mean. */
FD_INLINE float FD_FN(sum_squares)(const float *x, size_t n, float mean) {
    fd_v sums[FD_CHAIN_VECTORS];
    static const float places[FD_CHAINS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const fd_v middle = v_set1(mean), zero = v_set1(0.0f);
    size_t i = 0;
    FD_UNROLL
    for (int v = 0; v < FD_CHAIN_VECTORS; v++) sums[v] = v_set1(0.0f);
    for (; n - i >= FD_CHAINS; i += FD_CHAINS) {
        FD_UNROLL
        for (int v = 0; v < FD_CHAIN_VECTORS; v++) {
            const fd_v d = v_load(x + i + v * FD_VL) - middle;
            sums[v] = v_fma(d, d, sums[v]);
        }
    }
    FD_UNROLL
    for (int v = 0; v < FD_CHAIN_VECTORS; v++, i += FD_VL) {
        if (i >= n) break;
        const size_t left = n - i;
        fd_v d = (left >= FD_VL ? v_load(x + i) : v_load_n(x + i, left)) - middle;
        if (left < FD_VL) d = v_if_positive(v_set1((float)left) - v_load(places), d, zero);
        sums[v] = v_fma(d, d, sums[v]);
    }
    return FD_FN(chains_sum)(sums);
}

FD_LOCAL void FD_FN(layernorm)(const fd_layernorm_args *a) {
    const float count = (float)a->n;
    const float mean = FD_FN(sum)(a->in, a->n) / count;
    const float variance = FD_FN(sum_squares)(a->in, a->n, mean) / count;
    const fd_v middle = v_set1(mean), factor = v_set1(1.0f / __builtin_sqrtf(variance + a->epsilon));
    for (size_t i = 0; i < a->n; i += FD_VL) {
        const size_t n = a->n - i;
        fd_v x = ((n >= FD_VL ? v_load(a->in + i) : v_load_n(a->in + i, n)) - middle) * factor;
        if (a->scale) x = x * (n >= FD_VL ? v_load(a->scale + i) : v_load_n(a->scale + i, n));
        if (a->shift) x = x + (n >= FD_VL ? v_load(a->shift + i) : v_load_n(a->shift + i, n));
        if (n >= FD_VL)
            v_store(a->out + i, x);
        else
            v_store_n(a->out + i, x, n);
    }
}

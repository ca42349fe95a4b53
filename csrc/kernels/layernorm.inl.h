/* Layer normalization of one vector. Ba, Kiros and Hinton, Layer Normalization, 2016. The mean is taken first, then the
 * variance around it: one pass for both would cancel. */

/* The sum of (x - offset), or of its square. */
FD_INLINE float FD_FN(sum_around)(const float *x, size_t n, float offset, const int squared) {
    fd_v sums = v_set1(0.0f);
    const fd_v middle = v_set1(offset);
    size_t i = 0;
    for (; n - i >= FD_VL; i += FD_VL) {
        const fd_v d = v_load(x + i) - middle;
        if (squared)
            sums = v_fma(d, d, sums);
        else
            sums = sums + d;
    }
    float lanes[FD_VL], sum = 0.0f;
    v_store(lanes, sums);
    for (size_t lane = 0; lane < FD_VL; lane++) sum += lanes[lane];
    for (; i < n; i++) {
        const float d = x[i] - offset;
        sum += squared ? d * d : d;
    }
    return sum;
}

FD_LOCAL void FD_FN(layernorm)(const fd_layernorm_args *a) {
    const float count = (float)a->n;
    const float mean = FD_FN(sum_around)(a->in, a->n, 0.0f, 0) / count;
    const float variance = FD_FN(sum_around)(a->in, a->n, mean, 1) / count;
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

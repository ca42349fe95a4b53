/* y = exp(x - max x) / sum of exp(x - max x), and its logarithm. Sums are taken in order, which is what makes a row's
 * result its own. */

/* The greatest of n values. */
FD_INLINE float FD_FN(softmax_greatest)(const float *x, size_t n) {
    float greatest = x[0];
    for (size_t i = 1; i < n; i++) greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

/* y = exp(x - greatest); returns the sum. */
FD_INLINE float FD_FN(softmax_powers)(const float *x, float *y, size_t n, float greatest) {
    const fd_v offset = v_set1(greatest);
    size_t i = 0;
    for (; n - i >= FD_VL; i += FD_VL) v_store(y + i, FD_FN(exp)(v_load(x + i) - offset));
    if (i < n) v_store_n(y + i, FD_FN(exp)(v_load_n(x + i, n - i) - offset), n - i);
    float sum = 0.0f;
    for (i = 0; i < n; i++) sum += y[i];
    return sum;
}

FD_LOCAL void FD_FN(softmax)(const float *x, float *y, size_t n) {
    const float sum = FD_FN(softmax_powers)(x, y, n, FD_FN(softmax_greatest)(x, n));
    for (size_t i = 0; i < n; i++) y[i] /= sum;
}

/* x is not y. */
FD_LOCAL void FD_FN(log_softmax)(const float *x, float *y, size_t n) {
    const float greatest = FD_FN(softmax_greatest)(x, n);
    float logarithm[FD_VL];
    v_store(logarithm, FD_FN(log)(v_set1(FD_FN(softmax_powers)(x, y, n, greatest))));
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - greatest) - logarithm[0];
}

/* y = exp(x - max x) / sum of exp(x - max x). Sums are taken in order, which is what makes a row's result its own. */

FD_LOCAL void FD_FN(softmax)(const float *x, float *y, size_t n) {
    float greatest = x[0];
    for (size_t i = 1; i < n; i++) greatest = x[i] > greatest ? x[i] : greatest;
    const fd_v offset = v_set1(greatest);
    size_t i = 0;
    for (; n - i >= FD_VL; i += FD_VL) v_store(y + i, FD_FN(exp)(v_load(x + i) - offset));
    if (i < n) v_store_n(y + i, FD_FN(exp)(v_load_n(x + i, n - i) - offset), n - i);
    float sum = 0.0f;
    for (i = 0; i < n; i++) sum += y[i];
    for (i = 0; i < n; i++) y[i] /= sum;
}

/* What happens to an image before the first layer. */

/* Index of the first of n values that is NaN or not in [lo, hi]; n if there is none. */
FD_LOCAL size_t FD_FN(find_outside)(const float *x, size_t n, float lo, float hi) {
    const fd_v low = v_set1(lo), high = v_set1(hi);
    size_t i = 0;
    while (n - i >= FD_VL && v_all_within(v_load(x + i), low, high)) i += FD_VL;
    while (i < n && x[i] >= lo && x[i] <= hi) i++;
    return i;
}

/* A true division, so that a byte is the same float here as in NumPy. */
FD_LOCAL void FD_FN(from_u8)(const uint8_t *x, float *y, size_t n, float divisor) {
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i] / divisor;
}

/* Pixels between two others, of an image that is resized. */

/* n pixels of `channels` floats: the one at x + at[i], and that `step` behind it, of which weight[i] is taken. With a
 * weight of 0 the other one is not read, and the result has the bits of the first. Where both are equal, the result is
 * too. */
FD_LOCAL void FD_FN(interpolate)(const float *x, size_t step, const uint32_t *at, const float *weight, float *y,
                                 size_t n, size_t channels) {
    if (channels == 1) {
        for (size_t i = 0; i < n; i++) {
            const float a = x[at[i]];
            y[i] = weight[i] > 0 ? a + weight[i] * (x[at[i] + step] - a) : a;
        }
        return;
    }
    for (size_t i = 0; i < n; i++, y += channels) {
        const float *const from = x + at[i];
        const size_t other = weight[i] > 0 ? step : 0;
        const fd_v w = v_set1(weight[i]);
        for (size_t c = 0; c < channels; c += FD_VL) {
            const size_t left = channels - c;
            fd_v result = left >= FD_VL ? v_load(from + c) : v_load_n(from + c, left);
            if (other) {
                const fd_v b = left >= FD_VL ? v_load(from + other + c) : v_load_n(from + other + c, left);
                result = v_fma(w, b - result, result);
            }
            if (left >= FD_VL)
                v_store(y + c, result);
            else
                v_store_n(y + c, result, left);
        }
    }
}

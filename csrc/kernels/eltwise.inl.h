/* Activation, then scale and shift along an axis. */

FD_LOCAL void FD_FN(eltwise)(const fd_eltwise_args *a) {
    const fd_epilogue *const e = &a->epilogue;
    /* Where all of a row is treated alike, few channels need not leave lanes empty. */
    const int alike = e->axis == FD_AXIS_NONE || e->axis == FD_AXIS_HEIGHT;
    const size_t cols = alike ? 1 : a->cols, channels = alike ? a->cols * a->channels : a->channels;
    for (size_t r = 0; r < a->rows; r++) {
        const float *const in = a->in + r * a->in_row;
        float *const out = a->out + r * a->out_row;
        for (size_t col = 0; col < cols; col++) {
            const size_t pixel = col * channels;
            for (size_t c = 0; c < channels; c += FD_VL) {
                const size_t n = channels - c;
                fd_v x = n >= FD_VL ? v_load(in + pixel + c) : v_load_n(in + pixel + c, n);
                x = FD_FN(activate)(x, e->activation, e->alpha);
                if (e->axis == FD_AXIS_CHANNEL) {
                    x = v_fma(x, v_load(e->scale + c), v_load(e->shift + c));
                } else if (e->axis != FD_AXIS_NONE) {
                    const size_t i = e->axis == FD_AXIS_HEIGHT ? a->row_index + r : col;
                    x = v_fma(x, v_set1(e->scale[i]), v_set1(e->shift[i]));
                }
                if (n >= FD_VL)
                    v_store(out + pixel + c, x);
                else
                    v_store_n(out + pixel + c, x, n);
            }
        }
    }
}

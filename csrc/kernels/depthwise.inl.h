/* Depthwise convolution: vectors are channels, a tile is a few neighbouring outputs of one vector of channels, so that
 * each weight is loaded once for all of them. */

#define FD_DEPTHWISE_COLS 4

FD_INLINE void FD_FN(depthwise_tile)(const fd_depthwise_args *a, const float *w, size_t w_row, FD_FN(place) at,
                                     float *out, const int cols) {
    const size_t n = a->channels - at.channel;
    const float *x[FD_DEPTHWISE_COLS];
    fd_v acc[FD_DEPTHWISE_COLS];
    FD_UNROLL
    for (int p = 0; p < cols; p++) {
        x[p] = a->in + at.row * a->in_row_step + (at.col + (size_t)p) * a->in_col_step + at.channel;
        acc[p] = v_load(a->bias + at.channel);
    }
    for (size_t k = 0; k < a->taps_count; k++, w += w_row) {
        const fd_v weight = v_load(w);
        FD_UNROLL
        for (int p = 0; p < cols; p++) {
            const float *const from = x[p] + a->taps[k];
            acc[p] = v_fma(n >= FD_VL ? v_load(from) : v_load_n(from, n), weight, acc[p]);
        }
    }
    FD_UNROLL
    for (int p = 0; p < cols; p++) {
        if (FD_FN(is_simple)(&a->epilogue)) {
            if (a->epilogue.activation == FD_ACT_RELU) acc[p] = v_max(acc[p], v_set1(0.0f));
            acc[p] = FD_FN(conv2d_affine)(&a->epilogue, acc[p], at.row, at.col + (size_t)p, at.channel);
        }
        float *const to = out + (at.col + (size_t)p) * a->channels + at.channel;
        if (n >= FD_VL)
            v_store(to, acc[p]);
        else
            v_store_n(to, acc[p], n);
    }
}

FD_LOCAL void FD_FN(depthwise)(const fd_depthwise_args *a) {
    for (size_t row = 0; row < a->rows; row++) {
        float *const out = a->out + row * a->out_row;
        for (size_t channel = 0; channel < a->channels; channel += FD_VL) {
            const size_t panel = channel / FD_PANEL * FD_PANEL;
            const size_t width = fd_min(FD_PANEL, fd_round_up(a->channels - panel, FD_PANEL_ALIGN));
            const float *const w = a->weights + panel * a->taps_count + (channel - panel);
            FD_FN(place) at = {row, 0, channel};
            for (; a->cols - at.col >= FD_DEPTHWISE_COLS; at.col += FD_DEPTHWISE_COLS)
                FD_FN(depthwise_tile)(a, w, width, at, out, FD_DEPTHWISE_COLS);
            for (; at.col < a->cols; at.col++) FD_FN(depthwise_tile)(a, w, width, at, out, 1);
        }
        if (!FD_FN(is_simple)(&a->epilogue))
            FD_FN(eltwise)(&(fd_eltwise_args){.in = out,
                                              .out = out,
                                              .rows = 1,
                                              .cols = a->cols,
                                              .channels = a->channels,
                                              .row_index = row,
                                              .epilogue = a->epilogue});
    }
}

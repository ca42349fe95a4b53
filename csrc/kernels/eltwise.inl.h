/* Activation, then scale and shift along an axis. */

/* `n` floats whose scale and shift are the same, if there are any. The activation is constant where this is inlined. */
FD_INLINE void FD_FN(eltwise_line)(const float *in, float *out, size_t n, const uint32_t activation, float alpha,
                                   const float *scale, const float *shift) {
    const fd_v factor = v_set1(scale ? *scale : 1.0f), summand = v_set1(scale ? *shift : 0.0f);
    for (size_t i = 0; i < n; i += FD_VL) {
        const size_t rest = n - i;
        fd_v x = rest >= FD_VL ? v_load(in + i) : v_load_n(in + i, rest);
        x = FD_FN(activate)(x, activation, alpha);
        if (scale) x = v_fma(x, factor, summand);
        if (rest >= FD_VL)
            v_store(out + i, x);
        else
            v_store_n(out + i, x, rest);
    }
}

/* One pixel, each channel of which has its own scale and shift, or all the same. */
FD_INLINE void FD_FN(eltwise_pixel)(const fd_epilogue *e, const float *in, float *out, size_t channels, size_t col) {
    for (size_t c = 0; c < channels; c += FD_VL) {
        const size_t n = channels - c;
        fd_v x = n >= FD_VL ? v_load(in + c) : v_load_n(in + c, n);
        x = FD_FN(activate)(x, e->activation, e->alpha);
        x = FD_FN(affine)(e, x, 0, col, c);
        if (n >= FD_VL)
            v_store(out + c, x);
        else
            v_store_n(out + c, x, n);
    }
}

FD_LOCAL void FD_FN(eltwise)(const fd_eltwise_args *a) {
    const fd_epilogue *const e = &a->epilogue;
    /* Where all of a row is treated alike, few channels need not leave lanes empty. */
    const int alike = e->axis == FD_AXIS_NONE || e->axis == FD_AXIS_HEIGHT;
    for (size_t r = 0; r < a->rows; r++) {
        const float *const in = a->in + r * a->in_row;
        float *const out = a->out + r * a->out_row;
        if (!alike) {
            for (size_t k = 0; k < a->cols; k++)
                FD_FN(eltwise_pixel)(e, in + k * a->channels, out + k * a->channels, a->channels, k);
            continue;
        }
        const size_t i = a->row_index + r;
        const float *const scale = e->axis == FD_AXIS_HEIGHT ? e->scale + i : NULL, *const shift =
                                                                                        scale ? e->shift + i : NULL;
        switch (e->activation) {
#define FD_CASE(activation) \
    case activation: FD_FN(eltwise_line)(in, out, a->cols * a->channels, activation, e->alpha, scale, shift); break;
            FD_CASE(FD_ACT_RELU)
            FD_CASE(FD_ACT_SIGMOID)
            FD_CASE(FD_ACT_TANH)
            FD_CASE(FD_ACT_SILU)
            FD_CASE(FD_ACT_HARD_SWISH)
            FD_CASE(FD_ACT_GELU)
#undef FD_CASE
        default: FD_FN(eltwise_line)(in, out, a->cols * a->channels, e->activation, e->alpha, scale, shift);
        }
    }
}

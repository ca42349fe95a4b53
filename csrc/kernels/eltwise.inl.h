/* Activation, then scale and shift along an axis. */

/* `n` floats whose scale and shift are the same, if there are any. Activation and `constant` are constants where this
 * is inlined, or `constant` is 0. */
FD_INLINE void FD_FN(eltwise_floats)(const float *in, float *out, size_t n, const uint32_t activation,
                                     const int constant, float alpha, const float *scale, const float *shift) {
    const fd_v factor = v_set1(scale ? *scale : 1.0f), summand = v_set1(scale ? *shift : 0.0f);
    for (size_t i = 0; i < n; i += FD_VL) {
        const size_t rest = n - i;
        fd_v x = rest >= FD_VL ? v_load(in + i) : v_load_n(in + i, rest);
        x = constant ? FD_FN(activate)(x, activation, alpha) : FD_FN(activate_any)(x, activation, alpha);
        if (scale) x = v_fma(x, factor, summand);
        if (rest >= FD_VL)
            v_store(out + i, x);
        else
            v_store_n(out + i, x, rest);
    }
}

/* The same: the usual activations have loops of their own. */
FD_INLINE void FD_FN(eltwise_line)(const fd_epilogue *e, const float *in, float *out, size_t n, const float *scale,
                                   const float *shift) {
    switch (e->activation) {
#define FD_CASE(activation) \
    case activation: FD_FN(eltwise_floats)(in, out, n, activation, 1, e->alpha, scale, shift); break;
        FD_CASE(FD_ACT_LINEAR)
        FD_CASE(FD_ACT_RELU)
        FD_CASE(FD_ACT_LEAKY_RELU)
        FD_CASE(FD_ACT_ELU)
        FD_CASE(FD_ACT_SELU)
        FD_CASE(FD_ACT_SIGMOID)
        FD_CASE(FD_ACT_TANH)
        FD_CASE(FD_ACT_CLIPPED_RELU)
        FD_CASE(FD_ACT_HARD_SIGMOID)
        FD_CASE(FD_ACT_HARD_SWISH)
        FD_CASE(FD_ACT_SILU)
        FD_CASE(FD_ACT_GELU)
#undef FD_CASE
    default: FD_FN(eltwise_floats)(in, out, n, e->activation, 0, e->alpha, scale, shift);
    }
}

/* Scale and shift of one pixel, each channel of which has its own, or all the same. */
FD_INLINE void FD_FN(eltwise_pixel)(const fd_epilogue *e, const float *in, float *out, size_t channels, size_t col) {
    for (size_t c = 0; c < channels; c += FD_VL) {
        const size_t n = channels - c;
        fd_v x = n >= FD_VL ? v_load(in + c) : v_load_n(in + c, n);
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
        const float *in = a->in + r * a->in_row;
        float *const out = a->out + r * a->out_row;
        const size_t i = a->row_index + r;
        const float *const scale = e->axis == FD_AXIS_HEIGHT ? e->scale + i : NULL, *const shift =
                                                                                        scale ? e->shift + i : NULL;
        if (alike || e->activation != FD_ACT_LINEAR) {
            FD_FN(eltwise_line)(e, in, out, a->cols * a->channels, scale, shift);
            in = out;
        }
        if (!alike)
            for (size_t k = 0; k < a->cols; k++)
                FD_FN(eltwise_pixel)(e, in + k * a->channels, out + k * a->channels, a->channels, k);
    }
}

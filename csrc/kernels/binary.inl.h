/* Two operands, element by element, then activation, scale and shift. */

FD_INLINE fd_v FD_FN(combine)(fd_v a, fd_v b, uint32_t op) {
    switch (op) {
    case FD_BINARY_ADD: return a + b;
    case FD_BINARY_SUB: return a - b;
    case FD_BINARY_MUL: return a * b;
    case FD_BINARY_DIV: return a / b;
    case FD_BINARY_MAX: return v_max(a, b);
    case FD_BINARY_MIN: return v_min(a, b);
    default: return v_if_positive(a, a, a * b); /* FD_BINARY_PRELU */
    }
}

/* One line of `cols` pixels. What is the same for all of them is constant where it is inlined; the activation is
 * simple. */
FD_INLINE void FD_FN(binary_line)(const fd_binary_args *a, const fd_epilogue *e, const float *x, const float *y,
                                  float *out, size_t row, size_t cols, size_t channels, const uint32_t op) {
    for (size_t col = 0; col < cols; col++, x += channels, y += a->b_col, out += channels) {
        for (size_t c = 0; c < channels; c += FD_VL) {
            const size_t n = channels - c;
            const fd_v left = n >= FD_VL ? v_load(x + c) : v_load_n(x + c, n);
            const fd_v right = a->one ? v_set1(y[0]) : n >= FD_VL ? v_load(y + c) : v_load_n(y + c, n);
            fd_v value = FD_FN(combine)(left, right, op);
            FD_FN(activate_tile)(&value, 1, e);
            value = FD_FN(affine)(e, value, row, col, c);
            if (n >= FD_VL)
                v_store(out + c, value);
            else
                v_store_n(out + c, value, n);
        }
    }
}

FD_LOCAL void FD_FN(binary)(const fd_binary_args *a) {
    const fd_epilogue *const e = &a->epilogue;
    const int simple = FD_FN(is_simple)(e);
    const fd_epilogue now = simple ? *e : (fd_epilogue){.activation = FD_ACT_LINEAR};
    const fd_epilogue relu = {.activation = FD_ACT_RELU}, linear = {.activation = FD_ACT_LINEAR};
    /* Operands of the same dims whose pixels are treated alike are one long line a row: few channels leave no lanes
     * empty. */
    const int alike = now.axis == FD_AXIS_NONE && !a->one && a->b_col == a->channels;
    const size_t cols = alike ? 1 : a->cols, channels = alike ? a->cols * a->channels : a->channels;
    for (size_t r = 0; r < a->rows; r++) {
        const float *const x = a->a + r * a->a_row, *const y = a->b + r * a->b_row;
        float *const out = a->out + r * a->out_row;
        /* The sum of residual networks. */
        if (alike && a->op == FD_BINARY_ADD && now.activation == FD_ACT_RELU)
            FD_FN(binary_line)(a, &relu, x, y, out, r, 1, channels, FD_BINARY_ADD);
        else if (alike && a->op == FD_BINARY_ADD && now.activation == FD_ACT_LINEAR)
            FD_FN(binary_line)(a, &linear, x, y, out, r, 1, channels, FD_BINARY_ADD);
        else
            FD_FN(binary_line)(a, &now, x, y, out, r, cols, channels, a->op);
        if (!simple)
            FD_FN(eltwise)(&(fd_eltwise_args){.in = out,
                                              .out = out,
                                              .rows = 1,
                                              .cols = a->cols,
                                              .channels = a->channels,
                                              .row_index = r,
                                              .epilogue = *e});
    }
}

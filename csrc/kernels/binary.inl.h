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

FD_LOCAL void FD_FN(binary)(const fd_binary_args *a) {
    const fd_epilogue *const e = &a->epilogue;
    for (size_t r = 0; r < a->rows; r++) {
        for (size_t col = 0; col < a->cols; col++) {
            const float *const x = a->a + r * a->a_row + col * a->channels;
            const float *const y = a->b + r * a->b_row + col * a->b_col;
            float *const out = a->out + r * a->out_row + col * a->channels;
            for (size_t c = 0; c < a->channels; c += FD_VL) {
                const size_t n = a->channels - c;
                const fd_v left = n >= FD_VL ? v_load(x + c) : v_load_n(x + c, n);
                const fd_v right = a->one ? v_set1(y[0]) : n >= FD_VL ? v_load(y + c) : v_load_n(y + c, n);
                fd_v value = FD_FN(combine)(left, right, a->op);
                value = FD_FN(activate)(value, e->activation, e->alpha);
                if (e->axis == FD_AXIS_CHANNEL) {
                    value = v_fma(value, v_load(e->scale + c), v_load(e->shift + c));
                } else if (e->axis != FD_AXIS_NONE) {
                    const size_t i = e->axis == FD_AXIS_HEIGHT ? r : col;
                    value = v_fma(value, v_set1(e->scale[i]), v_set1(e->shift[i]));
                }
                if (n >= FD_VL)
                    v_store(out + c, value);
                else
                    v_store_n(out + c, value, n);
            }
        }
    }
}

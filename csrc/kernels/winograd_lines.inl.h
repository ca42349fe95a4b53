/* Convolution by filters of one dimension, by Winograd's minimal filtering: F(4, 3), F(4, 5) and F(2, 7), along columns
 * (1 x r) or down rows (r x 1). A patch of m + r - 1 inputs in a line gives m outputs: Y = A' [(G g) .* (B' d)]. 6
 * products in place of 12, 8 in place of 20 or of 14. What is multiplied lies as it does for patches of two dimensions
 * (winograd.inl.h), and so is multiplied there.
 *
 * Lines of six are interpolated at the points of patches of 6x6, lines of eight at 0, +-1, +-1/2, +-2 and infinity,
 * whose powers are exact: in one dimension they leave less than F(4x4, 3x3) does. */
#define FD_LINE_MAX 8

/* B' d of a line of eight. */
FD_INLINE void FD_FN(winograd_input_8)(const fd_v *d, fd_v *t) {
    const fd_v sum = v_set1(5.25f), one = v_set1(-4.25f), half = v_set1(-5.0f), two = v_set1(-1.25f);
    const fd_v four = v_set1(4.0f), quarter = v_set1(0.25f);
    const fd_v a = v_fma(one, d[4], d[2] + d[6]), b = v_fma(one, d[3], d[1] + d[5]);
    const fd_v c = v_fma(half, d[4], v_fma(four, d[2], d[6])), e = v_fma(half, d[3], v_fma(four, d[1], d[5]));
    const fd_v f = v_fma(two, d[4], v_fma(quarter, d[2], d[6])), g = v_fma(two, d[3], v_fma(quarter, d[1], d[5]));
    t[0] = v_fma(sum, d[4] - d[2], d[0] - d[6]);
    t[1] = a + b;
    t[2] = a - b;
    t[3] = v_fma(v_set1(0.5f), e, c);
    t[4] = v_fma(v_set1(-0.5f), e, c);
    t[5] = v_fma(v_set1(2.0f), g, f);
    t[6] = v_fma(v_set1(-2.0f), g, f);
    t[7] = v_fma(sum, d[3] - d[5], d[7] - d[1]);
}

/* A' x of a line of eight. */
FD_INLINE void FD_FN(winograd_output_8)(const fd_v *x, fd_v *y, const int m) {
    const fd_v a = x[1] + x[2], b = x[1] - x[2], c = x[3] + x[4], e = x[3] - x[4], f = x[5] + x[6], g = x[5] - x[6];
    y[0] = (x[0] + a) + (c + f);
    y[1] = v_fma(v_set1(2.0f), g, v_fma(v_set1(0.5f), e, b));
    if (m == 2) {
        y[1] = y[1] + x[7];
    } else {
        y[2] = v_fma(v_set1(4.0f), f, v_fma(v_set1(0.25f), c, a));
        y[3] = v_fma(v_set1(8.0f), g, v_fma(v_set1(0.125f), e, b + x[7]));
    }
}

/* Lines of the input to `v`: position, patch, input channel. Vectors are stored whole, as winograd_patches does. */
FD_INLINE void FD_FN(winograd_lines)(const fd_winograd_args *args, const size_t m, const int size, int down) {
    const fd_winograd_args a = *args; /* which nothing that is stored may alias */
    const size_t row = (down ? m : 1) * a.in_row, col = (down ? 1 : m) * a.in_channels;
    const size_t tap = down ? a.in_row : a.in_channels;
    float *to = a.v;
    for (size_t py = 0; py < a.patch_rows; py++) {
        for (size_t px = 0; px < a.patch_cols; px++, to += a.in_channels) {
            const float *const from = a.in + py * row + px * col;
            for (size_t c = 0; c < a.in_channels; c += FD_VL) {
                const size_t n = a.in_channels - c;
                const float *at = from + c;
                float *put = to + c;
                fd_v d[FD_LINE_MAX], t[FD_LINE_MAX];
                FD_UNROLL
                for (int k = 0; k < size; k++, at += tap) d[k] = n < FD_VL ? v_load_n(at, n) : v_load(at);
                if (size == 6)
                    FD_FN(winograd_input)(d, t, size);
                else
                    FD_FN(winograd_input_8)(d, t);
                FD_UNROLL
                for (int k = 0; k < size; k++, put += a.v_step) v_store(put, t[k]);
            }
        }
    }
}

/* From products to outputs: bias, activation, scale and shift. */
FD_INLINE void FD_FN(winograd_line_outputs)(const fd_winograd_args *args, const int m, const int size, int down) {
    fd_winograd_args a = *args;
    const size_t padded = fd_round_up(a.channels, FD_PANEL_ALIGN), side = (size_t)m;
    const size_t down_by = down ? side : 1, right_by = down ? 1 : side, step = down ? a.out_row : a.channels;
    /* Scale and shift see a line as a row. */
    if (down && a.epilogue.axis == FD_AXIS_HEIGHT)
        a.epilogue.axis = FD_AXIS_WIDTH;
    else if (down && a.epilogue.axis == FD_AXIS_WIDTH)
        a.epilogue.axis = FD_AXIS_HEIGHT;
    const size_t lines = down ? a.cols : a.rows, length = down ? a.rows : a.cols;
    const float *from = a.products;
    for (size_t py = 0; py < a.patch_rows; py++) {
        for (size_t px = 0; px < a.patch_cols; px++, from += padded) {
            float *const to = a.out + py * down_by * a.out_row + px * right_by * a.channels;
            const size_t line = down ? px : py, first = (down ? py : px) * side, count = length - first;
            for (size_t c = 0; c < a.channels; c += FD_VL) {
                const size_t n = a.channels - c;
                const float *at = from + c;
                float *put = to + c;
                fd_v x[FD_LINE_MAX], y[4];
                FD_UNROLL
                for (int k = 0; k < size; k++, at += a.products_step) x[k] = v_load(at);
                if (size == 6)
                    FD_FN(winograd_output)(x, y, m, size);
                else
                    FD_FN(winograd_output_8)(x, y, m);
                const fd_v bias = v_load(a.bias + c);
                FD_UNROLL
                for (int j = 0; j < m; j++) y[j] = y[j] + bias;
                FD_FN(winograd_activate)(y, m, &a.epilogue);
                FD_FN(winograd_affine)(y, m, &a.epilogue, line, first, c, lines, length);
                FD_UNROLL
                for (int j = 0; j < m; j++, put += step) {
                    if ((size_t)j >= count) break;
                    if (n < FD_VL)
                        v_store_n(put, y[j], n);
                    else
                        v_store(put, y[j]);
                }
            }
        }
    }
}

/* Each both ways, once. */
FD_LOCAL FD_APART void FD_FN(winograd_lines_6)(const fd_winograd_args *a, size_t m, int down) {
    FD_FN(winograd_lines)(a, m, 6, down);
}

FD_LOCAL FD_APART void FD_FN(winograd_lines_8)(const fd_winograd_args *a, size_t m, int down) {
    FD_FN(winograd_lines)(a, m, 8, down);
}

FD_LOCAL FD_APART void FD_FN(winograd_4_3)(const fd_winograd_args *a, int down) {
    FD_FN(winograd_lines_6)(a, 4, down);
    FD_FN(winograd_multiply)(a, 6);
    FD_FN(winograd_line_outputs)(a, 4, 6, down);
}

FD_LOCAL FD_APART void FD_FN(winograd_4_5)(const fd_winograd_args *a, int down) {
    FD_FN(winograd_lines_8)(a, 4, down);
    FD_FN(winograd_multiply)(a, 8);
    FD_FN(winograd_line_outputs)(a, 4, 8, down);
}

FD_LOCAL FD_APART void FD_FN(winograd_2_7)(const fd_winograd_args *a, int down) {
    FD_FN(winograd_lines_8)(a, 2, down);
    FD_FN(winograd_multiply)(a, 8);
    FD_FN(winograd_line_outputs)(a, 2, 8, down);
}

FD_LOCAL void FD_FN(winograd_1x4_1x3)(const fd_winograd_args *a) { FD_FN(winograd_4_3)(a, 0); }
FD_LOCAL void FD_FN(winograd_4x1_3x1)(const fd_winograd_args *a) { FD_FN(winograd_4_3)(a, 1); }
FD_LOCAL void FD_FN(winograd_1x4_1x5)(const fd_winograd_args *a) { FD_FN(winograd_4_5)(a, 0); }
FD_LOCAL void FD_FN(winograd_4x1_5x1)(const fd_winograd_args *a) { FD_FN(winograd_4_5)(a, 1); }
FD_LOCAL void FD_FN(winograd_1x2_1x7)(const fd_winograd_args *a) { FD_FN(winograd_2_7)(a, 0); }
FD_LOCAL void FD_FN(winograd_2x1_7x1)(const fd_winograd_args *a) { FD_FN(winograd_2_7)(a, 1); }

/* Convolution by Winograd's minimal filtering: F(4x4, 3x3), F(2x2, 5x5) and F(2x2, 2x2); F(2x2, 3x3) with a stride
 * of 2.
 *
 * Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural
 * Networks, 2016. A patch of (m + r - 1)^2 inputs gives m x m outputs of an r x r filter: Y = A' [(G g G') .* (B' d B)]
 * A. Summed over input channels, the product .* becomes a matrix product for each of the (m + r - 1)^2 positions:
 * patches x input channels times input channels x channels. 36 products in place of 144 or 100, and 9 in place of 16.
 * With a stride of 2, inputs 0, 2 and 4 of a line of five meet the outer taps only, which F(2, 2) takes, and 1 and 3
 * the middle one: five products in place of six, 25 in place of 36.
 *
 * ops/algorithm.c transforms the filters when a model is opened. An output's sum takes input channels in order, in one
 * accumulator a position, whatever the tiles.
 */

/* Patches of 6x6 are interpolated at 0, -+1/sqrt 2, -+sqrt 2 and infinity: products of +-a and +-b with ab = 1 keep
 * every constant near 1, and rounding errors several times smaller than the usual 0, -+1, -+2. */
#define FD_SQRT_2 1.41421356237309504880f
#define FD_SQRT_HALF 0.70710678118654752440f

/* B' d for one row or column of a patch. */
FD_INLINE void FD_FN(winograd_input)(const fd_v *d, fd_v *t, const int size) {
    if (size == 6) {
        const fd_v minus_two = v_set1(-2.0f), minus_half = v_set1(-0.5f), minus_sum = v_set1(-2.5f);
        const fd_v a = v_fma(minus_two, d[2], d[4]), b = v_set1(FD_SQRT_HALF) * v_fma(minus_two, d[1], d[3]);
        const fd_v c = v_fma(minus_half, d[2], d[4]), e = v_set1(FD_SQRT_2) * v_fma(minus_half, d[1], d[3]);
        t[0] = d[0] + v_fma(minus_sum, d[2], d[4]);
        t[1] = a + b;
        t[2] = a - b;
        t[3] = c + e;
        t[4] = c - e;
        t[5] = d[1] + v_fma(minus_sum, d[3], d[5]);
    } else if (size == 5) {
        t[0] = d[0] - d[2];
        t[1] = d[2];
        t[2] = d[1];
        t[3] = d[3];
        t[4] = d[4] - d[2];
    } else {
        t[0] = d[0] - d[1];
        t[1] = d[1];
        t[2] = d[2] - d[1];
    }
}

/* A' x for one row or column of products. */
FD_INLINE void FD_FN(winograd_output)(const fd_v *x, fd_v *y, const int m, const int size) {
    if (size == 6 && m == 2) {
        const fd_v b = x[1] - x[2], e = x[3] - x[4];
        y[0] = (x[0] + (x[1] + x[2])) + (x[3] + x[4]);
        y[1] = v_fma(v_set1(FD_SQRT_2), e, v_fma(v_set1(FD_SQRT_HALF), b, x[5]));
    } else if (m == 4) {
        const fd_v a = x[1] + x[2], b = x[1] - x[2], c = x[3] + x[4], e = x[3] - x[4];
        y[0] = (x[0] + a) + c;
        y[1] = v_fma(v_set1(FD_SQRT_2), e, v_set1(FD_SQRT_HALF) * b);
        y[2] = v_fma(v_set1(2.0f), c, v_set1(0.5f) * a);
        y[3] = v_fma(v_set1(2 * FD_SQRT_2), e, v_fma(v_set1(FD_SQRT_HALF / 2), b, x[5]));
    } else if (size == 5) {
        y[0] = (x[0] + x[1]) + x[2];
        y[1] = (x[1] + x[4]) + x[3];
    } else {
        y[0] = x[0] + x[1];
        y[1] = x[1] + x[2];
    }
}

/* A pointer of which the compiler is to know nothing: else it works out all addresses of a patch in advance, 36 of
 * them, and keeps them on the stack, which takes longer than the transform. */
#define FD_HIDE(pointer) __asm__("" : "+r"(pointer))

/* Positions of a side of the largest patches. */
#define FD_PATCH_MAX 6

/* Rows first to end - 1 of a transformed patch, a vector of channels, from pixels at `from` to positions at `to`: those
 * that share what is computed of a column, and no more, for they are to stay in registers. The rest of a column's
 * transform is left out by the compiler. */
FD_INLINE void FD_FN(winograd_patch)(const float *from, size_t row, size_t pixel, float *to, size_t step,
                                     const int size, const int first, const int end) {
    fd_v rows[FD_PATCH_MAX * FD_PATCH_MAX], d[FD_PATCH_MAX], t[FD_PATCH_MAX];
    FD_UNROLL
    for (int x = 0; x < size; x++, from += pixel) {
        FD_HIDE(from);
        FD_UNROLL
        for (int y = 0; y < size; y++) d[y] = v_load(from + (size_t)y * row);
        FD_FN(winograd_input)(d, t, size);
        FD_UNROLL
        for (int y = first; y < end; y++) rows[y * size + x] = t[y];
    }
    to += (size_t)(first * size) * step;
    FD_UNROLL
    for (int y = first; y < end; y++, to += (size_t)size * step) {
        FD_HIDE(to);
        FD_FN(winograd_input)(rows + y * size, t, size);
        FD_UNROLL
        for (int x = 0; x < size; x++) v_store(to + (size_t)x * step, t[x]);
    }
}

/* Patches of the input to `v`: position, patch, input channel. Vectors are stored whole: what is too much of them, the
 * next patch writes anew. */
FD_INLINE void FD_FN(winograd_patches)(const fd_winograd_args *args, size_t m, const int size) {
    const fd_winograd_args a = *args; /* which nothing that is stored may alias */
    for (size_t py = 0; py < a.patch_rows; py++) {
        for (size_t px = 0; px < a.patch_cols; px++) {
            const float *const from = a.in + py * m * a.in_row + px * m * a.in_channels;
            float *const to = a.v + (py * a.patch_cols + px) * a.in_channels;
            for (size_t c = 0; c < a.in_channels; c += FD_VL) {
                const size_t n = a.in_channels - c, pixels = (size_t)size;
                float whole[FD_PATCH_MAX * FD_PATCH_MAX * FD_VL];
                const float *pixel = from + c;
                size_t row = a.in_row, step = a.in_channels;
                if (n < FD_VL) { /* nothing is read behind the last channel */
                    for (size_t y = 0; y < pixels; y++)
                        for (size_t x = 0; x < pixels; x++)
                            v_store(whole + (y * pixels + x) * FD_VL, v_load_n(pixel + y * row + x * step, n));
                    pixel = whole;
                    step = FD_VL;
                    row = pixels * FD_VL;
                }
                if (size == 6) {
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 0, 1);
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 1, 3);
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 3, 5);
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 5, 6);
                } else if (size == 5) {
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 0, 2);
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 2, 4);
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 4, 5);
                } else {
                    FD_FN(winograd_patch)(pixel, row, step, to + c, a.v_step, size, 0, size);
                }
            }
        }
    }
}

/* The most patches of a tile: one of fewer than FD_CONV_NV vectors may have more than FD_PATCH_MR, where registers are
 * few. With three by two it would wait for each of its six sums. */
#define FD_PATCH_MR_MOST (FD_PATCH_MR == 4 ? 6 : FD_PATCH_MR)

/* Patches `first` to first + mr - 1 of one position, times nv vectors of its weights, to `to`. */
FD_INLINE void FD_FN(winograd_product)(const fd_winograd_args *a, const float *v, const float *w, size_t w_row,
                                       float *to, size_t first, const int mr, const int nv) {
    const float *x[FD_PATCH_MR_MOST];
    fd_v acc[FD_PATCH_MR_MOST * FD_CONV_NV];
    const size_t out_row = fd_round_up(a->channels, FD_PANEL_ALIGN);
    v += first * a->in_channels;
    FD_UNROLL
    for (int p = 0; p < mr; p++) {
        x[p] = v;
        v += a->in_channels;
        FD_UNROLL
        for (int i = 0; i < nv; i++) acc[p * nv + i] = v_set1(0.0f);
    }
    FD_FN(tile)(acc, x, NULL, a->in_channels, w, 0, w_row, mr, nv, FD_DTYPE_F32);
    to += first * out_row;
    FD_UNROLL
    for (int p = 0; p < mr; p++, to += out_row) {
        FD_UNROLL
        for (int i = 0; i < nv; i++) v_store(to + i * FD_VL, acc[p * nv + i]);
    }
}

/* All patches of one position, in equal shares of as many as a tile may have. */
FD_INLINE void FD_FN(winograd_products)(const fd_winograd_args *a, const float *v, const float *w, size_t w_row,
                                        float *to, const int nv) {
    const size_t patches = a->patch_rows * a->patch_cols;
    const size_t most = nv < FD_CONV_NV && patches % FD_PATCH_MR ? FD_PATCH_MR_MOST : FD_PATCH_MR;
    const size_t shares = (patches + most - 1) / most, least = patches / shares, larger = patches % shares;
    for (size_t first = 0, s = 0; s < shares; s++) {
        const size_t mr = least + (s < larger);
        switch (mr) {
#define FD_CASE(mr)                                                                                             \
    case mr:                                                                                                    \
        if ((mr) <= FD_PATCH_MR || nv < FD_CONV_NV) FD_FN(winograd_product)(a, v, w, w_row, to, first, mr, nv); \
        break;
            FD_CASE(1)
            FD_CASE(2)
            FD_CASE(3)
#if FD_PATCH_MR_MOST > 3
            FD_CASE(4)
#endif
#if FD_PATCH_MR_MOST > 4
            FD_CASE(5)
            FD_CASE(6)
#endif
#if FD_PATCH_MR_MOST > 6
            FD_CASE(7)
            FD_CASE(8)
            FD_CASE(9)
#endif
#undef FD_CASE
        }
        first += mr;
    }
}

FD_LOCAL FD_APART void FD_FN(winograd_multiply)(const fd_winograd_args *a, size_t positions) {
    const size_t padded = fd_round_up(a->channels, FD_PANEL_ALIGN);
    for (size_t position = 0; position < positions; position++) {
        const float *const v = a->v + position * a->v_step;
        const float *const weights = a->weights + position * a->in_channels * padded;
        float *const to = a->products + position * a->products_step;
        for (size_t first = 0; first < a->channels; first += FD_PANEL) {
            const size_t panel = fd_min(FD_PANEL, padded - first);
            const size_t vectors = (fd_min(FD_PANEL, a->channels - first) + FD_VL - 1) / FD_VL;
            const size_t shares = (vectors + FD_CONV_NV - 1) / FD_CONV_NV;
            for (size_t s = 0; s < shares; s++) {
                const size_t begin = vectors * s / shares * FD_VL;
                const size_t nv = vectors * (s + 1) / shares - vectors * s / shares;
                const float *const w = weights + first * a->in_channels + begin;
                if (nv == 1) FD_FN(winograd_products)(a, v, w, panel, to + first + begin, 1);
                if (nv == 2) FD_FN(winograd_products)(a, v, w, panel, to + first + begin, 2);
#if FD_CONV_NV > 2
                if (nv == 3) FD_FN(winograd_products)(a, v, w, panel, to + first + begin, 3);
#endif
            }
        }
    }
}

/* Any activation of n vectors. */
FD_INLINE void FD_FN(winograd_activate)(fd_v *x, const int n, const fd_epilogue *e) {
    if (FD_FN(is_simple)(e)) {
        FD_FN(activate_tile)(x, n, e);
        return;
    }
    float values[4 * FD_VL];
    const fd_eltwise_args args = {.in = values,
                                  .out = values,
                                  .rows = 1,
                                  .cols = (size_t)n,
                                  .channels = FD_VL,
                                  .epilogue = {.activation = e->activation, .alpha = e->alpha}};
    FD_UNROLL
    for (int i = 0; i < n; i++) v_store(values + i * FD_VL, x[i]);
    FD_FN(eltwise)(&args);
    FD_UNROLL
    for (int i = 0; i < n; i++) x[i] = v_load(values + i * FD_VL);
}

/* Scale and shift of a row of n outputs that begins at (row, col), of `rows` and `cols` that there are. */
FD_INLINE void FD_FN(winograd_affine)(fd_v *y, const int n, const fd_epilogue *e, size_t row, size_t col,
                                      size_t channel, size_t rows, size_t cols) {
    if (e->axis == FD_AXIS_NONE) return;
    if (e->axis == FD_AXIS_WIDTH) {
        FD_UNROLL
        for (int j = 0; j < n; j++) y[j] = FD_FN(affine)(e, y[j], 0, fd_min(col + (size_t)j, cols - 1), channel);
        return;
    }
    const int by_row = e->axis == FD_AXIS_HEIGHT;
    const size_t i = fd_min(row, rows - 1);
    const fd_v scale = by_row ? v_set1(e->scale[i]) : v_load(e->scale + channel);
    const fd_v shift = by_row ? v_set1(e->shift[i]) : v_load(e->shift + channel);
    FD_UNROLL
    for (int j = 0; j < n; j++) y[j] = v_fma(y[j], scale, shift);
}

/* A vector of channels of a patch from products at `from`, whose first output is at (row, col), to pixels at `to`. If
 * `relu`, that is the activation; if `halves`, 2x2 max pooling is all that follows it. One chain of maxima that begins
 * at 0 is both then, even of NaN and -0, for v_max gives its second operand. */
FD_INLINE void FD_FN(winograd_output_patch)(const fd_winograd_args *a, const float *from, size_t row, size_t col,
                                            size_t channel, float *to, size_t to_row, size_t to_pixel, const int m,
                                            const int size, const int relu, const int halves) {
    const fd_v zero = v_set1(0.0f);
    fd_v rows[4 * FD_PATCH_MAX], x[FD_PATCH_MAX], y[4], most[2] = {zero, zero};
    const size_t line = (size_t)size * a->products_step;
    FD_UNROLL
    for (int j = 0; j < size; j++, from += a->products_step) {
        FD_HIDE(from);
        FD_UNROLL
        for (int i = 0; i < size; i++) x[i] = v_load(from + (size_t)i * line);
        FD_FN(winograd_output)(x, y, m, size);
        FD_UNROLL
        for (int i = 0; i < m; i++) rows[i * size + j] = y[i];
    }
    const fd_v bias = v_load(a->bias + channel);
    FD_UNROLL
    for (int i = 0; i < m; i++) {
        FD_FN(winograd_output)(rows + i * size, y, m, size);
        FD_UNROLL
        for (int j = 0; j < m; j++) y[j] = y[j] + bias;
        if (relu && !halves) {
            FD_UNROLL
            for (int j = 0; j < m; j++) y[j] = v_max(y[j], zero);
        } else if (!relu) {
            FD_FN(winograd_activate)(y, m, &a->epilogue);
        }
        if (!halves) FD_FN(winograd_affine)(y, m, &a->epilogue, row + (size_t)i, col, channel, a->rows, a->cols);
        FD_HIDE(to);
        if (!halves && !a->pooled) {
            FD_UNROLL
            for (int j = 0; j < m; j++) v_store(to + (size_t)j * to_pixel, y[j]);
            to += to_row;
            continue;
        }
        FD_UNROLL
        for (int j = 0; j < m; j += 2) {
            fd_v two;
            if (halves)
                two = v_max(y[j + 1], v_max(y[j], i % 2 ? most[j / 2] : zero));
            else if (i % 2)
                two = v_max(most[j / 2], v_max(y[j], y[j + 1]));
            else
                two = v_max(y[j], y[j + 1]);
            if (i % 2)
                v_store(to + (size_t)(j / 2) * to_pixel, two);
            else
                most[j / 2] = two;
        }
        if (i % 2) to += to_row;
    }
}

/* From products to outputs: bias, activation, scale and shift, 2x2 max pooling if pooled. */
FD_INLINE void FD_FN(winograd_outputs_of)(const fd_winograd_args *args, const int m, const int size, const int relu,
                                          const int halves) {
    const fd_winograd_args a = *args; /* which nothing that is stored may alias */
    const size_t padded = fd_round_up(a.channels, FD_PANEL_ALIGN), halving = a.pooled ? 2 : 1, side = (size_t)m;
    for (size_t py = 0; py < a.patch_rows; py++) {
        for (size_t px = 0; px < a.patch_cols; px++) {
            const float *const from = a.products + (py * a.patch_cols + px) * padded;
            const size_t row = py * side, col = px * side;
            const size_t rows = fd_min(side, a.rows - row) / halving, cols = fd_min(side, a.cols - col) / halving;
            float *const to = a.out + row / halving * a.out_row + col / halving * a.channels;
            for (size_t c = 0; c < a.channels; c += FD_VL) {
                float apart[16 * FD_VL]; /* if not all of it is an output */
                const size_t n = fd_min(a.channels - c, FD_VL);
                const int whole = n == FD_VL && rows == side / halving && cols == side / halving;
                float *const put = whole ? to + c : apart;
                const size_t put_row = whole ? a.out_row : 4 * FD_VL, put_pixel = whole ? a.channels : FD_VL;
                FD_FN(winograd_output_patch)(&a, from + c, row, col, c, put, put_row, put_pixel, m, size, relu, halves);
                if (whole) continue;
                for (size_t i = 0; i < rows; i++)
                    for (size_t j = 0; j < cols; j++)
                        memcpy(to + c + i * a.out_row + j * a.channels, apart + (4 * i + j) * FD_VL, n * sizeof *to);
            }
        }
    }
}

/* Those of networks' usual epilogues have loops of their own, in which nothing is asked for each row of a patch: relu,
 * and relu with pooling and no more. */
FD_INLINE void FD_FN(winograd_outputs)(const fd_winograd_args *a, const int m, const int size, const int usual) {
    const int relu = a->epilogue.activation == FD_ACT_RELU;
    if (usual && relu && a->pooled && a->epilogue.axis == FD_AXIS_NONE)
        FD_FN(winograd_outputs_of)(a, m, size, 1, 1);
    else if (usual && relu)
        FD_FN(winograd_outputs_of)(a, m, size, 1, 0);
    else
        FD_FN(winograd_outputs_of)(a, m, size, 0, 0);
}

/* What algorithms share is there once. */
FD_LOCAL FD_APART void FD_FN(winograd_patches_6)(const fd_winograd_args *a, size_t m) {
    FD_FN(winograd_patches)(a, m, 6);
}

FD_LOCAL void FD_FN(winograd_4x4_3x3)(const fd_winograd_args *a) {
    FD_FN(winograd_patches_6)(a, 4);
    FD_FN(winograd_multiply)(a, 36);
    FD_FN(winograd_outputs)(a, 4, 6, 1);
}

FD_LOCAL void FD_FN(winograd_2x2_5x5)(const fd_winograd_args *a) {
    FD_FN(winograd_patches_6)(a, 2);
    FD_FN(winograd_multiply)(a, 36);
    FD_FN(winograd_outputs)(a, 2, 6, 0);
}

FD_LOCAL void FD_FN(winograd_2x2_3x3_stride2)(const fd_winograd_args *a) {
    FD_FN(winograd_patches)(a, 4, 5);
    FD_FN(winograd_multiply)(a, 25);
    FD_FN(winograd_outputs)(a, 2, 5, 0);
}

FD_LOCAL void FD_FN(winograd_2x2_2x2)(const fd_winograd_args *a) {
    FD_FN(winograd_patches)(a, 2, 3);
    FD_FN(winograd_multiply)(a, 9);
    FD_FN(winograd_outputs)(a, 2, 3, 1);
}

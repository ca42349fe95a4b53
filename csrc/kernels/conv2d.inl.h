/* Convolution + bias + relu + scale and shift + 2x2 max pooling in one loop over register tiles.
 *
 * A tile is two groups of `cols` pixels by nv vectors of channels. With pooling the groups are two image rows, and
 * cols / 2 pooled pixels leave the registers; without, they are neighbours in one row, or in one and the next.
 */

/* Whether there are registers for all weights of a 3x3 filter and an input beside sixteen sums. */
#define FD_PLANE_WHOLE (FD_VREGS >= 2 * 8 + 9 + 1)
/* Columns of a tile of FD_FN(conv2d_plane): with three weights 2 * 6 sums fill sixteen registers. Where the other tiles
 * have two vectors only, there is no fused multiply-add, and its product wants a register, too. */
#define FD_PLANE_COLS (FD_PLANE_WHOLE ? 8 : FD_CONV_NV > 2 ? 6 : 2)
/* Columns of a tile of two vectors: as many sums as one of three has, where registers are few. */
#define FD_WIDE_COLS (FD_VREGS > 16 ? FD_CONV_COLS : FD_CONV_COLS * 3 / 2)
#define FD_TILE_PIXELS (2 * (FD_WIDE_COLS > FD_PLANE_COLS ? FD_WIDE_COLS : FD_PLANE_COLS))

/* Multiply-adds that a core has on the way at once, roughly: with fewer sums it waits for each of them. */
#define FD_LATENCY 5

/* Where a tile is: convolution row and column of its first pixel, first channel. */
typedef struct FD_FN(place) {
    size_t row, col, channel;
} FD_FN(place);

/* The tile of a 3x3 filter over a single channel, `rows` by `cols` outputs by one vector: weights wait in registers,
 * and an input is broadcast once for all the outputs it goes to, where a broadcast for each multiply-add would wait for
 * the load ports. An output takes its inputs in the same order as in FD_FN(tile). */
FD_INLINE void FD_FN(conv2d_plane)(fd_v *acc, const float *in, size_t in_row, const float *w, size_t w_row,
                                   const int rows, const int cols) {
    fd_v weights[9];
    FD_UNROLL
    for (int k = 0; k < 9; k++) weights[k] = v_load(w + (size_t)k * w_row);
    FD_UNROLL
    for (int y = 0; y < rows + 2; y++) {
        FD_UNROLL
        for (int x = 0; x < cols + 2; x++) {
            const fd_v input = v_set1(in[(size_t)y * in_row + (size_t)x]);
            FD_UNROLL
            for (int k = 8; k >= 0; k--) {
                const int row = y - k / 3, col = x - k % 3;
                if (row < 0 || row >= rows || col < 0 || col >= cols) continue;
                acc[row * cols + col] = v_fma(input, weights[k], acc[row * cols + col]);
            }
        }
    }
}

/* The same where few registers are: three weights wait, those of a row of the filter, for which an input row comes
 * again.
 */
FD_INLINE void FD_FN(conv2d_plane_rows)(fd_v *acc, const float *in, size_t in_row, const float *w, size_t w_row,
                                        const int rows, const int cols) {
    fd_v weights[3];
    FD_UNROLL
    for (int y = 0; y < 3; y++, in += in_row) {
        FD_UNROLL
        for (int k = 0; k < 3; k++) {
            weights[k] = v_load(w + (size_t)(3 * y + k) * w_row);
            FD_KEEP(weights[k]);
        }
        FD_UNROLL
        for (int x = 0; x < cols + 2; x++) {
            FD_UNROLL
            for (int row = 0; row < rows; row++) {
                const fd_v input = v_set1(in[(size_t)row * in_row + (size_t)x]);
                FD_UNROLL
                for (int k = 2; k >= 0; k--) {
                    const int col = x - k;
                    if (col < 0 || col >= cols) continue;
                    acc[row * cols + col] = v_fma(input, weights[k], acc[row * cols + col]);
                }
            }
        }
    }
}

/* One or two groups of `cols` pixels. `out` is where the output of their row begins. With `wraps` the last of them are
 * in the next row, or, of a narrow image, in the next ones. */
FD_INLINE void FD_FN(conv2d_tile)(const fd_conv2d_args *a, const float *w, size_t w_row, FD_FN(place) at, float *out,
                                  const int groups, const int cols, const int nv, const int pooled, const int wraps) {
    const int px = groups * cols, outputs = pooled ? cols / 2 : px;
    const float *x[FD_TILE_PIXELS];
    fd_v acc[FD_TILE_PIXELS * FD_CONV_NV];
    const size_t group_step = pooled ? a->in_row_step : (size_t)cols * a->in_col_step;
    const float *const first = a->in + at.row * a->in_row_step + at.col * a->in_col_step;
    const size_t in_wrap = a->in_row_step - a->cols * a->in_col_step;
    size_t over[FD_TILE_PIXELS]; /* how many rows further each pixel is, if it wraps */
    FD_UNROLL
    for (int p = 0; p < px; p++) {
        x[p] = first + (size_t)(p / cols) * group_step + (size_t)(p % cols) * a->in_col_step;
        over[p] = 0;
        if (wraps) {
            if (p > 0) over[p] = over[p - 1] + (at.col + (size_t)p == (over[p - 1] + 1) * a->cols);
            x[p] += over[p] * in_wrap;
        }
        FD_UNROLL
        for (int v = 0; v < nv; v++) acc[p * nv + v] = v_load(a->bias + at.channel + v * FD_VL);
    }
    const int plane_rows = pooled ? 2 : 1, plane_cols = pooled ? cols : px;
    if (nv == 1 && !wraps && a->plane_row && FD_PLANE_WHOLE)
        FD_FN(conv2d_plane)(acc, x[0], a->plane_row, w, w_row, plane_rows, plane_cols);
    else if (nv == 1 && !wraps && a->plane_row)
        FD_FN(conv2d_plane_rows)(acc, x[0], a->plane_row, w, w_row, plane_rows, plane_cols);
    else
        FD_FN(tile)(acc, x, a->taps, a->depth, w, 0, w_row, px, nv, FD_DTYPE_F32);

    /* What zeros abreast may have left of a -0. */
    if (a->channels <= FD_PANEL_ALIGN && !a->before && !a->after && a->epilogue.activation == FD_ACT_LINEAR) {
        FD_UNROLL
        for (int i = 0; i < px * nv; i++) acc[i] = acc[i] + v_set1(0.0f);
    }
    /* Relu and pooling together are fewer maxima. As one chain that begins at 0 they have the same result, even of NaN
     * and -0, for v_max gives its second operand then. */
    const int together = pooled && a->epilogue.activation == FD_ACT_RELU && a->epilogue.axis == FD_AXIS_NONE;
    if (together) {
        const fd_v zero = v_set1(0.0f);
        FD_UNROLL
        for (int i = 0; i < outputs * nv; i++) {
            const fd_v *const top = &acc[i / nv * 2 * nv + i % nv], *const bottom = top + cols * nv;
            acc[i] = v_max(bottom[nv], v_max(bottom[0], v_max(top[nv], v_max(top[0], zero))));
        }
    } else {
        FD_FN(activate_tile)(acc, px * nv, &a->epilogue);
    }
    if (a->epilogue.axis != FD_AXIS_NONE) {
        FD_UNROLL
        for (int p = 0; p < px; p++) {
            const size_t row = at.row + (pooled ? (size_t)(p / cols) : over[p]);
            const size_t col = at.col + (size_t)(pooled ? p % cols : p) - over[p] * a->cols;
            FD_UNROLL
            for (int v = 0; v < nv; v++) {
                fd_v *const value = &acc[p * nv + v];
                *value = FD_FN(affine)(&a->epilogue, *value, row, col, at.channel + (size_t)v * FD_VL);
            }
        }
    }
    if (pooled && !together) {
        FD_UNROLL
        for (int i = 0; i < outputs * nv; i++) {
            const fd_v *const top = &acc[i / nv * 2 * nv + i % nv], *const bottom = top + cols * nv;
            /* Of equals, 0 and -0, the first one, as in pool2d. */
            acc[i] = v_max(v_max(bottom[nv], bottom[0]), v_max(top[nv], top[0]));
        }
    }
    float *const to = out + (pooled ? at.col / 2 : at.col) * a->out_col;
    const size_t out_wrap = a->out_row - a->cols * a->out_col;
    FD_UNROLL
    for (int v = 0; v < nv; v++) {
        const size_t channel = at.channel + (size_t)v * FD_VL;
        const size_t n = a->channels - channel;
        FD_UNROLL
        for (int o = 0; o < outputs; o++) {
            const fd_v result = acc[o * nv + v];
            float *p = to + (size_t)o * a->out_col + channel;
            if (wraps) p += over[o] * out_wrap;
            if (n >= FD_VL)
                v_store(p, result);
            else
                v_store_n(p, result, n);
        }
    }
}

#define FD_TILES(groups, tile_cols, pooled)                                  \
    for (; cols - at.col >= (pooled ? (tile_cols) : (groups) * (tile_cols)); \
         at.col += (pooled ? (tile_cols) : (groups) * (tile_cols)))          \
        FD_FN(conv2d_tile)(a, w, w_row, at, out, groups, tile_cols, nv, pooled, 0);

/* Convolution rows `row` and row + 1, to one output row, for nv vectors of channels. */
FD_INLINE void FD_FN(conv2d_pair)(const fd_conv2d_args *a, const float *w, size_t w_row, FD_FN(place) at, float *out,
                                  const int nv) {
    const size_t cols = a->cols;
    if (FD_PLANE_COLS > FD_CONV_COLS && nv == 1 && a->plane_row) {
        if (FD_PLANE_COLS == 6) { /* rather four and four at the end than six and two */
            for (; cols - at.col >= 6 && cols - at.col != 8; at.col += 6)
                FD_FN(conv2d_tile)(a, w, w_row, at, out, 2, 6, nv, 1, 0);
            FD_TILES(2, 4, 1)
        } else {
            FD_TILES(2, FD_PLANE_COLS, 1)
        }
    }
    FD_TILES(2, FD_CONV_COLS, 1)
#if FD_CONV_COLS > 2
    FD_TILES(2, 2, 1)
#endif
}

/* Whether a tile that goes on in the next rows, up to `end`, has all its pixels. */
FD_INLINE int FD_FN(conv2d_wraps)(const fd_conv2d_args *a, FD_FN(place) at, size_t end, const int nv) {
    const int plane = nv == 1 && a->plane_row;
    return at.row + 1 < end && (end - at.row) * a->cols - at.col >= 2 * FD_CONV_COLS && !plane;
}

/* Rows [at.row, end), not pooled. What is left at the end of a row is a narrower tile if that has sums enough to hide
 * the latency of an addition, and otherwise goes together with the beginning of the next row. So does all of an image
 * that is narrower than a tile. */
FD_INLINE void FD_FN(conv2d_lines)(const fd_conv2d_args *a, const float *w, size_t w_row, FD_FN(place) at, size_t end,
                                   float *out, const int nv) {
    const size_t cols = a->cols, px = 2 * FD_CONV_COLS;
    for (; at.row < end; out += a->out_row, at.row++) {
        if (FD_PLANE_COLS > FD_CONV_COLS && nv == 1 && a->plane_row) {
            FD_TILES(2, FD_PLANE_COLS, 0)
        }
        if (FD_WIDE_COLS > FD_CONV_COLS && nv == 2) {
            FD_TILES(2, FD_WIDE_COLS, 0)
        }
        FD_TILES(2, FD_CONV_COLS, 0)
        if (cols >= px || !FD_FN(conv2d_wraps)(a, at, end, nv)) {
#if FD_CONV_COLS > 2
            FD_TILES(2, 2, 0)
#endif
            if (nv * 2 > FD_LATENCY) {
                FD_TILES(2, 1, 0)
            }
        }
        if (at.col < cols && FD_FN(conv2d_wraps)(a, at, end, nv)) {
            FD_FN(conv2d_tile)(a, w, w_row, at, out, 2, FD_CONV_COLS, nv, 0, 1);
            /* The loop steps on to a row, this to the one that the tile did not end. */
            for (at.col += px; at.col >= 2 * cols; at.col -= cols, at.row++) out += a->out_row;
            at.col -= cols;
            continue;
        }
        FD_TILES(2, 1, 0)
        FD_TILES(1, 1, 0)
        at.col = 0;
    }
}
#undef FD_TILES

/* Convolution rows [row, end) to out; two give one output row if pooled. */
FD_INLINE void FD_FN(conv2d_rows)(const fd_conv2d_args *a, size_t row, size_t end, float *out, const int pooled) {
    const size_t wanted = a->before + a->channels, all = wanted + a->after;
    for (size_t first = a->before / FD_PANEL * FD_PANEL; first < wanted; first += FD_PANEL) {
        const size_t panel = fd_min(FD_PANEL, fd_round_up(all - first, FD_PANEL_ALIGN));
        const size_t skipped = a->before > first ? a->before - first : 0;
        const size_t vectors = (fd_min(FD_PANEL, wanted - first) - skipped + FD_VL - 1) / FD_VL;
        /* Equal shares: 8 vectors are 3 + 3 + 2, 4 are 2 + 2. But wide tiles of a plane, one vector at a time, gain
         * more than two vectors do that share an input; less than three. Those of few registers are only better where
         * they have two rows. */
        const int few = FD_PLANE_WHOLE ? vectors <= 2 : pooled ? vectors % FD_CONV_NV != 0 : vectors == 1;
        const int planes = a->plane_row && few && FD_PLANE_COLS > FD_CONV_COLS;
        const size_t shares = planes ? vectors : (vectors + FD_CONV_NV - 1) / FD_CONV_NV;
        for (size_t s = 0; s < shares; s++) {
            const size_t begin = skipped + vectors * s / shares * FD_VL;
            const size_t nv = vectors * (s + 1) / shares - vectors * s / shares;
            const float *const w = a->weights + first * a->depth + begin;
            FD_FN(place) at = {row, 0, first + begin - a->before};
#define FD_CASE(n)                                                                                                \
    if (nv == (n)) {                                                                                              \
        float *to = out;                                                                                          \
        for (; pooled && at.row < end; at.row += 2, to += a->out_row) FD_FN(conv2d_pair)(a, w, panel, at, to, n); \
        if (!pooled) FD_FN(conv2d_lines)(a, w, panel, at, end, to, n);                                            \
    }
            FD_CASE(1)
            FD_CASE(2)
#if FD_CONV_NV > 2
            FD_CASE(3)
#endif
#undef FD_CASE
        }
    }
}

/* Without pooling. */
FD_LOCAL FD_APART void FD_FN(conv2d_plain)(const fd_conv2d_args *a, size_t row, size_t end, float *out) {
    FD_FN(conv2d_rows)(a, row, end, out, 0);
}

/* Any activation, any pooling: rows of the convolution go through a ring just large enough for one pooling window, or
 * straight to the output if there is no pooling. */
FD_LOCAL void FD_FN(conv2d_ring)(const fd_conv2d_args *a) {
    fd_conv2d_args conv = *a;
    fd_pool2d_args pool = a->pool;
    const int simple = FD_FN(is_simple)(&a->epilogue), pooled = a->pool_mode != FD_POOL_NONE;
    if (pooled) conv.out_row = pool.in_row, conv.out_col = a->channels;
    if (!simple) conv.epilogue = (fd_epilogue){.activation = FD_ACT_LINEAR};
    const size_t first = pooled ? pool.out_first : 0, outputs = pooled ? pool.out_count : a->rows;
    const size_t above = first * (pooled ? pool.stride[0] : 0);            /* the first window, if nothing is padded */
    size_t done = pooled && above > pool.pad[0] ? above - pool.pad[0] : 0; /* convolution rows computed, or not read */
    for (size_t o = first; o < first + outputs; o++) {
        const size_t need = pooled ? fd_min(o * pool.stride[0] + pool.size[0] - pool.pad[0], a->rows) : o + 1;
        for (size_t rows; done < need; done += rows) {
            /* As many at once as lie side by side in the ring. */
            const size_t slot = pooled ? done % pool.in_ring : 0;
            rows = pooled ? fd_min(need - done, pool.in_ring - slot) : 1;
            float *const to = pooled ? a->ring + slot * pool.in_row : a->out + done * a->out_row;
            FD_FN(conv2d_plain)(&conv, done, done + rows, to);
            if (!simple)
                FD_FN(eltwise)(&(fd_eltwise_args){.in = to,
                                                  .out = to,
                                                  .in_row = conv.out_row,
                                                  .out_row = conv.out_row,
                                                  .rows = rows,
                                                  .cols = a->cols,
                                                  .channels = a->channels,
                                                  .row_index = done,
                                                  .epilogue = a->epilogue});
        }
        if (pooled) {
            pool.in = a->ring;
            pool.out = a->out + o * a->out_row;
            pool.out_first = o;
            pool.out_count = 1;
            FD_FN(pool2d)(&pool);
        }
    }
}

FD_LOCAL void FD_FN(conv2d)(const fd_conv2d_args *a) {
    const fd_pool2d_args *const p = &a->pool;
    const int halving = a->pool_mode == FD_POOL_MAX && p->size[0] == 2 && p->size[1] == 2 && p->stride[0] == 2 &&
                        p->stride[1] == 2 && p->pad[0] == 0 && p->pad[1] == 0 && a->rows % 2 == 0 && a->cols % 2 == 0 &&
                        p->channels == a->channels;
    if (FD_FN(is_simple)(&a->epilogue) && a->pool_mode == FD_POOL_NONE)
        FD_FN(conv2d_plain)(a, 0, a->rows, a->out);
    else if (FD_FN(is_simple)(&a->epilogue) && halving)
        FD_FN(conv2d_rows)(a, 0, a->rows, a->out, 1);
    else
        FD_FN(conv2d_ring)(a);
}

/* Depthwise convolution: vectors are channels, a tile is a few neighbouring outputs of one vector of channels, so that
 * each weight is loaded once for all of them. */

#define FD_DEPTHWISE_COLS 4
/* Of a 3x3 kernel, whose nine weights wait in registers with an input: rows and columns of sums. */
#define FD_DEPTHWISE_ROWS 2
#define FD_SQUARE_COLS (FD_VREGS > 16 ? 4 : 3)

/* Floats of a cache line, and lines of a first-level cache of 32 KiB: sets times ways. */
#define FD_LINE (FD_ALIGN / sizeof(float))
#define FD_SETS ((size_t)64)
#define FD_WAYS ((size_t)8)
/* Floats of the copy of some rows of a line of channels: half of that cache. */
#define FD_COPY ((size_t)4096)

/* The epilogue of `cols` outputs, and to where they belong. */
FD_INLINE void FD_FN(depthwise_finish)(const fd_depthwise_args *a, fd_v *acc, FD_FN(place) at, float *out,
                                       const int cols) {
    const size_t n = a->channels - at.channel;
    if (FD_FN(is_simple)(&a->epilogue)) {
        FD_FN(activate_tile)(acc, cols, &a->epilogue);
        FD_UNROLL
        for (int p = 0; p < cols; p++)
            acc[p] = FD_FN(affine)(&a->epilogue, acc[p], at.row, at.col + (size_t)p, at.channel);
    }
    FD_UNROLL
    for (int p = 0; p < cols; p++) {
        float *const to = out + (at.col + (size_t)p) * a->channels + at.channel;
        if (n >= FD_VL)
            v_store(to, acc[p]);
        else
            v_store_n(to, acc[p], n);
    }
}

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
    FD_FN(depthwise_finish)(a, acc, at, out, cols);
}

/* Any kernel: one row of outputs. */
FD_INLINE void FD_FN(depthwise_row)(const fd_depthwise_args *a, size_t row, float *out) {
    for (size_t channel = 0; channel < a->channels; channel += FD_VL) {
        const size_t panel = channel / FD_PANEL * FD_PANEL;
        const size_t width = fd_min(FD_PANEL, fd_round_up(a->channels - panel, FD_PANEL_ALIGN));
        const float *const w = a->weights + panel * a->taps_count + (channel - panel);
        FD_FN(place) at = {row, 0, channel};
        for (; a->cols - at.col >= FD_DEPTHWISE_COLS; at.col += FD_DEPTHWISE_COLS)
            FD_FN(depthwise_tile)(a, w, width, at, out, FD_DEPTHWISE_COLS);
        for (; at.col < a->cols; at.col++) FD_FN(depthwise_tile)(a, w, width, at, out, 1);
    }
}

/* Where 3x3 taps of one vector of channels lie, from the first output of a row on. */
typedef struct FD_FN(lines) {
    const float *first;
    size_t row, pixel; /* floats between rows and between pixels */
} FD_FN(lines);

/* 3x3: `rows` by `cols` outputs of one vector of channels. Each input is loaded once for all outputs that it has a part
 * in. */
FD_INLINE void FD_FN(depthwise_3x3_tile)(const fd_depthwise_args *a, const FD_FN(lines) * in, const fd_v *w, fd_v bias,
                                         FD_FN(place) at, float *out, const int rows, const int cols, const int stride,
                                         const int whole) {
    const size_t n = a->channels - at.channel;
    const float *line = in->first + at.col * (size_t)stride * in->pixel;
    fd_v acc[FD_DEPTHWISE_ROWS * FD_DEPTHWISE_COLS];
    FD_UNROLL
    for (int i = 0; i < rows * cols; i++) acc[i] = bias;
    FD_UNROLL
    for (int y = 0; y < (rows - 1) * stride + 3; y++, line += in->row) {
        FD_UNROLL
        for (int x = 0; x < (cols - 1) * stride + 3; x++) {
            const float *const from = line + (size_t)x * in->pixel;
            fd_v input = whole ? v_load(from) : v_load_n(from, n);
            FD_KEEP(input);
            FD_UNROLL
            for (int i = 0; i < rows * cols; i++) {
                const int ky = y - i / cols * stride, kx = x - i % cols * stride;
                if (ky >= 0 && ky < 3 && kx >= 0 && kx < 3) acc[i] = v_fma(input, w[3 * ky + kx], acc[i]);
            }
        }
    }
    FD_UNROLL
    for (int r = 0; r < rows; r++, at.row++)
        FD_FN(depthwise_finish)(a, acc + r * cols, at, out + (size_t)r * a->out_row, cols);
}

/* `rows` rows of one vector of channels. */
FD_INLINE void FD_FN(depthwise_3x3_channels)(const fd_depthwise_args *a, const FD_FN(lines) * in, FD_FN(place) at,
                                             const int rows, const int stride, const int whole) {
    const size_t panel = at.channel / FD_PANEL * FD_PANEL;
    const size_t width = fd_min(FD_PANEL, fd_round_up(a->channels - panel, FD_PANEL_ALIGN));
    const fd_v bias = v_load(a->bias + at.channel);
    float *const out = a->out + at.row * a->out_row;
    fd_v w[9];
    FD_UNROLL
    for (int k = 0; k < 9; k++) w[k] = v_load(a->weights + panel * 9 + (at.channel - panel) + (size_t)k * width);
    const int cols = rows == 1 ? FD_DEPTHWISE_COLS : FD_SQUARE_COLS;
    for (; a->cols - at.col >= (size_t)cols; at.col += (size_t)cols)
        FD_FN(depthwise_3x3_tile)(a, in, w, bias, at, out, rows, cols, stride, whole);
    for (; a->cols - at.col >= 2; at.col += 2)
        FD_FN(depthwise_3x3_tile)(a, in, w, bias, at, out, rows, 2, stride, whole);
    if (at.col < a->cols) FD_FN(depthwise_3x3_tile)(a, in, w, bias, at, out, rows, 1, stride, whole);
}

/* All channels of some rows: what they have in common of the input is in the first-level cache. */
FD_INLINE void FD_FN(depthwise_3x3_rows)(const fd_depthwise_args *a, size_t row, const int rows, const int stride) {
    FD_FN(lines) in = {a->in + row * a->in_row_step, a->taps[3], a->channels};
    FD_FN(place) at = {row, 0, 0};
    for (; a->channels - at.channel >= FD_VL; at.channel += FD_VL, in.first += FD_VL)
        FD_FN(depthwise_3x3_channels)(a, &in, at, rows, stride, 1);
    if (at.channel < a->channels) FD_FN(depthwise_3x3_channels)(a, &in, at, rows, stride, 0);
}

/* Rows [row, end) of one line of channels, from a copy in which its pixels lie side by side. */
FD_INLINE void FD_FN(depthwise_3x3_copied)(const fd_depthwise_args *a, float *copy, size_t row, size_t end,
                                           size_t channel, const int stride) {
    const size_t pixels = (a->cols - 1) * (size_t)stride + 3, rows = (end - row - 1) * (size_t)stride + 3;
    const float *const from = a->in + row * a->in_row_step + channel;
    for (size_t y = 0; y < rows; y++) {
        for (size_t x = 0; x < pixels; x++) {
            FD_UNROLL
            for (size_t c = 0; c < FD_LINE; c += FD_VL)
                v_store(copy + (y * pixels + x) * FD_LINE + c, v_load(from + y * a->taps[3] + x * a->channels + c));
        }
    }
    FD_FN(lines) in = {copy, pixels * FD_LINE, FD_LINE};
    FD_FN(place) at = {row, 0, channel};
    for (; end - at.row >= FD_DEPTHWISE_ROWS; at.row += FD_DEPTHWISE_ROWS) {
        for (size_t c = 0; c < FD_LINE; c += FD_VL, at.channel += FD_VL, in.first += FD_VL)
            FD_FN(depthwise_3x3_channels)(a, &in, at, FD_DEPTHWISE_ROWS, stride, 1);
        at.channel = channel;
        in.first += FD_DEPTHWISE_ROWS * (size_t)stride * in.row - FD_LINE;
    }
    for (size_t c = 0; at.row < end && c < FD_LINE; c += FD_VL, at.channel += FD_VL, in.first += FD_VL)
        FD_FN(depthwise_3x3_channels)(a, &in, at, 1, stride, 1);
}

/* Whether pixels are so many channels that those of FD_DEPTHWISE_ROWS rows of outputs, read and written, do not fit the
 * few sets of a first-level cache into which they fall: then a line is gone before its second vector is asked for. */
FD_INLINE int FD_FN(depthwise_3x3_crowds)(const fd_depthwise_args *a, const size_t stride) {
    const size_t bytes = a->channels * sizeof(float), power = bytes & (~bytes + 1);
    if (power < 2 * FD_ALIGN || a->in_row_step != stride * a->taps[3]) return 0;
    const size_t sets = FD_SETS * FD_ALIGN > power ? FD_SETS * FD_ALIGN / power : 1;
    const size_t read = ((FD_DEPTHWISE_ROWS - 1) * stride + 3) * ((a->cols - 1) * stride + 3);
    return read + FD_DEPTHWISE_ROWS * a->cols > sets * FD_WAYS;
}

FD_INLINE void FD_FN(depthwise_3x3)(const fd_depthwise_args *a, const int stride) {
    const size_t row_floats = ((a->cols - 1) * (size_t)stride + 3) * FD_LINE;
    size_t row = 0;
    if (FD_FN(depthwise_3x3_crowds)(a, (size_t)stride) && FD_COPY / row_floats >= (size_t)stride + 3) {
        const size_t most = ((FD_COPY / row_floats - 3) / (size_t)stride + 1) / FD_DEPTHWISE_ROWS * FD_DEPTHWISE_ROWS;
        float copy[FD_COPY] __attribute__((aligned(FD_ALIGN)));
        for (; row < a->rows; row = fd_min(row + most, a->rows))
            for (size_t channel = 0; channel < a->channels; channel += FD_LINE)
                FD_FN(depthwise_3x3_copied)(a, copy, row, fd_min(row + most, a->rows), channel, stride);
    }
    if (a->in_row_step == (size_t)stride * a->taps[3])
        for (; a->rows - row >= FD_DEPTHWISE_ROWS; row += FD_DEPTHWISE_ROWS)
            FD_FN(depthwise_3x3_rows)(a, row, FD_DEPTHWISE_ROWS, stride);
    for (; row < a->rows; row++) FD_FN(depthwise_3x3_rows)(a, row, 1, stride);
}

/* Whether the taps are a 3x3 square without dilation along columns. */
FD_INLINE int FD_FN(is_3x3)(const fd_depthwise_args *a) {
    if (a->taps_count != 9) return 0;
    for (size_t k = 0; k < 9; k++)
        if (a->taps[k] != k / 3 * a->taps[3] + k % 3 * a->channels) return 0;
    return 1;
}

FD_LOCAL void FD_FN(depthwise)(const fd_depthwise_args *a) {
    const int square = FD_FN(is_3x3)(a), stride = a->in_col_step == a->channels ? 1 : 2;
    const int fast = square && a->in_col_step == (size_t)stride * a->channels;
    if (fast && stride == 1) FD_FN(depthwise_3x3)(a, 1);
    if (fast && stride == 2) FD_FN(depthwise_3x3)(a, 2);
    for (size_t row = 0; row < a->rows; row++) {
        float *const out = a->out + row * a->out_row;
        if (!fast) FD_FN(depthwise_row)(a, row, out);
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

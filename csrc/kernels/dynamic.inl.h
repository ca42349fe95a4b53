/* Dense layers by dynamic quantization: each row's inputs become bytes when they come, and meet weights that are bytes
 * (FORMAT.md). Sums of integers are exact, so that no order of theirs has to be kept. */

/* What a quantised row's bytes stand for: (byte - zero) * scale. */
typedef struct FD_FN(quantized) {
    float scale;
    int32_t zero;
} FD_FN(quantized);

/* Least and greatest of 0 and n values. */
FD_INLINE void FD_FN(extent)(const float *x, size_t n, float *least, float *greatest) {
    fd_v low = v_set1(0.0f), high = v_set1(0.0f);
    size_t i = 0;
    for (; n - i >= FD_VL; i += FD_VL) {
        const fd_v v = v_load(x + i);
        low = v_min(v, low);
        high = v_max(v, high);
    }
    if (i < n) {
        const fd_v v = v_load_n(x + i, n - i);
        low = v_min(v, low);
        high = v_max(v, high);
    }
    float lows[FD_VL], highs[FD_VL];
    v_store(lows, low);
    v_store(highs, high);
    FD_UNROLL
    for (int half = FD_VL / 2; half > 0; half /= 2) {
        FD_UNROLL
        for (int k = 0; k < half; k++) {
            lows[k] = lows[k + half] < lows[k] ? lows[k + half] : lows[k];
            highs[k] = highs[k + half] > highs[k] ? highs[k + half] : highs[k];
        }
    }
    *least = lows[0];
    *greatest = highs[0];
}

/* Bytes FD_DOT_MIN to FD_DOT_MIN + 255, of which `zero` stands for 0. Writes whole vectors. */
FD_INLINE FD_FN(quantized) FD_FN(quantize)(const float *x, size_t n, unsigned char *bytes) {
    float least, greatest, inverse = 0.0f;
    FD_FN(extent)(x, n, &least, &greatest);
    float scale = greatest / 255.0f - least / 255.0f; /* the difference itself might overflow */
    if (FD_FLOAT_TABLE.find_outside(x, n, -FLT_MAX, FLT_MAX) < n)
        scale = NAN;
    else if (scale >= FLT_MIN)
        inverse = 1.0f / scale;
    else
        scale = 0.0f;
    const fd_v factor = v_set1(inverse), first = v_set1(FD_DOT_MIN), last = v_set1(FD_DOT_MIN + 255);
    const fd_v zero = v_min(v_round(v_set1(-least) * factor) + first, last);
    for (size_t i = 0; i < n; i += FD_VL) {
        const fd_v v = n - i >= FD_VL ? v_load(x + i) : v_load_n(x + i, n - i);
        v_store_bytes(bytes + i, v_max(v_min(v_round(v * factor) + zero, last), first));
    }
    float lanes[FD_VL];
    v_store(lanes, zero);
    return (FD_FN(quantized)){scale, (int32_t)lanes[0]};
}

/* The rows of a call, quantised. */
typedef struct FD_FN(quantized_rows) {
    const unsigned char *bytes;
    size_t stride;
    const FD_FN(quantized) * rows;
} FD_FN(quantized_rows);

/* acc[m][v] += sum over k < depth of x[m][k] * weight k of each of the columns, which lie in groups of four rows, w_row
 * bytes apart. Like `tile`: whichever is fewer, inputs or weights, waits in registers. */
FD_INLINE void FD_FN(dot_tile)(fd_vi *acc, const unsigned char *const *x, size_t depth, const int8_t *w, size_t w_row,
                               const int mr, const int nv) {
    for (size_t k = 0; k < depth; k += 4, w += w_row) {
        if (mr < nv) {
            fd_dot_input waiting[FD_TILE_SIDE];
            FD_UNROLL
            for (int m = 0; m < mr; m++) waiting[m] = v_dot_input(x[m] + k);
            FD_UNROLL
            for (int v = 0; v < nv; v++) {
                fd_dot_weight weight = v_dot_weight(w + (size_t)v * 4 * FD_VL);
                if (mr > 1) FD_KEEP(weight);
                FD_UNROLL
                for (int m = 0; m < mr; m++) acc[m * nv + v] = v_dot(acc[m * nv + v], waiting[m], weight);
            }
        } else {
            fd_dot_weight waiting[FD_TILE_SIDE];
            FD_UNROLL
            for (int v = 0; v < nv; v++) {
                waiting[v] = v_dot_weight(w + (size_t)v * 4 * FD_VL);
                FD_KEEP(waiting[v]);
            }
            FD_UNROLL
            for (int m = 0; m < mr; m++) {
                const fd_dot_input input = v_dot_input(x[m] + k);
                FD_UNROLL
                for (int v = 0; v < nv; v++) acc[m * nv + v] = v_dot(acc[m * nv + v], input, waiting[v]);
            }
        }
    }
}

/* Vectors of a tile of mr rows. One row alone takes FD_DOT_ALONE, so as to read its weights in one go. */
#define FD_DYNAMIC_NV(mr) ((mr) == 1 ? FD_DOT_ALONE : FD_DOT_ACCUMULATORS / (mr) < 6 ? FD_DOT_ACCUMULATORS / (mr) : 6)

/* The end of a tile of `rows` rows by `vectors` vectors, not inlined, as in dense.inl.h. */
FD_LOCAL FD_APART void FD_FN(dynamic_store_tile)(const fd_dense_args *a, const FD_FN(quantized_rows) * q, size_t row,
                                                 size_t channel, const float *sums, size_t rows, size_t vectors) {
    for (size_t m = 0; m < rows; m++) {
        const fd_v scale = v_set1(q->rows[row + m].scale);
        for (size_t v = 0; v < vectors; v++, sums += FD_VL) {
            const size_t c = channel + v * FD_VL;
            if (c >= a->channels) continue;
            /* Rounded at each step, never fused: the same bits on every ISA. */
            const fd_v sum = v_load(sums) * scale * v_load(a->scale + c) + v_load(a->bias + c);
            FD_FN(dense_put)(a, row + m, c, sum);
        }
    }
}

/* Rows row to row + mr - 1, nv vectors of a panel, from `channel` on. w_row: bytes of four rows of the panel. */
FD_INLINE void FD_FN(dynamic_tile)(const fd_dense_args *a, const FD_FN(quantized_rows) * q, const int8_t *w,
                                   size_t w_row, size_t row, size_t channel, const int mr, const int nv) {
    const unsigned char *x[FD_TILE_SIDE]; /* gcc does not see yet which tiles are never made */
    fd_vi acc[FD_TILE_SIDE * FD_TILE_SIDE];
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        x[m] = q->bytes + (row + (size_t)m) * q->stride;
        const fd_vi zero = v_iset1(-q->rows[row + (size_t)m].zero);
        FD_UNROLL
        for (int v = 0; v < nv; v++) acc[m * nv + v] = zero * v_iload(a->sums + channel + (size_t)v * FD_VL);
    }
    FD_FN(dot_tile)(acc, x, a->depth, w, w_row, mr, nv);
    float sums[FD_TILE_SIDE * FD_TILE_SIDE * FD_VL];
    FD_UNROLL
    for (int i = 0; i < mr * nv; i++) v_store(sums + (size_t)i * FD_VL, v_from_int(acc[i]));
    FD_FN(dynamic_store_tile)(a, q, row, channel, sums, (size_t)mr, (size_t)nv);
}

/* mr rows of one panel, its vectors in equal shares. */
FD_INLINE void FD_FN(dynamic_panel)(const fd_dense_args *a, const FD_FN(quantized_rows) * q, const int8_t *w,
                                    size_t row, size_t channel, const int mr) {
    const size_t width = fd_min(FD_PANEL, fd_round_up(a->channels - channel, FD_PANEL_ALIGN));
    const size_t vectors = width / FD_VL;
    const size_t most = (size_t)FD_DYNAMIC_NV(mr), shares = (vectors + most - 1) / most;
    for (size_t s = 0; s < shares; s++) {
        const size_t first = vectors * s / shares, c = channel + first * FD_VL;
        const int8_t *const from = w + first * FD_VL * 4;
        switch (vectors * (s + 1) / shares - first) {
/* Shares beyond FD_DYNAMIC_NV(mr) do not occur; the tile they would need, which does not fit, is not made. */
#define FD_CASE(nv)                                                                                       \
    case nv:                                                                                              \
        if ((nv) <= FD_DYNAMIC_NV(mr))                                                                    \
            FD_FN(dynamic_tile)(a, q, from, 4 * width, row, c, mr, (nv) <= FD_DYNAMIC_NV(mr) ? (nv) : 1); \
        break;
            FD_CASE(1)
            FD_CASE(2)
            FD_CASE(3)
            FD_CASE(4)
            FD_CASE(5)
            FD_CASE(6)
            FD_CASE(7)
            FD_CASE(8)
            FD_CASE(9)
            FD_CASE(10)
            FD_CASE(11)
            FD_CASE(12)
#undef FD_CASE
        }
    }
}

_Static_assert(FD_DOT_MR <= 4 && FD_DOT_MR <= FD_DOT_ACCUMULATORS && FD_DOT_ALONE <= 12,
               "dynamic_panel and dense_dynamic have a case for every share");

FD_LOCAL void FD_FN(dense_dynamic)(const fd_dense_args *a) {
    unsigned char *const bytes = (unsigned char *)a->scratch;
    const size_t stride = FD_DYNAMIC_STRIDE(a->depth);
    FD_FN(quantized) *const rows = (FD_FN(quantized) *)(void *)(bytes + a->m * stride);
    for (size_t i = 0; i < a->m; i++) rows[i] = FD_FN(quantize)(a->in + i * a->in_row, a->depth, bytes + i * stride);
    const FD_FN(quantized_rows) q = {bytes, stride, rows};
    const size_t shares = (a->m + FD_DOT_MR - 1) / FD_DOT_MR;
    /* Panels outermost, for they are what comes from afar. */
    for (size_t channel = 0; channel < a->channels; channel += FD_PANEL) {
        const int8_t *const w = (const int8_t *)a->weights + channel * fd_round_up(a->depth, 4);
        for (size_t s = 0; s < shares; s++) {
            const size_t row = a->m * s / shares;
            switch (a->m * (s + 1) / shares - row) {
            case 1: FD_FN(dynamic_panel)(a, &q, w, row, channel, 1); break;
            case 2: FD_FN(dynamic_panel)(a, &q, w, row, channel, 2); break;
            case 3: FD_FN(dynamic_panel)(a, &q, w, row, channel, 3); break;
            case 4: FD_FN(dynamic_panel)(a, &q, w, row, channel, FD_DOT_MR); break;
            }
        }
    }
    FD_FN(dense_activate)(a);
}

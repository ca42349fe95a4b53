/* Dense layers: many rows at once, one row that skips its zeros, and few outputs. */

/* What a sum starts from. */
FD_INLINE fd_v FD_FN(dense_start)(const fd_dense_args *a, size_t channel) {
    return a->scale ? v_set1(0.0f) : v_load(a->bias + channel);
}

FD_INLINE void FD_FN(dense_store)(const fd_dense_args *a, size_t row, size_t channel, fd_v x) {
    if (a->scale) x = v_fma(x, v_load(a->scale + channel), v_load(a->bias + channel));
    FD_FN(dense_put)(a, row, channel, x);
}

/* Vectors of a tile of mr rows: as many as leave its accumulators in registers, at most six. */
#define FD_DENSE_NV(mr) (FD_DENSE_ACCUMULATORS / (mr) < 6 ? FD_DENSE_ACCUMULATORS / (mr) : 6)

/* Where a panel's weights are: those of its first column at index `at`. */
typedef struct FD_FN(panel) {
    const void *weights;
    size_t at, width, channel;
} FD_FN(panel);

/* Rows row to row + mr - 1, nv vectors of a panel from vector `first` on. */
FD_INLINE void FD_FN(dense_tile)(const fd_dense_args *a, const FD_FN(panel) * panel, size_t row, size_t first,
                                 const int mr, const int nv, const uint32_t dtype) {
    const float *x[FD_DENSE_MR];
    fd_v acc[FD_DENSE_ACCUMULATORS];
    const size_t channel = panel->channel + first * FD_VL;
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        x[m] = a->in + (row + (size_t)m) * a->in_row;
        FD_UNROLL
        for (int v = 0; v < nv; v++) acc[m * nv + v] = FD_FN(dense_start)(a, channel + (size_t)v * FD_VL);
    }
    FD_FN(tile)(acc, x, NULL, a->depth, panel->weights, panel->at + first * FD_VL, panel->width, mr, nv, dtype);
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        FD_UNROLL
        for (int v = 0; v < nv; v++)
            FD_FN(dense_store)(a, row + (size_t)m, channel + (size_t)v * FD_VL, acc[m * nv + v]);
    }
}

/* mr rows of one panel, its vectors in equal shares. */
FD_INLINE void FD_FN(dense_panel)(const fd_dense_args *a, const FD_FN(panel) * panel, size_t row, const int mr,
                                  const uint32_t dtype) {
    const size_t vectors = (fd_min(FD_PANEL, a->channels - panel->channel) + FD_VL - 1) / FD_VL;
    const size_t most = (size_t)FD_DENSE_NV(mr), shares = (vectors + most - 1) / most;
    for (size_t s = 0; s < shares; s++) {
        const size_t first = vectors * s / shares;
        switch (vectors * (s + 1) / shares - first) {
/* Shares beyond FD_DENSE_NV(mr) do not occur; the tile they would need, which does not fit, is not made. */
#define FD_CASE(nv) \
    case nv: FD_FN(dense_tile)(a, panel, row, first, mr, (nv) <= FD_DENSE_NV(mr) ? (nv) : 1, dtype); break;
            FD_CASE(1)
            FD_CASE(2)
            FD_CASE(3)
            FD_CASE(4)
            FD_CASE(5)
            FD_CASE(6)
#undef FD_CASE
        }
    }
}

_Static_assert(FD_DENSE_NV(2) <= 6 && FD_DENSE_MR <= 4, "dense_panel and dense_rows have a case for every share");

/* All rows of one panel, in equal shares of two to FD_DENSE_MR. */
FD_INLINE void FD_FN(dense_rows)(const fd_dense_args *a, const FD_FN(panel) * panel, const uint32_t dtype) {
    const size_t shares = (a->m + FD_DENSE_MR - 1) / FD_DENSE_MR;
    for (size_t s = 0; s < shares; s++) {
        const size_t row = a->m * s / shares;
        const size_t rows = a->m * (s + 1) / shares - row;
        if (rows == 2) FD_FN(dense_panel)(a, panel, row, 2, dtype);
        if (rows == 3) FD_FN(dense_panel)(a, panel, row, 3, dtype);
        if (rows == 4) FD_FN(dense_panel)(a, panel, row, 4, dtype);
    }
}

/* Panels outermost, for they are what comes from afar. */
FD_INLINE void FD_FN(dense_many)(const fd_dense_args *a, const uint32_t dtype) {
    for (size_t channel = 0; channel < a->channels; channel += FD_PANEL) {
        const size_t width = fd_min(FD_PANEL, fd_round_up(a->channels - channel, FD_PANEL_ALIGN));
        const FD_FN(panel) panel = {a->weights, channel * a->depth, width, channel};
        FD_FN(dense_rows)(a, &panel, dtype);
    }
}

/* Rows of weights to fetch ahead: which ones come, only the list of nonzero inputs knows. Float weights of fewer bytes
 * are expected in the second-level cache, whose latency a core hides by itself: fetching only takes load slots. */
#define FD_DENSE_AHEAD 16
#define FD_DENSE_NEAR ((size_t)1 << 20)

/* The inputs of one row that are not zero. The list goes on for FD_DENSE_AHEAD indices. */
typedef struct FD_FN(nonzero) {
    const float *value;
    const uint32_t *index;
    size_t count;
} FD_FN(nonzero);

/* Columns of one panel, whose weights begin at index w. */
FD_INLINE void FD_FN(dense_row_columns)(const fd_dense_args *a, size_t w, size_t w_row, size_t channel,
                                        const FD_FN(nonzero) * x, const int nv, const int ahead, const uint32_t dtype) {
    fd_v acc[FD_PANEL / FD_VL];
    FD_UNROLL
    for (int v = 0; v < nv; v++) acc[v] = FD_FN(dense_start)(a, channel + (size_t)v * FD_VL);
    for (size_t i = 0; i < x->count; i++) {
        const fd_v input = v_set1(x->value[i]);
        const size_t at = w + x->index[i] * w_row;
        if (ahead) {
            const size_t soon = w + x->index[i + FD_DENSE_AHEAD] * w_row;
            FD_UNROLL
            for (int v = 0; v < nv; v += 64 / FD_VL / (int)fd_dtype_size(dtype))
                __builtin_prefetch((const char *)a->weights + (soon + (size_t)v * FD_VL) * fd_dtype_size(dtype));
        }
        FD_UNROLL
        for (int v = 0; v < nv; v++)
            acc[v] = v_fma(input, FD_FN(weight)(a->weights, at + (size_t)v * FD_VL, dtype), acc[v]);
    }
    FD_UNROLL
    for (int v = 0; v < nv; v++)
        if (channel + (size_t)v * FD_VL < a->channels) FD_FN(dense_store)(a, 0, channel + (size_t)v * FD_VL, acc[v]);
}

/* All panels. A panel's columns are summed at once where the registers hold them, else in halves. */
FD_INLINE void FD_FN(dense_row_panels)(const fd_dense_args *a, const FD_FN(nonzero) * x, const int ahead,
                                       const uint32_t dtype) {
    const size_t most = FD_VREGS * FD_VL > FD_PANEL ? FD_PANEL : FD_PANEL / 2;
    for (size_t first = 0; first < a->channels; first += FD_PANEL) {
        const size_t panel = fd_min(FD_PANEL, fd_round_up(a->channels - first, FD_PANEL_ALIGN));
        for (size_t c = 0, n; c < panel; c += n) {
            n = fd_min(most, panel - c);
            const size_t w = first * a->depth + c;
            switch (n / FD_PANEL_ALIGN) {
#define FD_CASE(n) \
    case n: FD_FN(dense_row_columns)(a, w, panel, first + c, x, (n) * FD_PANEL_ALIGN / FD_VL, ahead, dtype); break;
                FD_CASE(1)
                FD_CASE(2)
                FD_CASE(3)
#if FD_VREGS * FD_VL > FD_PANEL
                FD_CASE(4)
                FD_CASE(5)
                FD_CASE(6)
#endif
#undef FD_CASE
            }
        }
    }
}

/* One row: its nonzero inputs are listed once, and only their weights are read. Half of what comes out of a relu and
 * most of a digit's border is zero, and a single row waits for nothing but its weights. */
FD_INLINE void FD_FN(dense_row)(const fd_dense_args *a, const uint32_t dtype) {
    float *const value = a->scratch;
    uint32_t *const index = (uint32_t *)(void *)(a->scratch + FD_DENSE_LIST(a->depth));
    size_t count = 0, k = 0;
    for (; a->depth - k >= FD_VL; k += FD_VL)
        count += v_put_nonzero(value + count, index + count, a->in + k, (uint32_t)k);
    if (k < a->depth) {
        float rest[FD_VL] = {0};
        memcpy(rest, a->in + k, (a->depth - k) * sizeof *rest);
        count += v_put_nonzero(value + count, index + count, rest, (uint32_t)k);
    }
    /* What is fetched ahead at the end of a panel is the beginning of the next one. */
    for (k = 0; count && k < FD_DENSE_AHEAD; k++) index[count + k] = index[k] + (uint32_t)a->depth;
    const FD_FN(nonzero) x = {value, index, count};
    if (dtype == FD_DTYPE_F32 && a->depth * a->channels * sizeof(float) < FD_DENSE_NEAR)
        FD_FN(dense_row_panels)(a, &x, 0, dtype);
    else
        FD_FN(dense_row_panels)(a, &x, 1, dtype);
}

FD_INLINE void FD_FN(dense_of)(const fd_dense_args *a, const uint32_t dtype) {
    if (a->m > FD_DENSE_ALONE) {
        FD_FN(dense_many)(a, dtype);
        return;
    }
    fd_dense_args row = *a;
    for (size_t i = 0; i < a->m; i++, row.in += a->in_row, row.out += a->out_row) FD_FN(dense_row)(&row, dtype);
}

FD_LOCAL void FD_FN(dense)(const fd_dense_args *a) {
    if (a->dtype == FD_DTYPE_F16)
        FD_FN(dense_of)(a, FD_DTYPE_F16);
    else if (a->dtype == FD_DTYPE_I8)
        FD_FN(dense_of)(a, FD_DTYPE_I8);
    else
        FD_FN(dense_of)(a, FD_DTYPE_F32);
    FD_FN(dense_activate)(a);
}

FD_INLINE void FD_FN(dense_narrow_tile)(const fd_dense_args *a, size_t w_row, size_t row, size_t channel, const int mr,
                                        const int nv) {
    fd_v acc[FD_NARROW_CHAINS * FD_NARROW_MR * FD_NARROW_NV];
    FD_UNROLL
    for (int i = 0; i < FD_NARROW_CHAINS * mr * nv; i++) acc[i] = v_set1(0.0f);
    for (size_t k = 0; k < a->depth; k += FD_NARROW_CHAINS) {
        const size_t chains = fd_min(FD_NARROW_CHAINS, a->depth - k);
        FD_UNROLL
        for (int s = 0; s < FD_NARROW_CHAINS; s++) {
            if ((size_t)s >= chains) break;
            const float *const w = (const float *)a->weights + (k + (size_t)s) * w_row + channel;
            FD_UNROLL
            for (int v = 0; v < nv; v++) {
                fd_v weight = v_load(w + v * FD_VL);
                FD_KEEP(weight);
                FD_UNROLL
                for (int m = 0; m < mr; m++) {
                    fd_v *const sum = &acc[(s * mr + m) * nv + v];
                    *sum = v_fma(v_set1(a->in[(row + (size_t)m) * a->in_row + k + (size_t)s]), weight, *sum);
                }
            }
        }
    }
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        FD_UNROLL
        for (int v = 0; v < nv; v++) {
            const size_t c = channel + (size_t)v * FD_VL;
            if (c >= a->channels) break;
            const fd_v *const sum = &acc[m * nv + v];
            const fd_v total = (sum[0] + sum[mr * nv]) + (sum[2 * mr * nv] + sum[3 * mr * nv]);
            FD_FN(dense_store)(a, row + (size_t)m, c, total + v_load(a->bias + c));
        }
    }
}

_Static_assert(FD_NARROW_CHAINS == 4, "dense_narrow_tile adds four chains");

FD_LOCAL void FD_FN(dense_narrow)(const fd_dense_args *a) {
    const size_t panel = fd_round_up(a->channels, FD_PANEL_ALIGN);
    for (size_t c = 0; c < a->channels; c += FD_NARROW_NV * FD_VL) {
        size_t row = 0;
        for (; a->m - row >= FD_NARROW_MR; row += FD_NARROW_MR)
            FD_FN(dense_narrow_tile)(a, panel, row, c, FD_NARROW_MR, FD_NARROW_NV);
        for (; row < a->m; row++) FD_FN(dense_narrow_tile)(a, panel, row, c, 1, FD_NARROW_NV);
    }
    FD_FN(dense_activate)(a);
}

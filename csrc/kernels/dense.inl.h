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

/* Weight rows in a block of a panel, at most: of a tile's vectors, which are two cache lines a row, it is 24 KiB, so
 * that they stay in a first-level cache while all rows of inputs go through them. A panel of less than two of them is
 * one block. */
#define FD_DENSE_BLOCK ((size_t)192)

/* While a block is used, the next one is fetched, if the weights are of so many bytes that they may come from memory:
 * a few lines at once, for which a core can wait while it computes, then some weight rows without. */
#define FD_DENSE_FAR ((size_t)2 << 20)
#define FD_DENSE_FETCH 6
#define FD_DENSE_STRETCH ((size_t)8)

/* Some weight rows of a panel, those of inputs k to k + depth - 1. The first one's first column is at index `at`.
 * Between blocks, and before they are finished, the sums of all rows wait in scratch memory, which takes nothing from
 * them: the bits are those of a single block. */
typedef struct FD_FN(block) {
    const void *weights;
    size_t at, width, channel, vectors;
    size_t k, depth;
    const char *next, *end;  /* what is to be fetched */
    size_t stretch, fetches; /* weight rows between fetches, and of how many times FD_DENSE_FETCH lines those are */
} FD_FN(block);

/* Rows row to row + mr - 1, nv vectors of a block from vector `first` on. */
FD_INLINE void FD_FN(dense_tile)(const fd_dense_args *a, FD_FN(block) * block, size_t row, size_t first, const int mr,
                                 const int nv, const uint32_t dtype) {
    const float *x[FD_DENSE_MR];
    fd_v acc[FD_DENSE_ACCUMULATORS];
    float *const sums = a->scratch + row * FD_PANEL + first * FD_VL;
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        x[m] = a->in + (row + (size_t)m) * a->in_row + block->k;
        FD_UNROLL
        for (int v = 0; v < nv; v++)
            acc[m * nv + v] = block->k ? v_load(sums + m * FD_PANEL + v * FD_VL)
                                       : FD_FN(dense_start)(a, block->channel + (first + (size_t)v) * FD_VL);
    }
    const char *next = block->next;
    size_t at = block->at + first * FD_VL;
    for (size_t k = 0, n; k < block->depth; k += n, at += n * block->width) {
        n = fd_min(block->stretch, block->depth - k);
        for (size_t f = 0; f < block->fetches && next < block->end; f++, next += FD_DENSE_FETCH * FD_ALIGN) {
            FD_UNROLL
            for (int i = 0; i < FD_DENSE_FETCH; i++) __builtin_prefetch(next + i * FD_ALIGN, 0, 2);
        }
        FD_FN(tile)(acc, x, NULL, n, block->weights, at, block->width, mr, nv, dtype);
        FD_UNROLL
        for (int m = 0; m < mr; m++) x[m] += n;
    }
    block->next = next;
    FD_UNROLL
    for (int m = 0; m < mr; m++) {
        FD_UNROLL
        for (int v = 0; v < nv; v++) v_store(sums + m * FD_PANEL + v * FD_VL, acc[m * nv + v]);
    }
}

/* All rows are cut in equal shares of two to FD_DENSE_MR; those of mr, and the vectors of a block in equal shares. All
 * rows use the few vectors of one share before the next one's come into the first-level cache. */
FD_INLINE void FD_FN(dense_block)(const fd_dense_args *a, FD_FN(block) * block, const int mr, const uint32_t dtype) {
    const size_t most = (size_t)FD_DENSE_NV(mr), shares = (block->vectors + most - 1) / most;
    const size_t groups = (a->m + FD_DENSE_MR - 1) / FD_DENSE_MR;
    for (size_t s = 0; s < shares; s++) {
        const size_t first = block->vectors * s / shares, nv = block->vectors * (s + 1) / shares - first;
        for (size_t g = 0; g < groups; g++) {
            const size_t row = a->m * g / groups;
            if (a->m * (g + 1) / groups - row != (size_t)mr) continue;
            switch (nv) {
/* Shares beyond FD_DENSE_NV(mr) do not occur; the tile they would need, which does not fit, is not made. */
#define FD_CASE(nv) \
    case nv: FD_FN(dense_tile)(a, block, row, first, mr, (nv) <= FD_DENSE_NV(mr) ? (nv) : 1, dtype); break;
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
}

_Static_assert(FD_DENSE_NV(2) <= 6 && FD_DENSE_MR <= 4, "dense_block and dense_many have a case for every share");

/* The next block is fetched in equal parts by the tiles of this one, which are as many as groups of rows and shares of
 * vectors. */
FD_INLINE void FD_FN(dense_fetch)(const fd_dense_args *a, FD_FN(block) * block, size_t bytes, size_t row_bytes) {
    const size_t groups = (a->m + FD_DENSE_MR - 1) / FD_DENSE_MR, most = FD_DENSE_NV((a->m + groups - 1) / groups);
    const size_t tiles = groups * ((block->vectors + most - 1) / most), fetch = FD_DENSE_FETCH * FD_ALIGN;
    block->end = block->next + bytes;
    block->stretch = tiles * fetch / row_bytes / 4 * 4;
    if (block->stretch < FD_DENSE_STRETCH) block->stretch = FD_DENSE_STRETCH;
    block->fetches = (block->stretch * row_bytes + tiles * fetch - 1) / (tiles * fetch);
}

/* Panels outermost, for they are what comes from afar. */
FD_INLINE void FD_FN(dense_many)(const fd_dense_args *a, const uint32_t dtype) {
    const size_t size = fd_dtype_size(dtype), all = a->depth * fd_round_up(a->channels, FD_PANEL_ALIGN);
    const size_t blocks = a->depth < 2 * FD_DENSE_BLOCK ? 1 : (a->depth + FD_DENSE_BLOCK - 1) / FD_DENSE_BLOCK;
    for (size_t channel = 0; channel < a->channels; channel += FD_PANEL) {
        const size_t columns = fd_min(FD_PANEL, a->channels - channel);
        const size_t width = fd_round_up(columns, FD_PANEL_ALIGN);
        for (size_t b = 0; b < blocks; b++) {
            const size_t k = a->depth * b / blocks, depth = a->depth * (b + 1) / blocks - k;
            struct FD_FN(block) block = {
                .weights = a->weights,
                .at = channel * a->depth + k * width,
                .width = width,
                .channel = channel,
                .vectors = (columns + FD_VL - 1) / FD_VL,
                .k = k,
                .depth = depth,
                .stretch = depth,
            };
            const size_t next = block.at + depth * width;
            block.next = block.end = (const char *)a->weights + next * size;
            if (all * size >= FD_DENSE_FAR)
                FD_FN(dense_fetch)(a, &block, fd_min(depth * width, all - next) * size, width * size);
            FD_FN(dense_block)(a, &block, 2, dtype);
            FD_FN(dense_block)(a, &block, 3, dtype);
            FD_FN(dense_block)(a, &block, 4, dtype);
        }
        for (size_t row = 0; row < a->m; row++) {
            for (size_t c = 0; c < columns; c += FD_VL)
                FD_FN(dense_store)(a, row, channel + c, v_load(a->scratch + row * FD_PANEL + c));
        }
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

/* Many rows and one row, each by itself for each precision: in one function with others, registers would run out. */
#define FD_DENSE_OF(type, dtype)                                                                             \
    FD_LOCAL FD_APART void FD_FN(dense_many_##type)(const fd_dense_args *a) { FD_FN(dense_many)(a, dtype); } \
    FD_LOCAL FD_APART void FD_FN(dense_row_##type)(const fd_dense_args *a) { FD_FN(dense_row)(a, dtype); }
FD_DENSE_OF(f32, FD_DTYPE_F32)
FD_DENSE_OF(f16, FD_DTYPE_F16)
FD_DENSE_OF(i8, FD_DTYPE_I8)
#undef FD_DENSE_OF

FD_INLINE void FD_FN(dense_of)(const fd_dense_args *a, void (*many)(const fd_dense_args *),
                               void (*one)(const fd_dense_args *)) {
    if (a->m > FD_DENSE_ALONE) {
        many(a);
        return;
    }
    fd_dense_args row = *a;
    for (size_t i = 0; i < a->m; i++, row.in += a->in_row, row.out += a->out_row) one(&row);
}

FD_LOCAL void FD_FN(dense)(const fd_dense_args *a) {
    if (a->dtype == FD_DTYPE_F16)
        FD_FN(dense_of)(a, FD_FN(dense_many_f16), FD_FN(dense_row_f16));
    else if (a->dtype == FD_DTYPE_I8)
        FD_FN(dense_of)(a, FD_FN(dense_many_i8), FD_FN(dense_row_i8));
    else
        FD_FN(dense_of)(a, FD_FN(dense_many_f32), FD_FN(dense_row_f32));
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

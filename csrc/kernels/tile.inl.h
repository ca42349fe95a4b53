/* The register tile that every multiply-accumulate loop is made of: px inputs by nv vectors of weights.
 *
 * px and nv are constants wherever this is inlined, so that the accumulators live in registers: px * nv of them, nv
 * weights and one broadcast input.
 */

/* The vector at index i of weights of dtype, as floats. */
FD_INLINE fd_v FD_FN(weight)(const void *weights, size_t i, const uint32_t dtype) {
    if (dtype == FD_DTYPE_F16) return v_load_f16((const uint16_t *)weights + i);
    if (dtype == FD_DTYPE_I8) return v_load_i8((const int8_t *)weights + i);
    return v_load((const float *)weights + i);
}

/* One step: acc[p][v] += x[p][tap] * w[at + v * FD_VL].
 *
 * Whichever is fewer, inputs or weights, waits in registers while the others come one by one. */
FD_INLINE void FD_FN(tile_step)(fd_v *acc, const float *const *x, size_t tap, const void *w, size_t at, const int px,
                                const int nv, const uint32_t dtype) {
    fd_v waiting[FD_TILE_SIDE];
    if (px < nv) {
        FD_UNROLL
        for (int p = 0; p < px; p++) waiting[p] = v_set1(x[p][tap]);
        FD_UNROLL
        for (int v = 0; v < nv; v++) {
            fd_v weight = FD_FN(weight)(w, at + (size_t)v * FD_VL, dtype);
            if (px * nv + px + 1 < FD_VREGS) FD_KEEP(weight);
            FD_UNROLL
            for (int p = 0; p < px; p++) acc[p * nv + v] = v_fma(waiting[p], weight, acc[p * nv + v]);
        }
    } else {
        FD_UNROLL
        for (int v = 0; v < nv; v++) {
            waiting[v] = FD_FN(weight)(w, at + (size_t)v * FD_VL, dtype);
            /* The last one only if there is a register to spare: an accumulator in memory costs more. */
            if (px * nv + nv + 1 < FD_VREGS || v + 1 < nv) FD_KEEP(waiting[v]);
        }
        FD_UNROLL
        for (int p = 0; p < px; p++) {
            const fd_v input = v_set1(x[p][tap]);
            FD_UNROLL
            for (int v = 0; v < nv; v++) acc[p * nv + v] = v_fma(input, waiting[v], acc[p * nv + v]);
        }
    }
}

/* acc[p][v] += sum over k < depth of x[p][taps[k]] * w[at + k * w_row + v * FD_VL], k ascending. Without taps, taps[k]
 * is k, and so little is left to do between multiplications that counting the steps is felt: it is done once in four.
 */
FD_INLINE void FD_FN(tile)(fd_v *acc, const float *const *x, const uint32_t *taps, size_t depth, const void *w,
                           size_t at, size_t w_row, const int px, const int nv, const uint32_t dtype) {
    if (taps) {
        for (size_t k = 0; k < depth; k++, at += w_row) FD_FN(tile_step)(acc, x, taps[k], w, at, px, nv, dtype);
    } else {
        _Pragma("GCC unroll 4") for (size_t k = 0; k < depth; k++, at += w_row)
            FD_FN(tile_step)(acc, x, k, w, at, px, nv, dtype);
    }
}

/* What comes after a sum: activation, then scale and shift along an axis. */

/* The activations that fit in the epilogue of a register tile; the others go through eltwise. */
FD_INLINE int FD_FN(is_simple)(const fd_epilogue *e) {
    return e->activation == FD_ACT_LINEAR || e->activation == FD_ACT_RELU || e->activation == FD_ACT_CLIPPED_RELU;
}

/* Those, on a tile of n vectors. */
FD_INLINE void FD_FN(activate_tile)(fd_v *x, const int n, const fd_epilogue *e) {
    if (e->activation == FD_ACT_CLIPPED_RELU) {
        const fd_v most = v_set1(e->alpha);
        FD_UNROLL
        for (int i = 0; i < n; i++) x[i] = v_min(most, x[i]);
    }
    if (e->activation != FD_ACT_LINEAR) {
        const fd_v zero = v_set1(0.0f);
        FD_UNROLL
        for (int i = 0; i < n; i++) x[i] = v_max(x[i], zero);
    }
}

/* Scale and shift of a vector of channels. */
FD_INLINE fd_v FD_FN(affine)(const fd_epilogue *e, fd_v x, size_t row, size_t col, size_t channel) {
    switch (e->axis) {
    case FD_AXIS_HEIGHT: return v_fma(x, v_set1(e->scale[row]), v_set1(e->shift[row]));
    case FD_AXIS_WIDTH: return v_fma(x, v_set1(e->scale[col]), v_set1(e->shift[col]));
    case FD_AXIS_CHANNEL: return v_fma(x, v_load(e->scale + channel), v_load(e->shift + channel));
    default: return x;
    }
}

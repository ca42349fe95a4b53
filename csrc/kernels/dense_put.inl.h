/* The last steps of dense layers, on floats and on bytes. */

/* The epilogue of a dense layer. It leaves no -0, whatever the activation. */
FD_INLINE fd_v FD_FN(dense_finish)(fd_v x, const fd_epilogue *e) {
    if (e->activation == FD_ACT_LINEAR || !FD_FN(is_simple)(e)) return x + v_set1(0.0f);
    FD_FN(activate_tile)(&x, 1, e);
    return x;
}

FD_INLINE void FD_FN(dense_put)(const fd_dense_args *a, size_t row, size_t channel, fd_v x) {
    float *const p = a->out + row * a->out_row + channel;
    const size_t n = a->channels - channel;
    x = FD_FN(dense_finish)(x, &a->epilogue);
    if (n >= FD_VL)
        v_store(p, x);
    else
        v_store_n(p, x, n);
}

/* Activations that do not fit the tile, in a second pass over the finished rows. */
FD_INLINE void FD_FN(dense_activate)(const fd_dense_args *a) {
    if (FD_FN(is_simple)(&a->epilogue)) return;
    FD_FLOAT_TABLE.eltwise(&(fd_eltwise_args){.in = a->out,
                                              .out = a->out,
                                              .in_row = a->out_row,
                                              .out_row = a->out_row,
                                              .rows = a->m,
                                              .cols = 1,
                                              .channels = a->channels,
                                              .epilogue = a->epilogue});
}

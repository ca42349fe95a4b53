/* What a recurrent layer does at each step with its gates, after the products of weights and state. */

FD_INLINE fd_v FD_FN(recurrent_load)(const float *p, size_t n) { return n >= FD_VL ? v_load(p) : v_load_n(p, n); }

FD_INLINE void FD_FN(recurrent_store)(float *p, fd_v x, size_t n) {
    if (n >= FD_VL)
        v_store(p, x);
    else
        v_store_n(p, x, n);
}

FD_INLINE fd_v FD_FN(recurrent_activate)(fd_v x, const uint32_t activation, const int constant, float alpha) {
    return constant ? FD_FN(activate)(x, activation, alpha) : FD_FN(activate_any)(x, activation, alpha);
}

/* A vector of a gate: the input's share and the product's, and the activation. */
FD_INLINE fd_v FD_FN(recurrent_gate)(const fd_recurrent_args *a, size_t at, size_t n, const uint32_t gates,
                                     const int constant) {
    const fd_v sum = FD_FN(recurrent_load)(a->in + at, n) + FD_FN(recurrent_load)(a->product + at, n);
    return FD_FN(recurrent_activate)(sum, gates, constant, a->gates_alpha);
}

/* The activations are constants where this is inlined for the usual ones, or `constant` is 0. */
FD_INLINE void FD_FN(recurrent_units)(const fd_recurrent_args *a, const uint32_t gates, const uint32_t activation,
                                      const int constant) {
    const size_t units = a->units;
    const fd_v one = v_set1(1.0f);
    for (size_t u = 0; u < units; u += FD_VL) {
        const size_t n = units - u;
        if (a->kind == FD_RECURRENT_SIMPLE) {
            const fd_v sum = FD_FN(recurrent_load)(a->in + u, n) + FD_FN(recurrent_load)(a->product + u, n);
            FD_FN(recurrent_store)(a->state + u, FD_FN(recurrent_activate)(sum, activation, constant, a->alpha), n);
        } else if (a->kind == FD_RECURRENT_LSTM) {
            const fd_v input = FD_FN(recurrent_gate)(a, u, n, gates, constant);
            const fd_v forget = FD_FN(recurrent_gate)(a, units + u, n, gates, constant);
            const fd_v candidate =
                FD_FN(recurrent_load)(a->in + 2 * units + u, n) + FD_FN(recurrent_load)(a->product + 2 * units + u, n);
            const fd_v output = FD_FN(recurrent_gate)(a, 3 * units + u, n, gates, constant);
            const fd_v cell = v_fma(forget, FD_FN(recurrent_load)(a->cell + u, n),
                                    input * FD_FN(recurrent_activate)(candidate, activation, constant, a->alpha));
            FD_FN(recurrent_store)(a->cell + u, cell, n);
            FD_FN(recurrent_store)(a->state + u,
                                   output * FD_FN(recurrent_activate)(cell, activation, constant, a->alpha), n);
        } else {
            const fd_v update = FD_FN(recurrent_gate)(a, u, n, gates, constant);
            fd_v product = FD_FN(recurrent_load)(a->product + 2 * units + u, n);
            if (a->kind == FD_RECURRENT_GRU_AFTER) product *= FD_FN(recurrent_gate)(a, units + u, n, gates, constant);
            const fd_v sum = FD_FN(recurrent_load)(a->in + 2 * units + u, n) + product;
            const fd_v state = FD_FN(recurrent_load)(a->state + u, n);
            const fd_v candidate = FD_FN(recurrent_activate)(sum, activation, constant, a->alpha);
            FD_FN(recurrent_store)(a->state + u, v_fma(update, state, (one - update) * candidate), n);
        }
    }
}

FD_LOCAL void FD_FN(recurrent)(const fd_recurrent_args *a) {
    const int tanh = a->activation == FD_ACT_TANH;
    if (tanh && (a->gates == FD_ACT_SIGMOID || a->kind == FD_RECURRENT_SIMPLE))
        FD_FN(recurrent_units)(a, FD_ACT_SIGMOID, FD_ACT_TANH, 1);
    else if (tanh && a->gates == FD_ACT_HARD_SIGMOID)
        FD_FN(recurrent_units)(a, FD_ACT_HARD_SIGMOID, FD_ACT_TANH, 1);
    else
        FD_FN(recurrent_units)(a, a->gates, a->activation, 0);
}

FD_INLINE void FD_FN(recurrent_keep)(const fd_recurrent_args *a, const uint32_t gates, const int constant) {
    for (size_t u = 0; u < a->units; u += FD_VL) {
        const size_t n = a->units - u;
        const fd_v reset = FD_FN(recurrent_gate)(a, a->units + u, n, gates, constant);
        FD_FN(recurrent_store)(a->kept + u, reset * FD_FN(recurrent_load)(a->state + u, n), n);
    }
}

FD_LOCAL void FD_FN(recurrent_reset)(const fd_recurrent_args *a) {
    if (a->gates == FD_ACT_SIGMOID)
        FD_FN(recurrent_keep)(a, FD_ACT_SIGMOID, 1);
    else
        FD_FN(recurrent_keep)(a, a->gates, 0);
}

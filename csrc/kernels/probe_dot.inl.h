/* What a core can do at best with bytes; see probe.inl.h. */

/* Each lane of a chain starts at its chain's number, and gains 30 and loses it again in turn, `rounds` times. */
FD_LOCAL size_t FD_FN(probe_dot)(size_t rounds, int32_t *sum) {
    static const int8_t four[4] = {1, 2, 3, 4};
    int8_t weights[2][4 * FD_VL];
    for (int i = 0; i < 4 * FD_VL; i++) {
        weights[0][i] = four[i % 4];
        weights[1][i] = (int8_t)-four[i % 4];
    }
    const fd_dot_input input = v_dot_input(four);
    fd_vi chains[FD_DOT_ACCUMULATORS];
    FD_UNROLL
    for (int i = 0; i < FD_DOT_ACCUMULATORS; i++) chains[i] = v_iset1(i);
    for (size_t r = 0; r < rounds; r++) {
        fd_dot_weight weight = v_dot_weight(weights[r & 1]);
        FD_UNROLL
        for (int i = 0; i < FD_DOT_ACCUMULATORS; i++) {
            FD_KEEP(weight); /* as if another one came each time */
            chains[i] = v_dot(chains[i], input, weight);
        }
    }
    *sum = 0;
    FD_UNROLL
    for (int i = 0; i < FD_DOT_ACCUMULATORS; i++) {
        FD_UNROLL
        for (int lane = 0; lane < FD_VL; lane++) *sum += chains[i][lane];
    }
    return rounds * FD_DOT_ACCUMULATORS * 4 * FD_VL;
}

/* What a core can do at best, by fd_probe, for benchmarks to hold layers against. No network calls these. */

/* As many chains as leave registers for two constants and a temporary, which hides the latency of a multiply-add. */
#define FD_PROBE_CHAINS (FD_VREGS - 4)

FD_INLINE float FD_FN(probe_sum)(const fd_v *chains) {
    fd_v sum = chains[0];
    FD_UNROLL
    for (int i = 1; i < FD_PROBE_CHAINS; i++) sum = sum + chains[i];
    float lanes[FD_VL], total = 0.0f;
    v_store(lanes, sum);
    for (int i = 0; i < FD_VL; i++) total += lanes[i];
    return total;
}

/* Each chain starts at its number and becomes x / 2 + 1, `rounds` times. */
FD_LOCAL size_t FD_FN(probe_fma)(size_t rounds, float *sum) {
    const fd_v half = v_set1(0.5f), one = v_set1(1.0f);
    fd_v chains[FD_PROBE_CHAINS];
    FD_UNROLL
    for (int i = 0; i < FD_PROBE_CHAINS; i++) chains[i] = v_set1((float)i);
    for (size_t r = 0; r < rounds; r++) {
        FD_UNROLL
        for (int i = 0; i < FD_PROBE_CHAINS; i++) chains[i] = v_fma(chains[i], half, one);
    }
    *sum = FD_FN(probe_sum)(chains);
    return rounds * FD_PROBE_CHAINS * FD_VL;
}

/* One chain for the next vector of each of the blocks' places. */
FD_LOCAL float FD_FN(probe_read)(const float *x, size_t n, size_t passes) {
    const size_t block = FD_PROBE_CHAINS * FD_VL;
    fd_v chains[FD_PROBE_CHAINS];
    FD_UNROLL
    for (int i = 0; i < FD_PROBE_CHAINS; i++) chains[i] = v_set1(0.0f);
    for (size_t p = 0; p < passes; p++) {
        size_t k = 0;
        for (; n - k >= block; k += block) {
            FD_UNROLL
            for (int i = 0; i < FD_PROBE_CHAINS; i++) chains[i] = chains[i] + v_load(x + k + i * FD_VL);
        }
        for (; n - k >= FD_VL; k += FD_VL) chains[0] = chains[0] + v_load(x + k);
        if (k < n) chains[0] = chains[0] + v_load_n(x + k, n - k);
    }
    return FD_FN(probe_sum)(chains);
}

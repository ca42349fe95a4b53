/* exp and the activations, on vectors. */

/* exp(x) within 2 ulp for x in [-87.3, 88.3]; beyond, the value at that bound (the least normal number; 2.2e38).
 *
 * x = n ln 2 + r with |r| <= (ln 2) / 2, ln 2 in two parts so that n * high is exact (Cody and Waite, Software Manual
 * for the Elementary Functions, 1980); exp(r) by its Taylor polynomial of degree 7, whose remainder is below 6e-9. */
FD_INLINE fd_v FD_FN(exp)(fd_v x) {
    x = v_max(v_min(x, v_set1(88.3f)), v_set1(-87.3f));
    const fd_v n = v_round(x * v_set1(1.44269504f));
    fd_v r = v_fma(n, v_set1(-0.693359375f), x);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    fd_v p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    /* n is 127 at most: 88.3 / ln 2 = 127.39. */
    return v_scale2(p, n);
}

/* Klambauer et al., Self-Normalizing Neural Networks, 2017. */
#define FD_SELU_SCALE 1.05070098735548049342f
#define FD_SELU_ALPHA 1.67326324235437728481f

FD_INLINE fd_v FD_FN(activate)(fd_v x, uint32_t activation, float alpha) {
    const fd_v zero = v_set1(0.0f), one = v_set1(1.0f);
    switch (activation) {
    case FD_ACT_RELU: return v_max(x, zero);
    case FD_ACT_LEAKY_RELU: return v_if_positive(x, x, x * v_set1(alpha));
    case FD_ACT_ELU: return v_if_positive(x, x, v_set1(alpha) * (FD_FN(exp)(x) - one));
    case FD_ACT_SELU: return v_set1(FD_SELU_SCALE) * v_if_positive(x, x, v_set1(FD_SELU_ALPHA) * (FD_FN(exp)(x) - one));
    case FD_ACT_SIGMOID: return one / (one + FD_FN(exp)(zero - x));
    case FD_ACT_TANH: return one - v_set1(2.0f) / (one + FD_FN(exp)(x + x));
    default: return x;
    }
}

/* The activations that fit in the epilogue of a register tile; the others go through eltwise. */
FD_INLINE int FD_FN(is_simple)(const fd_epilogue *e) {
    return e->activation == FD_ACT_LINEAR || e->activation == FD_ACT_RELU;
}

/* exp and the activations, on vectors.
 *
 * Of a NaN they are NaN, but for relu and clipped_relu, of which it is 0: v_max and v_min give their second operand for
 * a NaN, so what may be one stands there. */

/* exp(x) within 2 ulp for x in [-87.3, 88.3]; beyond, the value at that bound (the least normal number; 2.2e38).
 *
 * x = n ln 2 + r with |r| <= (ln 2) / 2, ln 2 in two parts so that n * high is exact (Cody and Waite, Software Manual
 * for the Elementary Functions, 1980); exp(r) by its Taylor polynomial of degree 7, whose remainder is below 6e-9. */
FD_INLINE fd_v FD_FN(exp)(fd_v x) {
    x = v_max(v_set1(-87.3f), v_min(v_set1(88.3f), x));
    const fd_v n = v_round(v_min(x * v_set1(1.44269504f), v_set1(127.4f))); /* some integer for a NaN */
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

/* exp(x) - 1 for x <= 0, with a small relative error near 0 too: 2^n (exp(r) - 1) + (2^n - 1), x = n ln 2 + r. */
FD_INLINE fd_v FD_FN(expm1)(fd_v x) {
    x = v_max(v_set1(-87.3f), x);
    const fd_v one = v_set1(1.0f), n = v_round(v_min(x * v_set1(1.44269504f), v_set1(127.4f)));
    fd_v r = v_fma(n, v_set1(-0.693359375f), x);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    fd_v p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p * r, r, r);
    return v_scale2(p, n) + (v_scale2(one, n) - one);
}

/* log(1 + u) for u in [-1/3, 1]: 2 atanh(s), s = u / (2 + u) <= 1/3, by its series up to s^15. */
FD_INLINE fd_v FD_FN(log1p)(fd_v u) {
    const fd_v s = u / (v_set1(2.0f) + u), q = s * s;
    fd_v p = v_set1(1.0f / 15);
    p = v_fma(p, q, v_set1(1.0f / 13));
    p = v_fma(p, q, v_set1(1.0f / 11));
    p = v_fma(p, q, v_set1(1.0f / 9));
    p = v_fma(p, q, v_set1(1.0f / 7));
    p = v_fma(p, q, v_set1(1.0f / 5));
    p = v_fma(p, q, v_set1(1.0f / 3));
    const fd_v twice = s + s;
    return v_fma(p * q, twice, twice);
}

/* log(x); -infinity of 0, NaN below. x = 2^n m with m from sqrt(1/2) to sqrt(2), or 2 for the largest, so that nothing
 * cancels near 1; ln 2 in two parts, as in exp. */
FD_INLINE fd_v FD_FN(log)(fd_v x) {
    const fd_v zero = v_set1(0.0f), one = v_set1(1.0f), infinite = v_set1(INFINITY), most = v_set1(FLT_MAX);
    const fd_v small = v_set1(0x1p-100f) - x, root = v_set1(1.41421356f);
    const fd_v y = v_min(v_max(v_if_positive(small, x * v_set1(0x1p24f), x), v_set1(FLT_MIN)), most);
    fd_v n = v_min(v_exponent(y), v_set1(126.0f)), m = v_scale2(y, zero - n);
    n = v_if_positive(m - root, n + one, n) - v_if_positive(small, v_set1(24.0f), zero);
    m = v_if_positive(m - root, m * v_set1(0.5f), m);
    const fd_v low = v_fma(n, v_set1(-2.12194440e-4f), FD_FN(log1p)(m - one));
    const fd_v result = v_if_positive(x - most, infinite, v_fma(n, v_set1(0.693359375f), low));
    return v_if_positive(x, result, v_if_positive(zero - x, v_set1(NAN), x - infinite));
}

/* 1 - erf(z) for z >= 0, as t exp(-z^2) times a polynomial of degree 8 in t = 1 / (1 + 0.3 z): fitted by least squares
 * with weights that level the relative error, which is below 3e-8 up to z = 10. */
FD_INLINE fd_v FD_FN(erfc)(fd_v z) {
    const fd_v one = v_set1(1.0f), t = one / v_fma(z, v_set1(0.3f), one);
    fd_v p = v_set1(-0.129548846f);
    p = v_fma(p, t, v_set1(0.485686347f));
    p = v_fma(p, t, v_set1(-0.512526399f));
    p = v_fma(p, t, v_set1(0.547997129f));
    p = v_fma(p, t, v_set1(-0.0948373429f));
    p = v_fma(p, t, v_set1(0.215003475f));
    p = v_fma(p, t, v_set1(0.148319919f));
    p = v_fma(p, t, v_set1(0.170717841f));
    p = v_fma(p, t, v_set1(0.169187857f));
    return p * t * FD_FN(exp)(v_set1(0.0f) - z * z);
}

/* Klambauer et al., Self-Normalizing Neural Networks, 2017. */
#define FD_SELU_SCALE 1.05070098735548049342f
#define FD_SELU_ALPHA 1.67326324235437728481f

/* Large, so it is inlined only where the activation is constant; elsewhere FD_FN(activate_any). */
FD_INLINE fd_v FD_FN(activate)(fd_v x, const uint32_t activation, float alpha) {
    const fd_v zero = v_set1(0.0f), one = v_set1(1.0f);
    switch (activation) {
    case FD_ACT_RELU: return v_max(x, zero);
    case FD_ACT_LEAKY_RELU: return v_if_positive(x, x, x * v_set1(alpha));
    case FD_ACT_ELU: return v_if_positive(x, x, v_set1(alpha) * FD_FN(expm1)(v_min(zero, x)));
    case FD_ACT_SELU:
        return v_set1(FD_SELU_SCALE) * v_if_positive(x, x, v_set1(FD_SELU_ALPHA) * FD_FN(expm1)(v_min(zero, x)));
    case FD_ACT_SIGMOID: return one / (one + FD_FN(exp)(zero - x));
    case FD_ACT_TANH: { /* of -|x|: e / (e + 2), e = exp(-2|x|) - 1 */
        const fd_v e = FD_FN(expm1)(v_min(x, zero - x) * v_set1(2.0f)), y = e / (e + v_set1(2.0f));
        return v_if_positive(x, zero - y, y);
    }
    case FD_ACT_CLIPPED_RELU: return v_max(v_min(v_set1(alpha), x), zero);
    case FD_ACT_HARD_SIGMOID: return v_max(zero, v_min(one, v_fma(x, v_set1(alpha), v_set1(0.5f))));
    case FD_ACT_HARD_SWISH: return x * v_max(v_min(v_fma(x, v_set1(1.0f / 6), v_set1(0.5f)), one), zero);
    /* exp stops at 88.3: below -100 the quotient would grow again. */
    case FD_ACT_SILU: return v_max(x, v_set1(-100.0f)) / (one + FD_FN(exp)(zero - x));
    case FD_ACT_SOFTPLUS: return v_max(x, zero) + FD_FN(log1p)(FD_FN(exp)(v_min(x, zero - x)));
    case FD_ACT_GELU: { /* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2; nothing is left of it beyond 14 */
        const fd_v size = v_min(v_set1(14.0f), v_max(x, zero - x));
        return v_max(x, zero) - v_set1(0.5f) * size * FD_FN(erfc)(size * v_set1(0.707106781f));
    }
    case FD_ACT_GELU_TANH: { /* x (1 + tanh u) / 2 = x / (1 + exp(-2u)); Hendrycks and Gimpel, 2016 */
        const fd_v y = v_min(v_set1(14.0f), v_max(v_set1(-14.0f), x));
        const fd_v u = y * v_fma(y * y, v_set1(0.0713548163f), v_set1(1.59576912f));
        return v_max(x, v_set1(-14.0f)) / (one + FD_FN(exp)(zero - u));
    }
    case FD_ACT_ERF: {
        const fd_v y = one - FD_FN(erfc)(v_min(v_set1(9.0f), v_max(x, zero - x)));
        return v_if_positive(x, y, zero - y);
    }
    case FD_ACT_EXPONENTIAL: { /* by its root, which is within the bounds of exp wherever the result is finite */
        const fd_v root = FD_FN(exp)(x * v_set1(0.5f));
        return root * root;
    }
    case FD_ACT_LOG: return FD_FN(log)(x);
    case FD_ACT_SQRT: return v_sqrt(x);
    case FD_ACT_ABS: return v_max(x, zero - x);
    case FD_ACT_SOFTSIGN: return x / (one + v_max(x, zero - x));
    case FD_ACT_MISH: { /* x tanh(log(1 + e)) = x n / (n + 2), n = e (e + 2); beyond 20 it is x */
        const fd_v e = FD_FN(exp)(v_min(v_set1(20.0f), x)), n = e * (e + v_set1(2.0f));
        return v_max(x, v_set1(-100.0f)) * (n / (n + v_set1(2.0f)));
    }
    default: return x;
    }
}

/* Any activation, in one place for the whole ISA. Through memory: how wide vectors are passed differs by compiler
 * flags. */
FD_LOCAL FD_APART void FD_FN(activate_memory)(float *x, uint32_t activation, float alpha) {
    v_store(x, FD_FN(activate)(v_load(x), activation, alpha));
}

FD_INLINE fd_v FD_FN(activate_any)(fd_v x, uint32_t activation, float alpha) {
    float lanes[FD_VL];
    v_store(lanes, x);
    FD_FN(activate_memory)(lanes, activation, alpha);
    return v_load(lanes);
}

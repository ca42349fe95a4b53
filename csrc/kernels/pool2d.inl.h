/* Max and average pooling with any window, stride and padding. */

/* The part [*first, *end) of the window of output o that lies inside `size` input pixels. load.c has seen to it that
 * there is one: padding is smaller than the window. */
FD_INLINE void FD_FN(window)(size_t o, uint32_t size, uint32_t stride, uint32_t pad, size_t limit, size_t *first,
                             size_t *end) {
    const size_t start = o * stride; /* in padded coordinates */
    *first = start > pad ? start - pad : 0;
    *end = fd_min(start + size - pad, limit);
}

FD_LOCAL void FD_FN(pool2d)(const fd_pool2d_args *a) {
    for (size_t o = 0; o < a->out_count; o++) {
        float *const out = a->out + o * a->out_row;
        size_t y0, y1;
        FD_FN(window)(a->out_first + o, a->size[0], a->stride[0], a->pad[0], a->rows, &y0, &y1);
        for (size_t col = 0; col < a->out_cols; col++) {
            size_t x0, x1;
            FD_FN(window)(col, a->size[1], a->stride[1], a->pad[1], a->cols, &x0, &x1);
            const size_t count = (y1 - y0) * (x1 - x0);
            /* The inverse of a power of two is exact, and a product is the quotient in a tenth of the time. */
            const int is_power = (count & (count - 1)) == 0;
            const fd_v divisor = v_set1(is_power ? 1.0f / (float)count : (float)count);
            for (size_t c = 0; c < a->channels; c += FD_VL) {
                const size_t n = a->channels - c;
                fd_v result = v_set1(a->mode == FD_POOL_MAX ? -INFINITY : 0.0f);
                for (size_t y = y0; y < y1; y++) {
                    const float *const row = a->in + (y % a->in_ring) * a->in_row + c;
                    for (size_t x = x0; x < x1; x++) {
                        const float *const p = row + x * a->channels;
                        const fd_v value = n >= FD_VL ? v_load(p) : v_load_n(p, n);
                        if (a->mode == FD_POOL_MAX)
                            result = v_max(value, result);
                        else
                            result = result + value;
                    }
                }
                if (a->mode != FD_POOL_MAX) result = is_power ? result * divisor : result / divisor;
                if (n >= FD_VL)
                    v_store(out + col * a->channels + c, result);
                else
                    v_store_n(out + col * a->channels + c, result, n);
            }
        }
    }
}

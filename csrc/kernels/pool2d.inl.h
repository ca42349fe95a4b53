/* Max and average pooling with any window, stride and padding. */

/* The part [*first, *end) of the window of output o that lies inside `size` input pixels. The loader has seen to it
 * that there is one: padding is smaller than the window. */
FD_INLINE void FD_FN(window)(size_t o, uint32_t size, uint32_t stride, uint32_t pad, size_t limit, size_t *first,
                             size_t *end) {
    const size_t start = o * stride; /* in padded coordinates */
    *first = start > pad ? start - pad : 0;
    *end = fd_min(start + size - pad, limit);
}

/* The window of `height` rows, the first of which is row `ring` of the ring, and `width` columns from x on: one vector
 * of channels. Each row is added up by itself, for errors of a sum grow with its terms, in a mean over a large image of
 * even brightness most of all. What is constant where this is inlined unrolls: with 2x2 pixels, loops cost more than
 * they do. */
FD_INLINE fd_v FD_FN(pool2d_window)(const fd_pool2d_args *a, size_t ring, size_t height, size_t x, size_t width,
                                    size_t channel, const uint32_t mode) {
    const size_t n = a->channels - channel;
    fd_v result = v_set1(mode == FD_POOL_MAX ? -INFINITY : 0.0f);
    for (size_t i = 0; i < height; i++) {
        const float *p = a->in + ring * a->in_row + x * a->channels + channel;
        if (++ring == a->in_ring) ring = 0;
        fd_v sum = v_set1(0.0f);
        for (size_t k = 0; k < width; k++, p += a->channels) {
            const fd_v value = n >= FD_VL ? v_load(p) : v_load_n(p, n);
            if (mode == FD_POOL_MAX)
                result = v_max(value, result);
            else
                sum = sum + value;
        }
        if (mode != FD_POOL_MAX) result = result + sum;
    }
    return result;
}

FD_INLINE void FD_FN(pool2d_of)(const fd_pool2d_args *a, const uint32_t mode) {
    size_t count = 0; /* pixels in the last window: most have as many */
    int is_power = 0;
    fd_v divisor = v_set1(1.0f);
    for (size_t o = 0; o < a->out_count; o++) {
        size_t y0, y1;
        FD_FN(window)(a->out_first + o, a->size[0], a->stride[0], a->pad[0], a->rows, &y0, &y1);
        const size_t ring = y0 % a->in_ring;
        for (size_t col = 0; col < a->out_cols; col++) {
            float *const out = a->out + o * a->out_row + col * a->channels;
            size_t x0, x1;
            FD_FN(window)(col, a->size[1], a->stride[1], a->pad[1], a->cols, &x0, &x1);
            const size_t height = y1 - y0, width = x1 - x0;
            if (count != height * width) {
                count = height * width;
                /* The inverse of a power of two is exact, and a product is the quotient in a tenth of the time. */
                is_power = (count & (count - 1)) == 0;
                divisor = v_set1(is_power ? 1.0f / (float)count : (float)count);
            }
            for (size_t c = 0; c < a->channels; c += FD_VL) {
                const size_t n = a->channels - c;
                fd_v result;
                if (height == 2 && width == 2)
                    result = FD_FN(pool2d_window)(a, ring, 2, x0, 2, c, mode);
                else
                    result = FD_FN(pool2d_window)(a, ring, height, x0, width, c, mode);
                if (mode != FD_POOL_MAX && is_power) result = result * divisor;
                if (mode != FD_POOL_MAX && !is_power) result = result / divisor;
                if (n >= FD_VL)
                    v_store(out + c, result);
                else
                    v_store_n(out + c, result, n);
            }
        }
    }
}

FD_LOCAL void FD_FN(pool2d)(const fd_pool2d_args *a) {
    if (a->mode == FD_POOL_MAX)
        FD_FN(pool2d_of)(a, FD_POOL_MAX);
    else
        FD_FN(pool2d_of)(a, FD_POOL_AVERAGE);
}

# Bindings for lines, and for digits as they are drawn; part of _pixels.pyx, which declares what they call.

# ---- Lines ----

def spans(mask, bint upright, size_t pixels, size_t columns, size_t ends):
    cdef bool found = False
    cdef bint done
    cdef Plane plane = held(mask, c'B', 2)
    with nogil:
        done = fd_image_spans(
            <const uint8_t *>plane.memory, plane.height, plane.width, upright, pixels, columns, ends, &found
        )
    return checked(found, done)


def level_lines(mask, bint upright, tuple kind):
    """Of each line: start, end, thickness, tops, bottoms; `kind` has the fields of fd_image_line_kind.

    If upright, x and y are exchanged.
    """
    cdef fd_image_line_kind options
    (
        options.length, options.covered, options.alone, options.votes, options.fewest, options.thickest, options.slope,
        options.level, options.quantile, options.gap, options.aside, options.beyond, options.most, options.tries,
        options.ends, options.all,
    ) = kind
    # What is followed must lie in the mask, whatever the options.
    if not (
        0 <= options.slope <= 1 and 0 < options.quantile < 1 and options.aside <= 64 and options.most <= 64
        and 0 <= options.thickest <= <double>FD_IMAGE_SIDE
        and max(options.gap, options.beyond, options.ends) <= FD_IMAGE_SIDE
    ):
        raise ValueError(f"no such lines: {kind}")
    cdef fd_image_line *lines = NULL
    cdef int32_t *rows = NULL
    cdef uint8_t *turned = NULL
    cdef const uint8_t *inked
    cdef size_t height, width, count = 0, i, most = options.most
    cdef bint done = False
    cdef Plane plane = held(mask, c'B', 2)
    try:
        inked = <const uint8_t *>plane.memory
        height, width = plane.height, plane.width
        with nogil:
            if upright:
                turned = <uint8_t *>malloc(plane.count)
                if turned != NULL:
                    fd_image_transpose_u8(inked, height, width, turned)
                inked, height, width = turned, width, height
            lines = <fd_image_line *>malloc(most * sizeof(fd_image_line))
            rows = <int32_t *>malloc(2 * most * width * sizeof(int32_t))
            if inked != NULL and lines != NULL and rows != NULL:
                done = fd_image_level_lines(inked, height, width, &options, lines, rows, rows + most * width, &count)
        checked(None, done)
        found = []
        for i in range(count):
            line = lines[i].start, lines[i].end, lines[i].thickness
            found.append((*line, copied(rows + i * width, width), copied(rows + (most + i) * width, width)))
        return found
    finally:
        free(lines)
        free(rows)
        free(turned)


cdef object copied(const int32_t *values, size_t count):
    out = empty(count, int32)
    memcpy(memory_of(out), values, count * sizeof(int32_t))
    return out


# ---- Drawing ----

def resampled(ink, size_t rows, size_t columns):
    cdef double *made
    cdef bint done
    cdef Plane plane = held(ink, c'd', 2)
    fits(rows, MOST_PIXELS)
    fits(columns, MOST_PIXELS)
    out = empty((rows, columns))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_resample(plane.doubles, plane.width, plane.height, plane.width, rows, columns, made)
    return checked(out, done)


def fitted(ink, tuple within, size_t side):
    """The part (top, bottom, left, right) of the ink, scaled until its longer side is `side`; its greatest is 1."""
    cdef double *made
    cdef double greatest
    cdef bint done
    cdef size_t top, bottom, left, right, rows = 0, columns = 0, i
    top, bottom, left, right = within
    cdef Plane plane = held(ink, c'd', 2)
    fits(side, 1 << 15)
    if not (top < bottom <= plane.height and left < right <= plane.width):
        raise ValueError(f"{within} is no part of {plane.height}x{plane.width}")
    fd_image_fitted_size(bottom - top, right - left, side, &rows, &columns)
    out = empty((rows, columns))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_resample(plane.doubles + top * plane.width + left, plane.width, bottom - top,
                                 right - left, rows, columns, made)
        if done:
            greatest = fd_image_extremes(made, rows * columns).greatest
            for i in range(rows * columns):
                made[i] /= greatest
    return checked(out, done)


def mean_width(ink):
    cdef double width
    cdef Plane plane = held(ink, c'd', 2)
    with nogil:
        width = fd_image_mean_width(plane.doubles, plane.height, plane.width)
    return width


def placed(ink, size_t side):
    cdef uint8_t *made
    cdef Plane plane = held(ink, c'd', 2)
    fits(max(plane.height, plane.width), side)
    if not fd_image_extremes(plane.doubles, plane.count).greatest > 0:
        raise ValueError("there is no ink")
    out = empty((side, side), uint8)
    made = <uint8_t *>memory_of(out)
    with nogil:
        fd_image_place(plane.doubles, plane.height, plane.width, side, made)
    return out

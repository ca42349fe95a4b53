"""Binding to csrc/image/image.h: loops over the pixels of small pictures, without the GIL.

Planes are float64 arrays of two axes, masks are uint8 or bool; all are C-contiguous. What each function computes is
said in the header.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from numpy import bool_, empty, int32, int64, uint8

include "planes.pxi"

cdef extern from "stdbool.h":
    ctypedef bint bool


cdef extern from "image/image.h" nogil:
    ctypedef struct fd_image_range:
        double least
        double greatest

    ctypedef struct fd_image_flatness:
        bint flat
        double paper
        double least
        double greatest

    ctypedef struct fd_image_contrast:
        double noise
        double range
        double other

    ctypedef struct fd_image_mark:
        int32_t box[4]
        int32_t area
        double ink

    ctypedef struct fd_image_marks:
        size_t count
        fd_image_mark *items

    ctypedef struct fd_image_line_kind:
        double length
        double covered
        double alone
        double votes
        double fewest
        double thickest
        double slope
        double level
        double quantile
        size_t gap
        size_t aside
        size_t beyond
        size_t most
        size_t tries
        size_t ends
        double all

    ctypedef struct fd_image_line:
        size_t start
        size_t end
        double thickness

    fd_image_range fd_image_extremes(const double *, size_t)
    size_t fd_image_count_above(const double *, size_t, double)
    double fd_image_coverage(const double *, size_t)
    void fd_image_quantiles(const double *, size_t, const double *, size_t, double *, double *)
    bint fd_image_average_u8(const uint8_t *, size_t, size_t, size_t, size_t, double, double *)
    bint fd_image_average_u16(const uint16_t *, size_t, size_t, size_t, size_t, double, double *)
    bint fd_image_average_f64(const double *, size_t, size_t, size_t, size_t, double, double *)
    bint fd_image_sliding_max(const double *, size_t, size_t, size_t, int, double *)
    bint fd_image_closing(const double *, size_t, size_t, size_t, double *)
    bint fd_image_flattened(const double *, size_t, size_t, size_t, double, double *)
    bint fd_image_box_mean(const double *, size_t, size_t, size_t, double *)
    void fd_image_run_lengths(const uint8_t *, size_t, size_t, int32_t *)
    bint fd_image_stroke_width(const double *, size_t, size_t, double, double *)
    bint fd_image_squares(const double *, size_t, size_t, double, double, size_t, uint8_t *, size_t *)
    fd_image_flatness fd_image_flat_paper(const double *, size_t, size_t)
    void fd_image_away_from(const double *, size_t, double, bint, double, double *)
    bint fd_image_structure(const double *, size_t, size_t, const double *, const double *, size_t, size_t, double *)
    bint fd_image_skew(const double *, size_t, size_t, size_t, double *)
    double fd_image_border_vote(const double *, size_t, size_t, double)
    bint fd_image_opposites(const double *, size_t, size_t, double, double, double *, double *)
    bint fd_image_paper(const double *, size_t, size_t, size_t, double *)
    bint fd_image_away(const double *, size_t, size_t, size_t, double, double *)
    bint fd_image_stretched(const double *, size_t, const double *, size_t, bint, double *, fd_image_contrast *)
    void fd_image_cells(const double *, size_t, size_t, size_t, double, double *)
    bint fd_image_find_marks(const double *, size_t, size_t, double, int32_t *, fd_image_marks *)
    void fd_image_keep(const int64_t *, const double *, size_t, size_t, size_t, double, uint8_t *)
    bint fd_image_keep_ink(const double *, size_t, size_t, const int32_t *, size_t, const uint8_t *, double *)
    bint fd_image_box(const double *, size_t, size_t, double, size_t *)
    void fd_image_transpose_u8(const uint8_t *, size_t, size_t, uint8_t *)
    bint fd_image_spans(const uint8_t *, size_t, size_t, bint, size_t, size_t, size_t, bool *)
    bint fd_image_level_lines(const uint8_t *, size_t, size_t, const fd_image_line_kind *, fd_image_line *, int32_t *,
                              int32_t *, size_t *)
    void fd_image_fitted_size(size_t, size_t, size_t, size_t *, size_t *)
    bint fd_image_resample(const double *, size_t, size_t, size_t, size_t, size_t, double *)
    double fd_image_mean_width(const double *, size_t, size_t)
    void fd_image_place(const double *, size_t, size_t, size_t, uint8_t *)


# ---- Values ----

def extremes(values):
    cdef fd_image_range range_
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        range_ = fd_image_extremes(plane.doubles, plane.count)
    return range_.least, range_.greatest


def count_above(values, double threshold):
    cdef size_t count
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        count = fd_image_count_above(plane.doubles, plane.count, threshold)
    return count


def coverage(values):
    cdef double share
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        share = fd_image_coverage(plane.doubles, plane.count)
    return share


def quantile(values, double part):
    """Of a row of them."""
    cdef double found = 0
    cdef double *scratch
    if not 0 <= part <= 1:
        raise ValueError(f"{part} is not in 0..1")
    cdef Plane plane = held(values, c'd', 1)
    with nogil:
        scratch = <double *>malloc(2 * plane.count * sizeof(double))
        if scratch != NULL:
            fd_image_quantiles(plane.doubles, plane.count, &part, 1, scratch, &found)
            free(scratch)
    return checked(found, scratch != NULL)


# ---- Filters ----

def averaged(pixels, size_t block, double full):
    """Of (height, width, channels): uint8, bool, uint16 or float64."""
    cdef Py_buffer view
    cdef bint done = False
    cdef double *made
    cdef size_t height, width, channels
    PyObject_GetBuffer(pixels, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    cdef char kind = view.format[0]
    try:
        if view.ndim != 3 or view.len == 0 or view.format[1] != 0 or kind not in (c'B', c'?', c'H', c'd'):
            raise ValueError("expected pixels (height, width, channels) of uint8, bool, uint16 or float64")
        height, width, channels = <size_t>view.shape[0], <size_t>view.shape[1], <size_t>view.shape[2]
        fits(block, MOST_PIXELS)
        out = empty(((height + block - 1) // block, (width + block - 1) // block, channels))
        made = <double *>memory_of(out)
        with nogil:
            if kind == c'H':
                done = fd_image_average_u16(<const uint16_t *>view.buf, height, width, channels, block, full, made)
            elif kind == c'd':
                done = fd_image_average_f64(<const double *>view.buf, height, width, channels, block, full, made)
            else:
                done = fd_image_average_u8(<const uint8_t *>view.buf, height, width, channels, block, full, made)
    finally:
        PyBuffer_Release(&view)
    return checked(out, done)


def sliding_max(values, size_t window, int axis):
    cdef bint done
    cdef double *made
    cdef Plane plane = held(values, c'd', 2)
    fits(window, plane.width if axis else plane.height)
    out = empty((plane.height - (0 if axis else window - 1), plane.width - (window - 1 if axis else 0)))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_sliding_max(plane.doubles, plane.height, plane.width, window, axis, made)
    return checked(out, done)


def closing(values, size_t window):
    cdef bint done
    cdef double *made
    cdef Plane plane = held(values, c'd', 2)
    fits(window, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_closing(plane.doubles, plane.height, plane.width, window, made)
    return checked(out, done)


def flattened(values, size_t window, double little):
    cdef bint done
    cdef double *made
    cdef Plane plane = held(values, c'd', 2)
    fits(window, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_flattened(plane.doubles, plane.height, plane.width, window, little, made)
    return checked(out, done)


def box_mean(values, size_t window):
    cdef bint done
    cdef double *made
    cdef Plane plane = held(values, c'd', 2)
    fits(window, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_box_mean(plane.doubles, plane.height, plane.width, window, made)
    return checked(out, done)


# ---- Runs ----

def run_lengths(mask):
    cdef int32_t *made
    cdef Plane plane = held(mask, c'B', 2)
    out = empty((plane.height, plane.width), int32)
    made = <int32_t *>memory_of(out)
    with nogil:
        fd_image_run_lengths(<const uint8_t *>plane.memory, plane.height, plane.width, made)
    return out


def stroke_width(values, double threshold):
    cdef double width = 0
    cdef bint done
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        done = fd_image_stroke_width(plane.doubles, plane.height, plane.width, threshold, &width)
    return checked(width, done)


def count_squares(values, double low, double high, size_t side):
    cdef size_t count = 0
    cdef bint done
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        done = fd_image_squares(plane.doubles, plane.height, plane.width, low, high, side, NULL, &count)
    return checked(count, done)


def squares(values, double low, double high, size_t side):
    cdef size_t count = 0
    cdef uint8_t *made
    cdef bint done
    cdef Plane plane = held(values, c'd', 2)
    fits(side, min(plane.height, plane.width))
    out = empty((plane.height - side + 1, plane.width - side + 1), bool_)
    made = <uint8_t *>memory_of(out)
    with nogil:
        done = fd_image_squares(plane.doubles, plane.height, plane.width, low, high, side, made, &count)
    return checked(out, done)


# ---- Paper ----

def flat_paper(grey):
    cdef fd_image_flatness found
    cdef Plane plane = held(grey, c'd', 2)
    with nogil:
        found = fd_image_flat_paper(plane.doubles, plane.height, plane.width)
    return (found.paper, found.least, found.greatest) if found.flat else None


def away_from(grey, double paper, bint dark, double little):
    cdef double *made
    cdef Plane plane = held(grey, c'd', 2)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        fd_image_away_from(plane.doubles, plane.count, paper, dark, little, made)
    return out


def structure(grey, rows, columns, size_t window, size_t every):
    cdef Plane plane, down, across
    cdef double found[2]
    cdef bint done
    plane = held(grey, c'd', 2)
    fits(window, min(plane.height, plane.width) - 1)
    fits(every, MOST_PIXELS)
    down = held(rows, c'd', 2)
    across = held(columns, c'd', 2)
    if down.height != 3 or down.width != plane.height or across.height != 3 or across.width != plane.width:
        raise ValueError("expected three polynomials for each side")
    with nogil:
        done = fd_image_structure(
            plane.doubles, plane.height, plane.width, down.doubles, across.doubles, window, every,
            found
        )
    return checked((found[0], found[1]), done)


def skew(grey, windows):
    """The cubes of the differences from several means, over their sizes."""
    cdef double sums[2]
    cdef bint done
    cdef size_t window
    sums[:] = [0, 0]
    cdef Plane plane = held(grey, c'd', 2)
    for window in windows:
        fits(window, FD_IMAGE_WINDOW)
        with nogil:
            done = fd_image_skew(plane.doubles, plane.height, plane.width, window, sums)
        checked(None, done)
    return sums[0] / max(sums[1], 1e-30)


def border_vote(grey, double middle):
    cdef double vote
    cdef Plane plane = held(grey, c'd', 2)
    vote = fd_image_border_vote(plane.doubles, plane.height, plane.width, middle)
    return vote


def opposites(grey, double least, double greatest):
    cdef double *down
    cdef double *across
    cdef bint done
    cdef Plane plane = held(grey, c'd', 2)
    rows, columns = empty(plane.height - 1), empty(plane.width - 1)
    down, across = <double *>memory_of(rows), <double *>memory_of(columns)
    with nogil:
        done = fd_image_opposites(plane.doubles, plane.height, plane.width, least, greatest, down, across)
    return checked((rows, columns), done)


def paper(grey, size_t window):
    cdef double *made
    cdef bint done
    cdef Plane plane = held(grey, c'd', 2)
    fits(window, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_paper(plane.doubles, plane.height, plane.width, window, made)
    return checked(out, done)


def away(grey, size_t window, double little):
    cdef double *made
    cdef bint done
    cdef Plane plane = held(grey, c'd', 2)
    fits(window, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_away(plane.doubles, plane.height, plane.width, window, little, made)
    return checked(out, done)


def stretched(away, bint flat=False):
    cdef fd_image_contrast contrast
    cdef double *made
    cdef bint done
    cdef Plane plane = held(away, c'd', 2)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_stretched(plane.doubles, plane.count, plane.doubles, plane.count, flat, made, &contrast)
    return checked((out, contrast.noise, contrast.range, contrast.other), done)


# ---- Marks ----

def marks(ink, size_t cell, double threshold):
    """Labels, boxes, ink and area of the marks."""
    cdef size_t rows, columns, i, k
    cdef double *cells
    cdef int32_t *label
    cdef int64_t *box
    cdef double *amount
    cdef int64_t *size
    cdef fd_image_marks found
    cdef bint done = False
    found.items = NULL
    cdef Plane plane = held(ink, c'd', 2)
    try:
        fits(cell, MOST_PIXELS)
        rows, columns = (plane.height + cell - 1) // cell, (plane.width + cell - 1) // cell
        labels = empty((rows, columns), int32)
        label = <int32_t *>memory_of(labels)
        with nogil:
            if cell == 1:
                done = fd_image_find_marks(plane.doubles, rows, columns, threshold, label, &found)
            else:
                cells = <double *>malloc(rows * columns * sizeof(double))
                if cells != NULL:
                    fd_image_cells(plane.doubles, plane.height, plane.width, cell, threshold, cells)
                    done = fd_image_find_marks(cells, rows, columns, 0, label, &found)
                    free(cells)
        checked(None, done)
        boxes, amounts, areas = empty((found.count, 4), int64), empty(found.count), empty(found.count, int64)
        box, amount, size = <int64_t *>memory_of(boxes), <double *>memory_of(amounts), <int64_t *>memory_of(areas)
        for i in range(found.count):
            for k in range(4):
                box[4 * i + k] = found.items[i].box[k]
            amount[i] = found.items[i].ink
            size[i] = found.items[i].area
    finally:
        free(found.items)
    return labels, boxes, amounts, areas


def kept_marks(boxes, ink, size_t rows, size_t columns, double speck):
    cdef Plane found, amounts
    cdef uint8_t *made
    found = held(boxes, c'q', 2)
    amounts = held(ink, c'd', 1)
    if found.width != 4 or found.height != amounts.width:
        raise ValueError("expected a box and an amount of ink for each mark")
    out = empty(amounts.width, bool_)
    made = <uint8_t *>memory_of(out)
    with nogil:
        fd_image_keep(<const int64_t *>found.memory, amounts.doubles, amounts.width, rows, columns, speck,
                      made)
    return out


def kept_ink(ink, labels, size_t cell, kept):
    """`kept` has a value for each label."""
    cdef Plane plane = held(ink, c'd', 2)
    cdef Plane numbers = held(labels, c'i', 2)
    cdef Plane chosen = held(kept, c'B', 1)
    cdef const int32_t *label = <const int32_t *>numbers.memory
    cdef size_t i, count = numbers.count
    cdef int32_t end = <int32_t>chosen.width, beyond = 0
    cdef double *made
    cdef bint done
    fits(cell, MOST_PIXELS)
    if (
        numbers.height != (plane.height + cell - 1) // cell
        or numbers.width != (plane.width + cell - 1) // cell
    ):
        raise ValueError("expected a label for each cell")
    with nogil:
        for i in range(count):
            beyond |= label[i] >= end
    if beyond:
        raise ValueError(f"there are labels above the {chosen.width} that may be kept")
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_keep_ink(
            plane.doubles, plane.height, plane.width, label, cell, <const uint8_t *>chosen.memory, made
        )
    return checked(out, done)


def box(values, double threshold):
    """(top, bottom, left, right), or None."""
    cdef size_t found[4]
    cdef bint any_
    cdef Plane plane = held(values, c'd', 2)
    with nogil:
        any_ = fd_image_box(plane.doubles, plane.height, plane.width, threshold, found)
    return (found[0], found[1], found[2], found[3]) if any_ else None


include "strokes.pxi"

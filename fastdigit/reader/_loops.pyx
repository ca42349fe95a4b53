"""Binding to csrc/image/image.h: the loops of fields and pages, without the GIL; see fastdigit/images/_pixels.pyx."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc

from libc.string cimport memset

from numpy import empty, int8, int32, int64, uint8

include "../images/planes.pxi"


cdef extern from "stdbool.h":
    ctypedef bint bool


cdef extern from "image/image.h" nogil:
    ctypedef struct fd_image_range:
        double least
        double greatest

    ctypedef struct fd_image_contrast:
        double noise
        double range
        double other

    size_t FD_IMAGE_LABELS
    size_t FD_IMAGE_ANY_LENGTH

    ctypedef struct fd_image_cuts:
        double paper
        double sideways
        double rows[3]
        double most
        double margin
        double apart
        size_t window
        size_t paths

    ctypedef struct fd_image_part:
        size_t box[4]
        size_t area

    ctypedef struct fd_image_piece:
        int32_t box[4]
        int32_t mark

    ctypedef struct fd_image_candidate:
        int32_t start
        int32_t end
        int32_t box[4]
        int32_t cut
        int32_t is_mark

    ctypedef struct fd_image_ways:
        size_t count
        size_t longest
        double *scores
        size_t *lengths
        int8_t *labels
        int32_t *chosen

    bint fd_image_page_ink(const double *, size_t, size_t, bint, size_t, double *, fd_image_contrast *)
    ctypedef struct fd_image_run:
        size_t length
        double rise
        double middle

    size_t fd_image_runs(const double *, size_t, size_t, bint, size_t, double, fd_image_run *)
    size_t fd_image_points(const double *, size_t, size_t, double, size_t, double *, double *, size_t *)
    bint fd_image_sharpness(const double *, const double *, size_t, const double *, size_t, double, size_t, int64_t *)
    void fd_image_shear(const double *, size_t, size_t, const double *, size_t, double *)
    void fd_image_cheapest_paths(const double *, size_t, size_t, bint, double, double, double *, int8_t *)
    bint fd_image_cut(const double *, size_t, size_t, const fd_image_cuts *, double, uint32_t *, fd_image_part *,
                      size_t *)
    fd_image_range fd_image_extremes(const double *, size_t)
    bint fd_image_draw(const double *, size_t, size_t, size_t, size_t, uint8_t *)
    void fd_image_put(const double *, size_t, size_t, double *, size_t)
    bint fd_image_find_candidates(const fd_image_piece *, size_t, size_t, double, double, fd_image_candidate *, size_t *)
    bint fd_image_search(const fd_image_candidate *, size_t, const double *, const double *, size_t, double, size_t,
                         size_t, fd_image_ways *)
    void fd_image_free_ways(fd_image_ways *)

    ctypedef struct fd_image_texts:
        size_t count
        size_t *lengths
        uint8_t *digits

    bint fd_image_likely_texts(const double *, size_t, double, size_t, fd_image_texts *)
    void fd_image_free_texts(fd_image_texts *)
    bint fd_image_text_logs(const double *, size_t, const uint8_t *, const size_t *, size_t, double, double *)
    bint fd_image_places(const double *, size_t, const uint8_t *, size_t, double, int32_t *)


# ---- Paper ----

def page_ink(grey, bint dark, size_t block):
    """The ink, its contrast, the paper's noise, and the contrast of what is on the other side of the paper."""
    cdef Plane plane = held(grey, c'd', 2)
    cdef fd_image_contrast contrast
    cdef double *made
    cdef bint done
    fits(block, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_page_ink(plane.doubles, plane.height, plane.width, dark, block, made, &contrast)
    return checked((out, contrast.range, contrast.noise, contrast.other), done)


def runs(ink, size_t step, double threshold):
    """Of runs in every so-manyth row, then in columns, but for those from edge to edge: length, rise, middle."""
    cdef Plane plane = held(ink, c'd', 2)
    fits(step, FD_IMAGE_SIDE)
    cdef size_t rows = (plane.height + step - 1) // step, columns = (plane.width + step - 1) // step
    cdef size_t most = rows * ((plane.width + 1) // 2) + columns * ((plane.height + 1) // 2)
    cdef size_t count = 0, i
    cdef fd_image_run *found = <fd_image_run *>malloc(most * sizeof(fd_image_run))
    cdef int64_t *length
    cdef double *rise
    cdef double *middle
    try:
        checked(None, found != NULL)
        with nogil:
            count = fd_image_runs(plane.doubles, plane.height, plane.width, False, step, threshold, found)
            count += fd_image_runs(plane.doubles, plane.height, plane.width, True, step, threshold, found + count)
        lengths, rises, middles = empty(count, int64), empty(count), empty(count)
        length, rise, middle = <int64_t *>memory_of(lengths), <double *>memory_of(rises), <double *>memory_of(middles)
        for i in range(count):
            length[i], rise[i], middle[i] = <int64_t>found[i].length, found[i].rise, found[i].middle
        return lengths, rises, middles
    finally:
        free(found)


def points(ink, double threshold, size_t most):
    """Of pixels above the threshold, not more than `most`: rows, columns from their mean; and the first and last column
    of all. None if there are no such pixels."""
    cdef Plane plane = held(ink, c'd', 2)
    cdef size_t ends[2]
    cdef size_t found
    fits(most, MOST_PIXELS)
    down, across = empty(most), empty(most)
    cdef double *rows = <double *>memory_of(down)
    cdef double *columns = <double *>memory_of(across)
    with nogil:
        found = fd_image_points(plane.doubles, plane.height, plane.width, threshold, most, rows, columns, ends)
    return (down[:found], across[:found], ends[0], ends[1]) if found else None


def sharpness(down, across, slopes, double low):
    """Of each slope, the sum of the squares of how many pixels each row has; `low` is above the first of these."""
    cdef Plane rows = held(down, c'd', 1), columns = held(across, c'd', 1), tried = held(slopes, c'd', 1)
    if rows.width != columns.width:
        raise ValueError(f"{rows.width} rows and {columns.width} columns")
    cdef fd_image_range high, wide, steep
    high = fd_image_extremes(rows.doubles, rows.width)
    wide = fd_image_extremes(columns.doubles, columns.width)
    steep = fd_image_extremes(tried.doubles, tried.width)
    cdef double most = max(-wide.least, wide.greatest) * max(-steep.least, steep.greatest)
    cdef double end = high.greatest + most + low
    if not (high.least - most + low >= 0 and end < <double>FD_IMAGE_SIDE):
        raise ValueError(f"rows {high.least} to {high.greatest} and {most} do not lie inside, {low} below the first")
    cdef bint done
    out = empty(tried.width, int64)
    cdef int64_t *made = <int64_t *>memory_of(out)
    with nogil:
        done = fd_image_sharpness(rows.doubles, columns.doubles, rows.width, tried.doubles, tried.width, low,
                                  <size_t>end + 1, made)
    return checked(out, done)


def sheared(values, moved):
    """With each row moved to the right by so many columns; as wide as it takes."""
    cdef Plane plane = held(values, c'd', 2), by = held(moved, c'd', 1)
    cdef double furthest = 0
    cdef size_t y
    for y in range(by.width):
        if by.width != plane.height or not 0 <= by.doubles[y] < <double>FD_IMAGE_SIDE:
            raise ValueError(f"{plane.height} rows can't be moved by {by.width} numbers such as {by.doubles[y]}")
        furthest = max(furthest, by.doubles[y])
    cdef size_t wide = plane.width + <size_t>furthest + 2
    fits(plane.height * wide, MOST_PIXELS)
    out = empty((plane.height, wide))
    cdef double *made = <double *>memory_of(out)
    with nogil:
        fd_image_shear(plane.doubles, plane.height, plane.width, by.doubles, wide, made)
    return out


# ---- Paths ----

def cheapest_paths(ink, bint upwards, double paper, double sideways):
    """The costs, and the steps back."""
    cdef double *total
    cdef int8_t *step
    cdef Plane plane = held(ink, c'd', 2)
    totals, steps = empty((plane.height, plane.width)), empty((plane.height, plane.width), int8)
    total, step = <double *>memory_of(totals), <int8_t *>memory_of(steps)
    with nogil:
        fd_image_cheapest_paths(plane.doubles, plane.height, plane.width, upwards, paper, sideways, total, step)
    return totals, steps


def cut(ink, tuple kind, double threshold, double least):
    """Top, left and ink of each part that has so many pixels above the threshold, from left to right; without cuts, None.
    `kind` has the fields of fd_image_cuts."""
    cdef Plane plane = held(ink, c'd', 2)
    cdef fd_image_cuts options
    (
        options.paper, options.sideways, options.rows[0], options.rows[1], options.rows[2], options.most,
        options.margin, options.apart, options.window, options.paths,
    ) = kind
    if not (0 <= min(kind[2:5]) and max(kind[2:5]) <= 1 and 0 < options.window <= FD_IMAGE_SIDE and options.paths <= FD_IMAGE_SIDE):
        raise ValueError(f"no such cuts: {kind}")
    # More than one a column are the same.
    options.paths = min(options.paths, plane.width)
    cdef uint32_t *owners = <uint32_t *>malloc(plane.count * sizeof(uint32_t))
    cdef fd_image_part *parts = <fd_image_part *>malloc((options.paths + 1) * sizeof(fd_image_part))
    cdef fd_image_part *part
    cdef size_t count = 0, i, x, y, at, wide
    cdef double *made
    cdef bint done = False
    try:
        if owners != NULL and parts != NULL:
            with nogil:
                done = fd_image_cut(plane.doubles, plane.height, plane.width, &options, threshold, owners, parts,
                                    &count)
        checked(None, done)
        if count == 1:
            return None
        found = []
        for i in range(count):
            part = parts + i
            if part.area == 0 or part.area < least:
                continue
            wide = part.box[3] - part.box[2]
            out = empty((part.box[1] - part.box[0], wide))
            made = <double *>memory_of(out)
            for y in range(part.box[0], part.box[1]):
                at = y * plane.width + part.box[2]
                for x in range(wide):
                    made[x] = plane.doubles[at + x] if owners[at + x] == i else 0
                made += wide
            found.append((part.box[0], part.box[2], out))
        return found
    finally:
        free(owners)
        free(parts)


include "marks.pxi"


# ---- Candidates ----

def candidates(pieces, size_t most, double widest, double smallest):
    """(candidates, 8): of each what fd_image_candidate has. Pieces have `top`, `left`, `ink` and `mark`."""
    cdef size_t count = len(pieces), found = 0, i
    cdef int64_t top, left
    cdef Plane plane
    cdef fd_image_candidate *made
    cdef bint done
    fits(most, FD_IMAGE_SIDE)
    fits(count * most, MOST_PIXELS)
    cdef fd_image_piece *own = <fd_image_piece *>malloc(count * sizeof(fd_image_piece))
    try:
        checked(None, own != NULL)
        for i, piece in enumerate(pieces):
            plane, top, left = held(piece.ink, c'd', 2), piece.top, piece.left
            lies(top, left)
            own[i].box[0], own[i].box[1] = <int32_t>top, <int32_t>(top + <int64_t>plane.height)
            own[i].box[2], own[i].box[3] = <int32_t>left, <int32_t>(left + <int64_t>plane.width)
            own[i].mark = piece.mark
        table = empty((count * most, CANDIDATE), int32)
        made = <fd_image_candidate *>memory_of(table)
        with nogil:
            done = fd_image_find_candidates(own, count, most, widest, smallest, made, &found)
        return checked(table[:found], done)
    finally:
        free(own)


# Columns of a table of candidates.
cdef int CANDIDATE = sizeof(fd_image_candidate) // sizeof(int32_t)


cdef Plane table_of(object table, size_t pieces):
    """Of at least one candidate, sorted by their ends."""
    cdef Plane plane = held(table, c'i', 2)
    if plane.width != <size_t>CANDIDATE:
        raise ValueError(f"expected {CANDIDATE} numbers for each candidate")
    cdef const fd_image_candidate *one = <const fd_image_candidate *>plane.memory
    cdef int32_t last = 0
    cdef size_t i
    for i in range(plane.height):
        if not (0 <= one[i].start < one[i].end and last <= one[i].end <= <int64_t>pieces):
            raise ValueError(f"no such candidate of {pieces} pieces: {one[i].start} to {one[i].end}")
        last = one[i].end
    return plane


cdef int lies(int64_t top, int64_t left) except -1:
    if not (0 <= top <= <int64_t>FD_IMAGE_SIDE and 0 <= left <= <int64_t>FD_IMAGE_SIDE):
        raise ValueError(f"no such place of a piece: {top}, {left}")
    return 0


def drawn(pieces, table, size_t box, size_t side):
    """Each of several candidates, scaled until its longer side is `box` and placed: (count, side, side).

    Pieces have `top`, `left` and `ink`.
    """
    cdef Plane plane, spans
    cdef const fd_image_candidate *one
    cdef double *joined = NULL
    cdef size_t room = 0, i, k, height, width
    cdef int64_t top, bottom, left, right, first, start
    cdef bint done
    fits(box, side)
    fits(side, 1 << 12)
    spans = table_of(table, len(pieces))
    one = <const fd_image_candidate *>spans.memory
    held_of = [(piece.top, piece.left, held(piece.ink, c'd', 2)) for piece in pieces]
    for first, start, _ in held_of:
        lies(first, start)
    out = empty((spans.height, side, side), uint8)
    cdef uint8_t *made = <uint8_t *>memory_of(out)
    try:
        for i in range(spans.height):
            own = held_of[one[i].start : one[i].end]
            top = left = FD_IMAGE_SIDE
            bottom = right = 0
            for first, start, plane in own:
                top, left = min(top, first), min(left, start)
                bottom = max(bottom, first + <int64_t>plane.height)
                right = max(right, start + <int64_t>plane.width)
            height, width = <size_t>(bottom - top), <size_t>(right - left)
            fits(height * width, MOST_PIXELS)
            if height * width > room:
                room = height * width
                free(joined)
                joined = <double *>malloc(room * sizeof(double))
                checked(None, joined != NULL)
            memset(joined, 0, height * width * sizeof(double))
            for first, start, plane in own:
                with nogil:
                    fd_image_put(plane.doubles, plane.height, plane.width,
                                 joined + (first - top) * <int64_t>width + (start - left), width)
            if not fd_image_extremes(joined, height * width).greatest > 0:
                raise ValueError("there is no ink")
            with nogil:
                done = fd_image_draw(joined, height, width, box, side, made + i * side * side)
            checked(None, done)
    finally:
        free(joined)
    return out


# ---- Search ----

def search(table, gains, losses, double alone, size_t most, length):
    """Of each way: score, text, and the numbers of its candidates."""
    cdef size_t count = len(table), wanted = FD_IMAGE_ANY_LENGTH if length is None else length, i, k, at
    cdef Plane lost = held(losses, c'd', 1)
    cdef Plane gained, spans
    cdef const double *own = NULL
    cdef const fd_image_candidate *all_of_them = NULL
    cdef fd_image_ways found
    cdef bint done
    fits(most, MOST_PIXELS)
    if count:
        spans = table_of(table, lost.width)
        all_of_them = <const fd_image_candidate *>spans.memory
        gained = held(gains, c'd', 2)
        own = gained.doubles
        if gained.height != count or gained.width != FD_IMAGE_LABELS:
            raise ValueError(f"expected {FD_IMAGE_LABELS} gains for each candidate")
    with nogil:
        done = fd_image_search(all_of_them, count, own, lost.doubles, lost.width, alone, most, wanted, &found)
    checked(None, done)
    ways = []
    for i in range(found.count):
        at = i * found.longest
        text = "".join([chr(c'0' + found.labels[at + k]) for k in range(found.lengths[i])])
        ways.append((found.scores[i], text, tuple([found.chosen[at + k] for k in range(found.lengths[i])])))
    fd_image_free_ways(&found)
    return ways


# ---- Texts ----

cdef Plane steps_of(object steps):
    cdef Plane plane = held(steps, c'd', 2)
    if plane.width != FD_IMAGE_LABELS + 1:
        raise ValueError(f"expected {FD_IMAGE_LABELS + 1} probabilities a step")
    return plane


cdef bytes digits_of(str text):
    cdef bytes digits = text.encode("ascii")
    if digits and not digits.isdigit():
        raise ValueError(f"no digits: {text!r}")
    return digits.translate(FROM_ASCII)


FROM_ASCII = bytes([(n - c'0') & 255 for n in range(256)])


def likely_texts(steps, double least, size_t most):
    """The texts, the most probable first."""
    cdef Plane plane = steps_of(steps)
    cdef fd_image_texts found
    cdef size_t i, k
    cdef uint8_t *digits
    cdef bint done
    fits(most, FD_IMAGE_SIDE)
    with nogil:
        done = fd_image_likely_texts(plane.doubles, plane.height, least, most, &found)
    checked(None, done)
    try:
        digits = found.digits
        texts = []
        for i in range(found.count):
            for k in range(found.lengths[i]):
                digits[k] += c'0'
            texts.append((<const char *>digits)[:found.lengths[i]].decode("ascii"))
            digits += found.lengths[i]
        return texts
    finally:
        fd_image_free_texts(&found)


def text_logs(steps, texts, double least):
    """(texts,): the logarithm of the probability of each."""
    cdef Plane plane = steps_of(steps)
    cdef bytes digits = digits_of("".join(texts))
    cdef const uint8_t *all_of_them = <const uint8_t *><const char *>digits
    cdef size_t count = len(texts), i
    cdef size_t *lengths = <size_t *>malloc((count + 1) * sizeof(size_t))
    cdef bint done
    out = empty(count)
    cdef double *made = <double *>memory_of(out)
    try:
        checked(None, lengths != NULL)
        for i, text in enumerate(texts):
            lengths[i] = len(text)
        with nogil:
            done = fd_image_text_logs(plane.doubles, plane.height, all_of_them, lengths, count, least, made)
        return checked(out, done)
    finally:
        free(lengths)


def places(steps, str text, double least):
    """(digits,): in which step each is seen best."""
    cdef Plane plane = steps_of(steps)
    cdef bytes digits = digits_of(text)
    cdef const uint8_t *own = <const uint8_t *><const char *>digits
    cdef size_t count = len(digits)
    cdef bint done
    out = empty(count, int32)
    cdef int32_t *made = <int32_t *>memory_of(out)
    with nogil:
        done = fd_image_places(plane.doubles, plane.height, own, count, least, made)
    checked(None, done)
    if count and out.min() < 0:
        raise ValueError(f"{plane.height} steps are too few for {text!r}")
    return out

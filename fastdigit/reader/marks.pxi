# Bindings for marks, as fastdigit.images._pixels finds them.

cdef extern from "image/image.h" nogil:
    bint fd_image_height_of_most(const int64_t *, const int64_t *, const int64_t *, size_t, int64_t, int64_t *)
    bint fd_image_is_closed(const int32_t *, size_t, const int64_t *, int32_t, double, double)


# ---- Marks ----

def height_of_most(boxes, areas, chosen, int64_t lowest):
    """Of all marks, or those whose numbers are chosen."""
    cdef int64_t found = 0
    cdef size_t many, i
    cdef const int64_t *numbers = NULL
    cdef Plane of_all, sizes, some
    cdef bint done
    if not len(areas) or (chosen is not None and not len(chosen)):
        return 0
    of_all, sizes = held(boxes, c'q', 2), held(areas, c'q', 1)
    if of_all.width != 4 or of_all.height != sizes.width:
        raise ValueError("expected a box and an area for each mark")
    many = sizes.width
    if chosen is not None:
        some = held(chosen, c'q', 1)
        numbers, many = <const int64_t *>some.memory, some.width
        for i in range(many):
            if not 0 <= numbers[i] < <int64_t>sizes.width:
                raise ValueError(f"there is no mark {numbers[i]}")
    with nogil:
        done = fd_image_height_of_most(<const int64_t *>of_all.memory, <const int64_t *>sizes.memory, numbers, many,
                                       lowest, &found)
    return checked(found, done)


def closed_marks(labels, boxes, areas, int64_t smallest, double fullest, double near, double whole):
    """Numbers of the marks that are closed, have sides of at least so many cells, and fill no more of their boxes."""
    cdef Plane cells, of_all, sizes
    cdef const int64_t *box
    cdef const int64_t *area
    cdef int64_t high, wide
    cdef size_t i
    found = []
    if not len(areas):
        return found
    cells, of_all, sizes = held(labels, c'i', 2), held(boxes, c'q', 2), held(areas, c'q', 1)
    if of_all.width != 4 or of_all.height != sizes.width:
        raise ValueError("expected a box and an area for each mark")
    area = <const int64_t *>sizes.memory
    for i in range(sizes.width):
        box = <const int64_t *>of_all.memory + 4 * i
        if not (
            0 <= box[0] < box[1] <= <int64_t>cells.height and 0 <= box[2] < box[3] <= <int64_t>cells.width
        ):
            raise ValueError(f"no box: {box[0], box[1], box[2], box[3]}")
        high, wide = box[1] - box[0], box[3] - box[2]
        if min(high, wide) < smallest or area[i] > fullest * <double>(high * wide):
            continue
        if fd_image_is_closed(<const int32_t *>cells.memory, cells.width, box, <int32_t>i, near, whole):
            found.append(i)
    return found


def ink_of_marks(ink, labels, numbers, boxes):
    """Of each mark its ink, in its box; without that of others."""
    cdef Plane plane = held(ink, c'd', 2), owners = held(labels, c'i', 2)
    cdef const int32_t *owner
    cdef const double *row
    cdef double *made
    cdef size_t top, bottom, left, right, x, y
    cdef int32_t number
    if (plane.height, plane.width) != (owners.height, owners.width):
        raise ValueError(f"{plane.height} x {plane.width} pixels, {owners.height} x {owners.width} labels")
    found = []
    for number, (top, bottom, left, right) in zip(numbers, boxes):
        if not (top < bottom <= plane.height and left < right <= plane.width):
            raise ValueError(f"no box: {top, bottom, left, right}")
        out = empty((bottom - top, right - left))
        made = <double *>memory_of(out)
        for y in range(top, bottom):
            row = plane.doubles + y * plane.width
            owner = <const int32_t *>owners.memory + y * plane.width
            for x in range(left, right):
                made[x - left] = row[x] if owner[x] == number else 0
            made += right - left
        found.append(out)
    return found

"""Binding to csrc/image/image.h: the loops of fields and pages, without the GIL; see fastdigit/images/_pixels.pyx."""

from numpy import empty

include "../images/planes.pxi"


cdef extern from "stdbool.h":
    ctypedef bint bool


cdef extern from "image/image.h" nogil:
    ctypedef struct fd_image_contrast:
        double noise
        double range

    bint fd_image_page_ink(const double *, size_t, size_t, bint, size_t, double *, fd_image_contrast *)


# ---- Paper ----

def page_ink(grey, bint dark, size_t block):
    """The ink, its contrast, and the paper's noise."""
    cdef Plane plane = held(grey, c'd', 2)
    cdef fd_image_contrast contrast
    cdef double *made
    cdef bint done
    fits(block, FD_IMAGE_WINDOW)
    out = empty((plane.height, plane.width))
    made = <double *>memory_of(out)
    with nogil:
        done = fd_image_page_ink(plane.doubles, plane.height, plane.width, dark, block, made, &contrast)
    return checked((out, contrast.range, contrast.noise), done)

# Arrays for bindings to csrc/image, which include this: from an object to memory, and from memory to an object.
#
# Arrays are looked at by their buffers alone: of a picture of 28x28 pixels, a memoryview took as long as what was done
# with it.

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t

# Of a plane: numbers of pixels are held in 32 bits.
cdef size_t MOST_PIXELS = 0x7FFFFFFF

cdef extern from "image/image.h" nogil:
    size_t FD_IMAGE_SIDE
    size_t FD_IMAGE_WINDOW


cdef class Plane:
    """An array's memory, held as long as this is; of one axis, it is a row."""

    cdef Py_buffer view
    cdef size_t height
    cdef size_t width
    cdef size_t count
    cdef const double *doubles
    cdef const void *memory

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)


cdef Plane held(object array, char kind, int axes):
    cdef Plane plane = Plane.__new__(Plane)
    cdef Py_buffer *view = &plane.view
    PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    cdef char found = view.format[0]
    if found == c'?':
        found = c'B'
    if found == c'l' and view.itemsize == 8:
        found = c'q'
    plane.height = <size_t>view.shape[0] if view.ndim == 2 else 1
    plane.width = <size_t>view.shape[view.ndim - 1] if view.ndim else 0
    plane.count = plane.height * plane.width
    plane.memory = view.buf
    plane.doubles = <const double *>view.buf
    if (
        view.ndim != axes or found != kind or view.format[1] != 0
        or not 0 < plane.count <= MOST_PIXELS or max(plane.height, plane.width) > FD_IMAGE_SIDE
    ):
        raise ValueError(f"expected {axes} axes of format {chr(kind)}, neither empty nor above {MOST_PIXELS} values")
    return plane


cdef void *memory_of(object made) except NULL:
    """Where the values of a new array lie: nobody else has it yet, so it need not be held."""
    cdef Py_buffer view
    PyObject_GetBuffer(made, &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
    cdef void *memory = view.buf
    PyBuffer_Release(&view)
    return memory


cdef object checked(object result, bint done):
    if not done:
        raise MemoryError("no memory to prepare a picture")
    return result


cdef int fits(size_t size, size_t side) except -1:
    if not 0 < size <= side:
        raise ValueError(f"{size} is not in 1..{side}")
    return 0

"""Private, for the tests: calls one kernel of one ISA, whatever this CPU would choose."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stddef cimport size_t


cdef extern from "kernels/kernels.h":
    ctypedef struct fd_epilogue:
        uint32_t activation
        float alpha
        uint32_t axis
        const float *scale
        const float *shift

    ctypedef struct fd_pool2d_args:
        const float *in_ "in"
        float *out
        size_t in_row, in_ring, out_row
        size_t rows, cols, channels
        size_t out_first, out_count, out_cols
        uint32_t mode
        uint32_t size[2]
        uint32_t stride[2]
        uint32_t pad[2]

    ctypedef struct fd_eltwise_args:
        const float *in_ "in"
        float *out
        size_t in_row, out_row
        size_t rows, cols, channels
        size_t row_index
        fd_epilogue epilogue

    ctypedef struct fd_conv2d_args:
        const float *in_ "in"
        float *out
        const float *weights
        const float *bias
        const uint32_t *taps
        size_t depth
        size_t in_row_step, in_col_step
        size_t rows, cols, channels
        size_t out_row
        fd_epilogue epilogue
        uint32_t pool_mode
        float *ring
        fd_pool2d_args pool

    ctypedef struct fd_dense_args:
        const float *in_ "in"
        float *out
        const float *weights
        const float *bias
        size_t m, depth, channels
        size_t in_row, out_row
        fd_epilogue epilogue
        float *nonzero

    ctypedef struct fd_kernels:
        const char *isa
        size_t vector_floats
        size_t (*find_outside)(const float *x, size_t n, float lo, float hi) noexcept nogil
        void (*from_u8)(const uint8_t *x, float *y, size_t n, float divisor) noexcept nogil
        void (*conv2d)(const fd_conv2d_args *a) noexcept nogil
        void (*dense)(const fd_dense_args *a) noexcept nogil
        void (*dense_narrow)(const fd_dense_args *a) noexcept nogil
        void (*eltwise)(const fd_eltwise_args *a) noexcept nogil
        void (*pool2d)(const fd_pool2d_args *a) noexcept nogil
        void (*softmax)(const float *x, float *y, size_t n) noexcept nogil


cdef extern from *:
    """
    #include "kernels/kernels.h"
    #define FD_KERNEL(name, type, params) #name,
    static const char *const kernel_names[] = {
    #include "kernels/kernels.def"
    };
    #undef FD_KERNEL
    """
    const char *kernel_names[]
    const int KERNEL_COUNT "(int)(sizeof kernel_names / sizeof kernel_names[0])"


cdef extern from "cpu/cpu.h":
    const fd_kernels *fd_cpu_kernels(size_t i)
    int fd_cpu_usable(size_t i)


cdef extern from "base/xxhash64.h":
    unsigned long long fd_xxhash64(const void *data, size_t size, unsigned long long seed)


def kernels():
    """Names of all kernels, from kernels.def."""
    return [kernel_names[i].decode() for i in range(KERNEL_COUNT)]


def xxhash64(const uint8_t[::1] data, unsigned long long seed=0):
    return fd_xxhash64(&data[0] if data.shape[0] else NULL, <size_t>data.shape[0], seed)


cdef const float *pointer(const float[::1] x):
    return &x[0] if x is not None and x.shape[0] else NULL


cdef fd_epilogue epilogue_of(dict e):
    cdef fd_epilogue out
    out.activation = e["activation"]
    out.alpha = e["alpha"]
    out.axis = e["axis"]
    out.scale = pointer(e["scale"])
    out.shift = pointer(e["shift"])
    return out


cdef class Kernels:
    """The kernels of one ISA. All arrays are flat float32 unless said otherwise; the caller keeps them alive."""

    cdef const fd_kernels *table

    def __cinit__(self, str isa):
        cdef size_t i = 0
        while fd_cpu_kernels(i) != NULL:
            if fd_cpu_kernels(i).isa.decode() == isa:
                if not fd_cpu_usable(i):
                    raise RuntimeError(f"this CPU does not have {isa}")
                self.table = fd_cpu_kernels(i)
                return
            i += 1
        raise ValueError(f"this build does not have {isa}")

    @property
    def vector_floats(self):
        return self.table.vector_floats

    def find_outside(self, const float[::1] x, float lo, float hi):
        return self.table.find_outside(pointer(x), <size_t>x.shape[0], lo, hi)

    def from_u8(self, const uint8_t[::1] x, float[::1] y, float divisor):
        self.table.from_u8(&x[0], &y[0], <size_t>x.shape[0], divisor)

    def softmax(self, const float[::1] x, float[::1] y):
        self.table.softmax(&x[0], &y[0], <size_t>x.shape[0])

    def eltwise(self, const float[::1] x, float[::1] y, size_t in_row, size_t out_row, size_t rows, size_t cols,
                size_t channels, size_t row_index, dict epilogue):
        cdef fd_eltwise_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.in_row, a.out_row = in_row, out_row
        a.rows, a.cols, a.channels = rows, cols, channels
        a.row_index = row_index
        a.epilogue = epilogue_of(epilogue)
        self.table.eltwise(&a)

    def pool2d(self, const float[::1] x, float[::1] y, dict pool):
        cdef fd_pool2d_args a = pool_of(pool)
        a.in_ = pointer(x)
        a.out = &y[0]
        self.table.pool2d(&a)

    def conv2d(self, const float[::1] x, float[::1] y, const float[::1] weights, const float[::1] bias,
               const uint32_t[::1] taps, size_t in_row_step, size_t in_col_step, size_t rows, size_t cols,
               size_t channels, size_t out_row, dict epilogue, dict pool, float[::1] ring):
        cdef fd_conv2d_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = pointer(weights)
        a.bias = pointer(bias)
        a.taps = &taps[0]
        a.depth = <size_t>taps.shape[0]
        a.in_row_step, a.in_col_step = in_row_step, in_col_step
        a.rows, a.cols, a.channels = rows, cols, channels
        a.out_row = out_row
        a.epilogue = epilogue_of(epilogue)
        a.pool = pool_of(pool)
        a.pool_mode = a.pool.mode
        a.ring = <float *>pointer(ring)
        self.table.conv2d(&a)

    def dense(self, str name, const float[::1] x, float[::1] y, const float[::1] weights, const float[::1] bias,
              size_t m, size_t depth, size_t channels, size_t in_row, size_t out_row, dict epilogue,
              float[::1] nonzero):
        cdef fd_dense_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = pointer(weights)
        a.bias = pointer(bias)
        a.m, a.depth, a.channels = m, depth, channels
        a.in_row, a.out_row = in_row, out_row
        a.epilogue = epilogue_of(epilogue)
        a.nonzero = &nonzero[0]
        if name == "dense":
            self.table.dense(&a)
        elif name == "dense_narrow":
            self.table.dense_narrow(&a)
        else:
            raise ValueError(name)


cdef fd_pool2d_args pool_of(dict p):
    cdef fd_pool2d_args a
    a.in_ = NULL
    a.out = NULL
    a.in_row, a.in_ring, a.out_row = p["in_row"], p["in_ring"], p["out_row"]
    a.rows, a.cols, a.channels = p["rows"], p["cols"], p["channels"]
    a.out_first, a.out_count, a.out_cols = p["out_first"], p["out_count"], p["out_cols"]
    a.mode = p["mode"]
    for d in range(2):
        a.size[d] = p["size"][d]
        a.stride[d] = p["stride"][d]
        a.pad[d] = p["pad"][d]
    return a

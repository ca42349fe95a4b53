"""Private, for tests and benchmarks: calls one kernel of one ISA, whatever this CPU would choose."""

from libc.stdint cimport int8_t, int32_t, uint8_t, uint32_t
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
        size_t in_row_step, in_col_step, plane_row
        size_t rows, cols, channels
        size_t out_row, out_col
        fd_epilogue epilogue
        uint32_t pool_mode
        float *ring
        fd_pool2d_args pool

    ctypedef struct fd_depthwise_args:
        const float *in_ "in"
        float *out
        const float *weights
        const float *bias
        const uint32_t *taps
        size_t taps_count
        size_t in_row_step, in_col_step
        size_t rows, cols, channels
        size_t out_row
        fd_epilogue epilogue

    ctypedef struct fd_binary_args:
        const float *a
        const float *b
        float *out
        size_t a_row, b_row, b_col, out_row
        int one
        size_t rows, cols, channels
        uint32_t op
        fd_epilogue epilogue

    ctypedef struct fd_copy_args:
        const float *in_ "in"
        float *out
        size_t size[3]
        size_t in_stride[3]
        size_t out_stride[3]

    ctypedef struct fd_layernorm_args:
        const float *in_ "in"
        float *out
        size_t n
        float epsilon
        const float *scale
        const float *shift

    ctypedef struct fd_winograd_args:
        const float *in_ "in"
        float *out
        const float *weights
        const float *bias
        size_t in_row, in_channels
        size_t rows, cols, channels
        size_t out_row
        fd_epilogue epilogue
        int pooled
        size_t patch_rows, patch_cols
        float *v
        float *products
        size_t v_step, products_step

    ctypedef struct fd_dense_args:
        const float *in_ "in"
        float *out
        const void *weights
        uint32_t dtype
        const float *bias
        const float *scale
        const int32_t *sums
        size_t m, depth, channels
        size_t in_row, out_row
        fd_epilogue epilogue
        float *scratch

    ctypedef struct fd_float_kernels:
        size_t vector_floats
        size_t (*find_outside)(const float *x, size_t n, float lo, float hi) noexcept nogil
        void (*from_u8)(const uint8_t *x, float *y, size_t n, float divisor) noexcept nogil
        void (*conv2d)(const fd_conv2d_args *a) noexcept nogil
        void (*depthwise)(const fd_depthwise_args *a) noexcept nogil
        void (*winograd_4x4_3x3)(const fd_winograd_args *a) noexcept nogil
        void (*winograd_2x2_2x2)(const fd_winograd_args *a) noexcept nogil
        void (*dense)(const fd_dense_args *a) noexcept nogil
        void (*dense_narrow)(const fd_dense_args *a) noexcept nogil
        void (*eltwise)(const fd_eltwise_args *a) noexcept nogil
        void (*binary)(const fd_binary_args *a) noexcept nogil
        void (*copy)(const fd_copy_args *a) noexcept nogil
        void (*pool2d)(const fd_pool2d_args *a) noexcept nogil
        void (*layernorm)(const fd_layernorm_args *a) noexcept nogil
        void (*softmax)(const float *x, float *y, size_t n) noexcept nogil
        size_t (*probe_fma)(size_t rounds, float *sum) noexcept nogil
        float (*probe_read)(const float *x, size_t n, size_t passes) noexcept nogil

    ctypedef struct fd_byte_kernels:
        void (*dense_dynamic)(const fd_dense_args *a) noexcept nogil
        size_t (*probe_dot)(size_t rounds, int32_t *sum) noexcept nogil


cdef extern from *:
    """
    #include "kernels/kernels.h"
    #define FD_FLOAT_KERNEL(name, type, params) #name,
    #define FD_BYTE_KERNEL(name, type, params) #name,
    static const char *const kernel_names[] = {
    #include "kernels/kernels.def"
    };
    """
    const char *kernel_names[]
    const int KERNEL_COUNT "(int)(sizeof kernel_names / sizeof kernel_names[0])"


cdef extern from "cpu/cpu.h":
    ctypedef struct fd_isa:
        const char *name
        const fd_float_kernels *floats
        const fd_byte_kernels *bytes

    const fd_isa *fd_isa_at(size_t i)
    int fd_isa_usable(const fd_isa *isa, uint32_t features)
    uint32_t fd_cpu_features()


cdef extern from "format/format.h":
    ctypedef struct fd_file_op:
        uint32_t kernel[2]
        uint32_t stride[2]
        uint32_t dilation[2]
        uint32_t activation
        uint32_t pool_mode
        uint32_t pool[2]
        uint32_t pool_stride[2]
        uint32_t pool_pad[4]


cdef extern from "ops/algorithm.h":
    ctypedef enum fd_algorithm:
        FD_DIRECT
        FD_WINOGRAD_4X4_3X3
        FD_WINOGRAD_2X2_2X2

    ctypedef struct fd_conv_shape:
        size_t in_channels, rows, cols, channels

    ctypedef struct fd_winograd_sizes:
        size_t m, r, positions

    unsigned long long fd_algorithm_cost(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *shape,
                                         size_t vector)
    fd_algorithm fd_algorithm_choose(const fd_file_op *op, const fd_conv_shape *shape, size_t vector)
    fd_winograd_sizes fd_algorithm_sizes(fd_algorithm algorithm)
    void fd_algorithm_transform(fd_algorithm algorithm, const float *panels, const fd_conv_shape *shape, float *out)


cdef extern from "ops/prepack.h":
    void fd_prepack_dynamic(const int8_t *panels, size_t depth, size_t channels, int8_t *out, int32_t *sums)


cdef extern from "base/xxhash64.h":
    unsigned long long fd_xxhash64(const void *data, size_t size, unsigned long long seed)


def kernels():
    """Names of all kernels, from kernels.def."""
    return [kernel_names[i].decode() for i in range(KERNEL_COUNT)]


def xxhash64(const uint8_t[::1] data, unsigned long long seed=0):
    return fd_xxhash64(&data[0] if data.shape[0] else NULL, <size_t>data.shape[0], seed)


ALGORITHMS = {
    "conv2d": FD_DIRECT,
    "winograd_4x4_3x3": FD_WINOGRAD_4X4_3X3,
    "winograd_2x2_2x2": FD_WINOGRAD_2X2_2X2,
}


cdef fd_conv_shape shape_of(sizes):
    cdef fd_conv_shape shape
    shape.in_channels, shape.rows, shape.cols, shape.channels = sizes
    return shape


def algorithm_costs(sizes, size_t vector, kernel, stride=(1, 1), dilation=(1, 1), uint32_t activation=1,
                    uint32_t pool_mode=0, pool=(0, 0), pool_stride=(0, 0)):
    """The name of the algorithm chosen, and the cost of each; sizes are (in_channels, rows, cols, channels)."""
    cdef fd_file_op op
    cdef fd_conv_shape shape = shape_of(sizes)
    for d in range(2):
        op.kernel[d], op.stride[d], op.dilation[d] = kernel[d], stride[d], dilation[d]
        op.pool[d], op.pool_stride[d] = pool[d], pool_stride[d]
    for d in range(4):
        op.pool_pad[d] = 0
    op.activation, op.pool_mode = activation, pool_mode
    chosen = fd_algorithm_choose(&op, &shape, vector)
    costs = {name: fd_algorithm_cost(a, &op, &shape, vector) for name, a in ALGORITHMS.items()}
    return next(name for name, a in ALGORITHMS.items() if a == chosen), costs


def winograd_sizes(str name):
    """(m, r, positions) of an algorithm."""
    cdef fd_winograd_sizes sizes = fd_algorithm_sizes(ALGORITHMS[name])
    return sizes.m, sizes.r, sizes.positions


def winograd_transform(str name, const float[::1] panels, sizes, float[::1] out):
    """Transforms panels for an algorithm."""
    cdef fd_conv_shape shape = shape_of(sizes)
    fd_algorithm_transform(ALGORITHMS[name], pointer(panels), &shape, &out[0])


def prepack_dynamic(const int8_t[::1] panels, size_t depth, size_t channels, int8_t[::1] out, int32_t[::1] sums):
    """Panels of bytes for dense_dynamic, and the sums of their columns."""
    fd_prepack_dynamic(&panels[0], depth, channels, &out[0], &sums[0])


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

    cdef const fd_float_kernels *floats
    cdef const fd_byte_kernels *bytes

    def __cinit__(self, str isa):
        cdef size_t i = 0
        while fd_isa_at(i) != NULL:
            if fd_isa_at(i).name.decode() == isa:
                if not fd_isa_usable(fd_isa_at(i), fd_cpu_features()):
                    raise RuntimeError(f"this CPU does not have {isa}")
                self.floats = fd_isa_at(i).floats
                self.bytes = fd_isa_at(i).bytes
                return
            i += 1
        raise ValueError(f"this build does not have {isa}")

    @property
    def vector_floats(self):
        return self.floats.vector_floats

    def find_outside(self, const float[::1] x, float lo, float hi):
        return self.floats.find_outside(pointer(x), <size_t>x.shape[0], lo, hi)

    def from_u8(self, const uint8_t[::1] x, float[::1] y, float divisor):
        self.floats.from_u8(&x[0], &y[0], <size_t>x.shape[0], divisor)

    def softmax(self, const float[::1] x, float[::1] y):
        self.floats.softmax(&x[0], &y[0], <size_t>x.shape[0])

    def eltwise(self, const float[::1] x, float[::1] y, size_t in_row, size_t out_row, size_t rows, size_t cols,
                size_t channels, size_t row_index, dict epilogue):
        cdef fd_eltwise_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.in_row, a.out_row = in_row, out_row
        a.rows, a.cols, a.channels = rows, cols, channels
        a.row_index = row_index
        a.epilogue = epilogue_of(epilogue)
        self.floats.eltwise(&a)

    def depthwise(self, const float[::1] x, float[::1] y, const float[::1] weights, const float[::1] bias,
                  const uint32_t[::1] taps, size_t in_row_step, size_t in_col_step, sizes, size_t out_row,
                  dict epilogue):
        """`sizes` are (rows, cols, channels) of the output."""
        cdef fd_depthwise_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = pointer(weights)
        a.bias = pointer(bias)
        a.taps = &taps[0]
        a.taps_count = <size_t>taps.shape[0]
        a.in_row_step, a.in_col_step = in_row_step, in_col_step
        a.rows, a.cols, a.channels = sizes
        a.out_row = out_row
        a.epilogue = epilogue_of(epilogue)
        self.floats.depthwise(&a)

    def binary(self, const float[::1] x, const float[::1] other, float[::1] y, uint32_t op, sizes, rows, other_col,
               bint one, dict epilogue):
        """`sizes` are (rows, cols, channels) of x; `rows` the distances between rows of x, other and y."""
        cdef fd_binary_args a
        a.a = pointer(x)
        a.b = pointer(other)
        a.out = &y[0]
        a.a_row, a.b_row, a.out_row = rows
        a.b_col = other_col
        a.one = one
        a.rows, a.cols, a.channels = sizes
        a.op = op
        a.epilogue = epilogue_of(epilogue)
        self.floats.binary(&a)

    def copy(self, const float[::1] x, float[::1] y, size, in_stride, out_stride):
        cdef fd_copy_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        for d in range(3):
            a.size[d], a.in_stride[d], a.out_stride[d] = size[d], in_stride[d], out_stride[d]
        self.floats.copy(&a)

    def layernorm(self, const float[::1] x, float[::1] y, float epsilon, const float[::1] scale,
                  const float[::1] shift):
        """`scale` and `shift` may be None."""
        cdef fd_layernorm_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.n = <size_t>x.shape[0]
        a.epsilon = epsilon
        a.scale = pointer(scale)
        a.shift = pointer(shift)
        self.floats.layernorm(&a)

    def pool2d(self, const float[::1] x, float[::1] y, dict pool):
        cdef fd_pool2d_args a = pool_of(pool)
        a.in_ = pointer(x)
        a.out = &y[0]
        self.floats.pool2d(&a)

    def conv2d(self, const float[::1] x, float[::1] y, const float[::1] weights, const float[::1] bias,
               const uint32_t[::1] taps, size_t in_row_step, size_t in_col_step, size_t rows, size_t cols,
               size_t channels, size_t out_row, dict epilogue, dict pool, float[::1] ring, size_t out_col=0,
               size_t plane_row=0):
        """`out_col`: floats between pixels of the output, by default `channels`."""
        cdef fd_conv2d_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = pointer(weights)
        a.bias = pointer(bias)
        a.taps = &taps[0]
        a.depth = <size_t>taps.shape[0]
        a.in_row_step, a.in_col_step, a.plane_row = in_row_step, in_col_step, plane_row
        a.rows, a.cols, a.channels = rows, cols, channels
        a.out_row = out_row
        a.out_col = out_col or channels
        a.epilogue = epilogue_of(epilogue)
        a.pool = pool_of(pool)
        a.pool_mode = a.pool.mode
        a.ring = <float *>pointer(ring)
        self.floats.conv2d(&a)

    def winograd(self, str name, const float[::1] x, float[::1] y, const float[::1] weights, const float[::1] bias,
                 size_t in_row, sizes, size_t out_row, dict epilogue, bint pooled, patches, float[::1] v,
                 float[::1] products, steps):
        cdef fd_winograd_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = pointer(weights)
        a.bias = pointer(bias)
        a.in_row = in_row
        a.in_channels, a.rows, a.cols, a.channels = sizes
        a.out_row = out_row
        a.epilogue = epilogue_of(epilogue)
        a.pooled = pooled
        a.patch_rows, a.patch_cols = patches
        a.v = &v[0]
        a.products = &products[0]
        a.v_step, a.products_step = steps
        if name == "winograd_4x4_3x3":
            self.floats.winograd_4x4_3x3(&a)
        elif name == "winograd_2x2_2x2":
            self.floats.winograd_2x2_2x2(&a)
        else:
            raise ValueError(name)

    def dense(self, str name, const float[::1] x, float[::1] y, const uint8_t[::1] weights, uint32_t dtype,
              const float[::1] bias, const float[::1] scale, size_t m, size_t depth, size_t channels, size_t in_row,
              size_t out_row, dict epilogue, float[::1] scratch, const int32_t[::1] sums=None):
        """`weights` are the bytes of panels of `dtype`; `scale` is None but for i8, `sums` but for dense_dynamic."""
        cdef fd_dense_args a
        a.in_ = pointer(x)
        a.out = &y[0]
        a.weights = &weights[0]
        a.dtype = dtype
        a.bias = pointer(bias)
        a.scale = pointer(scale)
        a.sums = &sums[0] if sums is not None else NULL
        a.m, a.depth, a.channels = m, depth, channels
        a.in_row, a.out_row = in_row, out_row
        a.epilogue = epilogue_of(epilogue)
        a.scratch = &scratch[0]
        if name == "dense":
            self.floats.dense(&a)
        elif name == "dense_narrow":
            self.floats.dense_narrow(&a)
        elif name == "dense_dynamic":
            self.bytes.dense_dynamic(&a)
        else:
            raise ValueError(name)


    def probe_fma(self, size_t rounds):
        """How many multiply-adds were done, and the sum of their results."""
        cdef float sum
        done = self.floats.probe_fma(rounds, &sum)
        return done, sum

    def probe_dot(self, size_t rounds):
        """How many multiply-adds of bytes were done, and the sum of their results."""
        cdef int32_t sum
        done = self.bytes.probe_dot(rounds, &sum)
        return done, sum

    def probe_read(self, const float[::1] x, size_t passes):
        """The sum of x, so many times."""
        return self.floats.probe_read(pointer(x), <size_t>x.shape[0], passes)


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

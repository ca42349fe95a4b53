# What the binding needs of csrc/include/fastdigit.h, and a checksum.

from libc.stdint cimport int64_t, uint64_t


cdef extern from "base/xxhash64.h":
    uint64_t fd_xxhash64(const void *data, size_t size, uint64_t seed) nogil


cdef extern from "fastdigit.h":
    int FD_VERSION_MAJOR
    int FD_VERSION_MINOR
    int FD_VERSION_PATCH

    ctypedef enum fd_status:
        FD_OK
        FD_ERR_ARGUMENT
        FD_ERR_MEMORY
        FD_ERR_IO
        FD_ERR_FORMAT
        FD_ERR_VERSION
        FD_ERR_UNSUPPORTED
        FD_ERR_ISA
        FD_ERR_INPUT
        FD_ERR_LIMIT
        FD_ERR_CANCELLED
        FD_ERR_TIMEOUT

    ctypedef struct fd_error:
        fd_status status
        char message[248]

    ctypedef struct fd_model:
        pass

    ctypedef struct fd_context:
        pass

    ctypedef enum fd_input_type:
        FD_INPUT_F32
        FD_INPUT_U8

    ctypedef struct fd_model_info:
        const char *isa
        size_t input_rank
        size_t input_dims[3]
        size_t input_elements
        size_t output_elements
        int has_softmax
        float range_lo
        float range_hi
        unsigned u8_divisor
        size_t ops
        uint64_t multiply_adds
        size_t weight_bytes
        const void *file
        size_t file_bytes
        size_t context_bytes
        const char *meta
        size_t meta_bytes
        size_t output_rank
        size_t output_dims[3]

    ctypedef struct fd_limits:
        size_t size
        uint64_t file_bytes
        uint64_t meta_bytes
        uint64_t tensors
        uint64_t ops
        uint64_t operations
        uint64_t plan_bytes
        uint64_t context_bytes

    ctypedef struct fd_port_info:
        size_t size
        const char *name
        size_t rank
        size_t dims[3]
        size_t elements
        float range_lo
        float range_hi
        unsigned u8_divisor
        int has_softmax
        int has_sigmoid

    ctypedef struct fd_input_data:
        const void *values
        fd_input_type type

    ctypedef enum fd_probe_kind:
        FD_PROBE_FMA
        FD_PROBE_DOT
        FD_PROBE_READ

    ctypedef struct fd_op_info:
        size_t size
        const char *op
        const char *label
        const char *kernel
        const char *algorithm
        const char *arithmetic
        const char *precision
        size_t input_rank
        size_t input_dims[3]
        size_t output_rank
        size_t output_dims[3]
        uint64_t multiply_adds
        uint64_t executed
        size_t weight_bytes
        size_t scratch_bytes

    ctypedef struct fd_outputs:
        float *values
        float *logits
        int64_t *labels

    const char *fd_version()
    const char *fd_isa_name(size_t i, int *usable)
    fd_status fd_isa_selected(const char **name, fd_error *error)
    fd_status fd_probe(const char *isa, fd_probe_kind kind, const float *memory, size_t size, size_t rounds,
                       uint64_t *work, fd_error *error) nogil
    fd_status fd_limits_default(fd_limits *limits, fd_error *error)
    fd_status fd_model_open_limited(const char *path, const fd_limits *limits, fd_model **model, fd_error *error) nogil
    fd_status fd_model_open_memory_limited(const void *data, size_t size, const fd_limits *limits, fd_model **model,
                                           fd_error *error) nogil
    fd_status fd_model_get_usage(const fd_model *model, fd_limits *usage, fd_error *error)
    void fd_model_close(fd_model *model)
    void fd_model_get_info(const fd_model *model, fd_model_info *info)
    size_t fd_model_input_count(const fd_model *model)
    size_t fd_model_output_count(const fd_model *model)
    fd_status fd_model_get_input(const fd_model *model, size_t i, fd_port_info *info, fd_error *error)
    fd_status fd_model_get_output(const fd_model *model, size_t i, fd_port_info *info, fd_error *error)
    fd_status fd_model_get_op(const fd_model *model, size_t i, fd_op_info *info, fd_error *error)
    fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error)
    void fd_context_free(fd_context *context)
    fd_status fd_context_profile(fd_context *context, uint64_t *nanoseconds, fd_error *error) nogil
    fd_status fd_context_set_timeout(fd_context *context, uint64_t nanoseconds, fd_error *error) nogil
    fd_status fd_run(const fd_model *model, fd_context *context, const void *input, fd_input_type type, size_t n,
                     const fd_outputs *outputs, size_t *bad, fd_error *error) nogil

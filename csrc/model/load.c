/* From untrusted bytes to a model whose every index, size and dimension has been checked: csrc/FORMAT.md is the list.
 */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/xxhash64.h"

#define REQUIRE(condition, ...)                                              \
    do {                                                                     \
        if (!(condition)) return fd_fail(error, FD_ERR_FORMAT, __VA_ARGS__); \
    } while (0)

static int all_zero(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return 0;
    return 1;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static int is_utf8(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        const unsigned c = p[i++];
        if (c < 0x80) continue;
        const unsigned more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c < 0xC2 || c > 0xF4 || n - i < more) return 0;
        const unsigned low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        const unsigned high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (p[i] < low || p[i] > high) return 0;
        for (unsigned k = 1; k < more; k++)
            if ((p[i + k] & 0xC0) != 0x80) return 0;
        i += more;
    }
    return 1;
}

/* The exponent of a NaN or an infinity has all bits set. */
static int all_finite(const void *data, size_t n, uint32_t dtype) {
    unsigned bad = 0;
    if (dtype == FD_DTYPE_F32) {
        const uint32_t *const bits = data;
        for (size_t i = 0; i < n; i++) bad |= (bits[i] & 0x7F800000u) == 0x7F800000u;
    } else if (dtype == FD_DTYPE_F16) {
        const uint16_t *const bits = data;
        for (size_t i = 0; i < n; i++) bad |= (bits[i] & 0x7C00u) == 0x7C00u;
    }
    return !bad;
}

static fd_status load_header(fd_model *m, fd_error *error) {
    const size_t size = m->file_bytes;
    REQUIRE(size >= sizeof(fd_file_header) && memcmp(m->file, FD_FILE_MAGIC, 8) == 0,
            "not a .fdm file: it does not begin with the .fdm magic number");
    fd_file_header h;
    memcpy(&h, m->file, sizeof h);
    if (h.version_major != FD_FILE_VERSION_MAJOR || h.version_minor > FD_FILE_VERSION_MINOR)
        return fd_fail(error, FD_ERR_VERSION,
                       "the file has format version %u.%u, this library reads %d.%d: compile the model again with this "
                       "version of fastdigit, or update it",
                       h.version_major, h.version_minor, FD_FILE_VERSION_MAJOR, FD_FILE_VERSION_MINOR);
    REQUIRE(h.header_size == sizeof h, "header_size is %u, expected %zu", h.header_size, sizeof h);
    REQUIRE(h.file_size == size, "the file has %zu bytes, its header says %llu: it is truncated or was added to", size,
            (unsigned long long)h.file_size);
    REQUIRE(size % FD_FILE_ALIGN == 0, "the file's size %zu is not a multiple of %d", size, FD_FILE_ALIGN);
    REQUIRE(h.section_count == FD_FILE_SECTIONS, "section_count is %u, expected %d", h.section_count, FD_FILE_SECTIONS);
    REQUIRE(all_zero(h.reserved, sizeof h.reserved), "reserved bytes of the header are not zero");
    REQUIRE(h.checksum == fd_xxhash64(m->file + sizeof h, size - sizeof h, 0),
            "the checksum is wrong: the file is damaged");
    return FD_OK;
}

static fd_status load_sections(fd_model *m, fd_error *error) {
    static const uint32_t record_sizes[FD_FILE_SECTIONS] = {1, sizeof(fd_file_tensor), sizeof(fd_file_op), 1};
    const size_t table_end = sizeof(fd_file_header) + FD_FILE_SECTIONS * sizeof(fd_file_section);
    REQUIRE(m->file_bytes >= table_end, "the section table does not fit the file");
    size_t end = table_end;
    for (uint32_t i = 0; i < FD_FILE_SECTIONS; i++) {
        fd_file_section s;
        memcpy(&s, m->file + sizeof(fd_file_header) + i * sizeof s, sizeof s);
        REQUIRE(s.kind == i + 1, "section %u has kind %u, expected %u", i, s.kind, i + 1);
        REQUIRE(s.record_size == record_sizes[i], "section %u has record_size %u, expected %u", i, s.record_size,
                record_sizes[i]);
        REQUIRE(s.reserved == 0, "reserved field of section %u is not zero", i);
        REQUIRE(s.offset == end, "section %u starts at %llu, expected %zu", i, (unsigned long long)s.offset, end);
        REQUIRE(s.size <= m->file_bytes - end, "section %u does not fit the file", i);
        REQUIRE(s.size % s.record_size == 0, "section %u has a size that is not a multiple of its record_size", i);
        const unsigned char *const data = m->file + end;
        const size_t size = (size_t)s.size, count = size / s.record_size;
        end = fd_round_up(end + size, FD_FILE_ALIGN); /* cannot pass file_bytes, which is a multiple too */
        REQUIRE(all_zero(data + size, end - (size_t)(data - m->file) - size), "padding after section %u is not zero",
                i);
        switch (s.kind) {
        case FD_SECTION_META:
            REQUIRE(size <= FD_FILE_MAX_META && is_utf8(data, size), "META is not UTF-8 of at most 1 MiB");
            m->meta = (const char *)data;
            m->meta_bytes = size;
            break;
        case FD_SECTION_TENSORS:
            REQUIRE(count >= 1 && count <= FD_FILE_MAX_RECORDS, "TENSORS has %zu records, expected 1 to %u", count,
                    FD_FILE_MAX_RECORDS);
            m->tensors = (const fd_file_tensor *)(const void *)data;
            m->tensor_count = count;
            break;
        case FD_SECTION_PROGRAM:
            REQUIRE(count >= 2 && count <= FD_FILE_MAX_RECORDS, "PROGRAM has %zu records, expected 2 to %u", count,
                    FD_FILE_MAX_RECORDS);
            m->ops = (const fd_file_op *)(const void *)data;
            m->op_count = count;
            break;
        default: m->weights = data; m->weight_bytes = size;
        }
    }
    REQUIRE(end == m->file_bytes, "the sections end at %zu, the file at %zu", end, m->file_bytes);
    return FD_OK;
}

static fd_status load_tensor(fd_model *m, size_t i, fd_error *error) {
    const fd_file_tensor *const t = &m->tensors[i];
    REQUIRE(t->kind == FD_TENSOR_ACTIVATION || t->kind == FD_TENSOR_WEIGHT, "tensor %zu has unknown kind %u", i,
            t->kind);
    REQUIRE(t->dtype < FD_DTYPE_END, "tensor %zu has unknown dtype %u", i, t->dtype);
    REQUIRE(t->dtype == FD_DTYPE_F32 || (t->kind == FD_TENSOR_WEIGHT && t->layout == FD_LAYOUT_PANELS),
            "tensor %zu has dtype %u and is not laid out in panels", i, t->dtype);
    REQUIRE(all_zero(t->reserved, sizeof t->reserved), "reserved bytes of tensor %zu are not zero", i);
    REQUIRE(t->rank >= 1 && t->rank <= 3, "tensor %zu has rank %u, expected 1 to 3", i, t->rank);
    size_t elements = 1;
    for (uint32_t d = 0; d < 4; d++) {
        if (d < t->rank) {
            REQUIRE(t->dims[d] >= 1 && t->dims[d] <= FD_FILE_MAX_DIM,
                    "dimension %u of tensor %zu is %u, expected 1 to %u", d, i, t->dims[d], FD_FILE_MAX_DIM);
            REQUIRE(fd_mul(elements, t->dims[d], &elements), "tensor %zu is too large", i);
        } else {
            REQUIRE(t->dims[d] == 0, "tensor %zu has rank %u but dimension %u is %u", i, t->rank, d, t->dims[d]);
        }
    }
    if (t->kind == FD_TENSOR_ACTIVATION) {
        REQUIRE(t->rank != 2, "activation %zu has rank 2, expected 1 or 3", i);
        REQUIRE(t->layout == FD_LAYOUT_ROW_MAJOR && t->offset == 0 && t->size == 0,
                "activation %zu has a layout, an offset or a size", i);
        REQUIRE(elements <= FD_FILE_MAX_DIM, "activation %zu has %zu elements, at most %u are supported", i, elements,
                FD_FILE_MAX_DIM);
        return FD_OK;
    }
    if (t->layout == FD_LAYOUT_PANELS) {
        REQUIRE(t->rank == 2, "tensor %zu is laid out in panels and has rank %u, expected 2", i, t->rank);
        elements = t->dims[0] * fd_round_up(t->dims[1], FD_PANEL_ALIGN); /* below 2^49 */
    } else {
        REQUIRE(t->layout == FD_LAYOUT_ROW_MAJOR, "tensor %zu has unknown layout %u", i, t->layout);
        REQUIRE(t->rank == 1, "weight %zu is row-major and has rank %u, expected 1", i, t->rank);
    }
    const size_t bytes = elements * fd_dtype_size(t->dtype);
    REQUIRE(t->size == bytes, "tensor %zu has size %llu, its dimensions make %zu", i, (unsigned long long)t->size,
            bytes);
    REQUIRE(t->offset % FD_FILE_ALIGN == 0, "tensor %zu is not aligned to %d bytes", i, FD_FILE_ALIGN);
    REQUIRE(t->offset <= m->weight_bytes && t->size <= m->weight_bytes - t->offset, "tensor %zu lies outside WEIGHTS",
            i);
    REQUIRE(all_finite(m->weights + t->offset, elements, t->dtype), "tensor %zu holds a NaN or an infinity", i);
    return FD_OK;
}

static fd_status check_range(const uint32_t *values, size_t n, uint32_t least, uint32_t most, const char *what,
                             size_t op, fd_error *error) {
    for (size_t i = 0; i < n; i++)
        REQUIRE(values[i] >= least && values[i] <= most, "%s of op %zu is %u, expected %u to %u", what, op, values[i],
                least, most);
    return FD_OK;
}

/* The weight tensor `index` of the given layout, or NULL. */
static const fd_file_tensor *weight(const fd_model *m, uint32_t index, uint32_t layout) {
    if (index >= m->tensor_count) return NULL;
    const fd_file_tensor *const t = &m->tensors[index];
    return t->kind == FD_TENSOR_WEIGHT && t->layout == layout ? t : NULL;
}

static fd_status check_vector(const fd_model *m, uint32_t index, size_t length, const char *what, size_t op,
                              fd_error *error) {
    const fd_file_tensor *const t = weight(m, index, FD_LAYOUT_ROW_MAJOR);
    REQUIRE(t && t->dims[0] == length, "%s of op %zu is not a weight vector of %zu values", what, op, length);
    return FD_OK;
}

/* Which groups of fields an op has; the others must be zero or none. */
enum {
    HAS_WEIGHTS = 1,
    HAS_KERNEL = 2,
    HAS_ACTIVATION = 4,
    HAS_SCALE = 8,
    HAS_SHIFT = 65536,
    HAS_AFFINE = 16 | HAS_SCALE | HAS_SHIFT,
    HAS_POOL = 32,
    HAS_RANGE = 64,
    HAS_INPUT2 = 256,
    HAS_OPERAND = 512,
    HAS_BINARY = 1024,
    HAS_AXIS = 2048,
    HAS_PAD = 4096,
    HAS_PAD_CHANNELS = 8192,
    HAS_PERM = 16384,
    HAS_NUMBER = 32768,
    HAS_QUANTIZATION = 128
};

static unsigned fields_of(uint32_t opcode) {
    switch (opcode) {
    case FD_OP_INPUT: return HAS_RANGE;
    case FD_OP_CONV2D: return HAS_WEIGHTS | HAS_KERNEL | HAS_PAD | HAS_ACTIVATION | HAS_AFFINE | HAS_POOL;
    case FD_OP_DENSE: return HAS_WEIGHTS | HAS_ACTIVATION | HAS_SCALE | HAS_QUANTIZATION;
    case FD_OP_POOL2D: return HAS_POOL;
    case FD_OP_ELTWISE: return HAS_ACTIVATION | HAS_AFFINE;
    case FD_OP_BINARY: return HAS_INPUT2 | HAS_OPERAND | HAS_BINARY | HAS_ACTIVATION | HAS_AFFINE;
    case FD_OP_CONCAT: return HAS_INPUT2 | HAS_AXIS;
    case FD_OP_TRANSPOSE: return HAS_PERM;
    case FD_OP_PAD: return HAS_PAD | HAS_PAD_CHANNELS | HAS_NUMBER;
    case FD_OP_LAYERNORM: return HAS_SCALE | HAS_SHIFT | HAS_NUMBER;
    case FD_OP_SOFTMAX: return HAS_NUMBER;
    default: return 0;
    }
}

/* 0 if a tensor index is one that the op has, or none. */
static uint32_t stray(unsigned has, uint32_t index) { return !has && index != FD_FILE_NONE; }

/* An op with the fields it has made zero, to see whether the others are. */
static fd_file_op without_fields(const fd_file_op *op, unsigned fields) {
    fd_file_op rest = *op;
    const fd_file_op zero = {0};
    rest.opcode = rest.input = rest.output = 0;
    rest.input2 = stray(fields & HAS_INPUT2, rest.input2);
    rest.weights = stray(fields & (HAS_WEIGHTS | HAS_OPERAND), rest.weights);
    rest.bias = stray(fields & HAS_WEIGHTS, rest.bias);
    rest.scale = stray(fields & HAS_SCALE, rest.scale);
    rest.shift = stray(fields & HAS_SHIFT, rest.shift);
    if (fields & HAS_KERNEL) {
        memcpy(rest.kernel, zero.kernel, sizeof rest.kernel);
        memcpy(rest.stride, zero.stride, sizeof rest.stride);
        memcpy(rest.dilation, zero.dilation, sizeof rest.dilation);
        rest.groups = 0;
    }
    if (fields & HAS_PAD) memcpy(rest.pad, zero.pad, sizeof rest.pad);
    if (fields & HAS_PAD_CHANNELS) memcpy(rest.pad_channels, zero.pad_channels, sizeof rest.pad_channels);
    if (fields & HAS_PERM) memcpy(rest.perm, zero.perm, sizeof rest.perm);
    if (fields & HAS_BINARY) rest.binary = 0;
    if (fields & HAS_AXIS) rest.concat_axis = 0;
    if (fields & HAS_ACTIVATION) rest.activation = 0;
    if (fields & (HAS_ACTIVATION | HAS_NUMBER)) rest.alpha = 0;
    if ((fields & HAS_AFFINE) == HAS_AFFINE) rest.affine_axis = 0;
    if (fields & HAS_POOL) {
        rest.pool_mode = 0;
        memcpy(rest.pool, zero.pool, sizeof rest.pool);
        memcpy(rest.pool_stride, zero.pool_stride, sizeof rest.pool_stride);
        memcpy(rest.pool_pad, zero.pool_pad, sizeof rest.pool_pad);
    }
    if (fields & HAS_RANGE) {
        rest.range_lo = rest.range_hi = 0;
        rest.u8_divisor = 0;
    }
    if (fields & HAS_QUANTIZATION) rest.quantization = 0;
    return rest;
}

/* The output dims that an op of these fields and input dims must have. */
typedef struct fd_dims {
    size_t rank, rows, cols, channels, elements;
} fd_dims;

static fd_dims dims_of(const fd_file_tensor *t) {
    fd_dims d = {t->rank, 1, 1, t->dims[0], t->dims[0]};
    if (t->rank == 3)
        d = (fd_dims){3, t->dims[0], t->dims[1], t->dims[2], (size_t)t->dims[0] * t->dims[1] * t->dims[2]};
    return d;
}

static fd_status check_pool(const fd_file_op *op, size_t i, fd_dims *d, fd_error *error) {
    fd_status status;
    REQUIRE(op->pool_mode < FD_POOL_END, "op %zu has unknown pool_mode %u", i, op->pool_mode);
    if (op->pool_mode == FD_POOL_NONE) {
        REQUIRE(!op->pool[0] && !op->pool[1] && !op->pool_stride[0] && !op->pool_stride[1] && !op->pool_pad[0] &&
                    !op->pool_pad[1] && !op->pool_pad[2] && !op->pool_pad[3],
                "op %zu has no pooling, but pooling fields that are not zero", i);
        return FD_OK;
    }
    if ((status = check_range(op->pool, 2, 1, FD_FILE_MAX_DIM, "pool", i, error))) return status;
    if ((status = check_range(op->pool_stride, 2, 1, FD_FILE_MAX_DIM, "pool_stride", i, error))) return status;
    for (int side = 0; side < 4; side++)
        REQUIRE(op->pool_pad[side] < op->pool[side % 2], "pool_pad of op %zu is not smaller than the window", i);
    d->rows = fd_window_count(d->rows, op->pool_pad[0] + op->pool_pad[2], op->pool[0], 1, op->pool_stride[0]);
    d->cols = fd_window_count(d->cols, op->pool_pad[1] + op->pool_pad[3], op->pool[1], 1, op->pool_stride[1]);
    REQUIRE(d->rows && d->cols, "the pooling window of op %zu does not fit its input", i);
    return FD_OK;
}

static fd_status check_affine(const fd_model *m, const fd_file_op *op, size_t i, const fd_dims *d, fd_error *error) {
    REQUIRE(op->affine_axis < FD_AXIS_END, "op %zu has unknown affine_axis %u", i, op->affine_axis);
    if (op->affine_axis == FD_AXIS_NONE) {
        REQUIRE(op->scale == FD_FILE_NONE && op->shift == FD_FILE_NONE,
                "op %zu has a scale or a shift but no affine_axis", i);
        return FD_OK;
    }
    REQUIRE(d->rank == 3 || op->affine_axis == FD_AXIS_CHANNEL, "op %zu has affine_axis %u on a rank-1 tensor", i,
            op->affine_axis);
    const size_t lengths[FD_AXIS_END] = {0, d->rows, d->cols, d->channels};
    const fd_status status = check_vector(m, op->scale, lengths[op->affine_axis], "scale", i, error);
    return status ? status : check_vector(m, op->shift, lengths[op->affine_axis], "shift", i, error);
}

static fd_status check_activation(const fd_file_op *op, size_t i, fd_error *error) {
    REQUIRE(op->activation < FD_ACT_END, "op %zu has unknown activation %u", i, op->activation);
    if (fd_activation_has_alpha(op->activation))
        REQUIRE(isfinite(op->alpha) && op->alpha >= 0, "alpha of op %zu is not a finite number >= 0", i);
    else
        REQUIRE(op->alpha == 0, "op %zu has an alpha, but not an activation that takes one", i);
    return FD_OK;
}

static fd_status check_weights(const fd_model *m, const fd_file_op *op, size_t i, size_t depth, size_t *channels,
                               fd_error *error) {
    const fd_file_tensor *const w = weight(m, op->weights, FD_LAYOUT_PANELS);
    REQUIRE(w && w->dims[0] == depth, "weights of op %zu are not panels of %zu rows", i, depth);
    *channels = w->dims[1];
    return op->bias == FD_FILE_NONE ? FD_OK : check_vector(m, op->bias, w->dims[1], "bias", i, error);
}

/* The second operand of a BINARY: an activation whose dims are those of the first or 1, or a constant. */
static fd_status check_operand(const fd_model *m, const fd_file_op *op, size_t i, const fd_dims *in, fd_error *error) {
    REQUIRE(op->binary > FD_BINARY_NONE && op->binary < FD_BINARY_END, "op %zu has unknown binary %u", i, op->binary);
    REQUIRE((op->input2 == FD_FILE_NONE) != (op->weights == FD_FILE_NONE),
            "op %zu has not one second operand, an input or weights", i);
    if (op->weights != FD_FILE_NONE) {
        const fd_file_tensor *const t = weight(m, op->weights, FD_LAYOUT_ROW_MAJOR);
        REQUIRE(t && (t->dims[0] == in->elements || t->dims[0] == in->channels || t->dims[0] == 1),
                "weights of op %zu are not a vector of %zu, %zu or 1 values", i, in->elements, in->channels);
        return FD_OK;
    }
    const fd_dims other = dims_of(&m->tensors[op->input2]);
    REQUIRE((other.rows == 1 || other.rows == in->rows) && (other.cols == 1 || other.cols == in->cols) &&
                (other.channels == 1 || other.channels == in->channels),
            "the second input of op %zu is (%zu, %zu, %zu), which does not broadcast to (%zu, %zu, %zu)", i, other.rows,
            other.cols, other.channels, in->rows, in->cols, in->channels);
    return FD_OK;
}

static fd_status check_concat(const fd_model *m, const fd_file_op *op, size_t i, fd_dims *out, fd_error *error) {
    REQUIRE(op->input2 != FD_FILE_NONE, "op %zu is a CONCAT without a second input", i);
    const fd_dims other = dims_of(&m->tensors[op->input2]);
    REQUIRE(op->concat_axis > FD_AXIS_NONE && op->concat_axis < FD_AXIS_END, "op %zu has unknown concat_axis %u", i,
            op->concat_axis);
    REQUIRE(other.rank == out->rank && (out->rank == 3 || op->concat_axis == FD_AXIS_CHANNEL),
            "op %zu joins tensors of rank %zu and %zu along axis %u", i, out->rank, other.rank, op->concat_axis);
    REQUIRE((op->concat_axis == FD_AXIS_HEIGHT || other.rows == out->rows) &&
                (op->concat_axis == FD_AXIS_WIDTH || other.cols == out->cols) &&
                (op->concat_axis == FD_AXIS_CHANNEL || other.channels == out->channels),
            "op %zu joins tensors whose other axes differ", i);
    if (op->concat_axis == FD_AXIS_HEIGHT) out->rows += other.rows;
    if (op->concat_axis == FD_AXIS_WIDTH) out->cols += other.cols;
    if (op->concat_axis == FD_AXIS_CHANNEL) out->channels += other.channels;
    return FD_OK;
}

/* What makes sums of products of bytes fit 32 bits, and each pair of products 16. */
static fd_status check_quantization(const fd_model *m, const fd_file_op *op, size_t i, fd_error *error) {
    const fd_file_tensor *const w = &m->tensors[op->weights];
    REQUIRE(op->quantization < FD_QUANTIZATION_END, "op %zu has unknown quantization %u", i, op->quantization);
    if (op->quantization == FD_QUANTIZATION_WEIGHTS) return FD_OK;
    REQUIRE(w->dtype == FD_DTYPE_I8, "op %zu has a quantization, but not i8 weights", i);
    REQUIRE(w->dims[0] <= FD_DYNAMIC_MAX_DEPTH, "op %zu quantises %u inputs, at most %d are supported", i, w->dims[0],
            FD_DYNAMIC_MAX_DEPTH);
    REQUIRE(!memchr(m->weights + w->offset, 0x80, w->size), "op %zu quantises its inputs and has a weight of -128", i);
    return FD_OK;
}

static fd_status check_op(const fd_model *m, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &m->ops[i];
    fd_status status;
    *out = *in;
    switch (op->opcode) {
    case FD_OP_INPUT:
        REQUIRE(op->range_lo < op->range_hi, "the input range of op %zu is empty or not a number", i);
        if (op->u8_divisor)
            REQUIRE(op->range_lo <= 0 && 255.0f / (float)op->u8_divisor <= op->range_hi,
                    "op %zu accepts bytes whose values are outside its input range", i);
        return FD_OK;
    case FD_OP_CONV2D: {
        REQUIRE(in->rank == 3, "op %zu is a CONV2D of a rank-1 tensor", i);
        if ((status = check_range(op->kernel, 2, 1, FD_FILE_MAX_SMALL, "kernel", i, error))) return status;
        if ((status = check_range(op->stride, 2, 1, FD_FILE_MAX_SMALL, "stride", i, error))) return status;
        if ((status = check_range(op->dilation, 2, 1, FD_FILE_MAX_SMALL, "dilation", i, error))) return status;
        if ((status = check_range(op->pad, 4, 0, FD_FILE_MAX_SMALL, "pad", i, error))) return status;
        REQUIRE(op->groups && in->channels % op->groups == 0, "op %zu has %u groups of %zu channels", i, op->groups,
                in->channels);
        REQUIRE(op->groups == 1 || op->pool_mode == FD_POOL_NONE, "op %zu has %u groups and a pooling", i, op->groups);
        out->rows = fd_window_count(in->rows, op->pad[0] + op->pad[2], op->kernel[0], op->dilation[0], op->stride[0]);
        out->cols = fd_window_count(in->cols, op->pad[1] + op->pad[3], op->kernel[1], op->dilation[1], op->stride[1]);
        REQUIRE(out->rows && out->cols, "the kernel of op %zu does not fit its input", i);
        const size_t depth = (size_t)op->kernel[0] * op->kernel[1] * (in->channels / op->groups);
        if ((status = check_weights(m, op, i, depth, &out->channels, error))) return status;
        REQUIRE(out->channels % op->groups == 0, "op %zu has %u groups for %zu output channels", i, op->groups,
                out->channels);
        REQUIRE(m->tensors[op->weights].dtype == FD_DTYPE_F32, "op %zu is a CONV2D whose weights are not f32", i);
        if ((status = check_activation(op, i, error))) return status;
        if ((status = check_affine(m, op, i, out, error))) return status;
        return check_pool(op, i, out, error);
    }
    case FD_OP_DENSE: {
        out->rank = out->rows = out->cols = 1;
        if ((status = check_weights(m, op, i, in->elements, &out->channels, error))) return status;
        const uint32_t dtype = m->tensors[op->weights].dtype;
        REQUIRE(dtype == FD_DTYPE_F32 || out->channels > FD_NARROW,
                "op %zu has %zu outputs and weights that are not f32", i, out->channels);
        if (dtype == FD_DTYPE_I8) {
            if ((status = check_vector(m, op->scale, out->channels, "scale", i, error))) return status;
            const float *const scale = (const float *)(const void *)(m->weights + m->tensors[op->scale].offset);
            for (size_t c = 0; c < out->channels; c++)
                REQUIRE(scale[c] > 0, "scale %zu of op %zu is not positive", c, i);
        } else {
            REQUIRE(op->scale == FD_FILE_NONE, "op %zu has a scale, but not i8 weights", i);
        }
        if ((status = check_quantization(m, op, i, error))) return status;
        return check_activation(op, i, error);
    }
    case FD_OP_POOL2D:
        REQUIRE(in->rank == 3 && op->pool_mode != FD_POOL_NONE, "op %zu is a POOL2D of a rank-1 tensor or of no mode",
                i);
        return check_pool(op, i, out, error);
    case FD_OP_ELTWISE:
        if ((status = check_activation(op, i, error))) return status;
        return check_affine(m, op, i, out, error);
    case FD_OP_SOFTMAX:
        REQUIRE(isfinite(op->alpha) && op->alpha >= 0, "alpha of op %zu is not a finite number >= 0", i);
        return FD_OK;
    case FD_OP_BINARY:
        if ((status = check_operand(m, op, i, in, error))) return status;
        if ((status = check_activation(op, i, error))) return status;
        return check_affine(m, op, i, out, error);
    case FD_OP_CONCAT: return check_concat(m, op, i, out, error);
    case FD_OP_RESHAPE: {
        *out = dims_of(&m->tensors[op->output]);
        REQUIRE(out->elements == in->elements, "op %zu reshapes %zu elements to %zu", i, in->elements, out->elements);
        return FD_OK;
    }
    case FD_OP_TRANSPOSE: {
        const size_t sizes[3] = {in->rows, in->cols, in->channels};
        REQUIRE(in->rank == 3, "op %zu is a TRANSPOSE of a rank-1 tensor", i);
        REQUIRE(op->perm[0] < 3 && op->perm[1] < 3 && op->perm[2] < 3 && op->perm[3] == 0 &&
                    op->perm[0] != op->perm[1] && op->perm[1] != op->perm[2] && op->perm[2] != op->perm[0],
                "perm of op %zu is not a permutation of 0, 1, 2", i);
        *out = (fd_dims){3, sizes[op->perm[0]], sizes[op->perm[1]], sizes[op->perm[2]], 0};
        return FD_OK;
    }
    case FD_OP_PAD:
        REQUIRE(in->rank == 3, "op %zu is a PAD of a rank-1 tensor", i);
        if ((status = check_range(op->pad, 4, 0, FD_FILE_MAX_SMALL, "pad", i, error))) return status;
        if ((status = check_range(op->pad_channels, 2, 0, FD_FILE_MAX_DIM, "pad_channels", i, error))) return status;
        REQUIRE(isfinite(op->alpha), "alpha of op %zu is not finite", i);
        out->rows += op->pad[0] + op->pad[2];
        out->cols += op->pad[1] + op->pad[3];
        out->channels += (size_t)op->pad_channels[0] + op->pad_channels[1];
        return FD_OK;
    case FD_OP_LAYERNORM:
        REQUIRE(isfinite(op->alpha) && op->alpha > 0, "alpha of op %zu is not a finite number > 0", i);
        if (op->scale != FD_FILE_NONE && (status = check_vector(m, op->scale, in->channels, "scale", i, error)))
            return status;
        return op->shift == FD_FILE_NONE ? FD_OK : check_vector(m, op->shift, in->channels, "shift", i, error);
    default: return fd_fail(error, FD_ERR_FORMAT, "op %zu has unknown opcode %u", i, op->opcode);
    }
}

static fd_status load_program(fd_model *m, unsigned char *reads, unsigned char *written, fd_error *error) {
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        REQUIRE((op->opcode == FD_OP_INPUT) == (i == 0), "op %zu: the first op, and no other, is INPUT", i);
        const fd_file_op rest = without_fields(op, fields_of(op->opcode));
        static const fd_file_op zero = {0};
        REQUIRE(memcmp(&rest, &zero, sizeof zero) == 0, "op %zu (opcode %u) has a field that its opcode does not use",
                i, op->opcode);

        REQUIRE(op->output < m->tensor_count && m->tensors[op->output].kind == FD_TENSOR_ACTIVATION &&
                    !written[op->output],
                "the output of op %zu is not an activation of its own", i);
        fd_dims in = dims_of(&m->tensors[op->output]), out;
        if (i == 0) {
            REQUIRE(op->input == FD_FILE_NONE, "op 0 is INPUT and has an input");
        } else {
            REQUIRE(op->input < m->tensor_count && written[op->input], "the input of op %zu was not written before it",
                    i);
            reads[op->input] = 1;
            if (op->input2 != FD_FILE_NONE) {
                REQUIRE(op->input2 < m->tensor_count && written[op->input2],
                        "the second input of op %zu was not written before it", i);
                reads[op->input2] = 1;
            }
            in = dims_of(&m->tensors[op->input]);
        }
        const fd_status status = check_op(m, i, &in, &out, error);
        if (status) return status;
        out.elements = out.rows * out.cols * out.channels;
        const fd_dims said = dims_of(&m->tensors[op->output]);
        REQUIRE(memcmp(&out, &said, sizeof out) == 0,
                "the output of op %zu is (%zu, %zu, %zu) by its fields, (%zu, %zu, %zu) in TENSORS", i, out.rows,
                out.cols, out.channels, said.rows, said.cols, said.channels);
        written[op->output] = 1;
    }
    for (size_t t = 0; t < m->tensor_count; t++)
        REQUIRE(m->tensors[t].kind != FD_TENSOR_ACTIVATION || reads[t] || m->ops[m->op_count - 1].output == t,
                "activation %zu is never read", t);
    return FD_OK;
}

fd_status fd_load(fd_model *model, fd_error *error) {
    fd_status status;
    if ((status = load_header(model, error))) return status;
    if ((status = load_sections(model, error))) return status;
    for (size_t i = 0; i < model->tensor_count; i++)
        if ((status = load_tensor(model, i, error))) return status;
    unsigned char *const flags = fd_alloc(2 * model->tensor_count);
    if (!flags) return fd_fail(error, FD_ERR_MEMORY, "no memory to load a model");
    status = load_program(model, flags, flags + model->tensor_count, error);
    fd_free(flags);
    return status;
}

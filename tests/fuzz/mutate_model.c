/* Changes model files at random, the same way for the same seed, so that they become other networks and other mistakes:
 * what libFuzzer calls to make its next input, and replay.c without it.
 *
 * Most random damage is found by the first check that meets it. So half of the time the file is mended afterwards:
 * sizes that follow from the damaged ones are made to agree, and networks come out that nobody would think of. The size
 * and the checksum in the header are repaired nearly always.
 */
#include "../csrc/drivers/driver.h"
#include "base/xxhash64.h"
#include "format/format.h"
#include "format/panels.h"
#include "fuzz.h"
#include "ops/check.h"
#include "ops/ops.h"

typedef struct file {
    unsigned char *data;
    size_t size;
    /* Where things are. */
    size_t tensors, tensor_count, ops, op_count, weights, weight_bytes, ports, port_count;
} file;

static uint64_t state;
static size_t below(size_t n) { return random_below(&state, n); }

static fd_file_tensor *tensors_of(const file *f) { return (fd_file_tensor *)(void *)(f->data + f->tensors); }
static fd_file_op *ops_of(const file *f) { return (fd_file_op *)(void *)(f->data + f->ops); }

/* FD_HAS_* of an op: an operator that has no case below is damaged and mended by these. */
static unsigned fields_of(const fd_file_op *op) {
    const fd_operator *const operator = fd_operator_of(op->opcode);
    return operator ? operator->fields : 0;
}

/* The activation that a field of an op names, or NULL. */
static fd_file_tensor *activation(const file *f, uint32_t index) {
    if (index >= f->tensor_count || tensors_of(f)[index].kind != FD_TENSOR_ACTIVATION) return NULL;
    return &tensors_of(f)[index];
}

/* Height, width and channels; those of a vector are 1, 1, features. */
static void sizes_of(const fd_file_tensor *t, uint32_t sizes[3]) {
    const int image = t->rank == 3;
    sizes[0] = image ? t->dims[0] : 1;
    sizes[1] = image ? t->dims[1] : 1;
    sizes[2] = image ? t->dims[2] : t->dims[0];
}

static void set_sizes(fd_file_tensor *t, const uint32_t sizes[3]) {
    memset(t->dims, 0, sizeof t->dims);
    if (t->rank == 3)
        memcpy(t->dims, sizes, 3 * sizeof *sizes);
    else
        t->dims[0] = sizes[2];
}

static size_t elements_of(const fd_file_tensor *t) {
    uint32_t sizes[3];
    sizes_of(t, sizes);
    return (size_t)sizes[0] * sizes[1] * sizes[2];
}

/* Whether its sections lie within it, one behind the other, which is all that is relied on below. */
static int locate(file *f) {
    static const size_t record_sizes[FD_FILE_MAX_SECTIONS] = {1, sizeof(fd_file_tensor), sizeof(fd_file_op), 1,
                                                              sizeof(fd_file_port)};
    size_t offsets[FD_FILE_MAX_SECTIONS] = {0}, sizes[FD_FILE_MAX_SECTIONS] = {0};
    fd_file_header header;
    if (f->size < sizeof header) return 0;
    memcpy(&header, f->data, sizeof header);
    const size_t count = header.section_count;
    if (count < FD_FILE_SECTIONS || count > FD_FILE_MAX_SECTIONS) return 0;
    size_t end = sizeof header + count * sizeof(fd_file_section);
    if (f->size < end) return 0;
    for (size_t i = 0; i < count; i++) {
        fd_file_section section;
        memcpy(&section, f->data + sizeof header + i * sizeof section, sizeof section);
        if (section.offset > f->size || section.size > f->size - section.offset) return 0;
        if (section.offset < end || section.offset % FD_FILE_ALIGN || section.size % record_sizes[i]) return 0;
        end = (size_t)(section.offset + section.size);
        offsets[i] = (size_t)section.offset;
        sizes[i] = (size_t)section.size / record_sizes[i];
    }
    f->tensors = offsets[FD_SECTION_TENSORS - 1];
    f->tensor_count = sizes[FD_SECTION_TENSORS - 1];
    f->ops = offsets[FD_SECTION_PROGRAM - 1];
    f->op_count = sizes[FD_SECTION_PROGRAM - 1];
    f->weights = offsets[FD_SECTION_WEIGHTS - 1];
    f->weight_bytes = sizes[FD_SECTION_WEIGHTS - 1];
    f->ports = offsets[FD_SECTION_INTERFACE - 1];
    f->port_count = sizes[FD_SECTION_INTERFACE - 1];
    return f->tensor_count > 0 && f->op_count > 0 && f->weight_bytes > 0;
}

/* Each of its sizes, and their product. */
static int is_small(const fd_file_tensor *t) {
    uint32_t sizes[3];
    sizes_of(t, sizes);
    for (int d = 0; d < 3; d++)
        if (!sizes[d] || sizes[d] > FD_FILE_MAX_SMALL * 16) return 0;
    return elements_of(t) <= FD_FILE_MAX_DIM;
}

/* ---- Damage ---- */

static uint32_t some_word(uint32_t old) {
    static const uint32_t edges[] = {0,        1,          96,          255, 256, 1u << 16, 1u << 24, (1u << 24) + 1,
                                     1u << 31, 0x7F800000, FD_FILE_NONE};
    switch (below(6)) {
    case 0: return edges[below(sizeof edges / sizeof edges[0])];
    case 1: return old + 1;
    case 2: return old - 1;
    case 3: return old ^ 1u << below(32);
    case 4: return (uint32_t)random64(&state);
    default: return (uint32_t)below(40);
    }
}

static void damage_word(file *f, size_t first, size_t bytes) {
    unsigned char *const at = f->data + first + below(bytes / 4) * 4;
    uint32_t word;
    memcpy(&word, at, sizeof word);
    word = some_word(word);
    memcpy(at, &word, sizeof word);
}

static void damage_anywhere(file *f) {
    const size_t sections = f->port_count ? FD_FILE_MAX_SECTIONS : FD_FILE_SECTIONS;
    const size_t table = sizeof(fd_file_header) + sections * sizeof(fd_file_section);
    if (f->port_count && below(4) == 0) {
        unsigned char *const port = f->data + f->ports + below(f->port_count) * sizeof(fd_file_port);
        if (below(2))
            damage_word(f, f->ports, f->port_count * sizeof(fd_file_port));
        else
            memcpy(port, f->data + f->ports + below(f->port_count) * sizeof(fd_file_port), sizeof(fd_file_port));
        return;
    }
    switch (below(8)) {
    case 0: damage_word(f, 0, table); break;
    case 1: damage_word(f, 0, f->size); break;
    case 2: f->data[below(f->size)] = (unsigned char)random64(&state); break;
    case 3: /* a record over another */
        tensors_of(f)[below(f->tensor_count)] = tensors_of(f)[below(f->tensor_count)];
        break;
    case 4: ops_of(f)[below(f->op_count)] = ops_of(f)[below(f->op_count)]; break;
    case 5: damage_word(f, f->tensors, f->tensor_count * sizeof(fd_file_tensor)); break;
    default: damage_word(f, f->ops, f->op_count * sizeof(fd_file_op)); break;
    }
}

/* Small, rarely not so small. */
static uint32_t some_size(size_t least) { return (uint32_t)(least + below(below(4) ? 4 : 16)); }

static void damage_activation(fd_file_op *op) {
    op->activation = (uint32_t)below(FD_ACT_END);
    op->alpha = fd_activation_has_alpha(op->activation) ? 0.3f : 0.0f;
}

/* The output of an earlier op. */
static uint32_t some_earlier(const file *f, size_t i) { return ops_of(f)[below(i)].output; }

/* Another op between the same tensors, perhaps with a second input: values live longer than they did. */
static void damage_opcode(const file *f, size_t i) {
    static const uint32_t opcodes[] = {FD_OP_ELTWISE, FD_OP_SOFTMAX, FD_OP_LAYERNORM, FD_OP_RESHAPE, FD_OP_TRANSPOSE,
                                       FD_OP_PAD,     FD_OP_BINARY,  FD_OP_BINARY,    FD_OP_CONCAT,  FD_OP_CONCAT};
    fd_file_op *const op = &ops_of(f)[i];
    fd_file_op other;
    memset(&other, 0, sizeof other);
    other.opcode = opcodes[below(sizeof opcodes / sizeof opcodes[0])];
    other.input = op->input;
    other.output = op->output;
    other.input2 = other.weights = other.bias = other.scale = other.shift = FD_FILE_NONE;
    if (other.opcode == FD_OP_BINARY || other.opcode == FD_OP_CONCAT) other.input2 = some_earlier(f, i);
    if (other.opcode == FD_OP_BINARY) other.binary = FD_BINARY_ADD;
    if (other.opcode == FD_OP_CONCAT) other.concat_axis = FD_AXIS_CHANNEL;
    if (other.opcode == FD_OP_LAYERNORM) other.alpha = 1e-3f;
    if (other.opcode == FD_OP_TRANSPOSE) memcpy(other.perm, (uint8_t[4]){1, 2, 0}, sizeof other.perm);
    *op = other;
}

/* A size, a stride, a mode: something that makes another network. */
static void damage_network(file *f) {
    const size_t i = below(f->op_count);
    fd_file_op *const op = &ops_of(f)[i];
    const int has_weights = (fields_of(op) & FD_HAS_WEIGHTS) != 0;
    if (op->input < f->tensor_count && below(3) == 0) {
        tensors_of(f)[op->input].dims[below(3)] = (uint32_t)(1 + below(24));
    } else if (has_weights && op->weights < f->tensor_count && below(3) == 0) {
        tensors_of(f)[op->weights].dims[1] = (uint32_t)(1 + below(120));
    } else if (op->opcode == FD_OP_DENSE && op->weights < f->tensor_count && below(2)) {
        tensors_of(f)[op->weights].dtype = (uint32_t)below(FD_DTYPE_END);
    } else if (has_weights && below(3) == 0) {
        op->bias = FD_FILE_NONE;
    } else if ((fields_of(op) & FD_HAS_ACTIVATION) && below(3) == 0) {
        damage_activation(op);
    } else if (i > 0 && op->opcode != FD_OP_INPUT && !has_weights && op->opcode != FD_OP_POOL2D && below(2)) {
        damage_opcode(f, i);
    }
    const unsigned fields = fields_of(op);
    if (fields & FD_HAS_KERNEL) {
        uint32_t *const sizes[] = {op->kernel, op->stride, op->dilation};
        if (below(2)) sizes[below(3)][below(2)] = some_size(1);
        if (below(4) == 0) op->groups = below(2) ? some_size(1) : UINT32_MAX; /* a group each channel */
    }
    if (fields & FD_HAS_PAD && below(2)) op->pad[below(4)] = some_size(0);
    if (fields & FD_HAS_PAD_CHANNELS && below(2)) op->pad_channels[below(2)] = some_size(0);
    if (fields & FD_HAS_AXIS && below(4) == 0) op->affine_axis = (uint32_t)below(FD_AXIS_END);
    if (fields & FD_HAS_QUANTIZATION && below(2)) op->quantization = (uint32_t)below(FD_QUANTIZATION_END);
    if (fields & FD_HAS_BINARY && below(2)) op->binary = (uint32_t)(1 + below(FD_BINARY_END - 1));
    if (fields & FD_HAS_CONCAT_AXIS && below(2)) op->concat_axis = (uint32_t)(1 + below(FD_AXIS_END - 1));
    if (fields & FD_HAS_INPUT2 && below(4) == 0 && i > 0) op->input2 = some_earlier(f, i);
    if (op->opcode == FD_OP_RECURRENT && below(2)) {
        const uint8_t gates = (uint8_t)(below(2) ? FD_ACT_SIGMOID : below(FD_ACT_END));
        op->perm[0] = (uint8_t)(1 + below(FD_RECURRENT_END - 1));
        op->perm[1] = op->perm[0] == FD_RECURRENT_SIMPLE ? FD_ACT_LINEAR : gates;
        op->perm[2] = (uint8_t)below(2);
        op->range_lo = fd_activation_has_alpha(op->perm[1]) ? 0.25f : 0.0f;
    } else if (op->opcode == FD_OP_TRANSPOSE) {
        static const uint8_t perms[][4] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        memcpy(op->perm, perms[below(6)], sizeof op->perm);
    }
    if (op->opcode == FD_OP_RESHAPE && op->output < f->tensor_count && below(2))
        tensors_of(f)[op->output].rank = below(2) ? 1u : 3u;
    if (op->opcode == FD_OP_PAD && below(2)) op->alpha = below(2) ? 0.0f : -1.5f;
    if (fields & FD_HAS_POOL) {
        uint32_t *const sizes[] = {op->pool, op->pool_stride};
        if (below(2)) sizes[below(2)][below(2)] = some_size(1);
        if (below(2)) op->pool_pad[below(4)] = some_size(0);
        if (below(4) == 0) op->pool_mode = (uint32_t)below(FD_POOL_END);
    }
}

/* ---- Mending: now and then it leaves something as it is, for the loader to find ---- */

/* Weights lie one behind the other: it begins where those of the records before end. */
static void mend_place(const file *f, fd_file_tensor *t) {
    if (below(64) == 0) return;
    uint64_t end = 0;
    for (const fd_file_tensor *before = tensors_of(f); before < t; before++) {
        if (before->kind != FD_TENSOR_WEIGHT || before->size > f->weight_bytes) continue;
        const uint64_t its = before->offset + before->size;
        if (its <= f->weight_bytes && its > end) end = its;
    }
    end = (end + FD_FILE_ALIGN - 1) / FD_FILE_ALIGN * FD_FILE_ALIGN;
    t->offset = end <= f->weight_bytes && t->size <= f->weight_bytes - end ? end : 0;
}

static int is_vector(const fd_file_tensor *t) {
    return t->kind == FD_TENSOR_WEIGHT && t->layout == FD_LAYOUT_ROW_MAJOR;
}

/* For an index that is none of a tensor: a vector, if there is one of this length. */
static void mend_vector(const file *f, uint32_t *index, size_t length) {
    if (*index == FD_FILE_NONE || below(16) == 0) return;
    const int look = *index >= f->tensor_count;
    for (uint32_t t = 0; look && t < f->tensor_count; t++)
        if (is_vector(&tensors_of(f)[t])) *index = t;
    for (uint32_t t = 0; look && t < f->tensor_count; t++)
        if (is_vector(&tensors_of(f)[t]) && tensors_of(f)[t].dims[0] == length) *index = t;
    if (*index >= f->tensor_count) return;
    fd_file_tensor *const t = &tensors_of(f)[*index];
    t->dims[0] = (uint32_t)length;
    t->size = length * sizeof(float);
    mend_place(f, t);
}

/* Panels of `depth` rows, of as many columns as WEIGHTS has values for: a multiple of `groups`. */
static size_t mend_panels(const file *f, uint32_t index, size_t depth, size_t groups) {
    if (index >= f->tensor_count) return 0;
    fd_file_tensor *const t = &tensors_of(f)[index];
    if (!depth || depth > FD_FILE_MAX_DIM || !groups) return 0;
    const size_t row = depth * fd_dtype_size(t->dtype);
    const size_t most = f->weight_bytes / row / FD_PANEL_ALIGN * FD_PANEL_ALIGN;
    if (t->dims[1] > most) t->dims[1] = (uint32_t)most;
    if (below(16)) t->dims[1] = (uint32_t)(t->dims[1] < groups ? groups : t->dims[1] / groups * groups);
    t->dims[0] = (uint32_t)depth;
    t->size = row * ((t->dims[1] + FD_PANEL_ALIGN - 1) / FD_PANEL_ALIGN * FD_PANEL_ALIGN);
    mend_place(f, t);
    if (t->dtype == FD_DTYPE_F16 && t->offset <= f->weight_bytes && t->size <= f->weight_bytes - t->offset) {
        /* Floats, or bytes, are no infinite halves if this bit is missing. */
        unsigned char *const halves = f->data + f->weights + t->offset;
        for (size_t i = 1; i < t->size; i += 2) halves[i] &= 0xBF;
    }
    return t->dims[1];
}

static void mend_affine(const file *f, fd_file_op *op, const fd_file_tensor *out, const uint32_t sizes[3]) {
    if (op->affine_axis < FD_AXIS_CHANNEL && out->rank != 3 && below(16)) op->affine_axis = FD_AXIS_NONE;
    if (op->affine_axis == FD_AXIS_NONE || op->affine_axis >= FD_AXIS_END) {
        op->scale = op->shift = FD_FILE_NONE;
        return;
    }
    /* Any weight will do: mend_vector looks for one. */
    if (op->scale == FD_FILE_NONE) op->scale = op->shift = (uint32_t)f->tensor_count;
    mend_vector(f, &op->scale, sizes[op->affine_axis - 1]);
    mend_vector(f, &op->shift, sizes[op->affine_axis - 1]);
}

static void mend_pool(fd_file_op *op, uint32_t dims[3]) {
    if (op->pool_mode == FD_POOL_NONE) {
        memset(op->pool, 0, sizeof op->pool);
        memset(op->pool_stride, 0, sizeof op->pool_stride);
        memset(op->pool_pad, 0, sizeof op->pool_pad);
        return;
    }
    for (int d = 0; d < 2; d++) {
        if (!op->pool[d]) op->pool[d] = 1;
        if (!op->pool_stride[d]) op->pool_stride[d] = 1;
        if (op->pool[d] > dims[d] && below(16)) op->pool[d] = 1;
        if (below(16)) op->pool_pad[d] %= op->pool[d];
        if (below(16)) op->pool_pad[d + 2] %= op->pool[d];
        dims[d] = (uint32_t)fd_window_count(dims[d], op->pool_pad[d] + op->pool_pad[d + 2], op->pool[d], 1,
                                            op->pool_stride[d]);
    }
}

/* Of a DENSE whose weights are bytes: positive, and none of them -128 if its inputs become bytes too. */
static void mend_scale(const file *f, fd_file_op *op, size_t length) {
    const fd_file_tensor *const weights = &tensors_of(f)[op->weights];
    if (weights->dtype != FD_DTYPE_I8) {
        op->scale = FD_FILE_NONE;
        if (below(16)) op->quantization = FD_QUANTIZATION_WEIGHTS;
        return;
    }
    if (op->scale == FD_FILE_NONE) op->scale = op->bias;
    mend_vector(f, &op->scale, length);
    if (op->scale >= f->tensor_count || below(16) == 0) return;
    const fd_file_tensor *const scale = &tensors_of(f)[op->scale];
    if (scale->offset > f->weight_bytes || scale->size > f->weight_bytes - scale->offset) return;
    if (weights->offset > f->weight_bytes || weights->size > f->weight_bytes - weights->offset) return;
    unsigned char *const bytes = f->data + f->weights;
    if (op->quantization == FD_QUANTIZATION_DYNAMIC)
        for (size_t i = 0; i < weights->size; i++) bytes[weights->offset + i] |= bytes[weights->offset + i] == 0x80;
    for (size_t i = 0; i + 4 <= scale->size; i += 4) {
        bytes[scale->offset + i] |= 1;
        bytes[scale->offset + i + 3] &= 0x7F;
    }
}

/* Whether the second input of an op, and its axis if it is a CONCAT, go with the first. */
static int joins(const fd_file_op *op, const fd_file_tensor *a, const fd_file_tensor *b) {
    uint32_t first[3], second[3];
    sizes_of(a, first);
    sizes_of(b, second);
    for (uint32_t d = 0; d < 3; d++) {
        if (op->opcode == FD_OP_BINARY && second[d] != 1 && second[d] != first[d]) return 0;
        if (op->opcode == FD_OP_CONCAT && d + FD_AXIS_HEIGHT != op->concat_axis && second[d] != first[d]) return 0;
    }
    return op->opcode == FD_OP_BINARY || (a->rank == b->rank && (a->rank == 3 || op->concat_axis == FD_AXIS_CHANNEL));
}

/* Looks for a second input that fits. The first always does, but the old one may then have no reader. */
static void mend_joined(const file *f, size_t i, uint32_t sizes[3]) {
    fd_file_op *const op = &ops_of(f)[i];
    const fd_file_tensor *a = activation(f, op->input);
    if (op->opcode == FD_OP_CONCAT && (a->rank != 3 || op->concat_axis >= FD_AXIS_END || !op->concat_axis) && below(16))
        op->concat_axis = FD_AXIS_CHANNEL;
    if (op->opcode == FD_OP_BINARY && op->weights != FD_FILE_NONE) {
        const size_t lengths[] = {elements_of(a), sizes[2], 1};
        op->input2 = FD_FILE_NONE;
        mend_vector(f, &op->weights, lengths[below(3)]);
        return;
    }
    const fd_file_tensor *b = activation(f, op->input2);
    if (b && op->opcode == FD_OP_BINARY && !joins(op, a, b) && joins(op, b, a)) {
        const uint32_t first = op->input;
        op->input = op->input2;
        op->input2 = first;
        sizes_of(b, sizes);
        a = b;
    }
    b = activation(f, op->input2);
    for (uint32_t axis = FD_AXIS_HEIGHT; b && op->opcode == FD_OP_CONCAT && axis < FD_AXIS_END && !joins(op, a, b);
         axis++)
        op->concat_axis = axis;
    for (size_t tries = 0; tries < i && !(b && joins(op, a, b)) && below(16); tries++) {
        op->input2 = some_earlier(f, i);
        b = activation(f, op->input2);
    }
    if (b && op->opcode == FD_OP_CONCAT && op->concat_axis && op->concat_axis < FD_AXIS_END) {
        uint32_t second[3];
        sizes_of(b, second);
        sizes[op->concat_axis - 1] += second[op->concat_axis - 1];
    }
}

/* As many elements as before, in a shape of the output's rank: near to the one it has. */
static void mend_reshape(const fd_file_tensor *out, uint32_t sizes[3]) {
    uint32_t want[3];
    sizes_of(out, want);
    size_t left = (size_t)sizes[0] * sizes[1] * sizes[2];
    for (int d = 0; d < 2; d++) {
        if (want[d] > left) want[d] = (uint32_t)left;
        while (want[d] > 1 && left % want[d]) want[d]--;
        sizes[d] = out->rank == 3 && want[d] ? want[d] : 1;
        left /= sizes[d];
    }
    sizes[2] = (uint32_t)left;
}

/* Groups that divide the channels, and weights for the kernel, of which there may be only so many: the number of output
 * channels, or 0 if there can be none. */
static size_t mend_kernel(const file *f, fd_file_op *op, uint32_t channels) {
    if (op->groups > channels) op->groups = channels;
    while (below(16) && op->groups > 1 && channels % op->groups) op->groups--;
    const size_t groups = op->groups ? op->groups : 1;
    const size_t depth = (size_t)op->kernel[0] * op->kernel[1] * (channels / groups);
    if (!depth) return 0;
    const size_t outputs = mend_panels(f, op->weights, depth, groups);
    mend_vector(f, &op->bias, outputs);
    return outputs;
}

/* Whether a check may look at a weight: the loader has seen before that it is one. */
static int is_there(const file *f, uint32_t index) {
    if (index >= f->tensor_count || tensors_of(f)[index].kind != FD_TENSOR_WEIGHT) return 1; /* and refuses it */
    const fd_file_tensor *const t = &tensors_of(f)[index];
    const int vector = t->layout == FD_LAYOUT_ROW_MAJOR;
    if (t->dtype >= FD_DTYPE_END || t->layout > FD_LAYOUT_PANELS || t->rank != (vector ? 1u : 2u)) return 0;
    if (!t->dims[0] || t->dims[0] > FD_FILE_MAX_DIM || t->dims[1] > FD_FILE_MAX_DIM || (vector && t->dtype)) return 0;
    const size_t elements = vector ? t->dims[0] : t->dims[0] * fd_panel_columns(t->dims[1]);
    if (t->size != elements * fd_dtype_size(t->dtype) || t->offset % FD_FILE_ALIGN) return 0;
    return t->offset <= f->weight_bytes && t->size <= f->weight_bytes - t->offset;
}

/* The output of an operator that has no case in mend: as its check says, which need not accept it. */
static void mend_by_check(const file *f, size_t i, const fd_file_tensor *in, fd_file_tensor *out, uint32_t sizes[3]) {
    fd_file_op *const op = &ops_of(f)[i];
    const unsigned fields = fields_of(op);
    const fd_file whole = {.tensors = tensors_of(f),
                           .tensor_count = f->tensor_count,
                           .ops = ops_of(f),
                           .op_count = f->op_count,
                           .weights = f->data + f->weights,
                           .weight_bytes = f->weight_bytes};
    const uint32_t weights[] = {op->weights, op->bias, op->scale, op->shift};
    for (size_t k = 0; k < sizeof weights / sizeof weights[0]; k++)
        if (!is_there(f, weights[k])) return;
    const fd_dims from = fd_dims_of(in);
    fd_dims to = from;
    fd_error ignored;
    const fd_file_op kept = *op;
    if (fields & FD_HAS_AXIS) { /* whose length is that of the output */
        op->affine_axis = FD_AXIS_NONE;
        op->scale = op->shift = FD_FILE_NONE;
    }
    const fd_status status = fields ? fd_operator_of(op->opcode)->check(&whole, i, &from, &to, &ignored) : FD_OK;
    *op = kept;
    if (status != FD_OK) return;
    sizes[0] = (uint32_t)to.rows;
    sizes[1] = (uint32_t)to.cols;
    sizes[2] = (uint32_t)to.channels;
    if (fields & FD_HAS_AXIS) mend_affine(f, op, out, sizes);
}

/* Makes the sizes of tensors agree with the fields of the ops, from the first op to the last. */
static void mend(file *f) {
    for (size_t i = 1; i < f->op_count; i++) {
        fd_file_op *const op = &ops_of(f)[i];
        if (op->opcode == FD_OP_INPUT) continue;
        const fd_file_tensor *const in = activation(f, op->input);
        fd_file_tensor *const out = activation(f, op->output);
        if (!in || !out || !is_small(in)) return;
        uint32_t sizes[3];
        sizes_of(in, sizes);
        if (op->opcode == FD_OP_DENSE)
            out->rank = 1;
        else if (op->opcode != FD_OP_RESHAPE)
            out->rank = in->rank;
        if (fields_of(op) & FD_HAS_KERNEL) {
            const size_t most = f->weight_bytes / (FD_PANEL_ALIGN * sizeof(float) * sizes[2]);
            if ((size_t)op->kernel[0] * op->kernel[1] > most && below(16)) op->kernel[0] = op->kernel[1] = 1;
        }
        switch (op->opcode) {
        case FD_OP_CONV2D:
            for (int d = 0; d < 2; d++) {
                if (!op->kernel[d] || !op->stride[d] || !op->dilation[d]) return;
                const uint32_t padded = sizes[d] + op->pad[d] + op->pad[d + 2];
                if (op->dilation[d] * (op->kernel[d] - 1) >= padded && below(16)) op->kernel[d] = 1;
                sizes[d] = (uint32_t)fd_window_count(sizes[d], op->pad[d] + op->pad[d + 2], op->kernel[d],
                                                     op->dilation[d], op->stride[d]);
            }
            sizes[2] = (uint32_t)mend_kernel(f, op, sizes[2]);
            if (op->groups > 1 && below(16)) op->pool_mode = FD_POOL_NONE;
            mend_affine(f, op, out, sizes);
            mend_pool(op, sizes);
            break;
        case FD_OP_DENSE:
            if (op->weights >= f->tensor_count) return;
            if (tensors_of(f)[op->weights].dims[1] <= FD_NARROW && below(16))
                tensors_of(f)[op->weights].dtype = FD_DTYPE_F32;
            sizes[2] = (uint32_t)mend_panels(f, op->weights, elements_of(in), 1);
            sizes[0] = sizes[1] = 1;
            mend_vector(f, &op->bias, sizes[2]);
            mend_scale(f, op, sizes[2]);
            break;
        case FD_OP_POOL2D: mend_pool(op, sizes); break;
        case FD_OP_ELTWISE: mend_affine(f, op, out, sizes); break;
        case FD_OP_BINARY:
            mend_joined(f, i, sizes);
            out->rank = activation(f, op->input)->rank;
            mend_affine(f, op, out, sizes);
            break;
        case FD_OP_CONCAT: mend_joined(f, i, sizes); break;
        case FD_OP_RESHAPE: mend_reshape(out, sizes); break;
        case FD_OP_TRANSPOSE: {
            uint32_t from[3];
            sizes_of(in, from);
            for (int d = 0; d < 3; d++) sizes[d] = from[op->perm[d] % 3];
            break;
        }
        case FD_OP_PAD:
            sizes[0] += op->pad[0] + op->pad[2];
            sizes[1] += op->pad[1] + op->pad[3];
            sizes[2] += op->pad_channels[0] + op->pad_channels[1];
            break;
        case FD_OP_CROP:
            for (int d = 0; d < 3; d++) {
                uint32_t *const before = d < 2 ? &op->pad[d] : &op->pad_channels[0];
                uint32_t *const behind = d < 2 ? &op->pad[d + 2] : &op->pad_channels[1];
                if (below(16)) *before %= sizes[d];
                if (below(16)) *behind %= sizes[d] - *before % sizes[d];
                sizes[d] -= *before + *behind;
            }
            break;
        case FD_OP_RECURRENT: { /* as many units as the channels make; the weights are large enough or refused */
            static const uint8_t gates[FD_RECURRENT_END] = {1, 1, 4, 3, 3};
            if (sizes[2] % gates[op->perm[0] % FD_RECURRENT_END] && below(16)) {
                op->perm[0] = FD_RECURRENT_SIMPLE;
                op->perm[1] = FD_ACT_LINEAR;
                op->range_lo = 0.0f;
            }
            const uint32_t units = sizes[2] / gates[op->perm[0] % FD_RECURRENT_END];
            if (op->weights >= f->tensor_count || !units) return;
            tensors_of(f)[op->weights].dims[1] = sizes[2];
            mend_panels(f, op->weights, units, 1);
            mend_vector(f, &op->bias, sizes[2]);
            sizes[2] = units;
            break;
        }
        case FD_OP_LAYERNORM:
            mend_vector(f, &op->scale, sizes[2]);
            mend_vector(f, &op->shift, sizes[2]);
            break;
        case FD_OP_SOFTMAX: break;
        default:
            if (fields_of(op) & FD_HAS_KERNEL) mend_kernel(f, op, sizes[2]);
            mend_by_check(f, i, in, out, sizes);
        }
        set_sizes(out, sizes);
    }
}

static void seal(file *f) {
    if (f->size < sizeof(fd_file_header)) return;
    fd_file_header h;
    memcpy(&h, f->data, sizeof h);
    h.file_size = f->size;
    h.checksum = fd_xxhash64(f->data + sizeof h, f->size - sizeof h, 0);
    memcpy(f->data, &h, sizeof h);
}

/* Without libFuzzer, its own mutations are left out. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    (void)max_size;
    if (size) data[below(size)] = (uint8_t)random64(&state);
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    state = (seed + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15);
    file f = {.data = data, .size = size};
    if (!locate(&f) || below(16) == 0) {
        f.size = LLVMFuzzerMutate(data, size, max_size);
    } else if (below(16) == 0) {
        f.size = below(2) ? below(f.size) : below(f.size / FD_FILE_ALIGN) * FD_FILE_ALIGN;
    } else {
        const int network = below(2) == 0;
        for (size_t n = 1 + below(network ? 5 : 3); n > 0; n--) network ? damage_network(&f) : damage_anywhere(&f);
        if (network) mend(&f);
    }
    if (below(16)) seal(&f);
    return f.size;
}

/* Ops and tensors of another file in place of some of its own. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t max_size, unsigned seed) {
    state = (seed + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15);
    file f = {.data = out, .size = size};
    file g = {.data = (unsigned char *)(uintptr_t)other, .size = other_size};
    if (size > max_size) return 0;
    memcpy(out, data, size);
    if (!locate(&f) || !locate(&g)) return 0;
    for (size_t n = 1 + below(3); n > 0; n--) {
        const size_t i = below(f.op_count), k = below(g.op_count);
        fd_file_op *const op = &ops_of(&f)[i];
        const fd_file_op old = *op;
        memcpy(op, &ops_of(&g)[k], sizeof *op);
        op->input = old.input;
        op->output = old.output;
        if (op->input2 != FD_FILE_NONE) op->input2 = i ? some_earlier(&f, i) : old.input2;
        uint32_t *const weights[] = {&op->weights, &op->bias, &op->scale, &op->shift};
        for (size_t w = 0; w < sizeof weights / sizeof weights[0]; w++)
            if (*weights[w] != FD_FILE_NONE) *weights[w] = (uint32_t)below(f.tensor_count);
        if (below(4) == 0)
            memcpy(&tensors_of(&f)[below(f.tensor_count)], &tensors_of(&g)[below(g.tensor_count)],
                   sizeof(fd_file_tensor));
    }
    mend(&f);
    seal(&f);
    return f.size;
}

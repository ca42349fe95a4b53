/* From a validated program to steps that a worker runs without deciding anything: where each activation lives, which
 * kernel runs each op, and with which arguments. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"

/* Scratch memory and work beyond which a model is not a small network: an answer must come in bounded time. */
#define MAX_ARENA_FLOATS ((size_t)1 << 28)
#define MAX_MULTIPLY_ADDS ((uint64_t)1 << 40)
/* What a chunk's dense activations may take. */
#define CHUNK_FLOATS ((size_t)1 << 18)

static const float *weight_data(const fd_model *m, uint32_t index) {
    if (index == FD_FILE_NONE) return NULL;
    return (const float *)(const void *)(m->weights + m->tensors[index].offset);
}

static fd_epilogue epilogue_of(const fd_model *m, const fd_file_op *op) {
    return (fd_epilogue){
        .activation = op->activation,
        .alpha = op->alpha,
        .axis = op->affine_axis,
        .scale = weight_data(m, op->scale),
        .shift = weight_data(m, op->shift),
    };
}

static fd_value dims_of(const fd_file_tensor *t) {
    fd_value v = {.rows = 1, .cols = 1, .channels = t->dims[0]};
    if (t->rank == 3) v = (fd_value){.rows = t->dims[0], .cols = t->dims[1], .channels = t->dims[2]};
    v.elements = v.rows * v.cols * v.channels;
    return v;
}

/* Reserves whole cache lines, so that no two workers or values share one. */
static size_t reserve(size_t *arena, size_t floats) {
    const size_t at = *arena;
    *arena += fd_round_up(floats, FD_ALIGN / sizeof(float));
    return at;
}

/* The layers from the first dense one on take a chunk of images at once; chunk sizes are chosen so that what lies
 * between them stays in cache. */
static void split_program(fd_model *m) {
    m->batched = m->op_count;
    size_t per_image = 0;
    for (size_t i = 1; i < m->op_count; i++) {
        const fd_file_tensor *const out = &m->tensors[m->ops[i].output];
        if (out->rank == 1 && m->batched == m->op_count) {
            m->batched = i;
            per_image += dims_of(&m->tensors[m->ops[i].input]).elements;
        }
        if (out->rank == 1 || i + 1 == m->op_count) per_image += dims_of(out).elements;
    }
    m->chunk = FD_CHUNK_ROWS;
    while (m->chunk > 1 && per_image * m->chunk > CHUNK_FLOATS) m->chunk /= 2;
}

/* A convolution's padding is a margin of zeros around its input: written once, when the context is made, for nothing
 * ever writes there again. Its producer writes between the margins. */
static void place_values(fd_model *m) {
    for (size_t i = 0; i < m->op_count; i++) {
        const uint32_t t = m->ops[i].output;
        fd_value v = dims_of(&m->tensors[t]);
        const fd_file_op *const reader = i + 1 < m->op_count ? &m->ops[i + 1] : NULL;
        static const uint32_t no_pad[4] = {0};
        const uint32_t *const pad = reader && reader->opcode == FD_OP_CONV2D ? reader->pad : no_pad;
        v.row = (v.cols + pad[1] + pad[3]) * v.channels;
        const size_t image = (v.rows + pad[0] + pad[2]) * v.row;
        const int of_chunk = i + 1 >= m->batched;
        v.image = of_chunk ? image : 0;
        v.base = reserve(&m->arena, of_chunk ? image * m->chunk : image);
        v.interior = v.base + pad[0] * v.row + pad[1] * v.channels;
        m->values[t] = v;
    }
}

static fd_pool2d_args pool_of(const fd_file_op *op, const fd_value *out) {
    return (fd_pool2d_args){
        .out_row = out->row,
        .out_count = out->rows,
        .out_cols = out->cols,
        .channels = out->channels,
        .mode = op->pool_mode,
        .size = {op->pool[0], op->pool[1]},
        .stride = {op->pool_stride[0], op->pool_stride[1]},
        .pad = {op->pool_pad[0], op->pool_pad[1]},
    };
}

/* How many of `count` convolution outputs pooling reads: floor pooling may leave the last ones alone, and so do we. */
static size_t pooled_extent(size_t out, const fd_pool2d_args *pool, int d, size_t count) {
    return fd_min((out - 1) * pool->stride[d] + pool->size[d] - pool->pad[d], count);
}

static void plan_conv2d(fd_model *m, const fd_file_op *op, fd_step *step, uint32_t *taps, size_t *ring) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    fd_conv2d_args *const a = &step->args.conv2d;
    const size_t depth = m->tensors[op->weights].dims[0];
    uint32_t *tap = taps;
    for (uint32_t y = 0; y < op->kernel[0]; y++)
        for (uint32_t x = 0; x < op->kernel[1]; x++)
            for (size_t c = 0; c < in->channels; c++)
                *tap++ = (uint32_t)(y * op->dilation[0] * in->row + x * op->dilation[1] * in->channels + c);
    *a = (fd_conv2d_args){
        .weights = weight_data(m, op->weights),
        .bias = op->bias == FD_FILE_NONE ? m->zeros : weight_data(m, op->bias),
        .taps = taps,
        .depth = depth,
        .in_row_step = op->stride[0] * in->row,
        .in_col_step = op->stride[1] * in->channels,
        .rows = fd_window_count(in->rows, op->pad[0] + op->pad[2], op->kernel[0], op->dilation[0], op->stride[0]),
        .cols = fd_window_count(in->cols, op->pad[1] + op->pad[3], op->kernel[1], op->dilation[1], op->stride[1]),
        .channels = out->channels,
        .out_row = out->row,
        .epilogue = epilogue_of(m, op),
        .pool_mode = op->pool_mode,
    };
    if (op->pool_mode != FD_POOL_NONE) {
        a->pool = pool_of(op, out);
        a->rows = pooled_extent(out->rows, &a->pool, 0, a->rows);
        a->cols = pooled_extent(out->cols, &a->pool, 1, a->cols);
        a->pool.rows = a->rows;
        a->pool.cols = a->cols;
        a->pool.in_ring = op->pool[0];
        a->pool.in_row = a->cols * a->channels;
        *ring = a->pool.in_ring * a->pool.in_row > *ring ? a->pool.in_ring * a->pool.in_row : *ring;
    }
    m->multiply_adds += (uint64_t)a->rows * a->cols * depth * a->channels;
}

static void plan_dense(fd_model *m, const fd_file_op *op, fd_step *step, size_t *nonzero) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    step->args.dense = (fd_dense_args){
        .weights = weight_data(m, op->weights),
        .bias = op->bias == FD_FILE_NONE ? m->zeros : weight_data(m, op->bias),
        .depth = in->elements,
        .channels = out->channels,
        .in_row = in->elements,
        .out_row = out->elements,
        .epilogue = epilogue_of(m, op),
    };
    step->dense = out->channels <= FD_NARROW ? m->kernels->dense_narrow : m->kernels->dense;
    *nonzero = in->elements > *nonzero ? in->elements : *nonzero;
    m->multiply_adds += (uint64_t)in->elements * out->channels;
}

static void plan_step(fd_model *m, size_t i, uint32_t *taps, size_t *ring, size_t *nonzero) {
    const fd_file_op *const op = &m->ops[i];
    fd_step *const step = &m->steps[i];
    *step = (fd_step){.opcode = op->opcode, .in = op->input, .out = op->output};
    if (i == 0) return;
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    switch (op->opcode) {
    case FD_OP_CONV2D: plan_conv2d(m, op, step, taps, ring); break;
    case FD_OP_DENSE: plan_dense(m, op, step, nonzero); break;
    case FD_OP_POOL2D:
        step->args.pool2d = pool_of(op, out);
        step->args.pool2d.in_row = in->row;
        step->args.pool2d.in_ring = in->rows;
        step->args.pool2d.rows = in->rows;
        step->args.pool2d.cols = in->cols;
        break;
    case FD_OP_ELTWISE:
        /* A rank-1 tensor is a pixel an image, and the chunk its rows. */
        step->args.eltwise = (fd_eltwise_args){
            .in_row = in->row,
            .out_row = out->row,
            .rows = in->rows,
            .cols = in->cols,
            .channels = in->channels,
            .epilogue = epilogue_of(m, op),
        };
        break;
    default: break;
    }
}

/* Offsets of taps are 32 bits; every padded input must be within their reach, and all of it within MAX_ARENA_FLOATS. */
static fd_status check_sizes(const fd_model *m, size_t *taps, size_t *widest, fd_error *error) {
    size_t total = 0;
    *taps = *widest = 0;
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        const fd_value v = dims_of(&m->tensors[op->output]);
        size_t rows = v.rows, cols = v.cols;
        if (i + 1 < m->op_count && m->ops[i + 1].opcode == FD_OP_CONV2D) {
            const uint32_t *const pad = m->ops[i + 1].pad;
            rows += pad[0] + pad[2];
            cols += pad[1] + pad[3];
        }
        /* At most (2^24 + 2 * 255)^2 times 2^24 elements: below 2^63 only if rows * cols is; so check each product. */
        size_t floats;
        if (!fd_mul(rows, cols, &floats) || !fd_mul(floats, v.channels, &floats) || floats > MAX_ARENA_FLOATS ||
            (total += floats) > MAX_ARENA_FLOATS)
            return fd_fail(error, FD_ERR_UNSUPPORTED, "the activations need more than %zu MiB an image",
                           MAX_ARENA_FLOATS * sizeof(float) >> 20);
        if (op->opcode == FD_OP_CONV2D) *taps += m->tensors[op->weights].dims[0];
        if (op->opcode == FD_OP_CONV2D || op->opcode == FD_OP_DENSE) {
            const size_t padded = fd_round_up(m->tensors[op->weights].dims[1], FD_PANEL_ALIGN);
            *widest = padded > *widest ? padded : *widest;
        }
    }
    return FD_OK;
}

fd_status fd_plan(fd_model *m, fd_error *error) {
    size_t taps, widest, ring = 0, nonzero = 0;
    fd_status status = fd_cpu_select(&m->kernels, error);
    if (status) return status;
    if ((status = check_sizes(m, &taps, &widest, error))) return status;

    m->values = fd_alloc(m->tensor_count * sizeof *m->values);
    m->steps = fd_alloc(m->op_count * sizeof *m->steps);
    m->taps = fd_alloc(taps * sizeof *m->taps);
    m->zeros = fd_alloc(widest * sizeof *m->zeros);
    if (!m->values || !m->steps || !m->taps || !m->zeros)
        return fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");

    split_program(m);
    place_values(m);
    uint32_t *next = m->taps;
    for (size_t i = 0; i < m->op_count; i++) {
        plan_step(m, i, next, &ring, &nonzero);
        if (m->ops[i].opcode == FD_OP_CONV2D) next += m->tensors[m->ops[i].weights].dims[0];
    }
    m->ring = reserve(&m->arena, ring);
    m->nonzero = reserve(&m->arena, 2 * nonzero);

    if (m->arena > 2 * MAX_ARENA_FLOATS)
        return fd_fail(error, FD_ERR_UNSUPPORTED, "a call would need %zu MiB of scratch memory",
                       m->arena * sizeof(float) >> 20);
    if (m->multiply_adds > MAX_MULTIPLY_ADDS)
        return fd_fail(error, FD_ERR_UNSUPPORTED,
                       "the network takes %llu multiply-adds an image, at most %llu are allowed",
                       (unsigned long long)m->multiply_adds, (unsigned long long)MAX_MULTIPLY_ADDS);
    return FD_OK;
}

/* From a validated program to steps that a worker runs without deciding anything: where each activation lives, which
 * kernel runs each op, and with which arguments. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"
#include "model/prepack.h"

/* Scratch memory and work beyond which a model is not a small network: an answer must come in bounded time. */
#define MAX_ARENA_FLOATS ((size_t)1 << 28)
#define MAX_WORK ((uint64_t)1 << 36)
/* What is derived from the weights: ops may share a tensor, so that a small file could ask for much. */
#define MAX_DERIVED_FLOATS ((size_t)1 << 26)
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

/* Where the next op's taps, transformed or interleaved weights and sums go, and the most scratch memory a step wants.
 */
typedef struct fd_cursor {
    size_t taps, transformed, interleaved, sums, scratch;
} fd_cursor;

static void need_scratch(fd_cursor *cursor, size_t floats) {
    if (floats > cursor->scratch) cursor->scratch = floats;
}

static const float *bias_of(const fd_model *m, const fd_file_op *op) {
    return op->bias == FD_FILE_NONE ? m->zeros : weight_data(m, op->bias);
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
static size_t pooled_extent(size_t out, const fd_file_op *op, int d, size_t count) {
    return fd_min((out - 1) * op->pool_stride[d] + op->pool[d] - op->pool_pad[d], count);
}

/* What a plan takes from its convolutions' shapes before anything is placed. */
typedef struct fd_conv_plan {
    fd_algorithm algorithm;
    fd_conv_shape shape;
    size_t patch_rows, patch_cols; /* 0 if direct */
    size_t margin[4];              /* top, left, bottom, right of the input: padding, and room for the last patches */
} fd_conv_plan;

static fd_conv_plan plan_convolution(const fd_model *m, const fd_file_op *op) {
    const fd_value in = dims_of(&m->tensors[op->input]), out = dims_of(&m->tensors[op->output]);
    fd_conv_plan plan = {.margin = {op->pad[0], op->pad[1], op->pad[2], op->pad[3]}};
    const size_t rows =
        fd_window_count(in.rows, op->pad[0] + op->pad[2], op->kernel[0], op->dilation[0], op->stride[0]);
    const size_t cols =
        fd_window_count(in.cols, op->pad[1] + op->pad[3], op->kernel[1], op->dilation[1], op->stride[1]);
    plan.shape = (fd_conv_shape){in.channels, rows, cols, out.channels};
    if (op->pool_mode != FD_POOL_NONE) {
        plan.shape.rows = pooled_extent(out.rows, op, 0, rows);
        plan.shape.cols = pooled_extent(out.cols, op, 1, cols);
    }
    plan.algorithm = fd_algorithm_choose(op, &plan.shape, m->kernels->vector_floats);
    if (plan.algorithm != FD_DIRECT) {
        const fd_winograd_sizes w = fd_algorithm_sizes(plan.algorithm);
        plan.patch_rows = (plan.shape.rows + w.m - 1) / w.m;
        plan.patch_cols = (plan.shape.cols + w.m - 1) / w.m;
        const size_t has_rows = in.rows + op->pad[0] + op->pad[2], reach_rows = plan.patch_rows * w.m + w.r - 1;
        const size_t has_cols = in.cols + op->pad[1] + op->pad[3], reach_cols = plan.patch_cols * w.m + w.r - 1;
        if (reach_rows > has_rows) plan.margin[2] += reach_rows - has_rows;
        if (reach_cols > has_cols) plan.margin[3] += reach_cols - has_cols;
    }
    return plan;
}

/* A convolution's padding is a margin of zeros around its input: written once, when the context is made, for nothing
 * ever writes there again. Its producer writes between the margins. */
static void place_values(fd_model *m) {
    for (size_t i = 0; i < m->op_count; i++) {
        const uint32_t t = m->ops[i].output;
        fd_value v = dims_of(&m->tensors[t]);
        size_t margin[4] = {0};
        if (i + 1 < m->op_count && m->ops[i + 1].opcode == FD_OP_CONV2D) {
            const fd_conv_plan reader = plan_convolution(m, &m->ops[i + 1]);
            memcpy(margin, reader.margin, sizeof margin);
        }
        v.has_margins = margin[0] || margin[1] || margin[2] || margin[3];
        v.row = (v.cols + margin[1] + margin[3]) * v.channels;
        const size_t image = (v.rows + margin[0] + margin[2]) * v.row;
        const int of_chunk = i + 1 >= m->batched;
        v.image = of_chunk ? image : 0;
        v.base = reserve(&m->arena, of_chunk ? image * m->chunk : image);
        v.interior = v.base + margin[0] * v.row + margin[1] * v.channels;
        m->values[t] = v;
    }
}

static void plan_winograd(fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step,
                          fd_cursor *cursor) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    const fd_winograd_sizes w = fd_algorithm_sizes(plan->algorithm);
    const size_t padded = fd_round_up(out->channels, FD_PANEL_ALIGN), patches = plan->patch_rows * plan->patch_cols;
    float *const weights = m->transformed + cursor->transformed;
    cursor->transformed += w.positions * in->channels * padded;
    fd_algorithm_transform(plan->algorithm, weight_data(m, op->weights), &plan->shape, weights);
    step->winograd =
        plan->algorithm == FD_WINOGRAD_4X4_3X3 ? m->kernels->winograd_4x4_3x3 : m->kernels->winograd_2x2_2x2;
    step->args.winograd = (fd_winograd_args){
        .weights = weights,
        .bias = bias_of(m, op),
        .in_row = in->row,
        .in_channels = in->channels,
        .rows = plan->shape.rows,
        .cols = plan->shape.cols,
        .channels = out->channels,
        .out_row = out->row,
        .epilogue = epilogue_of(m, op),
        .pooled = op->pool_mode != FD_POOL_NONE,
        .patch_rows = plan->patch_rows,
        .patch_cols = plan->patch_cols,
    };
    const size_t v = fd_round_up(w.positions * patches * in->channels, FD_ALIGN / sizeof(float));
    step->scratch_split = v;
    need_scratch(cursor, v + w.positions * patches * padded);
    m->multiply_adds += (uint64_t)plan->shape.rows * plan->shape.cols * w.r * w.r * in->channels * out->channels;
}

static void plan_direct(fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step, fd_cursor *cursor) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    fd_conv2d_args *const a = &step->args.conv2d;
    const size_t depth = m->tensors[op->weights].dims[0];
    uint32_t *const taps = m->taps + cursor->taps;
    cursor->taps += depth;
    uint32_t *tap = taps;
    for (uint32_t y = 0; y < op->kernel[0]; y++)
        for (uint32_t x = 0; x < op->kernel[1]; x++)
            for (size_t c = 0; c < in->channels; c++)
                *tap++ = (uint32_t)(y * op->dilation[0] * in->row + x * op->dilation[1] * in->channels + c);
    *a = (fd_conv2d_args){
        .weights = weight_data(m, op->weights),
        .bias = bias_of(m, op),
        .taps = taps,
        .depth = depth,
        .in_row_step = op->stride[0] * in->row,
        .in_col_step = op->stride[1] * in->channels,
        .rows = plan->shape.rows,
        .cols = plan->shape.cols,
        .channels = out->channels,
        .out_row = out->row,
        .epilogue = epilogue_of(m, op),
        .pool_mode = op->pool_mode,
    };
    if (op->pool_mode != FD_POOL_NONE) {
        a->pool = pool_of(op, out);
        a->pool.rows = a->rows;
        a->pool.cols = a->cols;
        a->pool.in_ring = op->pool[0];
        a->pool.in_row = a->cols * a->channels;
        need_scratch(cursor, a->pool.in_ring * a->pool.in_row);
    }
    m->multiply_adds += (uint64_t)a->rows * a->cols * depth * a->channels;
}

static void plan_conv2d(fd_model *m, const fd_file_op *op, fd_step *step, fd_cursor *cursor) {
    const fd_conv_plan plan = plan_convolution(m, op);
    if (plan.algorithm == FD_DIRECT)
        plan_direct(m, op, &plan, step, cursor);
    else
        plan_winograd(m, op, &plan, step, cursor);
}

/* Each worker quantises the rows of a chunk for itself, which costs less than waiting for others to do it. */
static void plan_dynamic(fd_model *m, fd_step *step, fd_cursor *cursor) {
    fd_dense_args *const a = &step->args.dense;
    const size_t padded = fd_round_up(a->channels, FD_PANEL_ALIGN);
    int8_t *const weights = m->interleaved + cursor->interleaved;
    int32_t *const sums = m->sums + cursor->sums;
    step->column_bytes = fd_prepack_column(a->depth);
    cursor->interleaved += step->column_bytes * padded;
    cursor->sums += padded;
    fd_prepack_dynamic(a->weights, a->depth, a->channels, weights, sums);
    a->weights = weights;
    a->sums = sums;
    step->dense = m->kernels->dense_dynamic;
    need_scratch(cursor, FD_DYNAMIC_SCRATCH(m->chunk, a->depth));
}

static void plan_dense(fd_model *m, const fd_file_op *op, fd_step *step, fd_cursor *cursor) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    step->args.dense = (fd_dense_args){
        .weights = weight_data(m, op->weights),
        .dtype = m->tensors[op->weights].dtype,
        .bias = bias_of(m, op),
        .scale = weight_data(m, op->scale),
        .depth = in->elements,
        .channels = out->channels,
        .in_row = in->elements,
        .out_row = out->elements,
        .epilogue = epilogue_of(m, op),
    };
    step->column_bytes = in->elements * fd_dtype_size(step->args.dense.dtype);
    step->dense = out->channels <= FD_NARROW ? m->kernels->dense_narrow : m->kernels->dense;
    if (op->quantization == FD_QUANTIZATION_DYNAMIC)
        plan_dynamic(m, step, cursor);
    else
        need_scratch(cursor, FD_DENSE_SCRATCH(in->elements));
    m->multiply_adds += (uint64_t)in->elements * out->channels;
}

static void plan_step(fd_model *m, size_t i, fd_cursor *cursor) {
    const fd_file_op *const op = &m->ops[i];
    fd_step *const step = &m->steps[i];
    *step = (fd_step){.opcode = op->opcode, .in = op->input, .out = op->output};
    if (i == 0) return;
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    switch (op->opcode) {
    case FD_OP_CONV2D: plan_conv2d(m, op, step, cursor); break;
    case FD_OP_DENSE: plan_dense(m, op, step, cursor); break;
    case FD_OP_POOL2D:
        step->args.pool2d = pool_of(op, out);
        step->args.pool2d.in_row = in->row;
        step->args.pool2d.in_ring = in->rows;
        step->args.pool2d.rows = in->rows;
        step->args.pool2d.cols = in->cols;
        break;
    case FD_OP_ELTWISE:
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

/* What a plan allocates: floats of the widest bias, taps, transformed weights, bytes of interleaved ones, their sums.
 */
typedef struct fd_sizes {
    size_t widest, taps, transformed, interleaved, sums;
} fd_sizes;

/* In floats. */
static size_t derived(const fd_sizes *s) { return s->taps + s->transformed + s->interleaved / sizeof(float) + s->sums; }

/* Offsets of taps are 32 bits: every padded input must be within their reach, and all of them within
 * MAX_ARENA_FLOATS. */
static fd_status check_sizes(const fd_model *m, fd_sizes *sizes, fd_error *error) {
    size_t total = 0;
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        const fd_value v = dims_of(&m->tensors[op->output]);
        size_t rows = v.rows, cols = v.cols, floats;
        if (i + 1 < m->op_count && m->ops[i + 1].opcode == FD_OP_CONV2D) {
            const fd_conv_plan reader = plan_convolution(m, &m->ops[i + 1]);
            rows += reader.margin[0] + reader.margin[2];
            cols += reader.margin[1] + reader.margin[3];
        }
        if (!fd_mul(rows, cols, &floats) || !fd_mul(floats, v.channels, &floats) || floats > MAX_ARENA_FLOATS ||
            (total += floats) > MAX_ARENA_FLOATS)
            return fd_fail(error, FD_ERR_UNSUPPORTED, "the activations need more than %zu MiB an image",
                           MAX_ARENA_FLOATS * sizeof(float) >> 20);
        if (op->opcode != FD_OP_CONV2D && op->opcode != FD_OP_DENSE) continue;
        const size_t padded = fd_round_up(v.channels, FD_PANEL_ALIGN);
        if (padded > sizes->widest) sizes->widest = padded;
        const size_t depth = m->tensors[op->weights].dims[0];
        if (op->quantization == FD_QUANTIZATION_DYNAMIC) {
            sizes->interleaved += fd_prepack_column(depth) * padded;
            sizes->sums += padded;
        }
        if (op->opcode == FD_OP_CONV2D) {
            const fd_conv_plan plan = plan_convolution(m, op);
            if (plan.algorithm == FD_DIRECT)
                sizes->taps += depth;
            else
                sizes->transformed += fd_algorithm_sizes(plan.algorithm).positions * plan.shape.in_channels * padded;
        }
        if (derived(sizes) > MAX_DERIVED_FLOATS)
            return fd_fail(error, FD_ERR_UNSUPPORTED, "the layers need more than %zu MiB beside their weights",
                           MAX_DERIVED_FLOATS * sizeof(float) >> 20);
    }
    return FD_OK;
}

/* Multiply-adds and what pooling adds up or compares, for an image. */
static uint64_t work_of(const fd_model *m) {
    uint64_t work = m->multiply_adds;
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        work += (uint64_t)m->values[op->output].elements * op->pool[0] * op->pool[1];
    }
    return work;
}

fd_status fd_plan(fd_model *m, fd_error *error) {
    fd_sizes sizes = {0};
    fd_cursor cursor = {0};
    fd_status status = fd_cpu_select(&m->kernels, error);
    if (status) return status;
    if ((status = check_sizes(m, &sizes, error))) return status;

    m->values = fd_alloc(m->tensor_count * sizeof *m->values);
    m->steps = fd_alloc(m->op_count * sizeof *m->steps);
    m->taps = fd_alloc(sizes.taps * sizeof *m->taps);
    m->transformed = fd_alloc(sizes.transformed * sizeof *m->transformed);
    m->interleaved = fd_alloc(sizes.interleaved);
    m->sums = fd_alloc(sizes.sums * sizeof *m->sums);
    m->zeros = fd_alloc(sizes.widest * sizeof *m->zeros);
    if (!m->values || !m->steps || !m->taps || !m->transformed || !m->interleaved || !m->sums || !m->zeros)
        return fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");

    split_program(m);
    place_values(m);
    for (size_t i = 0; i < m->op_count; i++) plan_step(m, i, &cursor);
    m->scratch = reserve(&m->arena, cursor.scratch);

    if (m->arena > 2 * MAX_ARENA_FLOATS)
        return fd_fail(error, FD_ERR_UNSUPPORTED, "a call would need %zu MiB of scratch memory",
                       m->arena * sizeof(float) >> 20);
    if (work_of(m) > MAX_WORK)
        return fd_fail(error, FD_ERR_UNSUPPORTED,
                       "the network takes %llu operations an image, at most %llu are allowed",
                       (unsigned long long)work_of(m), (unsigned long long)MAX_WORK);
    return FD_OK;
}

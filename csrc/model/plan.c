/* From a validated program to steps that a worker runs without deciding anything: where each activation lives, which
 * kernel runs each op, and with which arguments. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"
#include "model/arena.h"
#include "model/prepack.h"

/* Scratch memory and work beyond which a model is not a small network: an answer must come in bounded time. */
#define MAX_ARENA_FLOATS ((size_t)1 << 28)
#define MAX_WORK ((uint64_t)1 << 36)
/* What is derived from the weights: ops may share a tensor, so that a small file could ask for much. */
#define MAX_DERIVED_FLOATS ((size_t)1 << 26)
/* What a chunk's dense activations may take. */
#define CHUNK_FLOATS ((size_t)1 << 18)
/* Up to here the values of an image stay in a second-level cache without sharing memory. */
#define SHARE_FLOATS ((size_t)1 << 15)

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

/* Reserves whole cache lines, so that no two workers share one. */
static size_t reserve(size_t *arena, size_t floats) {
    const size_t at = *arena;
    *arena += fd_round_up(floats, FD_ALIGN / sizeof(float));
    return at;
}

/* The vectors at the end of the program take a chunk of images at once, which reads the weights of dense layers once;
 * chunk sizes are chosen so that what lies between them stays in cache. */
static int is_of_chunk(const fd_model *m, size_t last_read, size_t written) {
    return written >= m->batched || last_read >= m->batched;
}

static void split_program(fd_model *m) {
    m->batched = m->op_count;
    while (m->batched > 1 && m->tensors[m->ops[m->batched - 1].output].rank == 1) m->batched--;
}

static void choose_chunk(fd_model *m, const fd_block *blocks) {
    size_t per_image = 0;
    for (size_t i = 1; i < m->op_count; i++)
        if (is_of_chunk(m, blocks[i].last, i)) per_image += m->values[m->ops[i].output].elements;
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

static fd_eltwise_args eltwise_of(const fd_value *in, const fd_value *out, fd_epilogue epilogue) {
    return (fd_eltwise_args){
        .in_row = in->row,
        .out_row = out->row,
        .rows = in->rows,
        .cols = in->cols,
        .channels = in->channels,
        .epilogue = epilogue,
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
    size_t repeat;                 /* depthwise: outputs of each input channel; otherwise 1 */
    size_t abreast;                /* direct: neighbouring outputs that share a vector of channels */
    size_t margin[4];              /* top, left, bottom, right of the input: padding, and room for the last patches */
} fd_conv_plan;

/* A group for each channel. One channel alone is an ordinary convolution. */
static int is_depthwise(const fd_model *m, const fd_file_op *op) {
    return op->groups > 1 && op->groups == dims_of(&m->tensors[op->input]).channels;
}

/* A few channels would leave most lanes of a vector empty. Neighbouring outputs side by side fill them: `abreast`
 * columns are one with as many times the channels, of a kernel so much wider, with zeros where an output does not look.
 * In memory nothing moves. */
static size_t choose_abreast(const fd_file_op *op, const fd_conv_shape *shape, size_t vector) {
    const int by_pixel = op->affine_axis == FD_AXIS_NONE || op->affine_axis == FD_AXIS_HEIGHT;
    if (op->groups > 1 || op->dilation[1] > 1 || !by_pixel) return 1;
    size_t best = 1, least = op->kernel[1];
    for (size_t n = 2; n * shape->channels <= vector && n <= shape->cols; n++) {
        if (shape->cols % n) continue;
        const size_t kernel = op->kernel[1] + (n - 1) * op->stride[1];
        if (kernel * best >= least * n) continue;
        best = n;
        least = kernel;
    }
    return best;
}

static fd_conv_plan plan_convolution(const fd_model *m, const fd_file_op *op) {
    const fd_value in = dims_of(&m->tensors[op->input]), out = dims_of(&m->tensors[op->output]);
    fd_conv_plan plan = {
        .algorithm = FD_DIRECT,
        .repeat = is_depthwise(m, op) ? out.channels / in.channels : 1,
        .abreast = 1,
        .margin = {op->pad[0], op->pad[1], op->pad[2], op->pad[3]},
    };
    const size_t rows =
        fd_window_count(in.rows, op->pad[0] + op->pad[2], op->kernel[0], op->dilation[0], op->stride[0]);
    const size_t cols =
        fd_window_count(in.cols, op->pad[1] + op->pad[3], op->kernel[1], op->dilation[1], op->stride[1]);
    plan.shape = (fd_conv_shape){in.channels / op->groups, rows, cols, out.channels / op->groups};
    if (op->pool_mode != FD_POOL_NONE) {
        plan.shape.rows = pooled_extent(out.rows, op, 0, rows);
        plan.shape.cols = pooled_extent(out.cols, op, 1, cols);
    }
    if (op->groups == 1) plan.algorithm = fd_algorithm_choose(op, &plan.shape, m->isa->floats->vector_floats);
    if (plan.algorithm == FD_DIRECT) {
        plan.abreast = choose_abreast(op, &plan.shape, m->isa->floats->vector_floats);
    } else {
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

/* Whether a convolution reads a copy of its input: its reader wants no margins, or each channel several times. */
static int gathers(const fd_value *in, const fd_conv_plan *plan) {
    const size_t *const margin = plan->margin;
    return plan->repeat > 1 || (in->contiguous && (margin[0] || margin[1] || margin[2] || margin[3]));
}

/* The dims of all values and what their readers want around them. A convolution's padding is a margin of zeros around
 * its input. */
static void shape_values(fd_model *m) {
    for (size_t i = 0; i < m->op_count; i++) m->values[m->ops[i].output] = dims_of(&m->tensors[m->ops[i].output]);
    for (size_t i = 1; i < m->op_count; i++)
        if (m->ops[i].opcode == FD_OP_DENSE) m->values[m->ops[i].input].contiguous = 1;
    for (size_t i = 1; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        if (op->opcode != FD_OP_CONV2D) continue;
        fd_value *const in = &m->values[op->input];
        const fd_conv_plan plan = plan_convolution(m, op);
        for (int side = 0; side < 4 && !gathers(in, &plan); side++)
            if (plan.margin[side] > in->margin[side]) in->margin[side] = plan.margin[side];
    }
}

/* From the step that writes it to the last that reads it. What images of a chunk leave for the batched steps is
 * needed during all of the steps before, which run once an image; results are needed to the end. */
static void find_lifetimes(const fd_model *m, fd_block *blocks) {
    const fd_file_op *const last = &m->ops[m->op_count - 1];
    for (size_t i = 0; i < m->op_count; i++) blocks[i].first = blocks[i].last = i;
    for (size_t i = 1; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        blocks[m->writers[op->input]].last = i;
        if (op->input2 != FD_FILE_NONE) blocks[m->writers[op->input2]].last = i;
    }
    blocks[m->op_count - 1].last = m->op_count;
    if (last->opcode == FD_OP_SOFTMAX) blocks[m->writers[last->input]].last = m->op_count;
    for (size_t i = 0; i < m->batched; i++)
        if (is_of_chunk(m, blocks[i].last, i)) blocks[i].first = 0;
}

/* Small networks give each value a place of its own, whose margins are zeroed once, when the context is made, for
 * nothing ever writes there again. In others, values that are not needed together share memory. */
static void place_values(fd_model *m, fd_block *blocks, uint32_t *order) {
    size_t own = 0;
    for (size_t i = 0; i < m->op_count; i++) {
        fd_value *const v = &m->values[m->ops[i].output];
        const int of_chunk = is_of_chunk(m, blocks[i].last, i);
        v->has_margins = v->margin[0] || v->margin[1] || v->margin[2] || v->margin[3];
        v->row = (v->cols + v->margin[1] + v->margin[3]) * v->channels;
        v->floats = (v->rows + v->margin[0] + v->margin[2]) * v->row;
        v->image = of_chunk ? v->floats : 0;
        blocks[i].floats = of_chunk ? v->floats * m->chunk : v->floats;
        if (!of_chunk) own += v->floats;
    }
    const int share = own > SHARE_FLOATS;
    m->arena = fd_arena_place(blocks, order, m->op_count, share);
    for (size_t i = 0; i < m->op_count; i++) {
        fd_value *const v = &m->values[m->ops[i].output];
        v->base = blocks[i].at;
        v->interior = v->base + v->margin[0] * v->row + v->margin[1] * v->channels;
        v->zero_margins = share && v->has_margins;
    }
}

/* What a convolution reads: its input as it lies, or a copy with the margins that it wants. */
static fd_value plan_input(const fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step) {
    fd_value in = m->values[op->input];
    if (gathers(&in, plan)) {
        const fd_value from = in;
        in.channels *= plan->repeat;
        in.row = (in.cols + plan->margin[1] + plan->margin[3]) * in.channels;
        step->gather_floats = (in.rows + plan->margin[0] + plan->margin[2]) * in.row;
        step->gathered = plan->repeat == 1
                             ? (fd_copy_args){.size = {1, in.rows, in.cols * in.channels},
                                              .in_stride = {0, from.row, 1},
                                              .out_stride = {0, in.row, 1}}
                             : (fd_copy_args){.size = {in.cols * from.channels, plan->repeat, 1}, /* a row */
                                              .in_stride = {1, 0, 1},
                                              .out_stride = {plan->repeat, 1, 1}};
        step->gather_rows = plan->repeat == 1 ? 1 : in.rows;
        step->gather_from = from.row;
        step->gather_to = in.row;
    }
    step->origin = op->pad[0] * in.row + op->pad[1] * in.channels;
    return in;
}

/* Between the positions of a patch, in floats: an odd number of cache lines. With a power of two all positions would
 * fall into the same few sets of a first-level cache and drive each other out. */
static size_t position_step(size_t patches, size_t channels) {
    const size_t line = FD_ALIGN / sizeof(float);
    return ((patches * channels + line - 1) / line | 1) * line;
}

static void plan_winograd(fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step,
                          fd_cursor *cursor) {
    const fd_value view = plan_input(m, op, plan, step), *const in = &view, *const out = &m->values[op->output];
    const fd_winograd_sizes w = fd_algorithm_sizes(plan->algorithm);
    const size_t padded = fd_round_up(out->channels, FD_PANEL_ALIGN), patches = plan->patch_rows * plan->patch_cols;
    float *const weights = m->transformed + cursor->transformed;
    cursor->transformed += w.positions * in->channels * padded;
    fd_algorithm_transform(plan->algorithm, weight_data(m, op->weights), &plan->shape, weights);
    step->winograd =
        plan->algorithm == FD_WINOGRAD_4X4_3X3 ? m->isa->floats->winograd_4x4_3x3 : m->isa->floats->winograd_2x2_2x2;
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
        .v_step = position_step(patches, in->channels),
        .products_step = position_step(patches, padded),
    };
    step->scratch_split = w.positions * step->args.winograd.v_step;
    step->gather = step->scratch_split + w.positions * step->args.winograd.products_step;
    need_scratch(cursor, step->gather + step->gather_floats);
    m->multiply_adds += (uint64_t)plan->shape.rows * plan->shape.cols * w.r * w.r * in->channels * out->channels;
}

/* The offset of each weight row's input from an output's first tap; of each tap's pixel if `channels` is 1. */
static const uint32_t *plan_taps(fd_model *m, const fd_file_op *op, const fd_value *in, size_t kernel_cols,
                                 size_t channels, fd_cursor *cursor) {
    uint32_t *const taps = m->taps + cursor->taps, *tap = taps;
    for (uint32_t y = 0; y < op->kernel[0]; y++)
        for (size_t x = 0; x < kernel_cols; x++)
            for (size_t c = 0; c < channels; c++)
                *tap++ = (uint32_t)(y * op->dilation[0] * in->row + x * op->dilation[1] * in->channels + c);
    cursor->taps += (size_t)(tap - taps);
    return taps;
}

static void plan_depthwise(fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step,
                           fd_cursor *cursor) {
    const fd_value view = plan_input(m, op, plan, step), *const in = &view, *const out = &m->values[op->output];
    step->is_depthwise = 1;
    step->args.depthwise = (fd_depthwise_args){
        .weights = weight_data(m, op->weights),
        .bias = bias_of(m, op),
        .taps = plan_taps(m, op, in, op->kernel[1], 1, cursor),
        .taps_count = (size_t)op->kernel[0] * op->kernel[1],
        .in_row_step = op->stride[0] * in->row,
        .in_col_step = op->stride[1] * in->channels,
        .rows = out->rows,
        .cols = out->cols,
        .channels = out->channels,
        .out_row = out->row,
        .epilogue = epilogue_of(m, op),
    };
    need_scratch(cursor, step->gather_floats);
    m->multiply_adds += (uint64_t)out->elements * step->args.depthwise.taps_count;
}

/* Floats of one group's weights, each group in panels of its own, and of its bias. */
static size_t group_weights(const fd_model *m, const fd_file_op *op) {
    const fd_file_tensor *const w = &m->tensors[op->weights];
    return w->dims[0] * fd_round_up(w->dims[1] / op->groups, FD_PANEL_ALIGN);
}

static size_t group_bias(const fd_model *m, const fd_file_op *op) {
    return fd_round_up(m->tensors[op->weights].dims[1] / op->groups, FD_PANEL_ALIGN);
}

/* The file's panels hold the columns of all groups. */
static void split_groups(fd_model *m, const fd_file_op *op, float *weights, float *bias) {
    const fd_file_tensor *const w = &m->tensors[op->weights];
    const float *const from = weight_data(m, op->weights), *const biases = weight_data(m, op->bias);
    const size_t depth = w->dims[0], outputs = w->dims[1], each = outputs / op->groups;
    for (size_t column = 0; column < outputs; column++) {
        const size_t group = column / each, own = column % each;
        const size_t first = column / FD_PANEL * FD_PANEL, to_first = own / FD_PANEL * FD_PANEL;
        const size_t width = fd_min(FD_PANEL, fd_round_up(outputs - first, FD_PANEL_ALIGN));
        const size_t to_width = fd_min(FD_PANEL, fd_round_up(each - to_first, FD_PANEL_ALIGN));
        float *const to = weights + group * group_weights(m, op) + to_first * depth + (own - to_first);
        for (size_t k = 0; k < depth; k++) to[k * to_width] = from[first * depth + k * width + (column - first)];
        if (biases) bias[group * group_bias(m, op) + own] = biases[column];
    }
}

/* Columns of the kernel of `abreast` outputs side by side. */
static size_t abreast_kernel(const fd_file_op *op, size_t abreast) {
    return op->kernel[1] + (abreast - 1) * op->stride[1];
}

/* Rows of its weights; without neighbours, those of the file. */
static size_t abreast_depth(const fd_file_op *op, const fd_conv_plan *plan) {
    return op->kernel[0] * abreast_kernel(op, plan->abreast) * plan->shape.in_channels;
}

/* Its weights, a panel of one vector of channels, and bias. */
static size_t abreast_floats(size_t depth) { return (depth + 1) * FD_PANEL_ALIGN; }

static void put_abreast(const fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, float *weights,
                        float *bias) {
    const float *from = weight_data(m, op->weights);
    const size_t in = plan->shape.in_channels, channels = plan->shape.channels;
    const size_t wide = abreast_kernel(op, plan->abreast);
    for (size_t y = 0; y < op->kernel[0]; y++)
        for (size_t x = 0; x < op->kernel[1]; x++)
            for (size_t c = 0; c < in; c++, from += FD_PANEL_ALIGN)
                for (size_t n = 0; n < plan->abreast; n++)
                    memcpy(weights + ((y * wide + x + n * op->stride[1]) * in + c) * FD_PANEL_ALIGN + n * channels,
                           from, channels * sizeof *from);
    for (size_t n = 0; n < plan->abreast; n++) memcpy(bias + n * channels, bias_of(m, op), channels * sizeof *bias);
}

/* Whether its taps are 3x3 floats, and those of the next output one float or row further. */
static int is_plane(const fd_file_op *op, const fd_conv_plan *plan) {
    return plan->shape.in_channels == 1 && op->kernel[0] == 3 && abreast_kernel(op, plan->abreast) == 3 &&
           op->stride[0] == 1 && op->stride[1] == 1 && op->dilation[0] == 1 && op->dilation[1] == 1;
}

static void plan_direct(fd_model *m, const fd_file_op *op, const fd_conv_plan *plan, fd_step *step, fd_cursor *cursor) {
    const fd_value view = plan_input(m, op, plan, step), *const in = &view, *const out = &m->values[op->output];
    fd_conv2d_args *const a = &step->args.conv2d;
    *a = (fd_conv2d_args){
        .weights = weight_data(m, op->weights),
        .bias = bias_of(m, op),
        .taps = plan_taps(m, op, in, abreast_kernel(op, plan->abreast), plan->shape.in_channels, cursor),
        .depth = abreast_depth(op, plan),
        .in_row_step = op->stride[0] * in->row,
        .in_col_step = op->stride[1] * in->channels,
        .plane_row = is_plane(op, plan) ? in->row : 0,
        .rows = plan->shape.rows,
        .cols = plan->shape.cols,
        .channels = plan->shape.channels,
        .out_row = out->row,
        .out_col = out->channels,
        .epilogue = epilogue_of(m, op),
        .pool_mode = op->pool_mode,
    };
    size_t ring = 0;
    if (op->pool_mode != FD_POOL_NONE) {
        a->pool = pool_of(op, out);
        a->pool.rows = a->rows;
        a->pool.cols = a->cols;
        a->pool.in_ring = fd_min(op->pool[0], a->rows);
        a->pool.in_row = a->cols * a->channels;
        ring = fd_round_up(a->pool.in_ring * a->pool.in_row, FD_ALIGN / sizeof(float));
    }
    step->gather = ring;
    need_scratch(cursor, ring + step->gather_floats);
    m->multiply_adds += (uint64_t)a->rows * a->cols * m->tensors[op->weights].dims[0] * out->channels;
    if (plan->abreast > 1) {
        float *const weights = m->transformed + cursor->transformed, *const bias = weights + a->depth * FD_PANEL_ALIGN;
        cursor->transformed += abreast_floats(a->depth);
        put_abreast(m, op, plan, weights, bias);
        a->weights = weights;
        a->bias = bias;
        a->cols /= plan->abreast;
        a->channels *= plan->abreast;
        a->in_col_step *= plan->abreast;
        a->out_col *= plan->abreast;
    }
    if (op->groups > 1) {
        float *const weights = m->transformed + cursor->transformed, *const bias =
                                                                         weights + op->groups * group_weights(m, op);
        cursor->transformed += op->groups * (group_weights(m, op) + group_bias(m, op));
        split_groups(m, op, weights, bias);
        a->weights = weights;
        a->bias = bias;
        a->epilogue = (fd_epilogue){.activation = FD_ACT_LINEAR};
        step->groups = op->groups;
        step->group_in = in->channels / op->groups;
        step->group_out = out->channels / op->groups;
        step->group_weights = group_weights(m, op);
        step->group_bias = group_bias(m, op);
        step->after = eltwise_of(out, out, epilogue_of(m, op));
        return;
    }
    /* A 1x1 convolution of an image without gaps is a product of matrices: one long row has no tails of tiles. */
    const int by_pixel = op->affine_axis == FD_AXIS_NONE || op->affine_axis == FD_AXIS_CHANNEL;
    if (op->kernel[0] == 1 && op->kernel[1] == 1 && op->stride[0] == 1 && op->stride[1] == 1 && by_pixel &&
        op->pool_mode == FD_POOL_NONE && in->row == a->cols * in->channels && out->row == a->cols * out->channels) {
        a->cols *= a->rows;
        a->rows = 1;
    }
}

static void plan_conv2d(fd_model *m, const fd_file_op *op, fd_step *step, fd_cursor *cursor) {
    const fd_conv_plan plan = plan_convolution(m, op);
    if (is_depthwise(m, op))
        plan_depthwise(m, op, &plan, step, cursor);
    else if (plan.algorithm == FD_DIRECT)
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
    step->dense = m->isa->bytes->dense_dynamic;
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
    step->dense = out->channels <= FD_NARROW ? m->isa->floats->dense_narrow : m->isa->floats->dense;
    if (op->quantization == FD_QUANTIZATION_DYNAMIC)
        plan_dynamic(m, step, cursor);
    else
        need_scratch(cursor, FD_DENSE_SCRATCH(in->elements));
    m->multiply_adds += (uint64_t)in->elements * out->channels;
}

/* A whole value, to somewhere with other strides between rows and pixels. */
static fd_copy_args copy_of(const fd_value *in, size_t out_row, size_t out_pixel) {
    return (fd_copy_args){
        .size = {in->rows, in->cols, in->channels},
        .in_stride = {in->row, in->channels, 1},
        .out_stride = {out_row, out_pixel, 1},
    };
}

static void plan_binary(fd_model *m, const fd_file_op *op, fd_step *step) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    fd_binary_args *const a = &step->args.binary;
    *a = (fd_binary_args){
        .a_row = in->row,
        .out_row = out->row,
        .rows = in->rows,
        .cols = in->cols,
        .channels = in->channels,
        .op = op->binary,
        .epilogue = epilogue_of(m, op),
    };
    if (op->weights != FD_FILE_NONE) {
        const size_t length = m->tensors[op->weights].dims[0];
        a->b = weight_data(m, op->weights);
        a->b_row = length == in->elements ? in->cols * in->channels : 0;
        a->b_col = length == in->elements ? in->channels : 0;
        a->one = length == 1;
        return;
    }
    const fd_value *const other = &m->values[op->input2];
    a->b_row = other->rows == 1 ? 0 : other->row;
    a->b_col = other->cols == 1 ? 0 : other->channels;
    a->one = other->channels == 1;
}

static void plan_concat(fd_model *m, const fd_file_op *op, fd_step *step) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    step->args.copy[0] = copy_of(in, out->row, out->channels);
    step->args.copy[1] = copy_of(&m->values[op->input2], out->row, out->channels);
    step->origin = op->concat_axis == FD_AXIS_HEIGHT  ? in->rows * out->row
                   : op->concat_axis == FD_AXIS_WIDTH ? in->cols * out->channels
                                                      : in->channels;
}

/* Out of the rows of one image, into those of another: by way of a vector, unless one of them is that. */
static void plan_reshape(fd_model *m, const fd_file_op *op, fd_step *step, fd_cursor *cursor) {
    const fd_value *const in = &m->values[op->input], *const out = &m->values[op->output];
    const size_t in_line = in->cols * in->channels, out_line = out->cols * out->channels;
    step->args.copy[0] =
        (fd_copy_args){.size = {1, in->rows, in_line}, .in_stride = {0, in->row, 1}, .out_stride = {0, in_line, 1}};
    step->args.copy[1] =
        (fd_copy_args){.size = {1, out->rows, out_line}, .in_stride = {0, out_line, 1}, .out_stride = {0, out->row, 1}};
    need_scratch(cursor, in->elements);
}

static void plan_step(fd_model *m, size_t i, fd_cursor *cursor) {
    const fd_file_op *const op = &m->ops[i];
    fd_step *const step = &m->steps[i];
    *step = (fd_step){.opcode = op->opcode, .in = op->input, .in2 = op->input2, .out = op->output};
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
    case FD_OP_ELTWISE: step->args.eltwise = eltwise_of(in, out, epilogue_of(m, op)); break;
    case FD_OP_BINARY: plan_binary(m, op, step); break;
    case FD_OP_CONCAT: plan_concat(m, op, step); break;
    case FD_OP_RESHAPE: plan_reshape(m, op, step, cursor); break;
    case FD_OP_TRANSPOSE: {
        const size_t strides[3] = {in->row, in->channels, 1};
        step->args.copy[0] = (fd_copy_args){
            .size = {out->rows, out->cols, out->channels},
            .in_stride = {strides[op->perm[0]], strides[op->perm[1]], strides[op->perm[2]]},
            .out_stride = {out->row, out->channels, 1},
        };
        break;
    }
    case FD_OP_PAD:
        step->fill = op->alpha;
        step->origin = op->pad[0] * out->row + op->pad[1] * out->channels + op->pad_channels[0];
        step->args.copy[0] = copy_of(in, out->row, out->channels);
        break;
    case FD_OP_LAYERNORM:
        step->args.layernorm = (fd_layernorm_args){
            .n = in->channels,
            .epsilon = op->alpha,
            .scale = weight_data(m, op->scale),
            .shift = weight_data(m, op->shift),
        };
        break;
    case FD_OP_SOFTMAX: step->args.temperature = op->alpha; break;
    default: break;
    }
}

/* What a plan allocates: floats of the widest bias, taps, transformed weights, bytes of interleaved ones, their sums.
 */
typedef struct fd_sizes {
    size_t widest, taps, transformed, interleaved, sums;
} fd_sizes;

static fd_status too_large(fd_error *error) {
    return fd_fail(error, FD_ERR_UNSUPPORTED, "the activations need more than %zu MiB an image",
                   MAX_ARENA_FLOATS * sizeof(float) >> 20);
}

/* In floats. */
static size_t derived(const fd_sizes *s) { return s->taps + s->transformed + s->interleaved / sizeof(float) + s->sums; }

/* Offsets of taps are 32 bits: every padded input must be within their reach. Sums stay far below 2^64: there are at
 * most FD_FILE_MAX_RECORDS values. */
static fd_status check_sizes(const fd_model *m, fd_sizes *sizes, fd_error *error) {
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        const fd_value v = m->values[op->output];
        const size_t rows = v.rows + v.margin[0] + v.margin[2], cols = v.cols + v.margin[1] + v.margin[3];
        size_t floats;
        if (!fd_mul(rows, cols, &floats) || !fd_mul(floats, v.channels, &floats) || floats > MAX_ARENA_FLOATS)
            return too_large(error);
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
            const fd_value *const in = &m->values[op->input];
            if (gathers(in, &plan)) { /* which is as large as an input with margins of its own */
                if (!fd_mul(in->rows + plan.margin[0] + plan.margin[2], in->cols + plan.margin[1] + plan.margin[3],
                            &floats) ||
                    !fd_mul(floats, in->channels * plan.repeat, &floats) || floats > MAX_ARENA_FLOATS)
                    return too_large(error);
            }
            if (plan.algorithm != FD_DIRECT)
                sizes->transformed += fd_algorithm_sizes(plan.algorithm).positions * plan.shape.in_channels * padded;
            else
                sizes->taps += abreast_depth(op, &plan);
            if (plan.abreast > 1) sizes->transformed += abreast_floats(abreast_depth(op, &plan));
            if (op->groups > 1 && !is_depthwise(m, op))
                sizes->transformed += op->groups * (group_weights(m, op) + group_bias(m, op));
        }
        if (derived(sizes) > MAX_DERIVED_FLOATS)
            return fd_fail(error, FD_ERR_UNSUPPORTED, "the layers need more than %zu MiB beside their weights",
                           MAX_DERIVED_FLOATS * sizeof(float) >> 20);
    }
    return FD_OK;
}

/* Multiply-adds, what pooling adds up or compares, and every value once, for an image. */
static uint64_t work_of(const fd_model *m) {
    uint64_t work = m->multiply_adds;
    for (size_t i = 0; i < m->op_count; i++) {
        const fd_file_op *const op = &m->ops[i];
        uint64_t window = 1;
        if (op->pool_mode != FD_POOL_NONE) { /* no more than there is of the image */
            const fd_value in = m->values[op->input];
            window = (uint64_t)fd_min(op->pool[0], in.rows + op->pad[0] + op->pad[2]) *
                     fd_min(op->pool[1], in.cols + op->pad[1] + op->pad[3]);
        }
        work += m->values[op->output].elements * window;
    }
    return work;
}

/* Where everything lies; needs the steps' scratch only after this. */
static fd_status place(fd_model *m, fd_error *error) {
    fd_block *const blocks = fd_alloc(m->op_count * sizeof *blocks);
    uint32_t *const order = fd_alloc(m->op_count * sizeof *order);
    const int placed = blocks && order;
    if (placed) {
        split_program(m);
        find_lifetimes(m, blocks);
        choose_chunk(m, blocks);
        place_values(m, blocks, order);
    }
    fd_free(blocks);
    fd_free(order);
    return placed ? FD_OK : fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");
}

fd_status fd_plan(fd_model *m, fd_error *error) {
    fd_sizes sizes = {0};
    fd_cursor cursor = {0};
    fd_status status = fd_isa_select(&m->isa, error);
    if (status) return status;

    m->values = fd_alloc(m->tensor_count * sizeof *m->values);
    m->writers = fd_alloc(m->tensor_count * sizeof *m->writers);
    if (!m->values || !m->writers) return fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");
    for (size_t i = 0; i < m->op_count; i++) m->writers[m->ops[i].output] = (uint32_t)i;
    shape_values(m);
    if ((status = check_sizes(m, &sizes, error))) return status;

    m->steps = fd_alloc(m->op_count * sizeof *m->steps);
    m->taps = fd_alloc(sizes.taps * sizeof *m->taps);
    m->transformed = fd_alloc(sizes.transformed * sizeof *m->transformed);
    m->interleaved = fd_alloc(sizes.interleaved);
    m->sums = fd_alloc(sizes.sums * sizeof *m->sums);
    m->zeros = fd_alloc(sizes.widest * sizeof *m->zeros);
    if (!m->steps || !m->taps || !m->transformed || !m->interleaved || !m->sums || !m->zeros)
        return fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");

    if ((status = place(m, error))) return status;
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

/* CONV2D: direct, a vector of several outputs abreast, by groups, depthwise, or by Winograd's algorithms. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/convolution.h"
#include "ops/ops.h"
#include "ops/prepack.h"
#include "ops/steps.h"

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(in->rank == 3, "op %zu is a CONV2D of a rank-1 tensor", i);
    FD_TRY(fd_check_range(op->kernel, 2, 1, FD_FILE_MAX_SMALL, "kernel", i, error));
    FD_TRY(fd_check_range(op->stride, 2, 1, FD_FILE_MAX_SMALL, "stride", i, error));
    FD_TRY(fd_check_range(op->dilation, 2, 1, FD_FILE_MAX_SMALL, "dilation", i, error));
    FD_TRY(fd_check_range(op->pad, 4, 0, FD_FILE_MAX_SMALL, "pad", i, error));
    FD_REQUIRE(op->groups && in->channels % op->groups == 0, "op %zu has %u groups of %zu channels", i, op->groups,
               in->channels);
    FD_REQUIRE(op->groups == 1 || op->pool_mode == FD_POOL_NONE, "op %zu has %u groups and a pooling", i, op->groups);
    out->rows = fd_window_count(in->rows, op->pad[0] + op->pad[2], op->kernel[0], op->dilation[0], op->stride[0]);
    out->cols = fd_window_count(in->cols, op->pad[1] + op->pad[3], op->kernel[1], op->dilation[1], op->stride[1]);
    FD_REQUIRE(out->rows && out->cols, "the kernel of op %zu does not fit its input", i);
    const size_t depth = (size_t)op->kernel[0] * op->kernel[1] * (in->channels / op->groups);
    FD_TRY(fd_check_weights(file, i, depth, &out->channels, error));
    FD_REQUIRE(out->channels % op->groups == 0, "op %zu has %u groups for %zu output channels", i, op->groups,
               out->channels);
    FD_REQUIRE(file->tensors[op->weights].dtype == FD_DTYPE_F32, "op %zu is a CONV2D whose weights are not f32", i);
    FD_TRY(fd_check_activation(op, i, error));
    FD_TRY(fd_check_affine(file, i, out, error));
    return fd_check_pool(op, i, out, error);
}

/* ---- The choice of a way, by shapes alone ---- */

/* How many of `count` convolution outputs pooling reads: floor pooling may leave the last ones alone, and so do we. */
static size_t pooled_extent(size_t out, const fd_file_op *op, int d, size_t count) {
    return fd_min((out - 1) * op->pool_stride[d] + op->pool[d] - op->pool_pad[d], count);
}

/* A group for each channel. One channel alone is an ordinary convolution. */
static int is_depthwise(const fd_plan *p, const fd_file_op *op) {
    return op->groups > 1 && op->groups == fd_plan_value(p, op->input)->channels;
}

/* Columns of the kernel of `abreast` outputs side by side. */
static size_t abreast_kernel(const fd_file_op *op, size_t abreast) {
    return op->kernel[1] + (abreast - 1) * op->stride[1];
}

/* A few channels would leave most lanes of a vector empty. Neighbouring outputs side by side fill them: `abreast`
 * columns are one with as many times the channels, of a kernel so much wider, with zeros where an output does not look.
 * In memory nothing moves, and no bit changes (fd_conv2d_args), so that each width of vectors may have its own choice.
 */
static size_t choose_abreast(const fd_file_op *op, const fd_conv_shape *shape, size_t vector) {
    const int by_pixel = op->affine_axis == FD_AXIS_NONE || op->affine_axis == FD_AXIS_HEIGHT;
    if (op->groups > 1 || op->dilation[1] > 1 || !by_pixel) return 1;
    size_t best = 1, least = op->kernel[1];
    for (size_t n = 2; n * shape->channels <= vector && n <= shape->cols; n++) {
        if (shape->cols % n) continue;
        const size_t kernel = abreast_kernel(op, n);
        if (kernel * best >= least * n) continue;
        best = n;
        least = kernel;
    }
    return best;
}

static fd_conv_plan choose(const fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    fd_conv_plan plan = {
        .algorithm = FD_DIRECT,
        .repeat = is_depthwise(p, op) ? out->channels / in->channels : 1,
        .abreast = 1,
        .margin = {op->pad[0], op->pad[1], op->pad[2], op->pad[3]},
    };
    const size_t has_rows = in->rows + op->pad[0] + op->pad[2], has_cols = in->cols + op->pad[1] + op->pad[3];
    const size_t rows = fd_window_count(has_rows, 0, op->kernel[0], op->dilation[0], op->stride[0]);
    const size_t cols = fd_window_count(has_cols, 0, op->kernel[1], op->dilation[1], op->stride[1]);
    plan.shape = (fd_conv_shape){in->channels / op->groups, rows, cols, out->channels / op->groups};
    if (op->pool_mode != FD_POOL_NONE) {
        plan.shape.rows = pooled_extent(out->rows, op, 0, rows);
        plan.shape.cols = pooled_extent(out->cols, op, 1, cols);
    }
    if (op->groups == 1) plan.algorithm = fd_algorithm_choose(op, &plan.shape);
    if (plan.algorithm == FD_DIRECT) {
        plan.abreast = choose_abreast(op, &plan.shape, p->isa->floats->vector_floats);
        return plan;
    }
    const fd_winograd_sizes w = fd_algorithm_sizes(plan.algorithm);
    plan.patch_rows = (plan.shape.rows + w.m[0] - 1) / w.m[0];
    plan.patch_cols = (plan.shape.cols + w.m[1] - 1) / w.m[1];
    const size_t reach_rows = (plan.patch_rows * w.m[0] - 1) * w.stride + w.r[0];
    const size_t reach_cols = (plan.patch_cols * w.m[1] - 1) * w.stride + w.r[1];
    if (reach_rows > has_rows) plan.margin[2] += reach_rows - has_rows;
    if (reach_cols > has_cols) plan.margin[3] += reach_cols - has_cols;
    return plan;
}

/* Whether it reads a copy of its input, which has no margins, or each of whose channels it wants several times. */
static int gathers(const fd_value *in, const fd_conv_plan *plan) {
    return plan->repeat > 1 || (in->is_vector && fd_is_margin(plan->margin));
}

/* Its padding is a margin of zeros around its input. */
static void margins(const fd_plan *p, const fd_file_op *op, size_t margin[4]) {
    const fd_conv_plan plan = choose(p, op);
    if (!gathers(fd_plan_value(p, op->input), &plan)) memcpy(margin, plan.margin, sizeof plan.margin);
}

/* ---- The runs ---- */

typedef struct direct_step {
    fd_step step;
    fd_cut cut;
    size_t part_cols; /* of one long row, columns of a part; 0: the cut is by rows */
    size_t joined;    /* parts of an image whose long row the next image's goes on with; 0: it does not */
    int by_windows;   /* its parts are rows of pooling windows, which may overlap: two shares compute what they do */
    int by_channels;  /* its parts are FD_PANEL_ALIGN channels each, of the one pixel that pooling leaves */
    fd_place in, out, ring;
    void (*kernel)(const fd_conv2d_args *);
    fd_conv2d_args args;
} direct_step;

/* Leaves out all channels but [first, end), whose ring holds no others. Returns `first`. */
static size_t take_channels(fd_conv2d_args *a, size_t first, size_t end) {
    const size_t all = a->channels;
    a->before = first;
    a->channels = a->pool.channels = fd_min(end, all) - first;
    a->after = all - first - a->channels;
    a->bias += first;
    if (a->epilogue.axis == FD_AXIS_CHANNEL) a->epilogue.scale += first, a->epilogue.shift += first;
    a->pool.in_row = a->cols * a->channels;
    return first;
}

static void run_direct(const fd_step *step, const fd_work *work, const fd_share *share) {
    const direct_step *const s = (const direct_step *)step;
    fd_conv2d_args a = s->args;
    size_t in = 0, out = 0; /* from the image's first element to the share's */
    if (s->part_cols) {
        const size_t col = share->part * s->part_cols;
        a.cols = fd_min(share->part_end * s->part_cols, a.cols) - col;
        in = col * a.in_col_step;
        out = col * a.out_col;
    } else if (s->by_windows) {
        a.pool.out_first = share->part;
        a.pool.out_count = share->part_end - share->part;
    } else if (s->by_channels) {
        out = take_channels(&a, share->part * FD_PANEL_ALIGN, share->part_end * FD_PANEL_ALIGN);
    } else {
        const size_t row = fd_cut_rows(&s->cut, share, &a.rows, &a.epilogue);
        in = row * a.in_row_step;
        out = row / s->cut.pooled * a.out_row;
    }
    const int joined = share->part == 0 && share->part_end == s->joined;
    if (joined) a.cols *= share->end - share->first;
    for (size_t i = share->first; i < (joined ? share->first + 1 : share->end); i++) {
        a.in = fd_source(work, &s->in, i) + in;
        a.out = fd_target(work, &s->out, i) + out;
        a.ring = fd_target(work, &s->ring, i);
        s->kernel(&a);
    }
}

/* Group by group, without the epilogue, which is a step of its own. */
typedef struct grouped_step {
    fd_step step;
    fd_place in, out;
    size_t groups, in_step, out_step, weights_step, bias_step; /* between groups */
    void (*kernel)(const fd_conv2d_args *);
    fd_conv2d_args args;
} grouped_step;

static void run_grouped(const fd_step *step, const fd_work *work, const fd_share *share) {
    const grouped_step *const s = (const grouped_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        fd_conv2d_args a = s->args;
        a.in = fd_source(work, &s->in, i);
        a.out = fd_target(work, &s->out, i);
        for (size_t g = 0; g < s->groups; g++) {
            s->kernel(&a);
            a.in += s->in_step;
            a.out += s->out_step;
            a.weights += s->weights_step;
            a.bias += s->bias_step;
        }
    }
}

typedef struct depthwise_step {
    fd_step step;
    fd_cut cut;
    fd_place in, out;
    void (*kernel)(const fd_depthwise_args *);
    fd_depthwise_args args;
} depthwise_step;

static void run_depthwise(const fd_step *step, const fd_work *work, const fd_share *share) {
    const depthwise_step *const s = (const depthwise_step *)step;
    fd_depthwise_args a = s->args;
    const size_t row = fd_cut_rows(&s->cut, share, &a.rows, &a.epilogue);
    for (size_t i = share->first; i < share->end; i++) {
        a.in = fd_source(work, &s->in, i) + row * a.in_row_step;
        a.out = fd_target(work, &s->out, i) + row * a.out_row;
        s->kernel(&a);
    }
}

/* ---- The plans ---- */

static void name_algorithm(fd_plan *p, const char *name) {
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->algorithm, sizeof facts->algorithm, "%s", name);
}

/* What it reads: its input, or a copy with the margins that it wants; at the first tap of the first output. */
static fd_image plan_input(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan) {
    const fd_value *const in = fd_plan_value(p, op->input);
    fd_image image = gathers(in, plan) ? fd_steps_gather(p, in, plan->margin, plan->repeat) : fd_image_of(in);
    image.first = fd_place_at(image.first, -(ptrdiff_t)(op->pad[0] * image.row + op->pad[1] * image.channels));
    return image;
}

/* The offset of each weight row's input from an output's first tap; of each tap's pixel if `channels` is 1. */
static const uint32_t *plan_taps(fd_plan *p, const fd_file_op *op, const fd_image *in, size_t kernel_cols,
                                 size_t channels) {
    uint32_t *const taps = fd_plan_take(p, op->kernel[0] * kernel_cols * channels, sizeof *taps), *tap = taps;
    for (size_t y = 0; taps && y < op->kernel[0]; y++)
        for (size_t x = 0; x < kernel_cols; x++)
            for (size_t c = 0; c < channels; c++)
                *tap++ = (uint32_t)(y * op->dilation[0] * in->row + x * op->dilation[1] * in->channels + c);
    return taps;
}

static void plan_depthwise(fd_plan *p, const fd_file_op *op, const fd_image *in) {
    const fd_value *const out = fd_plan_value(p, op->output);
    const depthwise_step s = {
        .step = {.run = run_depthwise},
        .cut = fd_plan_cut(p, in, out->rows, 1, 1),
        .in = in->first,
        .out = fd_place_of(out),
        .kernel = p->isa->floats->depthwise,
        .args =
            {
                .weights = fd_file_values(p->file, op->weights),
                .bias = fd_plan_bias(p, op, out->channels),
                .taps = plan_taps(p, op, in, op->kernel[1], 1),
                .taps_count = (size_t)op->kernel[0] * op->kernel[1],
                .in_row_step = op->stride[0] * in->row,
                .in_col_step = op->stride[1] * in->channels,
                .rows = out->rows,
                .cols = out->cols,
                .channels = out->channels,
                .out_row = out->row,
                .epilogue = fd_plan_epilogue(p, op),
            },
    };
    fd_plan_step(p, &s.step, sizeof s);
    fd_op_facts *const facts = fd_plan_facts(p);
    facts->kernel = "depthwise";
    name_algorithm(p, "depthwise");
}

/* Whether its taps are 3x3 floats, and those of the next output one float or row further. */
static int is_plane(const fd_file_op *op, const fd_conv_plan *plan) {
    return plan->shape.in_channels == 1 && op->kernel[0] == 3 && abreast_kernel(op, plan->abreast) == 3 &&
           op->stride[0] == 1 && op->stride[1] == 1 && op->dilation[0] == 1 && op->dilation[1] == 1;
}

/* Whether the kernel takes 2x2 maxima of its tiles, without a ring. */
static int is_halved(const fd_conv2d_args *a) {
    const fd_pool2d_args *const p = &a->pool;
    const uint32_t act = a->epilogue.activation;
    const int simple = act == FD_ACT_LINEAR || act == FD_ACT_RELU || act == FD_ACT_CLIPPED_RELU;
    return simple && a->pool_mode == FD_POOL_MAX && p->size[0] == 2 && p->size[1] == 2 && p->stride[0] == 2 &&
           p->stride[1] == 2 && p->pad[0] == 0 && p->pad[1] == 0 && a->rows % 2 == 0 && a->cols % 2 == 0 &&
           p->channels == a->channels;
}

/* What all direct ones have in common. */
static fd_conv2d_args direct_args(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, const fd_image *in) {
    const fd_value *const out = fd_plan_value(p, op->output);
    const size_t kernel_cols = abreast_kernel(op, plan->abreast);
    return (fd_conv2d_args){
        .weights = fd_file_values(p->file, op->weights),
        .bias = fd_plan_bias(p, op, out->channels),
        .taps = plan_taps(p, op, in, kernel_cols, plan->shape.in_channels),
        .depth = op->kernel[0] * kernel_cols * plan->shape.in_channels,
        .in_row_step = op->stride[0] * in->row,
        .in_col_step = op->stride[1] * in->channels,
        .plane_row = is_plane(op, plan) ? in->row : 0,
        .rows = plan->shape.rows,
        .cols = plan->shape.cols,
        .channels = plan->shape.channels,
        .out_row = out->row,
        .out_col = out->channels,
        .epilogue = fd_plan_epilogue(p, op),
        .pool_mode = op->pool_mode,
    };
}

/* Neighbouring outputs as channels of one. */
static void put_abreast(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, fd_conv2d_args *a) {
    const size_t n = plan->abreast;
    const fd_prepack_abreast_sizes sizes = {op->kernel[0],           op->kernel[1], op->stride[1],
                                            plan->shape.in_channels, a->channels,   n};
    float *const weights = fd_plan_take(p, a->depth, FD_PANEL_ALIGN * sizeof *weights);
    float *const bias = fd_plan_take(p, FD_PANEL_ALIGN, sizeof *bias);
    if (weights && bias) fd_prepack_abreast(a->weights, a->bias, &sizes, weights, bias);
    a->weights = weights;
    a->bias = bias;
    a->cols /= n;
    a->channels *= n;
    a->in_col_step *= n;
    a->out_col *= n;
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->algorithm, sizeof facts->algorithm, "abreast %zu", n);
    facts->executed = fd_mul_capped(fd_mul_capped(a->rows * a->cols, a->depth), a->channels);
    facts->weight_bytes += (a->depth + 1) * FD_PANEL_ALIGN * sizeof(float) - fd_file_bytes(p->file, op->weights) -
                           fd_file_bytes(p->file, op->bias);
}

static void plan_direct(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, const fd_image *in) {
    const fd_value *const out = fd_plan_value(p, op->output);
    direct_step s = {.step = {.run = run_direct},
                     .in = in->first,
                     .out = fd_place_of(out),
                     .kernel = p->isa->floats->conv2d,
                     .args = direct_args(p, op, plan, in)};
    fd_conv2d_args *const a = &s.args;
    size_t ring = 0;
    if (op->pool_mode != FD_POOL_NONE) {
        a->pool = fd_pool_of(op, out);
        a->pool.rows = a->rows;
        a->pool.cols = a->cols;
        a->pool.in_ring = fd_min(op->pool[0], a->rows);
        a->pool.in_row = a->cols * a->channels;
        ring = a->pool.in_ring * a->pool.in_row;
    }
    s.ring = fd_plan_scratch(p, ring);
    fd_op_facts *const facts = fd_plan_facts(p);
    facts->kernel = "conv2d";
    name_algorithm(p, "direct");
    if (plan->abreast > 1) put_abreast(p, op, plan, a);
    if (op->pool_mode == FD_POOL_NONE)
        s.cut = fd_plan_cut(p, in, a->rows, 1, 1);
    else if (is_halved(a))
        s.cut = fd_plan_cut(p, in, a->rows, 2, 2);
    else {
        fd_plan_cut(p, in, a->pool.out_count, 1, 1);
        s.cut = (fd_cut){a->rows, 1};
        s.by_windows = p->planned->parts > 1;
        if (out->rows * out->cols == 1 && plan->abreast == 1 && in->first.base != FD_SCRATCH) {
            s.by_channels = 1;
            p->planned->parts = fd_panel_columns(a->channels) / FD_PANEL_ALIGN;
        }
    }
    /* A 1x1 convolution of an image without gaps is a product of matrices: one long row has no tails of tiles. */
    const int by_pixel = op->affine_axis == FD_AXIS_NONE || op->affine_axis == FD_AXIS_CHANNEL;
    if (op->kernel[0] == 1 && op->kernel[1] == 1 && op->stride[0] == 1 && op->stride[1] == 1 && by_pixel &&
        op->pool_mode == FD_POOL_NONE && in->row == a->cols * in->channels && out->row == a->cols * out->channels) {
        if (p->planned->parts > 1) s.part_cols = a->cols;
        a->cols *= a->rows;
        a->rows = 1;
        s.cut.part_rows = 1;
        if (s.in.image == a->cols * in->channels && s.out.image == a->cols * out->channels)
            s.joined = p->planned->parts;
    }
    fd_plan_step(p, &s.step, sizeof s);
}

static void plan_grouped(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, const fd_image *in) {
    const fd_value *const out = fd_plan_value(p, op->output);
    const size_t each = plan->shape.channels, padded = fd_panel_columns(each);
    grouped_step s = {
        .step = {.run = run_grouped},
        .in = in->first,
        .out = fd_place_of(out),
        .groups = op->groups,
        .in_step = plan->shape.in_channels,
        .out_step = each,
        .weights_step = plan->shape.in_channels * op->kernel[0] * op->kernel[1] * padded,
        .bias_step = padded,
        .kernel = p->isa->floats->conv2d,
        .args = direct_args(p, op, plan, in),
    };
    float *const weights = fd_plan_take(p, s.groups, s.weights_step * sizeof *weights);
    float *const bias = fd_plan_take(p, s.groups, s.bias_step * sizeof *bias);
    if (weights && bias)
        fd_prepack_groups(s.args.weights, s.args.bias, s.args.depth, out->channels, s.groups, weights, bias);
    s.args.weights = weights;
    s.args.bias = bias;
    s.args.epilogue = (fd_epilogue){.activation = FD_ACT_LINEAR};
    fd_plan_step(p, &s.step, sizeof s);
    const fd_eltwise_args after = fd_eltwise_of(out, out, fd_plan_epilogue(p, op));
    if (op->activation != FD_ACT_LINEAR || op->affine_axis != FD_AXIS_NONE)
        fd_steps_eltwise(p, s.out, s.out, &after, 0);
    fd_op_facts *const facts = fd_plan_facts(p);
    facts->kernel = "conv2d";
    name_algorithm(p, "grouped");
    facts->weight_bytes += s.groups * (s.weights_step + s.bias_step) * sizeof(float) -
                           fd_file_bytes(p->file, op->weights) - fd_file_bytes(p->file, op->bias);
}

static void plan(fd_plan *p, const fd_file_op *op) {
    const fd_conv_plan plan = choose(p, op);
    const fd_file_tensor *const weights = &p->file->tensors[op->weights];
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "conv %ux%u", op->kernel[0], op->kernel[1]);
    facts->precision = fd_dtype_name(weights->dtype);
    facts->multiply_adds = fd_mul_capped(fd_mul_capped(plan.shape.rows, plan.shape.cols),
                                         fd_mul_capped(weights->dims[0], weights->dims[1]));
    facts->executed = facts->multiply_adds;
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
    const uint64_t pixels = fd_mul_capped(plan.shape.rows, plan.shape.cols);
    fd_plan_lanes_work(p, fd_mul_capped(pixels, weights->dims[0]), weights->dims[1],
                       is_depthwise(p, op) ? 1 : op->groups);
    if (op->pool_mode != FD_POOL_NONE) /* of what is pooled, and is no value */
        fd_plan_work(p, fd_plan_activation_work(op, fd_mul_capped(pixels, weights->dims[1])));
    fd_plan_pooling_work(p, op);

    const fd_image in = plan_input(p, op, &plan);
    if (plan.algorithm != FD_DIRECT)
        fd_plan_winograd(p, op, &plan, &in);
    else if (is_depthwise(p, op))
        plan_depthwise(p, op, &in);
    else if (op->groups > 1)
        plan_grouped(p, op, &plan, &in);
    else
        plan_direct(p, op, &plan, &in);
}

const fd_operator fd_operator_conv2d = {
    .fields = FD_HAS_WEIGHTS | FD_HAS_KERNEL | FD_HAS_PAD | FD_HAS_ACTIVATION | FD_HAS_AFFINE | FD_HAS_POOL,
    .check = check,
    .margins = margins,
    .plan = plan,
};

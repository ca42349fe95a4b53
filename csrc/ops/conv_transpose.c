/* CONVTRANSPOSE2D: as many direct convolutions as an output can lie relative to the strides, its phases.
 *
 * Tap k of the kernel adds input i to output i * stride + k * dilation - pad. So outputs that are a stride apart take
 * the same taps, from inputs that are one apart: they are a convolution of stride 1, by the kernel conv2d, whose
 * outputs lie a stride apart. Together the phases have each tap once. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/steps.h"

/* ---- The loader's check ---- */

/* The output's size along an axis: what it is said to be, if the fields leave that to it, or the nearest that they do.
 * More may be cut off than there is, if output padding makes up for it. */
static fd_status size_of(const fd_file_op *op, size_t i, int d, size_t in, size_t said, size_t *out, fd_error *error) {
    const uint64_t full = (uint64_t)(in - 1) * op->stride[d] + (uint64_t)op->dilation[d] * (op->kernel[d] - 1) + 1;
    const uint64_t cut = op->pad[d] + op->pad[d + 2], most = full + FD_FILE_MAX_SMALL;
    FD_REQUIRE(most > cut, "pads of op %zu cut off %llu of %llu and up to %u pixels", i, (unsigned long long)cut,
               (unsigned long long)full, FD_FILE_MAX_SMALL);
    *out = said;
    if (said + cut > most) *out = (size_t)(most - cut);
    if (said + cut < full) *out = (size_t)(full - cut);
    return FD_OK;
}

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(in->rank == 3, "op %zu is a CONVTRANSPOSE2D of a rank-1 tensor", i);
    FD_TRY(fd_check_range(op->kernel, 2, 1, FD_FILE_MAX_SMALL, "kernel", i, error));
    FD_TRY(fd_check_range(op->stride, 2, 1, FD_FILE_MAX_SMALL, "stride", i, error));
    FD_TRY(fd_check_range(op->dilation, 2, 1, FD_FILE_MAX_SMALL, "dilation", i, error));
    FD_TRY(fd_check_range(op->pad, 4, 0, FD_FILE_MAX_SMALL, "pad", i, error));
    FD_REQUIRE(op->groups && in->channels % op->groups == 0, "op %zu has %u groups of %zu channels", i, op->groups,
               in->channels);
    const fd_dims said = fd_dims_of(&file->tensors[op->output]);
    FD_TRY(size_of(op, i, 0, in->rows, said.rows, &out->rows, error));
    FD_TRY(size_of(op, i, 1, in->cols, said.cols, &out->cols, error));
    const size_t depth = (size_t)op->kernel[0] * op->kernel[1] * (in->channels / op->groups);
    FD_TRY(fd_check_weights(file, i, depth, &out->channels, error));
    FD_REQUIRE(out->channels % op->groups == 0, "op %zu has %u groups for %zu output channels", i, op->groups,
               out->channels);
    FD_REQUIRE(file->tensors[op->weights].dtype == FD_DTYPE_F32,
               "op %zu is a CONVTRANSPOSE2D whose weights are not f32", i);
    FD_TRY(fd_check_activation(op, i, error));
    return fd_check_affine(file, i, out, error);
}

/* ---- Phases, along one axis ---- */

/* Outputs `first`, first + stride and so on. */
typedef struct fd_phase {
    size_t outputs;
    size_t taps;
    uint32_t tap, step; /* its first tap, and from one to the next */
    ptrdiff_t from;     /* input of its first tap, for its first output */
    ptrdiff_t before;   /* and how far before it that of the next tap lies */
} fd_phase;

static size_t greatest_divisor(size_t a, size_t b) {
    while (b) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The taps k of a phase are those for which first + pad - k * dilation is a multiple of the stride. */
static fd_phase phase_of(const fd_file_op *op, const fd_value *out, int d, size_t first) {
    const size_t size = d == 0 ? out->rows : out->cols, stride = op->stride[d], dilation = op->dilation[d];
    fd_phase phase = {.outputs = first < size ? (size - first + stride - 1) / stride : 0};
    const size_t divisor = greatest_divisor(stride, dilation);
    phase.step = (uint32_t)(stride / divisor);
    phase.before = (ptrdiff_t)(dilation / divisor);
    while (phase.tap < op->kernel[d] && phase.tap < phase.step &&
           (first + op->pad[d] + phase.tap * (stride - dilation % stride)) % stride)
        phase.tap++;
    if (phase.tap >= op->kernel[d] || phase.tap >= phase.step) return phase;
    phase.taps = (op->kernel[d] - phase.tap + phase.step - 1) / phase.step;
    phase.from = ((ptrdiff_t)(first + op->pad[d]) - (ptrdiff_t)(phase.tap * dilation)) / (ptrdiff_t)stride;
    return phase;
}

/* The input of its last tap, for its first output: the least that it reads. */
static ptrdiff_t least_input(const fd_phase *phase) {
    return phase->from - (ptrdiff_t)(phase->taps - 1) * phase->before;
}

/* Inputs beyond the image, of any phase. */
static void wanted_margin(const fd_file_op *op, const fd_value *in, const fd_value *out, size_t margin[4]) {
    for (int d = 0; d < 2; d++) {
        const ptrdiff_t size = (ptrdiff_t)(d == 0 ? in->rows : in->cols);
        ptrdiff_t least = 0, most = size - 1;
        for (size_t first = 0; first < op->stride[d]; first++) {
            const fd_phase phase = phase_of(op, out, d, first);
            if (!phase.taps || !phase.outputs) continue;
            const ptrdiff_t low = least_input(&phase), high = phase.from + (ptrdiff_t)phase.outputs - 1;
            if (low < least) least = low;
            if (high > most) most = high;
        }
        margin[d] = (size_t)-least;
        margin[d + 2] = (size_t)(most - size + 1);
    }
}

static void margins(const fd_plan *p, const fd_file_op *op, size_t margin[4]) {
    const fd_value *const in = fd_plan_value(p, op->input);
    if (!in->is_vector) wanted_margin(op, in, fd_plan_value(p, op->output), margin);
}

/* ---- The run ---- */

/* A phase, group by group. */
typedef struct phase_step {
    fd_step step;
    fd_place in, out;
    size_t groups, in_step, out_step, weights_step, bias_step; /* between groups */
    void (*kernel)(const fd_conv2d_args *);
    fd_conv2d_args args;
} phase_step;

static void run_phase(const fd_step *step, const fd_work *work, const fd_share *share) {
    const phase_step *const s = (const phase_step *)step;
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

/* ---- The plan ---- */

/* The panels of a phase: the rows of its taps, the columns of each group by themselves. */
static const float *plan_weights(fd_plan *p, const fd_file_op *op, const fd_phase *y, const fd_phase *x) {
    const size_t channels = fd_plan_value(p, op->input)->channels / op->groups;
    const size_t columns = fd_plan_value(p, op->output)->channels, each = columns / op->groups;
    const size_t depth = y->taps * x->taps * channels, rows = (size_t)op->kernel[0] * op->kernel[1] * channels;
    const float *const panels = fd_file_values(p->file, op->weights);
    float *const weights = fd_plan_take(p, op->groups * fd_panel_columns(each), depth * sizeof *weights);
    for (size_t g = 0; weights && g < op->groups; g++) {
        float *const group = weights + g * depth * fd_panel_columns(each);
        for (size_t k = 0; k < depth; k++) {
            const size_t tap_y = y->tap + k / channels / x->taps * y->step;
            const size_t tap_x = x->tap + k / channels % x->taps * x->step;
            const size_t row = (tap_y * op->kernel[1] + tap_x) * channels + k % channels;
            for (size_t own = 0, run; own < each; own += run) {
                const size_t column = g * each + own;
                run = fd_min(each - own, FD_PANEL - own % FD_PANEL);
                run = fd_min(run, FD_PANEL - column % FD_PANEL);
                memcpy(group + fd_panel_index(depth, each, k, own), panels + fd_panel_index(rows, columns, row, column),
                       run * sizeof *weights);
            }
        }
    }
    return weights;
}

/* The offset of each weight row's input from the least that the first output reads. */
static const uint32_t *plan_taps(fd_plan *p, const fd_phase *y, const fd_phase *x, const fd_image *in,
                                 size_t channels) {
    uint32_t *const taps = fd_plan_take(p, y->taps * x->taps * channels, sizeof *taps), *tap = taps;
    for (size_t ky = y->taps; taps && ky-- > 0;)
        for (size_t kx = x->taps; kx-- > 0;)
            for (size_t c = 0; c < channels; c++)
                *tap++ = (uint32_t)(ky * (size_t)y->before * in->row + kx * (size_t)x->before * in->channels + c);
    return taps;
}

/* The bias of each group, padded. */
static const float *plan_bias(fd_plan *p, const fd_file_op *op, size_t each) {
    const float *const biases = fd_plan_bias(p, op, each * op->groups);
    if (op->groups == 1) return biases;
    float *const bias = fd_plan_take(p, op->groups, fd_panel_columns(each) * sizeof *bias);
    for (size_t g = 0; bias && g < op->groups; g++)
        memcpy(bias + g * fd_panel_columns(each), biases + g * each, each * sizeof *bias);
    return bias;
}

/* Whether the kernel applies the epilogue: it knows a pixel's channel, but not its row in the whole image, and other
 * activations than these go over its output in rows without gaps. */
static int takes_epilogue(const fd_file_op *op) {
    return op->groups == 1 && (op->activation == FD_ACT_LINEAR || op->activation == FD_ACT_RELU) &&
           (op->affine_axis == FD_AXIS_NONE || op->affine_axis == FD_AXIS_CHANNEL);
}

static void plan_phase(fd_plan *p, const fd_file_op *op, const fd_image *in, const fd_phase *y, const fd_phase *x,
                       phase_step s) {
    fd_conv2d_args *const a = &s.args;
    const size_t channels = s.in_step;
    a->rows = y->outputs;
    a->cols = x->outputs;
    a->depth = y->taps * x->taps * channels;
    a->weights = fd_file_values(p->file, op->weights); /* of a phase without taps, where nothing is read */
    if (a->depth) {
        s.in = fd_place_at(in->first, least_input(y) * (ptrdiff_t)in->row + least_input(x) * (ptrdiff_t)in->channels);
        a->weights = plan_weights(p, op, y, x);
        a->taps = plan_taps(p, y, x, in, channels);
        s.weights_step = a->depth * fd_panel_columns(s.out_step);
    }
    fd_plan_step(p, &s.step, sizeof s);
    fd_op_facts *const facts = fd_plan_facts(p);
    facts->executed = facts->multiply_adds = fd_add_capped(
        facts->executed, fd_mul_capped(fd_mul_capped(a->rows * a->cols, a->depth), s.groups * a->channels));
    fd_plan_lanes_work(p, fd_mul_capped(a->rows * a->cols, a->depth), s.groups * a->channels, s.groups);
    if (s.groups > 1) facts->weight_bytes += s.groups * s.weights_step * sizeof(float);
}

static void plan(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const fd_file_tensor *const weights = &p->file->tensors[op->weights];
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "conv transpose %ux%u", op->kernel[0], op->kernel[1]);
    facts->kernel = "conv2d";
    facts->precision = fd_dtype_name(weights->dtype);
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
    if (op->groups > 1) facts->weight_bytes -= fd_file_bytes(p->file, op->weights); /* its own are added */

    size_t margin[4];
    wanted_margin(op, in, out, margin);
    const fd_image image = in->is_vector && fd_is_margin(margin) ? fd_steps_gather(p, in, margin, 1) : fd_image_of(in);
    const size_t each = out->channels / op->groups;
    const fd_epilogue epilogue = fd_plan_epilogue(p, op), none = {.activation = FD_ACT_LINEAR};
    phase_step step = {
        .step = {.run = run_phase},
        .in = image.first,
        .groups = op->groups,
        .in_step = in->channels / op->groups,
        .out_step = each,
        .bias_step = fd_panel_columns(each),
        .kernel = p->isa->floats->conv2d,
        .args =
            {
                .bias = plan_bias(p, op, each),
                .in_row_step = image.row,
                .in_col_step = image.channels,
                .channels = each,
                .out_row = op->stride[0] * out->row,
                .out_col = op->stride[1] * out->channels,
                .epilogue = takes_epilogue(op) ? epilogue : none,
            },
    };
    for (size_t row = 0; row < fd_min(op->stride[0], out->rows); row++) {
        const fd_phase y = phase_of(op, out, 0, row);
        for (size_t col = 0; col < fd_min(op->stride[1], out->cols); col++) {
            const fd_phase x = phase_of(op, out, 1, col);
            step.out = fd_place_at(fd_place_of(out), (ptrdiff_t)(row * out->row + col * out->channels));
            plan_phase(p, op, &image, &y, &x, step);
        }
    }
    const fd_eltwise_args after = fd_eltwise_of(out, out, epilogue);
    if (!takes_epilogue(op) && (op->activation != FD_ACT_LINEAR || op->affine_axis != FD_AXIS_NONE))
        fd_steps_eltwise(p, fd_place_of(out), fd_place_of(out), &after, 0);
}

const fd_operator fd_operator_convtranspose2d = {
    .fields = FD_HAS_WEIGHTS | FD_HAS_KERNEL | FD_HAS_PAD | FD_HAS_ACTIVATION | FD_HAS_AFFINE,
    .check = check,
    .margins = margins,
    .plan = plan,
};

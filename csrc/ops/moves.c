/* CONCAT, RESHAPE, TRANSPOSE, PAD and CROP: they compute nothing. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/steps.h"

/* ---- The loader's checks ---- */

static fd_status check_concat(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(op->input2 != FD_FILE_NONE, "op %zu is a CONCAT without a second input", i);
    const fd_dims other = fd_dims_of(&file->tensors[op->input2]);
    FD_REQUIRE(op->concat_axis > FD_AXIS_NONE && op->concat_axis < FD_AXIS_END, "op %zu has unknown concat_axis %u", i,
               op->concat_axis);
    FD_REQUIRE(other.rank == in->rank && (in->rank == 3 || op->concat_axis == FD_AXIS_CHANNEL),
               "op %zu joins tensors of rank %zu and %zu along axis %u", i, in->rank, other.rank, op->concat_axis);
    FD_REQUIRE((op->concat_axis == FD_AXIS_HEIGHT || other.rows == in->rows) &&
                   (op->concat_axis == FD_AXIS_WIDTH || other.cols == in->cols) &&
                   (op->concat_axis == FD_AXIS_CHANNEL || other.channels == in->channels),
               "op %zu joins tensors whose other axes differ", i);
    if (op->concat_axis == FD_AXIS_HEIGHT) out->rows += other.rows;
    if (op->concat_axis == FD_AXIS_WIDTH) out->cols += other.cols;
    if (op->concat_axis == FD_AXIS_CHANNEL) out->channels += other.channels;
    return FD_OK;
}

static fd_status check_reshape(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    *out = fd_dims_of(&file->tensors[file->ops[i].output]);
    FD_REQUIRE(out->elements == in->elements, "op %zu reshapes %zu elements to %zu", i, in->elements, out->elements);
    return FD_OK;
}

static fd_status check_transpose(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const uint8_t *const perm = file->ops[i].perm;
    const size_t sizes[3] = {in->rows, in->cols, in->channels};
    FD_REQUIRE(in->rank == 3, "op %zu is a TRANSPOSE of a rank-1 tensor", i);
    FD_REQUIRE(perm[0] < 3 && perm[1] < 3 && perm[2] < 3 && perm[3] == 0 && perm[0] != perm[1] && perm[1] != perm[2] &&
                   perm[2] != perm[0],
               "perm of op %zu is not a permutation of 0, 1, 2", i);
    *out = (fd_dims){3, sizes[perm[0]], sizes[perm[1]], sizes[perm[2]], 0};
    return FD_OK;
}

static fd_status check_pad(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(in->rank == 3, "op %zu is a PAD of a rank-1 tensor", i);
    FD_TRY(fd_check_range(op->pad, 4, 0, FD_FILE_MAX_SMALL, "pad", i, error));
    FD_TRY(fd_check_range(op->pad_channels, 2, 0, FD_FILE_MAX_DIM, "pad_channels", i, error));
    FD_REQUIRE(isfinite(op->alpha), "alpha of op %zu is not finite", i);
    out->rows += op->pad[0] + op->pad[2];
    out->cols += op->pad[1] + op->pad[3];
    out->channels += (size_t)op->pad_channels[0] + op->pad_channels[1];
    return FD_OK;
}

static fd_status check_crop(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_TRY(fd_check_range(op->pad, 4, 0, FD_FILE_MAX_DIM, "pad", i, error));
    FD_TRY(fd_check_range(op->pad_channels, 2, 0, FD_FILE_MAX_DIM, "pad_channels", i, error));
    const size_t rows = (size_t)op->pad[0] + op->pad[2], cols = (size_t)op->pad[1] + op->pad[3];
    const size_t channels = (size_t)op->pad_channels[0] + op->pad_channels[1];
    FD_REQUIRE(rows < in->rows && cols < in->cols && channels < in->channels, "op %zu cuts off all of its input", i);
    out->rows -= rows;
    out->cols -= cols;
    out->channels -= channels;
    return FD_OK;
}

/* ---- The run of what a copy cannot do ---- */

typedef struct fill_step {
    fd_step step;
    fd_place out;
    size_t rows, row, line;
    float value;
} fill_step;

static void run_fill(const fd_step *step, const fd_work *work, const fd_share *share) {
    const fill_step *const s = (const fill_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        float *const to = fd_target(work, &s->out, i);
        for (size_t r = 0; r < s->rows; r++)
            for (size_t k = 0; k < s->line; k++) to[r * s->row + k] = s->value;
    }
}

/* ---- The plans ---- */

static void describe(const fd_plan *p, const char *label) {
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s", label);
    facts->kernel = "copy";
}

static void plan_concat(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const other = fd_plan_value(p, op->input2);
    const fd_value *const out = fd_plan_value(p, op->output);
    const fd_copy_args first = fd_copy_of(in, out->row, out->channels);
    const fd_copy_args second = fd_copy_of(other, out->row, out->channels);
    const size_t behind = op->concat_axis == FD_AXIS_HEIGHT  ? in->rows * out->row
                          : op->concat_axis == FD_AXIS_WIDTH ? in->cols * out->channels
                                                             : in->channels;
    const fd_place to = fd_place_of(out);
    fd_steps_copy(p, fd_place_of(in), to, &first);
    fd_steps_copy(p, fd_place_of(other), fd_place_at(to, (ptrdiff_t)behind), &second);
    describe(p, "concat");
}

/* Out of the rows of one image, into those of another: by way of a vector, unless one of them is that. */
static void plan_reshape(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const size_t in_line = in->cols * in->channels, out_line = out->cols * out->channels;
    const fd_copy_args from_rows = {
        .size = {1, in->rows, in_line}, .in_stride = {0, in->row, 1}, .out_stride = {0, in_line, 1}};
    const fd_copy_args to_rows = {
        .size = {1, out->rows, out_line}, .in_stride = {0, out_line, 1}, .out_stride = {0, out->row, 1}};
    const fd_place to = fd_place_of(out);
    fd_place vector = fd_place_of(in);
    const int to_vector = out->row == out_line;
    if (in->row != in_line || to_vector) {
        const fd_place from = vector;
        vector = to_vector ? to : fd_plan_scratch(p, in->elements);
        fd_steps_copy(p, from, vector, &from_rows);
    }
    if (!to_vector) fd_steps_copy(p, vector, to, &to_rows);
    describe(p, "reshape");
}

static void plan_transpose(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const size_t strides[3] = {in->row, in->channels, 1};
    const fd_copy_args args = {
        .size = {out->rows, out->cols, out->channels},
        .in_stride = {strides[op->perm[0]], strides[op->perm[1]], strides[op->perm[2]]},
        .out_stride = {out->row, out->channels, 1},
    };
    fd_steps_copy(p, fd_place_of(in), fd_place_of(out), &args);
    fd_plan_work(p, fd_mul_capped(2ULL * FD_PLAN_VALUE_WORK, out->elements)); /* against the grain of memory */
    describe(p, "transpose");
}

static void plan_pad(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const fill_step fill = {{.run = run_fill}, fd_place_of(out),          out->rows,
                            out->row,          out->cols * out->channels, op->alpha};
    const size_t before = op->pad[0] * out->row + op->pad[1] * out->channels + op->pad_channels[0];
    const fd_copy_args args = fd_copy_of(in, out->row, out->channels);
    fd_plan_step(p, &fill.step, sizeof fill);
    fd_steps_copy(p, fd_place_of(in), fd_place_at(fill.out, (ptrdiff_t)before), &args);
    describe(p, "pad");
}

static void plan_crop(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const size_t before = op->pad[0] * in->row + op->pad[1] * in->channels + op->pad_channels[0];
    fd_copy_args args = {
        .size = {out->rows, out->cols, out->channels},
        .in_stride = {in->row, in->channels, 1},
        .out_stride = {out->row, out->channels, 1},
    };
    if (out->channels == in->channels) /* a row is in one piece */
        args = (fd_copy_args){.size = {1, out->rows, out->cols * out->channels},
                              .in_stride = {0, in->row, 1},
                              .out_stride = {0, out->row, 1}};
    fd_steps_copy(p, fd_place_at(fd_place_of(in), (ptrdiff_t)before), fd_place_of(out), &args);
    describe(p, "crop");
}

const fd_operator fd_operator_concat = {
    .fields = FD_HAS_INPUT2 | FD_HAS_CONCAT_AXIS,
    .check = check_concat,
    .plan = plan_concat,
};

const fd_operator fd_operator_reshape = {
    .fields = 0,
    .check = check_reshape,
    .plan = plan_reshape,
    .moves = 1,
};

const fd_operator fd_operator_transpose = {
    .fields = FD_HAS_PERM,
    .check = check_transpose,
    .plan = plan_transpose,
    .moves = 1,
};

const fd_operator fd_operator_pad = {
    .fields = FD_HAS_PAD | FD_HAS_PAD_CHANNELS | FD_HAS_NUMBER,
    .check = check_pad,
    .plan = plan_pad,
};

const fd_operator fd_operator_crop = {
    .fields = FD_HAS_PAD | FD_HAS_PAD_CHANNELS,
    .check = check_crop,
    .plan = plan_crop,
};

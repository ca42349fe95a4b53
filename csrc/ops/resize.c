/* RESIZE: rows and columns of an image at any positions among the input's. Which positions a framework means by
 * "nearest" or "half pixel" is the compiler's business: the file has the positions. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"

/* ---- The loader's check ---- */

/* Positions among `size` rows or columns; their number is that of the output's. */
static fd_status check_positions(const fd_file *file, uint32_t index, size_t size, const char *what, size_t i,
                                 size_t *count, fd_error *error) {
    const fd_file_tensor *const t = fd_check_weight(file, index, FD_LAYOUT_ROW_MAJOR);
    FD_REQUIRE(t, "%s of op %zu is not a weight vector", what, i);
    const float *const positions = fd_file_weight(file, index), last = (float)(size - 1);
    for (size_t k = 0; k < t->dims[0]; k++)
        FD_REQUIRE(positions[k] >= 0 && positions[k] <= last, "%s of op %zu has a position %g, expected 0 to %g", what,
                   i, (double)positions[k], (double)last);
    *count = t->dims[0];
    return FD_OK;
}

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(in->rank == 3, "op %zu is a RESIZE of a rank-1 tensor", i);
    FD_TRY(check_positions(file, op->scale, in->rows, "scale", i, &out->rows, error));
    return check_positions(file, op->shift, in->cols, "shift", i, &out->cols, error);
}

/* ---- The run ---- */

/* Where an output row or column is: behind the start of the input's, in floats, and how far towards the next one. */
typedef struct fd_position {
    const uint32_t *at;
    const float *weight;
} fd_position;

typedef struct resize_step {
    fd_step step;
    fd_place in, out, between; /* a row between two of the input's */
    fd_position row, col;
    size_t rows, cols, channels;     /* of the output */
    size_t in_row, in_line, out_row; /* between rows of the input; floats in one; between rows of the output */
    void (*kernel)(const float *x, size_t step, const uint32_t *at, const float *weight, float *y, size_t n,
                   size_t channels);
} resize_step;

static void run(const fd_step *step, const fd_work *work, const fd_share *share) {
    const resize_step *const s = (const resize_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        const float *const in = fd_source(work, &s->in, i);
        float *const between = fd_target(work, &s->between, i), *to = fd_target(work, &s->out, i);
        for (size_t r = 0; r < s->rows; r++, to += s->out_row) {
            const uint32_t *const at = &s->row.at[r];
            const float *const weight = &s->row.weight[r];
            if (r && at[0] == at[-1] && weight[0] == weight[-1]) {
                memcpy(to, to - s->out_row, s->cols * s->channels * sizeof *to);
                continue;
            }
            const float *row = in + *at;
            if (*weight > 0) {
                s->kernel(in, s->in_row, at, weight, between, 1, s->in_line);
                row = between;
            }
            s->kernel(row, s->channels, s->col.at, s->col.weight, to, s->cols, s->channels);
        }
    }
}

/* ---- The plan ---- */

static fd_position plan_positions(fd_plan *p, uint32_t index, size_t step) {
    const float *const positions = fd_file_weight(p->file, index);
    const size_t count = p->file->tensors[index].dims[0];
    uint32_t *const at = fd_plan_take(p, count, sizeof *at);
    float *const weight = fd_plan_take(p, count, sizeof *weight);
    for (size_t k = 0; at && weight && k < count; k++) {
        const uint32_t whole = (uint32_t)positions[k];
        at[k] = (uint32_t)(whole * step);
        weight[k] = positions[k] - (float)whole;
    }
    return (fd_position){at, weight};
}

/* How many positions lie between two rows. */
static size_t count_between(const fd_plan *p, uint32_t index) {
    const float *const positions = fd_file_weight(p->file, index);
    size_t count = 0;
    for (size_t k = 0; k < p->file->tensors[index].dims[0]; k++) count += positions[k] != (float)(uint32_t)positions[k];
    return count;
}

static void plan(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const size_t made = count_between(p, op->scale), line = in->cols * in->channels;
    const fd_place between = fd_plan_scratch(p, made ? line : 0);
    const fd_position row = plan_positions(p, op->scale, in->row);
    const fd_position col = plan_positions(p, op->shift, in->channels);
    const resize_step s = {
        .step = {.run = run},
        .in = fd_place_of(in),
        .out = fd_place_of(out),
        .between = between,
        .row = row,
        .col = col,
        .rows = out->rows,
        .cols = out->cols,
        .channels = out->channels,
        .in_row = in->row,
        .in_line = line,
        .out_row = out->row,
        .kernel = p->isa->floats->interpolate,
    };
    fd_plan_step(p, &s.step, sizeof s);
    /* Rows that are made, and pixels, however few channels they have. */
    fd_plan_work(p, fd_mul_capped(fd_mul_capped(FD_PLAN_VALUE_WORK, made), line));
    fd_plan_work(p, fd_mul_capped(FD_PLAN_CALL_WORK / 2, fd_mul_capped(out->rows, out->cols)));
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "resize to %zux%zu", out->rows, out->cols);
    facts->kernel = "interpolate";
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
}

const fd_operator fd_operator_resize = {
    .fields = FD_HAS_SCALE | FD_HAS_SHIFT,
    .check = check,
    .plan = plan,
};

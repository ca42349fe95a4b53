#include "ops/steps.h"

#include <string.h>

/* ---- copy ---- */

typedef struct copy_step {
    fd_step step;
    fd_place in, out;
    void (*kernel)(const fd_copy_args *);
    fd_copy_args args;
} copy_step;

static void run_copy(const fd_step *step, const fd_work *work, const fd_share *share) {
    const copy_step *const s = (const copy_step *)step;
    fd_copy_args a = s->args;
    for (size_t i = share->first; i < share->end; i++) {
        a.in = fd_source(work, &s->in, i);
        a.out = fd_target(work, &s->out, i);
        s->kernel(&a);
    }
}

void fd_steps_copy(fd_plan *plan, fd_place in, fd_place out, const fd_copy_args *args) {
    const copy_step s = {{.run = run_copy}, in, out, plan->isa->floats->copy, *args};
    fd_plan_step(plan, &s.step, sizeof s);
}

fd_copy_args fd_copy_of(const fd_value *in, size_t out_row, size_t out_pixel) {
    return (fd_copy_args){
        .size = {in->rows, in->cols, in->channels},
        .in_stride = {in->row, in->channels, 1},
        .out_stride = {out_row, out_pixel, 1},
    };
}

/* ---- eltwise ---- */

typedef struct eltwise_step {
    fd_step step;
    fd_place in, out;
    void (*kernel)(const fd_eltwise_args *);
    fd_eltwise_args args;
} eltwise_step;

static void run_eltwise(const fd_step *step, const fd_work *work, const fd_share *share) {
    const eltwise_step *const s = (const eltwise_step *)step;
    fd_eltwise_args a = s->args;
    for (size_t i = share->first; i < share->end; i++) {
        a.in = fd_source(work, &s->in, i);
        a.out = fd_target(work, &s->out, i);
        s->kernel(&a);
    }
}

void fd_steps_eltwise(fd_plan *plan, fd_place in, fd_place out, const fd_eltwise_args *args) {
    const eltwise_step s = {{.run = run_eltwise}, in, out, plan->isa->floats->eltwise, *args};
    fd_plan_step(plan, &s.step, sizeof s);
}

fd_eltwise_args fd_eltwise_of(const fd_value *in, const fd_value *out, fd_epilogue epilogue) {
    return (fd_eltwise_args){
        .in_row = in->row,
        .out_row = out->row,
        .rows = in->rows,
        .cols = in->cols,
        .channels = in->channels,
        .epilogue = epilogue,
    };
}

/* ---- zero margins ---- */

typedef struct margins_step {
    fd_step step;
    fd_place out;
    size_t before; /* floats, before the first element */
    size_t rows, row, line;
    size_t behind; /* floats, behind the last row */
} margins_step;

static void run_margins(const fd_step *step, const fd_work *work, const fd_share *share) {
    const margins_step *const s = (const margins_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        float *const first = fd_target(work, &s->out, i);
        memset(first - s->before, 0, s->before * sizeof *first);
        for (size_t r = 0; r < s->rows; r++)
            memset(first + r * s->row + s->line, 0, (r + 1 < s->rows ? s->row - s->line : s->behind) * sizeof *first);
    }
}

void fd_steps_zero_margins(fd_plan *plan, const fd_value *value) {
    if (!value->zero_margins) return;
    fd_value stored = *value;
    stored.is_input = 0; /* who writes an input writes into the arena */
    margins_step s = {
        .step = {.run = run_margins},
        .out = fd_place_of(&stored),
        .before = value->interior - value->base,
        .rows = value->rows,
        .row = value->row,
        .line = value->cols * value->channels,
    };
    s.behind = value->floats - s.before - (s.rows - 1) * s.row - s.line;
    fd_plan_step(plan, &s.step, sizeof s);
}

/* ---- pooling ---- */

fd_pool2d_args fd_pool_of(const fd_file_op *op, const fd_value *out) {
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

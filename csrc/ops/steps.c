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
    int by_rows; /* which the operator is cut into */
    void (*kernel)(const fd_eltwise_args *);
    fd_eltwise_args args;
} eltwise_step;

static void run_eltwise(const fd_step *step, const fd_work *work, const fd_share *share) {
    const eltwise_step *const s = (const eltwise_step *)step;
    fd_eltwise_args a = s->args;
    if (s->by_rows) {
        a.row_index = share->part;
        a.rows = share->part_end - share->part;
    }
    for (size_t i = share->first; i < share->end; i++) {
        a.in = fd_source(work, &s->in, i) + a.row_index * a.in_row;
        a.out = fd_target(work, &s->out, i) + a.row_index * a.out_row;
        s->kernel(&a);
    }
}

void fd_steps_eltwise(fd_plan *plan, fd_place in, fd_place out, const fd_eltwise_args *args, int by_rows) {
    const eltwise_step s = {{.run = run_eltwise}, in, out, by_rows, plan->isa->floats->eltwise, *args};
    if (by_rows) plan->planned->parts = args->rows;
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

/* ---- pool ---- */

typedef struct pool_step {
    fd_step step;
    fd_place in, out;
    int by_rows;
    void (*kernel)(const fd_pool2d_args *);
    fd_pool2d_args args;
} pool_step;

static void run_pool(const fd_step *step, const fd_work *work, const fd_share *share) {
    const pool_step *const s = (const pool_step *)step;
    fd_pool2d_args a = s->args;
    if (s->by_rows) {
        a.out_first = share->part;
        a.out_count = share->part_end - share->part;
    }
    for (size_t i = share->first; i < share->end; i++) {
        a.in = fd_source(work, &s->in, i);
        a.out = fd_target(work, &s->out, i) + a.out_first * a.out_row;
        s->kernel(&a);
    }
}

void fd_steps_pool(fd_plan *plan, fd_place in, fd_place out, const fd_pool2d_args *args, int by_rows) {
    const pool_step s = {{.run = run_pool}, in, out, by_rows, plan->isa->floats->pool2d, *args};
    if (by_rows) plan->planned->parts = args->out_count;
    fd_plan_step(plan, &s.step, sizeof s);
}

/* ---- gather ---- */

/* Zeros, then row by row, or all of them at once. */
typedef struct gather_step {
    fd_step step;
    fd_place in, out;
    size_t floats, origin; /* of the copy; of its first pixel within the margins */
    size_t rows, from, to; /* how many copies, and between them */
    void (*kernel)(const fd_copy_args *);
    fd_copy_args args;
} gather_step;

static void run_gather(const fd_step *step, const fd_work *work, const fd_share *share) {
    const gather_step *const s = (const gather_step *)step;
    fd_copy_args a = s->args;
    for (size_t i = share->first; i < share->end; i++) {
        const float *const in = fd_source(work, &s->in, i);
        float *const copy = fd_target(work, &s->out, i);
        memset(copy, 0, s->floats * sizeof *copy);
        for (size_t r = 0; r < s->rows; r++) {
            a.in = in + r * s->from;
            a.out = copy + s->origin + r * s->to;
            s->kernel(&a);
        }
    }
}

fd_image fd_image_of(const fd_value *value) { return (fd_image){fd_place_of(value), value->row, value->channels}; }

fd_image fd_steps_gather(fd_plan *plan, const fd_value *in, const size_t margin[4], size_t repeat) {
    const size_t channels = in->channels * repeat, cols = in->cols + margin[1] + margin[3];
    const size_t rows = in->rows + margin[0] + margin[2], row = cols * channels;
    gather_step s = {
        .step = {.run = run_gather},
        .in = fd_place_of(in),
        .floats = fd_plan_image(plan, rows, cols, channels),
        .origin = margin[0] * row + margin[1] * channels,
        .kernel = plan->isa->floats->copy,
    };
    if (repeat == 1) {
        s.rows = 1;
        s.args = (fd_copy_args){
            .size = {1, in->rows, in->cols * channels}, .in_stride = {0, in->row, 1}, .out_stride = {0, row, 1}};
    } else {
        s.rows = in->rows;
        s.from = in->row;
        s.to = row;
        s.args = (fd_copy_args){.size = {in->cols * in->channels, repeat, 1}, /* a row */
                                .in_stride = {1, 0, 1},
                                .out_stride = {repeat, 1, 1}};
    }
    s.out = fd_plan_scratch(plan, s.floats);
    fd_plan_step(plan, &s.step, sizeof s);
    return (fd_image){fd_place_at(s.out, (ptrdiff_t)s.origin), row, channels};
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
    if (share->part > 0) return; /* once, of an op that is cut */
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

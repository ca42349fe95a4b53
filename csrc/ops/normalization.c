/* LAYERNORM: over the channels of each pixel. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    (void)out;
    FD_REQUIRE(isfinite(op->alpha) && op->alpha > 0, "alpha of op %zu is not a finite number > 0", i);
    if (op->scale != FD_FILE_NONE) FD_TRY(fd_check_vector(file, op->scale, in->channels, "scale", i, error));
    if (op->shift != FD_FILE_NONE) FD_TRY(fd_check_vector(file, op->shift, in->channels, "shift", i, error));
    return FD_OK;
}

/* ---- The run ---- */

typedef struct layernorm_step {
    fd_step step;
    fd_place in, out;
    size_t rows, line;      /* floats in a row of pixels, */
    size_t in_row, out_row; /* and between rows */
    void (*kernel)(const fd_layernorm_args *);
    fd_layernorm_args args;
} layernorm_step;

static void run(const fd_step *step, const fd_work *work, const fd_share *share) {
    const layernorm_step *const s = (const layernorm_step *)step;
    fd_layernorm_args a = s->args;
    for (size_t i = share->first; i < share->end; i++) {
        for (size_t r = 0; r < s->rows; r++) {
            const float *const from = fd_source(work, &s->in, i) + r * s->in_row;
            float *const to = fd_target(work, &s->out, i) + r * s->out_row;
            for (size_t k = 0; k < s->line; k += a.n) {
                a.in = from + k;
                a.out = to + k;
                s->kernel(&a);
            }
        }
    }
}

/* ---- The plan ---- */

static void plan(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const layernorm_step s = {
        .step = {.run = run},
        .in = fd_place_of(in),
        .out = fd_place_of(out),
        .rows = in->rows,
        .line = in->cols * in->channels,
        .in_row = in->row,
        .out_row = out->row,
        .kernel = p->isa->floats->layernorm,
        .args =
            {
                .n = in->channels,
                .epsilon = op->alpha,
                .scale = fd_file_values(p->file, op->scale),
                .shift = fd_file_values(p->file, op->shift),
            },
    };
    fd_plan_step(p, &s.step, sizeof s);
    fd_plan_work(p, fd_mul_capped(FD_PLAN_CALL_WORK, fd_mul_capped(in->rows, in->cols)));
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "layernorm");
    facts->kernel = "layernorm";
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
}

const fd_operator fd_operator_layernorm = {
    .fields = FD_HAS_SCALE | FD_HAS_SHIFT | FD_HAS_NUMBER,
    .check = check,
    .plan = plan,
};

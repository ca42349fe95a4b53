/* SOFTMAX and LOGSOFTMAX: over the channels of each pixel. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const float temperature = file->ops[i].alpha;
    (void)in;
    (void)out;
    FD_REQUIRE(isfinite(temperature) && temperature >= 0, "alpha of op %zu is not a finite number >= 0", i);
    return FD_OK;
}

static fd_status check_log(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    (void)file, (void)i, (void)in, (void)out, (void)error;
    return FD_OK;
}

/* ---- The run ---- */

typedef struct softmax_step {
    fd_step step;
    fd_place in, out;
    size_t rows, line, channels; /* floats in a row of pixels, and in a pixel; */
    size_t in_row, out_row;      /* between rows */
    float temperature;
    void (*kernel)(const float *x, float *y, size_t n);
} softmax_step;

static void run(const fd_step *step, const fd_work *work, const fd_share *share) {
    const softmax_step *const s = (const softmax_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        for (size_t r = 0; r < s->rows; r++) {
            const float *const from = fd_source(work, &s->in, i) + r * s->in_row;
            float *const to = fd_target(work, &s->out, i) + r * s->out_row;
            for (size_t k = 0; k < s->line; k += s->channels) s->kernel(from + k, to + k, s->channels);
        }
    }
}

static float greatest_of(const float *x, size_t n) {
    float greatest = x[0];
    for (size_t i = 1; i < n; i++) greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

static void run_with_temperature(const fd_step *step, const fd_work *work, const fd_share *share) {
    const softmax_step *const s = (const softmax_step *)step;
    for (size_t i = share->first; i < share->end; i++) {
        for (size_t r = 0; r < s->rows; r++) {
            const float *x = fd_source(work, &s->in, i) + r * s->in_row;
            float *y = fd_target(work, &s->out, i) + r * s->out_row;
            for (size_t k = 0; k < s->line; k += s->channels, x += s->channels, y += s->channels) {
                /* Differences to the greatest: they are at most 0 and stay so, where a quotient might overflow. */
                const float greatest = greatest_of(x, s->channels);
                for (size_t c = 0; c < s->channels; c++) y[c] = (x[c] - greatest) / s->temperature;
                s->kernel(y, y, s->channels);
            }
        }
    }
}

/* ---- The plan ---- */

/* `label` names the kernel, in words. */
static void plan_kernel(fd_plan *p, const fd_file_op *op, void (*kernel)(const float *, float *, size_t),
                        const char *name, const char *label) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const softmax_step s = {
        .step = {.run = op->alpha > 0 ? run_with_temperature : run},
        .in = fd_place_of(in),
        .out = fd_place_of(out),
        .rows = in->rows,
        .line = in->cols * in->channels,
        .channels = in->channels,
        .in_row = in->row,
        .out_row = out->row,
        .temperature = op->alpha,
        .kernel = kernel,
    };
    fd_plan_step(p, &s.step, sizeof s);
    fd_plan_work(p, fd_mul_capped(FD_PLAN_CALL_WORK, fd_mul_capped(in->rows, in->cols)));
    fd_plan_work(p, fd_mul_capped(2ULL * FD_PLAN_ACTIVATION_WORK, in->elements));
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s", label);
    facts->kernel = name;
}

static void plan(fd_plan *p, const fd_file_op *op) {
    plan_kernel(p, op, p->isa->floats->softmax, "softmax", "softmax");
}

static void plan_log(fd_plan *p, const fd_file_op *op) {
    plan_kernel(p, op, p->isa->floats->log_softmax, "log_softmax", "log softmax");
}

const fd_operator fd_operator_softmax = {
    .fields = FD_HAS_NUMBER,
    .check = check,
    .plan = plan,
    .gives_probabilities = 1,
};

const fd_operator fd_operator_logsoftmax = {
    .fields = 0,
    .check = check_log,
    .plan = plan_log,
};

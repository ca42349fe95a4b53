/* RECURRENT: the part of a recurrent layer that depends on the step before. What its input contributes to the gates, at
 * all steps, is a convolution before it. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"

/* ---- What the fields of its record say ---- */

enum { KIND, GATES, BACKWARDS, NOTHING }; /* of perm */

static size_t gates_of(uint32_t kind) {
    static const uint8_t gates[FD_RECURRENT_END] = {0, 1, 4, 3, 3};
    return gates[kind];
}

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    const uint32_t kind = op->perm[KIND];
    size_t columns;
    FD_REQUIRE(in->rank == 3, "op %zu is a RECURRENT of a rank-1 tensor", i);
    FD_REQUIRE(kind > FD_RECURRENT_NONE && kind < FD_RECURRENT_END, "op %zu has unknown recurrent kind %u", i, kind);
    FD_REQUIRE(op->perm[BACKWARDS] <= 1 && op->perm[NOTHING] == 0 && op->range_hi == 0 && op->u8_divisor == 0,
               "op %zu has fields that its recurrent kind does not use", i);
    FD_REQUIRE(in->channels % gates_of(kind) == 0, "op %zu has %zu channels for %zu gates", i, in->channels,
               gates_of(kind));
    out->channels = in->channels / gates_of(kind);
    FD_TRY(fd_check_weights(file, i, out->channels, &columns, error));
    FD_REQUIRE(columns == in->channels && file->tensors[op->weights].dtype == FD_DTYPE_F32,
               "weights of op %zu are not f32 of %zu columns", i, in->channels);
    fd_file_op gates = *op;
    gates.activation = op->perm[GATES];
    gates.alpha = op->range_lo;
    FD_REQUIRE(kind != FD_RECURRENT_SIMPLE || (gates.activation == FD_ACT_LINEAR && gates.alpha == 0),
               "op %zu has an activation of gates, but no gates", i);
    FD_TRY(fd_check_activation(&gates, i, error));
    return fd_check_activation(op, i, error);
}

/* ---- The run ---- */

typedef struct recurrent_step {
    fd_step step;
    fd_place in, out;
    fd_place state, cell, product; /* of all rows */
    fd_place kept, scratch;        /* of one; of a product */
    size_t in_row, out_row, gates, steps, units;
    int backwards;
    void (*product_kernel)(const fd_dense_args *);
    void (*kernel)(const fd_recurrent_args *);
    void (*reset_kernel)(const fd_recurrent_args *);
    fd_dense_args dense;     /* state times weights; before a reset, of the two gates */
    fd_dense_args candidate; /* of what was reset, times the weights of the third */
    fd_recurrent_args args;
} recurrent_step;

/* One step of one row after another; the products of all rows come first. */
static void run_step(const recurrent_step *s, const fd_work *work, const float *in, float *out) {
    fd_dense_args dense = s->dense, candidate = s->candidate;
    fd_recurrent_args a = s->args;
    dense.in = a.state = fd_target(work, &s->state, 0);
    dense.out = fd_target(work, &s->product, 0);
    dense.scratch = candidate.scratch = fd_target(work, &s->scratch, 0);
    s->product_kernel(&dense);
    a.product = dense.out;
    a.cell = fd_target(work, &s->cell, 0);
    a.kept = fd_target(work, &s->kept, 0);
    for (size_t r = 0; r < dense.m; r++) {
        a.in = in + r * s->in_row;
        if (a.kind == FD_RECURRENT_GRU) {
            s->reset_kernel(&a);
            candidate.in = a.kept;
            candidate.out = dense.out + r * dense.out_row + 2 * s->units;
            s->product_kernel(&candidate);
        }
        s->kernel(&a);
        memcpy(out + r * s->out_row, a.state, s->units * sizeof *out);
        a.product += dense.out_row;
        a.state += s->units;
        a.cell += s->units;
    }
}

static void run(const fd_step *step, const fd_work *work, const fd_share *share) {
    const recurrent_step *const s = (const recurrent_step *)step;
    const size_t states = s->dense.m * s->units;
    for (size_t i = share->first; i < share->end; i++) {
        const float *const in = fd_source(work, &s->in, i);
        float *const out = fd_target(work, &s->out, i);
        memset(fd_target(work, &s->state, 0), 0, states * sizeof(float));
        memset(fd_target(work, &s->cell, 0), 0, states * sizeof(float));
        for (size_t k = 0; k < s->steps; k++) {
            const size_t at = s->backwards ? s->steps - 1 - k : k;
            run_step(s, work, in + at * s->gates * s->units, out + at * s->units);
        }
    }
}

/* ---- The plan ---- */

/* Columns of the weights as panels of their own: a gate that waits for another. */
static const float *plan_columns(fd_plan *p, const fd_file_op *op, size_t units, size_t first, size_t count) {
    const float *const from = fd_file_weight(p->file, op->weights);
    const size_t all = p->file->tensors[op->weights].dims[1];
    float *const panels = fd_plan_take(p, units * fd_panel_columns(count), sizeof *panels);
    for (size_t k = 0; panels && k < units; k++)
        for (size_t c = 0; c < count; c++)
            panels[fd_panel_index(units, count, k, c)] = from[fd_panel_index(units, all, k, first + c)];
    return panels;
}

/* The bias of some columns, whole vectors of which are read. */
static const float *plan_bias(fd_plan *p, const fd_file_op *op, size_t first, size_t count) {
    const float *const from = fd_file_values(p->file, op->bias);
    if (!from) return fd_plan_bias(p, op, count);
    float *const bias = fd_plan_take(p, fd_panel_columns(count), sizeof *bias);
    if (bias) memcpy(bias, from + first, count * sizeof *bias);
    return bias;
}

static void plan(fd_plan *p, const fd_file_op *op) {
    static const char *const labels[FD_RECURRENT_END] = {"", "simple recurrent", "lstm", "gru", "gru"};
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const uint32_t kind = op->perm[KIND];
    const size_t units = out->channels, gates = gates_of(kind), rows = in->rows;
    recurrent_step s = {
        .step = {.run = run},
        .in = fd_place_of(in),
        .out = fd_place_of(out),
        .in_row = in->row,
        .out_row = out->row,
        .gates = gates,
        .steps = in->cols,
        .units = units,
        .backwards = op->perm[BACKWARDS],
        .product_kernel = p->isa->floats->dense,
        .kernel = p->isa->floats->recurrent,
        .reset_kernel = p->isa->floats->recurrent_reset,
        .dense =
            {
                .weights = fd_file_values(p->file, op->weights),
                .dtype = FD_DTYPE_F32,
                .m = rows,
                .depth = units,
                .channels = gates * units,
                .in_row = units,
                .out_row = gates * units,
            },
        .args =
            {
                .units = units,
                .kind = kind,
                .gates = op->perm[GATES],
                .gates_alpha = op->range_lo,
                .activation = op->activation,
                .alpha = op->alpha,
            },
    };
    if (kind == FD_RECURRENT_GRU) {
        s.candidate = s.dense;
        s.candidate.m = 1;
        s.candidate.channels = units;
        s.candidate.weights = plan_columns(p, op, units, 2 * units, units);
        s.candidate.bias = plan_bias(p, op, 2 * units, units);
        s.dense.channels = 2 * units;
        s.dense.weights = plan_columns(p, op, units, 0, 2 * units);
        s.dense.bias = plan_bias(p, op, 0, 2 * units);
    } else {
        s.dense.bias = fd_plan_bias(p, op, gates * units);
    }
    s.state = fd_plan_scratch(p, rows * units);
    s.cell = fd_plan_scratch(p, rows * units);
    s.product = fd_plan_scratch(p, rows * gates * units);
    s.kept = fd_plan_scratch(p, kind == FD_RECURRENT_GRU ? units : 0);
    s.scratch = fd_plan_scratch(p, FD_DENSE_SCRATCH(rows, units));
    fd_plan_step(p, &s.step, sizeof s);
    /* Sums, activations and products of gates, and kernels for each step of a row. */
    fd_plan_work(p, fd_mul_capped(2ULL * FD_PLAN_ACTIVATION_WORK, in->elements));
    fd_plan_work(p, fd_mul_capped(4ULL * FD_PLAN_CALL_WORK, fd_mul_capped(rows, in->cols)));
    fd_plan_lanes_work(p, fd_mul_capped(fd_mul_capped(rows, in->cols), units), gates * units, 1);
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s%s", labels[kind], s.backwards ? ", backwards" : "");
    facts->kernel = "recurrent";
    facts->precision = fd_dtype_name(FD_DTYPE_F32);
    facts->multiply_adds = facts->executed = fd_mul_capped(in->elements, units);
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
}

const fd_operator fd_operator_recurrent = {
    .fields = FD_HAS_WEIGHTS | FD_HAS_ACTIVATION | FD_HAS_PERM | FD_HAS_RANGE,
    .check = check,
    .plan = plan,
};

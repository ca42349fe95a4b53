/* ELTWISE and BINARY: element by element, of one image and of two. */
#include <stdio.h>

#include "ops/check.h"
#include "ops/ops.h"
#include "ops/steps.h"

/* ---- The loader's checks ---- */

static fd_status check_eltwise(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    (void)in;
    FD_TRY(fd_check_activation(&file->ops[i], i, error));
    return fd_check_affine(file, i, out, error);
}

/* The second operand: an activation whose dims are those of the first or 1, or a constant. */
static fd_status check_operand(const fd_file *file, size_t i, const fd_dims *in, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(op->binary > FD_BINARY_NONE && op->binary < FD_BINARY_END, "op %zu has unknown binary %u", i,
               op->binary);
    FD_REQUIRE((op->input2 == FD_FILE_NONE) != (op->weights == FD_FILE_NONE),
               "op %zu has not one second operand, an input or weights", i);
    if (op->weights != FD_FILE_NONE) {
        const fd_file_tensor *const t = fd_check_weight(file, op->weights, FD_LAYOUT_ROW_MAJOR);
        FD_REQUIRE(t && (t->dims[0] == in->elements || t->dims[0] == in->channels || t->dims[0] == 1),
                   "weights of op %zu are not a vector of %zu, %zu or 1 values", i, in->elements, in->channels);
        return FD_OK;
    }
    const fd_dims other = fd_dims_of(&file->tensors[op->input2]);
    FD_REQUIRE((other.rows == 1 || other.rows == in->rows) && (other.cols == 1 || other.cols == in->cols) &&
                   (other.channels == 1 || other.channels == in->channels),
               "the second input of op %zu is (%zu, %zu, %zu), which does not broadcast to (%zu, %zu, %zu)", i,
               other.rows, other.cols, other.channels, in->rows, in->cols, in->channels);
    return FD_OK;
}

static fd_status check_binary(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    FD_TRY(check_operand(file, i, in, error));
    FD_TRY(fd_check_activation(&file->ops[i], i, error));
    return fd_check_affine(file, i, out, error);
}

/* ---- The runs ---- */

typedef struct binary_step {
    fd_step step;
    fd_place a, b, out; /* b of a constant is args.b */
    void (*kernel)(const fd_binary_args *);
    fd_binary_args args;
} binary_step;

/* The rows of a share, which are what it is cut into. */
static fd_binary_args rows_of(const binary_step *s, const fd_share *share) {
    fd_binary_args a = s->args;
    a.rows = share->part_end - share->part;
    fd_cut_skip(&a.epilogue, share->part);
    return a;
}

static void run_with_value(const fd_step *step, const fd_work *work, const fd_share *share) {
    const binary_step *const s = (const binary_step *)step;
    fd_binary_args a = rows_of(s, share);
    for (size_t i = share->first; i < share->end; i++) {
        a.a = fd_source(work, &s->a, i) + share->part * a.a_row;
        a.b = fd_source(work, &s->b, i) + share->part * a.b_row;
        a.out = fd_target(work, &s->out, i) + share->part * a.out_row;
        s->kernel(&a);
    }
}

static void run_with_constant(const fd_step *step, const fd_work *work, const fd_share *share) {
    const binary_step *const s = (const binary_step *)step;
    fd_binary_args a = rows_of(s, share);
    a.b += share->part * a.b_row;
    for (size_t i = share->first; i < share->end; i++) {
        a.a = fd_source(work, &s->a, i) + share->part * a.a_row;
        a.out = fd_target(work, &s->out, i) + share->part * a.out_row;
        s->kernel(&a);
    }
}

/* ---- The plans ---- */

static void plan_eltwise(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const fd_eltwise_args args = fd_eltwise_of(in, out, fd_plan_epilogue(p, op));
    fd_steps_eltwise(p, fd_place_of(in), fd_place_of(out), &args, 1);
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "eltwise");
    facts->kernel = "eltwise";
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
}

static void plan_binary(fd_plan *p, const fd_file_op *op) {
    static const char *const names[FD_BINARY_END] = {
#define FD_BINARY(enumerator, name) [FD_BINARY_##enumerator] = #name,
#include "format/binaries.def"
#undef FD_BINARY
    };
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    binary_step s = {
        .step = {.run = run_with_value},
        .a = fd_place_of(in),
        .out = fd_place_of(out),
        .kernel = p->isa->floats->binary,
        .args =
            {
                .a_row = in->row,
                .out_row = out->row,
                .rows = in->rows,
                .cols = in->cols,
                .channels = in->channels,
                .op = op->binary,
                .epilogue = fd_plan_epilogue(p, op),
            },
    };
    fd_binary_args *const a = &s.args;
    if (op->weights != FD_FILE_NONE) {
        const size_t length = p->file->tensors[op->weights].dims[0];
        s.step.run = run_with_constant;
        a->b = fd_file_values(p->file, op->weights);
        a->b_row = length == in->elements ? in->cols * in->channels : 0;
        a->b_col = length == in->elements ? in->channels : 0;
        a->one = length == 1;
    } else {
        const fd_value *const other = fd_plan_value(p, op->input2);
        s.b = fd_place_of(other);
        a->b_row = other->rows == 1 ? 0 : other->row;
        a->b_col = other->cols == 1 ? 0 : other->channels;
        a->one = other->channels == 1;
    }
    p->planned->parts = in->rows;
    fd_plan_step(p, &s.step, sizeof s);
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s", names[op->binary]);
    facts->kernel = "binary";
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
}

const fd_operator fd_operator_eltwise = {
    .fields = FD_HAS_ACTIVATION | FD_HAS_AFFINE,
    .check = check_eltwise,
    .plan = plan_eltwise,
};

const fd_operator fd_operator_binary = {
    .fields = FD_HAS_INPUT2 | FD_HAS_OPERAND | FD_HAS_BINARY | FD_HAS_ACTIVATION | FD_HAS_AFFINE,
    .check = check_binary,
    .plan = plan_binary,
};

/* DENSE. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/prepack.h"

/* ---- The loader's check ---- */

/* What makes sums of products of bytes fit 32 bits, and each pair of products 16. */
static fd_status check_quantization(const fd_file *file, size_t i, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    const fd_file_tensor *const w = &file->tensors[op->weights];
    FD_REQUIRE(op->quantization < FD_QUANTIZATION_END, "op %zu has unknown quantization %u", i, op->quantization);
    if (op->quantization == FD_QUANTIZATION_WEIGHTS) return FD_OK;
    FD_REQUIRE(w->dtype == FD_DTYPE_I8, "op %zu has a quantization, but not i8 weights", i);
    FD_REQUIRE(w->dims[0] <= FD_DYNAMIC_MAX_DEPTH, "op %zu quantises %u inputs, at most %d are supported", i,
               w->dims[0], FD_DYNAMIC_MAX_DEPTH);
    FD_REQUIRE(!memchr(file->weights + w->offset, 0x80, w->size),
               "op %zu quantises its inputs and has a weight of -128", i);
    return FD_OK;
}

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    out->rank = out->rows = out->cols = 1;
    FD_TRY(fd_check_weights(file, i, in->elements, &out->channels, error));
    const uint32_t dtype = file->tensors[op->weights].dtype;
    FD_REQUIRE(dtype == FD_DTYPE_F32 || out->channels > FD_NARROW,
               "op %zu has %zu outputs and weights that are not f32", i, out->channels);
    if (dtype == FD_DTYPE_I8) {
        FD_TRY(fd_check_vector(file, op->scale, out->channels, "scale", i, error));
        const float *const scale = fd_file_weight(file, op->scale);
        for (size_t c = 0; c < out->channels; c++)
            FD_REQUIRE(scale[c] > 0, "scale %zu of op %zu is not positive", c, i);
    } else {
        FD_REQUIRE(op->scale == FD_FILE_NONE, "op %zu has a scale, but not i8 weights", i);
    }
    FD_TRY(check_quantization(file, i, error));
    return fd_check_activation(op, i, error);
}

/* ---- The run ---- */

typedef struct dense_step {
    fd_step step;
    fd_place in, out, scratch;
    size_t column_bytes; /* of one output's weights */
    void (*kernel)(const fd_dense_args *);
    fd_dense_args args;
} dense_step;

/* Rows of the chunk, and panels of the weights, which are the parts. */
static void run(const fd_step *step, const fd_work *work, const fd_share *share) {
    const dense_step *const s = (const dense_step *)step;
    const size_t column = share->part * FD_PANEL;
    fd_dense_args a = s->args;
    a.in = fd_source(work, &s->in, share->first);
    a.out = fd_target(work, &s->out, share->first) + column;
    a.m = share->end - share->first;
    a.weights = (const char *)a.weights + column * s->column_bytes;
    a.bias += column;
    if (a.scale) a.scale += column;
    if (a.sums) a.sums += column;
    a.channels = fd_min(share->part_end * FD_PANEL, a.channels) - column;
    a.scratch = fd_target(work, &s->scratch, 0);
    s->kernel(&a);
}

/* ---- The plan ---- */

/* Each worker quantises the rows of a chunk for itself, which costs less than waiting for others to do it. */
static void plan_dynamic(fd_plan *p, dense_step *s) {
    fd_dense_args *const a = &s->args;
    const size_t padded = fd_panel_columns(a->channels);
    s->column_bytes = fd_prepack_column(a->depth);
    int8_t *const weights = fd_plan_take(p, padded, s->column_bytes);
    int32_t *const sums = fd_plan_take(p, padded, sizeof *sums);
    if (weights && sums) fd_prepack_dynamic(a->weights, a->depth, a->channels, weights, sums);
    a->weights = weights;
    a->sums = sums;
    s->kernel = p->isa->bytes->dense_dynamic;
    s->scratch = fd_plan_scratch(p, FD_DYNAMIC_SCRATCH(p->chunk, a->depth));
    fd_op_facts *const facts = fd_plan_facts(p);
    facts->kernel = "dense_dynamic";
    facts->arithmetic = "bytes";
    snprintf(facts->label, sizeof facts->label, "dense dynamic");
}

static void plan(fd_plan *p, const fd_file_op *op) {
    static const char *const labels[FD_DTYPE_END] = {"dense", "dense fp16", "dense int8"};
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    const uint32_t dtype = p->file->tensors[op->weights].dtype;
    const int narrow = out->channels <= FD_NARROW;
    dense_step s = {
        .step = {.run = run},
        .in = fd_place_of(in),
        .out = fd_place_of(out),
        .column_bytes = in->elements * fd_dtype_size(dtype),
        .kernel = narrow ? p->isa->floats->dense_narrow : p->isa->floats->dense,
        .args =
            {
                .weights = fd_file_values(p->file, op->weights),
                .dtype = dtype,
                .bias = fd_plan_bias(p, op, out->channels),
                .scale = fd_file_values(p->file, op->scale),
                .depth = in->elements,
                .channels = out->channels,
                .in_row = in->elements,
                .out_row = out->elements,
                .epilogue = fd_plan_epilogue(p, op),
            },
    };
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s", labels[dtype]);
    facts->kernel = narrow ? "dense_narrow" : "dense";
    facts->precision = fd_dtype_name(dtype);
    facts->multiply_adds = facts->executed = fd_mul_capped(in->elements, out->channels);
    facts->weight_bytes = fd_plan_weight_bytes(p, op);
    if (op->quantization == FD_QUANTIZATION_DYNAMIC)
        plan_dynamic(p, &s);
    else
        s.scratch = fd_plan_scratch(p, FD_DENSE_SCRATCH(p->chunk, in->elements));
    p->planned->parts = fd_panel_count(out->channels);
    fd_plan_step(p, &s.step, sizeof s);
}

const fd_operator fd_operator_dense = {
    .fields = FD_HAS_WEIGHTS | FD_HAS_ACTIVATION | FD_HAS_SCALE | FD_HAS_QUANTIZATION,
    .check = check,
    .takes_vector = 1,
    .plan = plan,
};

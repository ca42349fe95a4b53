/* INPUT. */
#include "ops/input.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "ops/check.h"
#include "ops/ops.h"

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    (void)in;
    (void)out;
    FD_REQUIRE(op->range_lo < op->range_hi, "the input range of op %zu is empty or not a number", i);
    if (op->u8_divisor)
        FD_REQUIRE(op->range_lo <= 0 && 255.0f / (float)op->u8_divisor <= op->range_hi,
                   "op %zu accepts bytes whose values are outside its input range", i);
    return FD_OK;
}

/* ---- The plan ---- */

/* Infinite bounds accept what is finite, and nothing else. */
static float finite(float bound) { return bound < -FLT_MAX ? -FLT_MAX : bound > FLT_MAX ? FLT_MAX : bound; }

static void plan(fd_plan *p, const fd_file_op *op) {
    fd_value v = *fd_plan_value(p, op->output);
    v.is_input = 0; /* this is who writes it */
    const size_t index = (size_t)(op - p->file->ops);
    p->inputs[index] = (fd_input){
        .place = fd_place_of(&v),
        .is_copied = index > 0 || fd_has_margins(&v),
        .rows = v.rows,
        .line = v.cols * v.channels,
        .row = v.row,
        .elements = v.elements,
        .lo = finite(op->range_lo),
        .hi = finite(op->range_hi),
        .u8_divisor = op->u8_divisor,
        .find_outside = p->isa->floats->find_outside,
        .from_u8 = p->isa->floats->from_u8,
    };
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "check input");
    facts->kernel = "find_outside";
}

const fd_operator fd_operator_input = {
    .fields = FD_HAS_RANGE,
    .check = check,
    .plan = plan,
};

/* ---- The run ---- */

size_t fd_input_take(const fd_input *in, const fd_work *work, const void *images, fd_input_type type, size_t i,
                     size_t slot) {
    float *const to = fd_target(work, &in->place, slot);
    if (type == FD_INPUT_U8) {
        const uint8_t *const from = (const uint8_t *)images + i * in->elements;
        for (size_t r = 0; r < in->rows; r++)
            in->from_u8(from + r * in->line, to + r * in->row, in->line, (float)in->u8_divisor);
        return in->elements;
    }
    const float *const from = (const float *)images + i * in->elements;
    const size_t outside = in->find_outside(from, in->elements, in->lo, in->hi);
    if (outside == in->elements && in->is_copied)
        for (size_t r = 0; r < in->rows; r++) memcpy(to + r * in->row, from + r * in->line, in->line * sizeof(float));
    return outside;
}

/* POOL2D. */
#include <stdio.h>

#include "ops/check.h"
#include "ops/ops.h"
#include "ops/steps.h"

/* ---- The loader's check ---- */

static fd_status check(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(in->rank == 3 && op->pool_mode != FD_POOL_NONE, "op %zu is a POOL2D of a rank-1 tensor or of no mode",
               i);
    return fd_check_pool(op, i, out, error);
}

/* ---- The plan ---- */

static void plan(fd_plan *p, const fd_file_op *op) {
    const fd_value *const in = fd_plan_value(p, op->input), *const out = fd_plan_value(p, op->output);
    fd_pool2d_args a = fd_pool_of(op, out);
    a.in_row = in->row;
    a.in_ring = in->rows;
    a.rows = in->rows;
    a.cols = in->cols;
    fd_steps_pool(p, fd_place_of(in), fd_place_of(out), &a, 1);
    fd_plan_pooling_work(p, op);
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->label, sizeof facts->label, "%s pool %ux%u", op->pool_mode == FD_POOL_MAX ? "max" : "average",
             op->pool[0], op->pool[1]);
    facts->kernel = "pool2d";
}

const fd_operator fd_operator_pool2d = {
    .fields = FD_HAS_POOL,
    .check = check,
    .plan = plan,
};

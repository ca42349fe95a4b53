#include "ops/planner.h"

#include <string.h>

#include "base/memory.h"

void *fd_plan_take(fd_plan *plan, size_t count, size_t size) {
    size_t bytes, end;
    const size_t at = plan->taken;
    if (!fd_mul(count, size, &bytes) || bytes > SIZE_MAX - FD_ALIGN ||
        !fd_add(at, fd_round_up(bytes, FD_ALIGN), &end)) {
        plan->taken = SIZE_MAX;
        return NULL;
    }
    plan->taken = end;
    /* More than was counted is not given: fd_plan_take's callers fill nothing, and the driver sees the difference. */
    return plan->memory && end <= plan->room ? plan->memory + at : NULL;
}

void fd_plan_step(fd_plan *plan, const fd_step *step, size_t size) {
    fd_step *const copy = fd_plan_take(plan, 1, size);
    if (!copy) return;
    memcpy(copy, step, size);
    copy->next = NULL;
    *plan->tail = copy;
    plan->tail = &copy->next;
}

fd_place fd_plan_scratch(fd_plan *plan, size_t floats) {
    size_t *const scratch = &plan->planned->facts.scratch;
    const fd_place place = {.base = FD_SCRATCH, .offset = (ptrdiff_t)(plan->scratch_at + *scratch)};
    *scratch += fd_round_up(floats, FD_ALIGN / sizeof(float));
    if (*scratch > plan->scratch) plan->scratch = *scratch;
    return place;
}

size_t fd_plan_image(fd_plan *plan, size_t rows, size_t cols, size_t channels) {
    size_t floats;
    if (fd_mul(rows, cols, &floats) && fd_mul(floats, channels, &floats) && floats <= FD_PLAN_MAX_IMAGE) return floats;
    plan->too_large = 1;
    return 0;
}

const float *fd_plan_bias(fd_plan *plan, const fd_file_op *op, size_t columns) {
    if (op->bias != FD_FILE_NONE) return fd_file_values(plan->file, op->bias);
    const size_t padded = fd_panel_columns(columns);
    if (padded > plan->zeros_needed) plan->zeros_needed = padded;
    if (plan->memory && padded > plan->zeros_room) plan->room = 0; /* more than was counted: fill nothing any more */
    return plan->zeros;
}

fd_epilogue fd_plan_epilogue(const fd_plan *plan, const fd_file_op *op) {
    return (fd_epilogue){
        .activation = op->activation,
        .alpha = op->alpha,
        .axis = op->affine_axis,
        .scale = fd_file_values(plan->file, op->scale),
        .shift = fd_file_values(plan->file, op->shift),
    };
}

void fd_plan_work(fd_plan *plan, uint64_t operations) {
    plan->planned->work = fd_add_capped(plan->planned->work, operations);
}

uint64_t fd_plan_activation_work(const fd_file_op *op, uint64_t values) {
    switch (op->activation) {
    case FD_ACT_LINEAR:
    case FD_ACT_RELU:
    case FD_ACT_LEAKY_RELU:
    case FD_ACT_CLIPPED_RELU:
    case FD_ACT_HARD_SIGMOID:
    case FD_ACT_HARD_SWISH:
    case FD_ACT_ABS: return 0; /* beside what its value takes, nothing */
    default: return fd_mul_capped(FD_PLAN_ACTIVATION_WORK, values);
    }
}

void fd_plan_lanes_work(fd_plan *plan, uint64_t count, size_t channels, size_t groups) {
    fd_plan_work(plan, fd_mul_capped(count, groups * fd_panel_columns(channels / groups) - channels));
}

void fd_plan_pooling_work(fd_plan *plan, const fd_file_op *op) {
    if (op->pool_mode == FD_POOL_NONE) return;
    const fd_value *const in = fd_plan_value(plan, op->input), *const out = fd_plan_value(plan, op->output);
    /* A window has no more than there is of the image. */
    const uint64_t window = fd_mul_capped(fd_min(op->pool[0], in->rows + op->pad[0] + op->pad[2]),
                                          fd_min(op->pool[1], in->cols + op->pad[1] + op->pad[3]));
    const uint64_t pixels = fd_mul_capped(out->rows, out->cols);
    fd_plan_work(plan, fd_mul_capped(fd_mul_capped(window, pixels), 2 * fd_panel_columns(out->channels)));
}

fd_place fd_place_of(const fd_value *value) {
    if (value->is_input) return (fd_place){.base = FD_INPUT};
    return (fd_place){
        .base = value->of_chunk ? FD_CHUNK : FD_OWN,
        .offset = (ptrdiff_t)value->interior,
        .image = value->of_chunk ? value->floats : 0,
    };
}

size_t fd_plan_weight_bytes(const fd_plan *plan, const fd_file_op *op) {
    return fd_file_bytes(plan->file, op->weights) + fd_file_bytes(plan->file, op->bias) +
           fd_file_bytes(plan->file, op->scale) + fd_file_bytes(plan->file, op->shift);
}

const char *fd_dtype_name(uint32_t dtype) {
    static const char *const names[FD_DTYPE_END] = {"f32", "f16", "i8"};
    return names[dtype];
}

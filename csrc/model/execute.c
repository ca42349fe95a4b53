#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "model/execute.h"

#include <string.h>

fd_work fd_work_of(const fd_call *call, fd_owners owners, size_t first) {
    const fd_model *const m = call->model;
    const fd_input *const in = &m->inputs[0];
    fd_work w = {.bases = {call->arena + owners.image * m->arena, call->arena + owners.chunk * m->arena,
                           call->arena + owners.scratch * m->arena}};
    const int in_place = fd_input_in_place(in, call->inputs[0].type);
    w.input = in_place ? (const float *)call->inputs[0].values + first * in->elements : fd_target(&w, &in->place, 0);
    w.input_stride = in_place ? in->elements : in->place.image;
    return w;
}

void fd_clock_start(const fd_call *call, fd_clock *clock) {
    if (call->nanoseconds) clock_gettime(CLOCK_MONOTONIC, &clock->since);
}

/* What the clock says of the time since it was read last went to an op. */
static void account(const fd_call *call, size_t op, fd_clock *clock) {
    if (!call->nanoseconds || !clock) return;
    const struct timespec since = clock->since;
    struct timespec *const now = &clock->since;
    clock_gettime(CLOCK_MONOTONIC, now);
    call->nanoseconds[op] +=
        (uint64_t)((int64_t)(now->tv_sec - since.tv_sec) * 1000000000 + (now->tv_nsec - since.tv_nsec));
}

/* Several steps take an image after the other: what lies between them, in scratch memory, is of one image. */
void fd_execute_op(const fd_planned *op, const fd_work *work, fd_share share) {
    const size_t end = share.end;
    const int apart = op->steps && op->steps->next;
    do {
        if (apart) share.end = share.first + 1;
        for (const fd_step *step = op->steps; step; step = step->next) step->run(step, work, &share);
        share.first = share.end;
    } while (share.first < end);
}

size_t fd_execute_inputs(const fd_call *call, const fd_work *work, size_t first, size_t i, fd_clock *clock) {
    const fd_model *const m = call->model;
    size_t taken = 0;
    for (size_t k = 0; k < m->file.input_count; k++) {
        const fd_input *const in = &m->inputs[k];
        fd_execute_op(&m->planned[k], work, (fd_share){i, i + 1, 0, 1}); /* its margins */
        const size_t outside = fd_input_take(in, work, call->inputs[k].values, call->inputs[k].type, first + i, i);
        taken += outside;
        if (outside < in->elements) return taken;
        account(call, k, clock);
    }
    return taken;
}

size_t fd_execute_image(const fd_call *call, const fd_work *work, size_t first, size_t i, fd_clock *clock,
                        fd_pace *pace) {
    const fd_model *const m = call->model;
    const fd_planned *const ops = m->planned;
    const size_t taken = fd_execute_inputs(call, work, first, i, clock);
    if (taken < m->input_elements) return taken;
    if (!fd_watch_goes_on(call->watch, pace, m->watches_ops ? 0 : m->operations)) return taken;
    for (size_t k = m->file.input_count; k < m->batched; k++) {
        if (m->watches_ops && !fd_watch_goes_on(call->watch, pace, ops[k].work)) return taken;
        fd_execute_op(&ops[k], work, (fd_share){i, i + 1, 0, ops[k].parts});
        account(call, k, clock);
    }
    return taken;
}

void fd_execute_chunk(const fd_call *call, const fd_work *work, size_t rows, fd_clock *clock, fd_pace *pace) {
    const fd_model *const m = call->model;
    for (size_t k = m->batched; k < m->file.op_count; k++) {
        if (m->watches_ops && !fd_watch_goes_on(call->watch, pace, fd_mul_capped(rows, m->planned[k].work))) return;
        fd_execute_op(&m->planned[k], work, (fd_share){0, rows, 0, m->planned[k].parts});
        account(call, k, clock);
    }
}

static int64_t index_of_greatest(const fd_output *output, const float *x) {
    size_t best = 0;
    float greatest = x[0];
    for (size_t r = 0; r < output->rows; r++, x += output->row)
        for (size_t i = 0; i < output->line; i++)
            if (x[i] > greatest) greatest = x[i], best = r * output->line + i;
    return (int64_t)best;
}

/* Of values that exclude each other, the greatest; of one that is a probability, which side of a half it is on. */
static int64_t label_of(const fd_output *output, const float *logits) {
    if (output->has_sigmoid && output->elements == 1) return logits[0] > 0.5f;
    return index_of_greatest(output, logits);
}

/* Out of the arena, where there may be margins between rows. */
static void give(const fd_output *output, const float *from, float *to) {
    for (size_t r = 0; r < output->rows; r++)
        memcpy(to + r * output->line, from + r * output->row, output->line * sizeof(float));
}

static void give_output(const fd_output *output, const fd_outputs *to, const fd_work *work, size_t first, size_t rows) {
    const size_t n = output->elements;
    for (size_t i = 0; i < rows; i++) {
        const float *const values = fd_source(work, &output->values, i);
        const float *const logits = fd_source(work, &output->logits, i);
        if (to->values) give(output, values, to->values + (first + i) * n);
        if (to->logits) give(output, logits, to->logits + (first + i) * n);
        /* Not of the probabilities: rounding, and a temperature above 1, may make equal what was not. */
        if (to->labels) to->labels[first + i] = label_of(output, logits);
    }
}

void fd_execute_outputs(const fd_call *call, const fd_work *work, size_t first, size_t rows) {
    for (size_t k = 0; k < call->output_count; k++)
        give_output(&call->model->outputs[k], &call->outputs[k], work, first, rows);
}

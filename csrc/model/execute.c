#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "model/execute.h"

#include <string.h>

fd_work fd_work_of(const fd_call *call, unsigned worker, unsigned owner, size_t first) {
    const fd_model *const m = call->model;
    const fd_input *const in = &m->input;
    fd_work w = {.bases = {call->arena + worker * m->arena, call->arena + owner * m->arena}};
    const int in_place = fd_input_in_place(in, call->type);
    w.input = in_place ? (const float *)call->input + first * in->elements : fd_target(&w, &in->place, 0);
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

void fd_execute_op(const fd_planned *op, const fd_work *work, fd_share share) {
    for (const fd_step *step = op->steps; step; step = step->next) step->run(step, work, &share);
}

size_t fd_execute_image(const fd_call *call, const fd_work *work, size_t first, size_t i, fd_clock *clock) {
    const fd_model *const m = call->model;
    const fd_planned *const ops = m->planned;
    fd_execute_op(&ops[0], work, (fd_share){i, i + 1, 0, 1}); /* margins of the input */
    const size_t outside = fd_input_take(&m->input, work, call->input, call->type, first + i, i);
    if (outside < m->input.elements) return outside;
    account(call, 0, clock);
    for (size_t k = 1; k < m->batched; k++) {
        fd_execute_op(&ops[k], work, (fd_share){i, i + 1, 0, ops[k].parts});
        account(call, k, clock);
    }
    return outside;
}

void fd_execute_chunk(const fd_call *call, const fd_work *work, size_t rows, fd_clock *clock) {
    const fd_model *const m = call->model;
    for (size_t k = m->batched; k < m->file.op_count; k++) {
        fd_execute_op(&m->planned[k], work, (fd_share){0, rows, 0, m->planned[k].parts});
        account(call, k, clock);
    }
}

static int64_t index_of_greatest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int64_t)best;
}

/* Of values that exclude each other, the greatest; of one that is a probability, which side of a half it is on. */
static int64_t label_of(const fd_model *m, const float *logits) {
    if (m->has_sigmoid && m->output_elements == 1) return logits[0] > 0.5f;
    return index_of_greatest(logits, m->output_elements);
}

void fd_execute_outputs(const fd_call *call, const fd_work *work, size_t first, size_t rows) {
    const fd_model *const m = call->model;
    const fd_outputs *const to = &call->outputs;
    const size_t n = m->output_elements;
    for (size_t i = 0; i < rows; i++) {
        const float *const values = fd_source(work, &m->output, i), *const logits = fd_source(work, &m->logits, i);
        if (to->values) memcpy(to->values + (first + i) * n, values, n * sizeof(float));
        if (to->logits) memcpy(to->logits + (first + i) * n, logits, n * sizeof(float));
        /* Not of the probabilities: rounding, and a temperature above 1, may make equal what was not. */
        if (to->labels) to->labels[first + i] = label_of(m, logits);
    }
}

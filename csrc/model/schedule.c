/* The public API: running a model, and who does what.
 *
 * A batch is worked off in chunks. The vectors at the end of the program take the whole chunk, which reads the weights
 * of dense layers once; what comes before takes an image at a time, which stays in the caches. Long batches give each
 * thread chunks of its own; in short ones the threads share each chunk, layer by layer. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/memory.h"
#include "model/context.h"
#include "model/execute.h"
#include "model/place.h"
#include "model/pool.h"
#include "model/team.h"

/* Rows of a narrow layer that make a unit. */
enum { ROWS_PER_UNIT = 8 };
/* Operations of a unit, at least: to take one, and to have another CPU's values in one's caches, takes about a
 * microsecond. Tests that want small networks shared ask for less. */
#ifndef FD_UNIT_WORK
#define FD_UNIT_WORK (UINT64_C(1) << 14)
#endif
/* Operations that a call shares out, at least: of fewer, to wake a thread takes longer than it saves. On a Zen 1 they
 * are about 75 microseconds of one thread. */
#ifndef FD_WAKE_WORK
#define FD_WAKE_WORK (UINT64_C(3) << 19)
#endif

/* A call, and what its workers take of it. */
typedef struct fd_batch {
    fd_call call;
    fd_watch watch;
    unsigned threads;
    size_t n, chunk;
    size_t first_op;    /* that workers share a chunk of: of an image alone the first one, else the first batched one */
    size_t first, rows; /* of the chunk that all workers share */
    fd_pace pace;       /* of worker 0, if all share each chunk */
    atomic_size_t next; /* first row that no worker has taken, if each takes chunks of its own */
    atomic_size_t bad;  /* least index of an offending value, n * input_elements if none so far */
} fd_batch;

/* Whether an image is to go on whose first value out of range is `outside`; it notes the least of the call. */
static int accept(fd_batch *batch, size_t image, size_t outside) {
    const size_t elements = batch->call.model->input_elements;
    if (outside == elements) return !fd_watch_over(&batch->watch);
    const size_t index = image * elements + outside;
    size_t least = atomic_load(&batch->bad);
    while (index < least && !atomic_compare_exchange_weak(&batch->bad, &least, index)) {
    }
    return 0;
}

static int is_bad(fd_batch *batch) { return atomic_load(&batch->bad) < batch->n * batch->call.model->input_elements; }

/* Runs image i of the chunk alone. False if it holds an offending value, or the call is over. */
static int run_image(fd_batch *batch, const fd_work *work, size_t first, size_t i, fd_clock *clock, fd_pace *pace) {
    return accept(batch, first + i, fd_execute_image(&batch->call, work, first, i, clock, pace));
}

/* ---- A long batch: each worker takes chunks until there are none left ---- */

static void run_chunks(void *arg, unsigned worker) {
    fd_batch *const batch = arg;
    fd_clock clock = {0};
    fd_pace pace = {.worker = worker};
    fd_clock_start(&batch->call, &clock);
    for (;;) {
        const size_t first = atomic_fetch_add(&batch->next, batch->chunk);
        if (first >= batch->n) return;
        const size_t rows = fd_min(batch->chunk, batch->n - first);
        const fd_work work = fd_work_of(&batch->call, (fd_owners){worker, worker, worker}, first);
        for (size_t i = 0; i < rows; i++) {
            if (run_image(batch, &work, first, i, &clock, &pace)) continue;
            atomic_store(&batch->next, batch->n);
            return;
        }
        fd_execute_chunk(&batch->call, &work, rows, &clock, &pace);
        if (fd_watch_over(&batch->watch)) return;
        fd_execute_outputs(&batch->call, &work, first, rows);
    }
}

/* ---- A short batch: all workers share each chunk; phase 0 is its images, then each batched op is a phase. Of an image
 * alone, phase 0 takes its inputs, and each op is a phase. ---- */

static int shares_image(const fd_batch *batch) { return batch->n == 1; }

static const fd_planned *op_of(const fd_batch *batch, size_t phase) {
    return &batch->call.model->planned[batch->first_op + phase - 1];
}

/* What it takes, in operations: Winograd's multiply-adds are fewer than those that a plan is limited by. */
static uint64_t work_of(const fd_planned *op) {
    return fd_add_capped(op->work - op->facts.multiply_adds, op->facts.executed);
}

static size_t phases_of(const fd_batch *batch) { return 1 + batch->call.model->file.op_count - batch->first_op; }

/* An op that can be cut is cut; of any other the rows are shared out. */
static size_t units_of(const fd_batch *batch, size_t phase) {
    if (phase == 0) return batch->rows;
    const size_t parts = op_of(batch, phase)->parts;
    if (parts > 1) {
        const size_t most = fd_min(parts, (size_t)batch->threads);
        const uint64_t worth = fd_mul_capped(batch->rows, op_of(batch, phase)->work) / FD_UNIT_WORK;
        return worth == 0 ? 1 : worth < most ? (size_t)worth : most;
    }
    return (batch->rows + ROWS_PER_UNIT - 1) / ROWS_PER_UNIT;
}

static void run_unit(void *arg, unsigned worker, size_t phase, size_t unit) {
    fd_batch *const batch = arg;
    const fd_owners owners = {worker, shares_image(batch) ? 0 : worker, 0};
    const fd_work work = fd_work_of(&batch->call, owners, batch->first);
    /* The caller's goes on from unit to unit: many small ones are a long call too. */
    fd_pace own = {.worker = worker}, *const pace = worker == 0 ? &batch->pace : &own;
    if (shares_image(batch)) {
        if (phase == 0) {
            accept(batch, 0, fd_execute_inputs(&batch->call, &work, 0, 0, NULL));
            return;
        }
        if (is_bad(batch)) return; /* what was not taken is nothing to compute with */
    } else if (phase == 0) {
        /* After an offending value the outputs do not matter, but the least index of one does. */
        run_image(batch, &work, batch->first, unit, NULL, pace);
        return;
    }
    const fd_planned *const op = op_of(batch, phase);
    const size_t parts = op->parts, units = units_of(batch, phase);
    if (!fd_watch_goes_on(&batch->watch, pace, fd_mul_capped(batch->rows, op->work) / units)) return;
    fd_share share = {0, batch->rows, parts * unit / units, parts * (unit + 1) / units};
    if (parts == 1) {
        const size_t row = unit * ROWS_PER_UNIT;
        share = (fd_share){row, fd_min(row + ROWS_PER_UNIT, batch->rows), 0, 1};
    }
    fd_execute_op(op, &work, share);
}

/* What the caller does while it waits for other workers. */
static void keep_watch(void *arg) {
    fd_batch *const batch = arg;
    fd_watch_look(&batch->watch, 0);
}

static void run_shared(fd_batch *batch, size_t *units) {
    const size_t phases = phases_of(batch);
    /* A call may be over while its caller waits for others to end a long op. */
    const int watches = batch->call.watch->context->poll || batch->call.model->watches_ops;
    void (*const idle)(void *) = watches ? keep_watch : NULL;
    for (batch->first = 0; batch->first < batch->n; batch->first += batch->rows) {
        batch->rows = fd_min(batch->chunk, batch->n - batch->first);
        for (size_t p = 0; p < phases; p++) units[p] = units_of(batch, p);
        fd_team_run(run_unit, idle, batch, units, phases, batch->threads);
        if (is_bad(batch) || fd_watch_over(&batch->watch)) return;
        const fd_work work = fd_work_of(&batch->call, (fd_owners){0, 0, 0}, batch->first);
        fd_execute_outputs(&batch->call, &work, batch->first, batch->rows);
        if (batch->first + batch->rows < batch->n && !fd_watch_look(&batch->watch, 0)) return;
    }
}

/* Operations that threads can share of a short batch: an image's own are not, unless it is alone. */
static uint64_t shared_work(fd_batch *batch) {
    const fd_model *const m = batch->call.model;
    uint64_t work = 0, alone = m->operations;
    batch->rows = fd_min(batch->chunk, batch->n);
    for (size_t phase = 1; phase < phases_of(batch); phase++) {
        const fd_planned *const op = op_of(batch, phase);
        alone = op->work < alone ? alone - op->work : 0;
        if (units_of(batch, phase) > 1) work = fd_add_capped(work, fd_mul_capped(batch->n, work_of(op)));
    }
    return fd_add_capped(work, fd_mul_capped(batch->n - 1, alone));
}

/* A short batch, in as many threads as gain by it. */
static void run_short(fd_batch *batch, fd_context *context) {
    const int worth = shared_work(batch) >= FD_WAKE_WORK, compares = worth && shares_image(batch);
    const int shared = worth && (!compares || fd_gain_expected(&context->gain));
    if (!shared) batch->threads = 1;
    const uint64_t start = compares ? fd_watch_now() : 0;
    run_shared(batch, context->units);
    if (compares && !is_bad(batch) && !fd_watch_over(&batch->watch))
        fd_gain_learn(&context->gain, shared, fd_watch_now() - start);
}

/* Runs inputs that were looked at, `total` values in all. *offending is `total` then, or the least index of one that is
 * out of range. */
static fd_status run(const fd_call *call, fd_context *context, size_t n, size_t total, size_t *offending,
                     fd_error *error) {
    const unsigned threads = context->threads;
    fd_batch batch = {.call = *call, .threads = threads, .n = n};
    batch.first_op = shares_image(&batch) ? call->model->file.input_count : call->model->batched;
    fd_watch_start(&batch.watch, context);
    batch.call.watch = &batch.watch;
    atomic_init(&batch.next, 0);
    atomic_init(&batch.bad, total);
    const size_t chunk = call->model->chunk;
    size_t chunks = (n + chunk - 1) / chunk;
    const int own_chunks = threads == 1 || chunks >= threads;
    if (own_chunks) chunks = fd_round_up(chunks, threads); /* as many for each */
    batch.chunk = (n + chunks - 1) / chunks;
    if (own_chunks) {
        const fd_task task = {run_chunks, context->poll ? keep_watch : NULL, &batch};
        fd_pool_run(&task, fd_mul_capped(n, call->model->operations) < FD_WAKE_WORK ? 1 : threads);
    } else {
        run_short(&batch, context);
    }
    *offending = atomic_load(&batch.bad);
    return fd_watch_status(&batch.watch, error);
}

static fd_status check_type(const fd_model *model, size_t input, fd_input_type type, fd_error *error) {
    if (type != FD_INPUT_F32 && type != FD_INPUT_U8)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_run: unknown input type %d", (int)type);
    if (type == FD_INPUT_U8 && !model->inputs[input].u8_divisor)
        return fd_fail(error, FD_ERR_ARGUMENT,
                       "this model does not accept bytes: compile it with --input-range 0 255, or 0 1, or with --mean "
                       "and --std");
    return FD_OK;
}

/* Says what is wrong with the value at index `offending`, counted through all inputs of each image. */
static fd_status refuse(const fd_call *call, size_t offending, size_t *bad_input, size_t *bad, fd_error *error) {
    const fd_model *const m = call->model;
    const size_t image = offending / m->input_elements;
    size_t at = offending % m->input_elements, k = 0;
    while (at >= m->inputs[k].elements) at -= m->inputs[k++].elements;
    const fd_input *const in = &m->inputs[k];
    const size_t index = image * in->elements + at;
    if (bad_input) *bad_input = k;
    if (bad) *bad = index;
    const double value = (double)((const float *)call->inputs[k].values)[index];
    char where[96] = ""; /* of several inputs, which */
    if (m->file.input_count > 1) snprintf(where, sizeof where, " of input '%.60s'", m->file.ports[k].name);
    if (!isfinite(value))
        return fd_fail(error, FD_ERR_INPUT, "value %g at element %zu of image %zu%s is not finite", value, at, image,
                       where);
    return fd_fail(error, FD_ERR_INPUT,
                   "value %g at element %zu of image %zu%s is outside the input range %g to %g: scale the images, or "
                   "compile the model with another --input-range LOW HIGH, or none",
                   value, at, image, where, (double)in->lo, (double)in->hi);
}

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const uintptr_t first = (uintptr_t)a, second = (uintptr_t)b;
    return b && first < second + b_bytes && second < first + a_bytes;
}

/* Images are read after results of others are written: in the same memory, those would be read instead. */
static fd_status check_overlap(const fd_call *call, size_t n, fd_error *error) {
    const fd_model *const m = call->model;
    for (size_t i = 0; i < m->file.input_count; i++) {
        const fd_input_data *const in = &call->inputs[i];
        const size_t bytes = n * m->inputs[i].elements * (in->type == FD_INPUT_U8 ? 1 : sizeof(float));
        for (size_t k = 0; k < call->output_count; k++) {
            const fd_outputs *const out = &call->outputs[k];
            const size_t floats = n * m->outputs[k].elements * sizeof(float);
            if (overlap(in->values, bytes, out->values, floats) || overlap(in->values, bytes, out->logits, floats) ||
                overlap(in->values, bytes, out->labels, n * sizeof *out->labels))
                return fd_fail(error, FD_ERR_ARGUMENT,
                               "output %zu overlaps input %zu in memory: give it memory of its own", k, i);
        }
    }
    return FD_OK;
}

static fd_status run_checked(const fd_call *call, fd_context *context, size_t n, size_t *bad_input, size_t *bad,
                             fd_error *error) {
    size_t total, limit;
    /* Leaves room for `next` to run past n by a chunk a worker. */
    if (!fd_mul(n, call->model->input_elements, &total) ||
        !fd_add(n, (size_t)(FD_MAX_THREADS + 1) * FD_CHUNK_ROWS, &limit))
        return fd_fail(error, FD_ERR_ARGUMENT, "a batch of %zu images is too large", n);
    if (n == 0) return FD_OK;
    size_t offending;
    fd_status status = check_overlap(call, n, error);
    if (status == FD_OK) status = run(call, context, n, total, &offending, error);
    if (status != FD_OK) return status;
    return offending == total ? FD_OK : refuse(call, offending, bad_input, bad, error);
}

fd_status fd_run(const fd_model *model, fd_context *context, const void *input, fd_input_type type, size_t n,
                 const fd_outputs *outputs, size_t *bad, fd_error *error) {
    if (!model || !context || !outputs || (!input && n))
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_run: a pointer is NULL");
    if (model->file.input_count != 1)
        return fd_fail(error, FD_ERR_ARGUMENT, "the model has %zu inputs: use fd_run_all", model->file.input_count);
    const fd_status status = check_type(model, 0, type, error);
    if (status != FD_OK) return status;
    const fd_input_data data = {input, type};
    const fd_call call = {
        .model = model,
        .arena = context->arena,
        .inputs = &data,
        .outputs = outputs,
        .output_count = 1,
        .nanoseconds = context->nanoseconds,
    };
    return run_checked(&call, context, n, NULL, bad, error);
}

fd_status fd_run_all(const fd_model *model, fd_context *context, const fd_input_data *inputs, size_t input_count,
                     size_t n, const fd_outputs *outputs, size_t output_count, size_t *bad_input, size_t *bad,
                     fd_error *error) {
    if (!model || !context || !inputs || !outputs)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_run_all: a pointer is NULL");
    const fd_file *const f = &model->file;
    if (input_count != f->input_count || output_count != f->output_count)
        return fd_fail(error, FD_ERR_ARGUMENT, "%zu inputs and %zu outputs, the model has %zu and %zu", input_count,
                       output_count, f->input_count, f->output_count);
    for (size_t k = 0; k < input_count; k++) {
        if (!inputs[k].values && n)
            return fd_fail(error, FD_ERR_ARGUMENT, "fd_run_all: the values of input %zu are NULL", k);
        const fd_status status = check_type(model, k, inputs[k].type, error);
        if (status != FD_OK) return status;
    }
    const fd_call call = {
        .model = model,
        .arena = context->arena,
        .inputs = inputs,
        .outputs = outputs,
        .output_count = output_count,
        .nanoseconds = context->nanoseconds,
    };
    return run_checked(&call, context, n, bad_input, bad, error);
}

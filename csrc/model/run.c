/* The public API: contexts, and running a model.
 *
 * A batch is worked off in chunks. The layers before the first dense one take an image at a time, which stays in the
 * first-level cache; the others take the whole chunk, which reads their weights once. Long batches give each thread
 * chunks of its own; in short ones the threads share each chunk, layer by layer. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "model/model.h"
#include "model/pool.h"
#include "model/team.h"

/* Units into which a thread's share of a layer is cut, so that one that comes late finds some left. */
enum { UNITS_PER_THREAD = 2 };
/* Rows of a narrow layer that make a unit. */
enum { ROWS_PER_UNIT = 8 };

struct fd_context {
    unsigned threads;
    float *arena;          /* threads times model->arena floats */
    uint64_t *nanoseconds; /* an entry an op, or NULL */
    size_t *units;         /* of each phase of a chunk: op_count entries */
};

fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error) {
    if (!model || !context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_create: a pointer is NULL");
    *context = NULL;
    if (threads < 1 || threads > FD_MAX_THREADS)
        return fd_fail(error, FD_ERR_ARGUMENT, "threads is %u, expected 1 to %u", threads, FD_MAX_THREADS);
    fd_context *const c = fd_alloc(sizeof *c);
    if (!c) return fd_fail(error, FD_ERR_MEMORY, "no memory for a context");
    c->threads = threads;
    c->units = fd_alloc(model->op_count * sizeof *c->units);
    size_t bytes;
    c->arena = fd_mul(model->arena * sizeof(float), threads, &bytes) ? fd_alloc(bytes) : NULL;
    if (!c->arena || !c->units) {
        fd_context_free(c);
        return fd_fail(error, FD_ERR_MEMORY, "no memory for the scratch of %u threads, %zu bytes each", threads,
                       model->arena * sizeof(float));
    }
    *context = c;
    return FD_OK;
}

void fd_context_free(fd_context *context) {
    if (!context) return;
    fd_free(context->arena);
    fd_free(context->units);
    fd_free(context);
}

fd_status fd_context_profile(fd_context *context, uint64_t *nanoseconds, fd_error *error) {
    if (!context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_profile: the context is NULL");
    if (context->threads > 1)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_profile: the context has %u threads, expected 1",
                       context->threads);
    context->nanoseconds = nanoseconds;
    return FD_OK;
}

/* One call of fd_run, shared by its workers. */
typedef struct fd_call {
    const fd_model *model;
    float *arena;
    const void *input;
    fd_input_type type;
    size_t n, chunk;
    fd_outputs outputs;
    uint64_t *nanoseconds;
    unsigned threads;
    size_t first, rows; /* of the chunk that all workers share */
    atomic_size_t next; /* first row that no worker has taken, if each takes chunks of its own */
    atomic_size_t bad;  /* least index of an offending value, n * input_elements if none so far */
} fd_call;

/* What a worker works on: values of one image are its own, values of a whole chunk may be shared. */
typedef struct fd_work {
    const fd_model *model;
    float *own, *chunk;
    const float *input; /* of the chunk's first image; NULL: it was converted into the arena */
} fd_work;

static fd_work work_of(const fd_call *call, unsigned worker, unsigned owner, size_t first) {
    const fd_model *const m = call->model;
    const fd_value *const v = &m->values[m->steps[0].out];
    fd_work w = {.model = m, .own = call->arena + worker * m->arena, .chunk = call->arena + owner * m->arena};
    /* Floats without margins are used where they lie. */
    if (call->type == FD_INPUT_F32 && !v->has_margins) w.input = (const float *)call->input + first * v->elements;
    return w;
}

/* First element of the value of the chunk's image i. */
static float *value_data(const fd_work *w, uint32_t value, size_t i) {
    const fd_value *const v = &w->model->values[value];
    return (v->image ? w->chunk : w->own) + v->interior + i * v->image;
}

static const float *input_data(const fd_work *w, const fd_step *step, size_t i) {
    if (step->in == w->model->steps[0].out && w->input) return w->input + i * w->model->values[step->in].elements;
    return value_data(w, step->in, i);
}

static void run_conv2d(const fd_work *w, const fd_step *step, size_t i) {
    const fd_value *const in = &w->model->values[step->in];
    const float *const image = input_data(w, step, i) - (in->interior - in->base); /* with its margins */
    float *const to = value_data(w, step->out, i), *const scratch = w->own + w->model->scratch;
    if (step->winograd) {
        fd_winograd_args a = step->args.winograd;
        a.in = image;
        a.out = to;
        a.v = scratch;
        a.products = scratch + step->scratch_split;
        step->winograd(&a);
    } else {
        fd_conv2d_args a = step->args.conv2d;
        a.in = image;
        a.out = to;
        a.ring = scratch;
        w->model->kernels->conv2d(&a);
    }
}

/* A step that takes one image at a time, on image i of the chunk. */
static void run_step(const fd_work *w, const fd_step *step, size_t i) {
    const fd_kernels *const kernels = w->model->kernels;
    switch (step->opcode) {
    case FD_OP_CONV2D: run_conv2d(w, step, i); break;
    case FD_OP_POOL2D: {
        fd_pool2d_args a = step->args.pool2d;
        a.in = input_data(w, step, i);
        a.out = value_data(w, step->out, i);
        kernels->pool2d(&a);
        break;
    }
    case FD_OP_ELTWISE: {
        fd_eltwise_args a = step->args.eltwise;
        a.in = input_data(w, step, i);
        a.out = value_data(w, step->out, i);
        kernels->eltwise(&a);
        break;
    }
    case FD_OP_SOFTMAX:
        kernels->softmax(input_data(w, step, i), value_data(w, step->out, i), w->model->values[step->out].elements);
        break;
    default: break;
    }
}

/* A dense step on rows of the chunk and panels of its weights: [first, end) of each. */
static void run_dense(const fd_work *w, const fd_step *step, size_t row, size_t row_end, size_t panel,
                      size_t panel_end) {
    fd_dense_args a = step->args.dense;
    const size_t column = panel * FD_PANEL;
    a.in = input_data(w, step, row);
    a.out = value_data(w, step->out, row) + column;
    a.m = row_end - row;
    a.weights = (const char *)a.weights + column * step->column_bytes;
    a.bias += column;
    if (a.scale) a.scale += column;
    if (a.sums) a.sums += column;
    a.channels = fd_min(panel_end * FD_PANEL, a.channels) - column;
    a.scratch = w->own + w->model->scratch;
    step->dense(&a);
}

static size_t panels_of(const fd_step *step) { return (step->args.dense.channels + FD_PANEL - 1) / FD_PANEL; }

/* A step that takes the whole chunk. */
static void run_batched(const fd_work *w, const fd_step *step, size_t rows) {
    if (step->opcode == FD_OP_DENSE)
        run_dense(w, step, 0, rows, 0, panels_of(step));
    else
        for (size_t i = 0; i < rows; i++) run_step(w, step, i);
}

/* Checks or converts image i of the call, the chunk's image `slot`. False if it holds an offending value. */
static int take_input(fd_call *call, const fd_work *w, size_t i, size_t slot) {
    const fd_model *const m = call->model;
    const fd_value *const v = &m->values[m->steps[0].out];
    const size_t row = v->cols * v->channels;
    float *const to = value_data(w, m->steps[0].out, slot);
    if (call->type == FD_INPUT_U8) {
        const uint8_t *const from = (const uint8_t *)call->input + i * v->elements;
        for (size_t r = 0; r < v->rows; r++)
            m->kernels->from_u8(from + r * row, to + r * v->row, row, (float)m->ops[0].u8_divisor);
        return 1;
    }
    const float *const from = (const float *)call->input + i * v->elements;
    const size_t outside = m->kernels->find_outside(from, v->elements, fd_finite_bound(m->ops[0].range_lo),
                                                    fd_finite_bound(m->ops[0].range_hi));
    if (outside < v->elements) {
        const size_t index = i * v->elements + outside;
        size_t least = atomic_load(&call->bad);
        while (index < least && !atomic_compare_exchange_weak(&call->bad, &least, index)) {
        }
        return 0;
    }
    if (!w->input)
        for (size_t r = 0; r < v->rows; r++) memcpy(to + r * v->row, from + r * row, row * sizeof(float));
    return 1;
}

/* What the clock says of the time since *since went to op `step`. */
static void account(const fd_call *call, size_t step, struct timespec *since) {
    if (!call->nanoseconds) return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    call->nanoseconds[step] +=
        (uint64_t)((int64_t)(now.tv_sec - since->tv_sec) * 1000000000 + (now.tv_nsec - since->tv_nsec));
    *since = now;
}

/* Everything that happens to one image alone. False if it holds an offending value. */
static int run_image(fd_call *call, const fd_work *w, size_t first, size_t i, struct timespec *since) {
    const fd_model *const m = call->model;
    if (!take_input(call, w, first + i, i)) return 0;
    account(call, 0, since);
    for (size_t s = 1; s < m->batched; s++) {
        run_step(w, &m->steps[s], i);
        account(call, s, since);
    }
    return 1;
}

static int64_t index_of_greatest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int64_t)best;
}

static void give_outputs(const fd_call *call, const fd_work *w, size_t first, size_t rows) {
    const fd_model *const m = call->model;
    const fd_step *const last = &m->steps[m->op_count - 1];
    const size_t n = m->values[last->out].elements;
    for (size_t i = 0; i < rows; i++) {
        const float *const values = value_data(w, last->out, i);
        const float *const logits = last->opcode == FD_OP_SOFTMAX ? input_data(w, last, i) : values;
        if (call->outputs.values) memcpy(call->outputs.values + (first + i) * n, values, n * sizeof(float));
        if (call->outputs.logits) memcpy(call->outputs.logits + (first + i) * n, logits, n * sizeof(float));
        if (call->outputs.labels) call->outputs.labels[first + i] = index_of_greatest(values, n);
    }
}

/* ---- A long batch: each worker takes chunks until there are none left ---- */

static void run_chunks(void *arg, unsigned worker) {
    fd_call *const call = arg;
    const fd_model *const m = call->model;
    struct timespec since = {0};
    if (call->nanoseconds) clock_gettime(CLOCK_MONOTONIC, &since);
    for (;;) {
        const size_t first = atomic_fetch_add(&call->next, call->chunk);
        if (first >= call->n) return;
        const size_t rows = fd_min(call->chunk, call->n - first);
        const fd_work w = work_of(call, worker, worker, first);
        for (size_t i = 0; i < rows; i++) {
            if (run_image(call, &w, first, i, &since)) continue;
            atomic_store(&call->next, call->n);
            return;
        }
        for (size_t s = m->batched; s < m->op_count; s++) {
            run_batched(&w, &m->steps[s], rows);
            account(call, s, &since);
        }
        give_outputs(call, &w, first, rows);
    }
}

/* ---- A short batch: all workers share each chunk; phase 0 is its images, then each batched step is a phase ---- */

static size_t units_of(const fd_call *call, size_t phase) {
    if (phase == 0) return call->rows;
    const fd_step *const step = &call->model->steps[call->model->batched + phase - 1];
    if (step->opcode == FD_OP_DENSE && panels_of(step) > 1)
        return fd_min(panels_of(step), (size_t)call->threads * UNITS_PER_THREAD);
    return (call->rows + ROWS_PER_UNIT - 1) / ROWS_PER_UNIT;
}

static void run_unit(void *arg, unsigned worker, size_t phase, size_t unit) {
    fd_call *const call = arg;
    const fd_model *const m = call->model;
    const fd_work w = work_of(call, worker, 0, call->first);
    if (phase == 0) {
        /* After an offending value the outputs do not matter, but the least index of one does. */
        run_image(call, &w, call->first, unit, NULL);
        return;
    }
    const fd_step *const step = &m->steps[m->batched + phase - 1];
    const size_t units = units_of(call, phase);
    if (step->opcode == FD_OP_DENSE && panels_of(step) > 1) {
        const size_t panels = panels_of(step);
        run_dense(&w, step, 0, call->rows, panels * unit / units, panels * (unit + 1) / units);
        return;
    }
    const size_t row = unit * ROWS_PER_UNIT, end = fd_min(row + ROWS_PER_UNIT, call->rows);
    if (step->opcode == FD_OP_DENSE)
        run_dense(&w, step, row, end, 0, 1);
    else
        for (size_t i = row; i < end; i++) run_step(&w, step, i);
}

static void run_shared(fd_call *call, size_t *units) {
    const size_t phases = 1 + call->model->op_count - call->model->batched;
    for (call->first = 0; call->first < call->n; call->first += call->rows) {
        call->rows = fd_min(call->chunk, call->n - call->first);
        for (size_t p = 0; p < phases; p++) units[p] = units_of(call, p);
        fd_team_run(run_unit, call, units, phases, call->threads);
        if (atomic_load(&call->bad) < call->n * call->model->values[call->model->steps[0].out].elements) return;
        const fd_work w = work_of(call, 0, 0, call->first);
        give_outputs(call, &w, call->first, call->rows);
    }
}

fd_status fd_run(const fd_model *model, fd_context *context, const void *input, fd_input_type type, size_t n,
                 const fd_outputs *outputs, size_t *bad, fd_error *error) {
    if (!model || !context || !outputs || (!input && n))
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_run: a pointer is NULL");
    if (type != FD_INPUT_F32 && type != FD_INPUT_U8)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_run: unknown input type %d", (int)type);
    if (type == FD_INPUT_U8 && !model->ops[0].u8_divisor)
        return fd_fail(error, FD_ERR_ARGUMENT,
                       "this model does not accept bytes: its input range is not that of an image");
    const size_t elements = model->values[model->steps[0].out].elements;
    size_t total, limit;
    /* Leaves room for `next` to run past n by a chunk a worker. */
    if (!fd_mul(n, elements, &total) || !fd_add(n, (size_t)(FD_MAX_THREADS + 1) * FD_CHUNK_ROWS, &limit))
        return fd_fail(error, FD_ERR_ARGUMENT, "a batch of %zu images is too large", n);
    if (n == 0) return FD_OK;

    const unsigned threads = context->threads;
    fd_call call = {
        .model = model,
        .arena = context->arena,
        .input = input,
        .type = type,
        .n = n,
        .outputs = *outputs,
        .nanoseconds = context->nanoseconds,
        .threads = threads,
    };
    atomic_init(&call.next, 0);
    atomic_init(&call.bad, total);
    size_t chunks = (n + model->chunk - 1) / model->chunk;
    const int own_chunks = threads == 1 || chunks >= threads;
    if (own_chunks) chunks = fd_round_up(chunks, threads); /* as many for each */
    call.chunk = (n + chunks - 1) / chunks;
    if (own_chunks)
        fd_pool_run(run_chunks, &call, threads);
    else
        run_shared(&call, context->units);

    const size_t offending = atomic_load(&call.bad);
    if (offending == total) return FD_OK;
    if (bad) *bad = offending;
    const float value = ((const float *)input)[offending];
    return fd_fail(error, FD_ERR_INPUT, "value %g at element %zu of image %zu is outside [%g, %g]", (double)value,
                   offending % elements, offending / elements, (double)fd_finite_bound(model->ops[0].range_lo),
                   (double)fd_finite_bound(model->ops[0].range_hi));
}

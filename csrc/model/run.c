/* The public API: open, run, close. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <float.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "model/model.h"
#include "model/pool.h"

struct fd_context {
    unsigned threads;
    float *arena;          /* threads times model->arena floats */
    uint64_t *nanoseconds; /* an entry an op, or NULL */
};

/* ---- Opening ---- */

static fd_status open_bytes(unsigned char *file, size_t size, fd_model **out, fd_error *error) {
    fd_model *const model = fd_alloc(sizeof *model);
    if (!model) {
        fd_free(file);
        return fd_fail(error, FD_ERR_MEMORY, "no memory for a model");
    }
    model->file = file;
    model->file_bytes = size;
    fd_status status = fd_load(model, error);
    if (status == FD_OK) status = fd_plan(model, error);
    if (status != FD_OK) {
        fd_model_close(model);
        return status;
    }
    *out = model;
    return FD_OK;
}

fd_status fd_model_open_memory(const void *data, size_t size, fd_model **model, fd_error *error) {
    if (!model || (!data && size)) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open_memory: a pointer is NULL");
    *model = NULL;
    unsigned char *const file = fd_alloc(size);
    if (!file) return fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %zu bytes", size);
    if (size) memcpy(file, data, size);
    return open_bytes(file, size, model, error);
}

/* The file is read, not mapped: somebody may truncate a mapped file, and the next run would die of SIGBUS. It also
 * gives the weights huge pages. Processes share them by loading before they fork. */
fd_status fd_model_open(const char *path, fd_model **model, fd_error *error) {
    if (!model || !path) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open: a pointer is NULL");
    *model = NULL;
    FILE *const stream = fopen(path, "rb");
    if (!stream) return fd_fail(error, FD_ERR_IO, "cannot open '%.200s'", path);
    long size = -1;
    if (fseek(stream, 0, SEEK_END) == 0) size = ftell(stream);
    unsigned char *file = NULL;
    fd_status status = FD_OK;
    if (size < 0 || size == LONG_MAX || fseek(stream, 0, SEEK_SET) != 0)
        status = fd_fail(error, FD_ERR_IO, "cannot find the size of '%.200s': it is not a regular file", path);
    else if (!(file = fd_alloc((size_t)size)))
        status = fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %ld bytes", size);
    else if (fread(file, 1, (size_t)size, stream) != (size_t)size)
        status = fd_fail(error, FD_ERR_IO, "cannot read '%.200s'", path);
    fclose(stream);
    if (status != FD_OK) {
        fd_free(file);
        return status;
    }
    return open_bytes(file, (size_t)size, model, error);
}

void fd_model_close(fd_model *model) {
    if (!model) return;
    fd_free(model->values);
    fd_free(model->steps);
    fd_free(model->taps);
    fd_free(model->transformed);
    fd_free(model->zeros);
    fd_free(model->file);
    fd_free(model);
}

/* Infinite bounds accept what is finite, and nothing else. */
static float finite_bound(float bound) { return bound < -FLT_MAX ? -FLT_MAX : bound > FLT_MAX ? FLT_MAX : bound; }

void fd_model_get_info(const fd_model *model, fd_model_info *info) {
    const fd_file_op *const input = &model->ops[0], *const last = &model->ops[model->op_count - 1];
    const fd_file_tensor *const shape = &model->tensors[input->output];
    *info = (fd_model_info){
        .isa = model->kernels->isa,
        .input_rank = shape->rank,
        .input_dims = {shape->dims[0], shape->dims[1], shape->dims[2]},
        .input_elements = model->values[input->output].elements,
        .output_elements = model->values[last->output].elements,
        .has_softmax = last->opcode == FD_OP_SOFTMAX,
        .range_lo = finite_bound(input->range_lo),
        .range_hi = finite_bound(input->range_hi),
        .u8_divisor = input->u8_divisor,
        .ops = model->op_count,
        .multiply_adds = model->multiply_adds,
        .weight_bytes = model->weight_bytes,
        .file = model->file,
        .file_bytes = model->file_bytes,
        .context_bytes = model->arena * sizeof(float),
        .meta = model->meta,
        .meta_bytes = model->meta_bytes,
    };
}

/* ---- Running ---- */

fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error) {
    if (!model || !context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_create: a pointer is NULL");
    *context = NULL;
    if (threads < 1 || threads > FD_MAX_THREADS)
        return fd_fail(error, FD_ERR_ARGUMENT, "threads is %u, expected 1 to %u", threads, FD_MAX_THREADS);
    fd_context *const c = fd_alloc(sizeof *c);
    if (!c) return fd_fail(error, FD_ERR_MEMORY, "no memory for a context");
    c->threads = threads;
    size_t bytes;
    c->arena = fd_mul(model->arena * sizeof(float), threads, &bytes) ? fd_alloc(bytes) : NULL;
    if (!c->arena) {
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

/* One call of fd_run, shared by its workers, who take chunks until there are none left. */
typedef struct fd_call {
    const fd_model *model;
    float *arena;
    const void *input;
    fd_input_type type;
    size_t n, chunk;
    fd_outputs outputs;
    uint64_t *nanoseconds;
    atomic_size_t next; /* first row not yet taken */
    atomic_size_t bad;  /* least index of an offending value, n * input_elements if none so far */
} fd_call;

/* What a worker works on. */
typedef struct fd_work {
    const fd_model *model;
    float *arena;
    const float *input; /* of the chunk's first image; NULL: it was converted into the arena */
} fd_work;

/* First element of the value of the chunk's image i. */
static float *value_data(const fd_work *w, uint32_t value, size_t i) {
    const fd_value *const v = &w->model->values[value];
    return w->arena + v->interior + i * v->image;
}

static const float *input_data(const fd_work *w, const fd_step *step, size_t i) {
    if (step->in == w->model->steps[0].out && w->input) return w->input + i * w->model->values[step->in].elements;
    return value_data(w, step->in, i);
}

static void run_step(const fd_work *w, const fd_step *step, size_t i) {
    const fd_model *const m = w->model;
    const fd_value *const in = &m->values[step->in];
    const float *const from = input_data(w, step, i);
    float *const to = value_data(w, step->out, i);
    switch (step->opcode) {
    case FD_OP_CONV2D: {
        const float *const image = from - (in->interior - in->base); /* with its margins */
        if (step->winograd) {
            fd_winograd_args a = step->args.winograd;
            a.in = image;
            a.out = to;
            a.v = w->arena + m->scratch;
            a.products = a.v + step->scratch_split;
            step->winograd(&a);
        } else {
            fd_conv2d_args a = step->args.conv2d;
            a.in = image;
            a.out = to;
            a.ring = w->arena + m->scratch;
            m->kernels->conv2d(&a);
        }
        break;
    }
    case FD_OP_POOL2D: {
        fd_pool2d_args a = step->args.pool2d;
        a.in = from;
        a.out = to;
        m->kernels->pool2d(&a);
        break;
    }
    case FD_OP_ELTWISE: {
        fd_eltwise_args a = step->args.eltwise;
        a.in = from;
        a.out = to;
        m->kernels->eltwise(&a);
        break;
    }
    default: break;
    }
}

/* The same for the layers that take `rows` images at once. */
static void run_batched(const fd_work *w, const fd_step *step, size_t rows) {
    const fd_model *const m = w->model;
    if (step->opcode == FD_OP_DENSE) {
        fd_dense_args a = step->args.dense;
        a.in = input_data(w, step, 0);
        a.out = value_data(w, step->out, 0);
        a.m = rows;
        a.nonzero = w->arena + m->scratch;
        step->dense(&a);
    } else if (step->opcode == FD_OP_SOFTMAX) {
        for (size_t i = 0; i < rows; i++)
            m->kernels->softmax(input_data(w, step, i), value_data(w, step->out, i), m->values[step->out].elements);
    } else {
        for (size_t i = 0; i < rows; i++) run_step(w, step, i);
    }
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
    const size_t outside =
        m->kernels->find_outside(from, v->elements, finite_bound(m->ops[0].range_lo), finite_bound(m->ops[0].range_hi));
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

static void run_worker(void *arg, unsigned worker) {
    fd_call *const call = arg;
    const fd_model *const m = call->model;
    const fd_value *const v = &m->values[m->steps[0].out];
    /* Floats without margins are used where they lie. */
    const int direct = call->type == FD_INPUT_F32 && !v->has_margins;
    fd_work w = {.model = m, .arena = call->arena + worker * m->arena};
    struct timespec since = {0};
    if (call->nanoseconds) clock_gettime(CLOCK_MONOTONIC, &since);
    for (;;) {
        const size_t first = atomic_fetch_add(&call->next, call->chunk);
        if (first >= call->n) return;
        const size_t rows = fd_min(call->chunk, call->n - first);
        if (direct) w.input = (const float *)call->input + first * v->elements;
        for (size_t i = 0; i < rows; i++) {
            if (!take_input(call, &w, first + i, i)) {
                atomic_store(&call->next, call->n);
                return;
            }
            account(call, 0, &since);
            for (size_t s = 1; s < m->batched; s++) {
                run_step(&w, &m->steps[s], i);
                account(call, s, &since);
            }
        }
        for (size_t s = m->batched; s < m->op_count; s++) {
            run_batched(&w, &m->steps[s], rows);
            account(call, s, &since);
        }
        give_outputs(call, &w, first, rows);
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

    const unsigned threads = (unsigned)fd_min(context->threads, n);
    fd_call call = {.model = model,
                    .arena = context->arena,
                    .input = input,
                    .type = type,
                    .n = n,
                    .outputs = *outputs,
                    .nanoseconds = context->nanoseconds};
    call.chunk = threads > 1 ? fd_min(model->chunk, (n + threads - 1) / threads) : model->chunk;
    atomic_init(&call.next, 0);
    atomic_init(&call.bad, total);
    fd_pool_run(run_worker, &call, threads);

    const size_t offending = atomic_load(&call.bad);
    if (offending == total) return FD_OK;
    if (bad) *bad = offending;
    const float value = ((const float *)input)[offending];
    return fd_fail(error, FD_ERR_INPUT, "value %g at element %zu of image %zu is outside [%g, %g]", (double)value,
                   offending % elements, offending / elements, (double)finite_bound(model->ops[0].range_lo),
                   (double)finite_bound(model->ops[0].range_hi));
}

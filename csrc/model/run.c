/* The public API: contexts, and running a model.
 *
 * A batch is worked off in chunks. The vectors at the end of the program take the whole chunk, which reads the weights
 * of dense layers once; what comes before takes an image at a time, which stays in the caches. Long batches give each
 * thread chunks of its own; in short ones the threads share each chunk, layer by layer. */
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

/* It is followed, in the same block of memory, by `units` and `arena`. */
struct fd_context {
    unsigned threads;
    int owns_memory;
    float *arena;          /* threads times model->arena floats */
    uint64_t *nanoseconds; /* an entry an op, or NULL */
    size_t *units;         /* of each phase of a chunk: op_count entries */
};

/* Where in a context's memory the parts begin, and where the last one ends. */
typedef struct fd_layout {
    size_t units, arena, end;
} fd_layout;

static fd_status lay_out(const fd_model *model, unsigned threads, fd_layout *layout, fd_error *error) {
    *layout = (fd_layout){0};
    if (threads < 1 || threads > FD_MAX_THREADS)
        return fd_fail(error, FD_ERR_ARGUMENT, "threads is %u, expected 1 to %u", threads, FD_MAX_THREADS);
    size_t bytes;
    layout->units = fd_round_up(sizeof(fd_context), FD_ALIGN);
    layout->arena = layout->units + fd_round_up(model->op_count * sizeof(size_t), FD_ALIGN);
    if (!fd_mul(model->arena * sizeof(float), threads, &bytes) || !fd_add(layout->arena, bytes, &layout->end) ||
        layout->end > SIZE_MAX - FD_ALIGN)
        return fd_fail(error, FD_ERR_MEMORY, "the scratch of %u threads, %zu bytes each, has no place in memory",
                       threads, model->arena * sizeof(float));
    return FD_OK;
}

/* `memory` is aligned and zero. */
static fd_context *place(void *memory, const fd_layout *layout, unsigned threads, int owns_memory) {
    fd_context *const c = memory;
    *c = (fd_context){
        .threads = threads,
        .owns_memory = owns_memory,
        .arena = (float *)(void *)((char *)memory + layout->arena),
        .units = (size_t *)(void *)((char *)memory + layout->units),
    };
    return c;
}

fd_status fd_context_create(const fd_model *model, unsigned threads, fd_context **context, fd_error *error) {
    if (context) *context = NULL;
    if (!model || !context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_create: a pointer is NULL");
    fd_layout layout;
    const fd_status status = lay_out(model, threads, &layout, error);
    if (status) return status;
    void *const memory = fd_alloc(layout.end);
    if (!memory)
        return fd_fail(error, FD_ERR_MEMORY, "no memory for the scratch of %u threads, %zu bytes each", threads,
                       model->arena * sizeof(float));
    *context = place(memory, &layout, threads, 1);
    return FD_OK;
}

fd_status fd_context_size(const fd_model *model, unsigned threads, size_t *size, fd_error *error) {
    if (size) *size = 0;
    if (!model || !size) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_size: a pointer is NULL");
    fd_layout layout;
    const fd_status status = lay_out(model, threads, &layout, error);
    /* What aligning the caller's memory may take. */
    if (status == FD_OK) *size = layout.end + FD_ALIGN - 1;
    return status;
}

fd_status fd_context_create_in(const fd_model *model, unsigned threads, void *memory, size_t size, fd_context **context,
                               fd_error *error) {
    if (context) *context = NULL;
    if (!model || !memory || !context)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_create_in: a pointer is NULL");
    fd_layout layout;
    const fd_status status = lay_out(model, threads, &layout, error);
    if (status) return status;
    const size_t skip = (FD_ALIGN - (uintptr_t)memory % FD_ALIGN) % FD_ALIGN;
    if (size < skip || size - skip < layout.end)
        return fd_fail(error, FD_ERR_ARGUMENT, "a context of %u threads needs %zu bytes (fd_context_size), got %zu",
                       threads, layout.end + FD_ALIGN - 1, size);
    void *const aligned = (char *)memory + skip;
    memset(aligned, 0, layout.end); /* margins of activations are never written again */
    *context = place(aligned, &layout, threads, 0);
    return FD_OK;
}

void fd_context_free(fd_context *context) {
    if (context && context->owns_memory) fd_free(context);
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

static const float *operand_data(const fd_work *w, uint32_t value, size_t i) {
    if (value == w->model->steps[0].out && w->input) return w->input + i * w->model->values[value].elements;
    return value_data(w, value, i);
}

static const float *input_data(const fd_work *w, const fd_step *step, size_t i) { return operand_data(w, step->in, i); }

/* Zeros around image i of a value, where the memory was another's before. */
static void zero_margins(const fd_work *w, uint32_t value, size_t i) {
    const fd_value *const v = &w->model->values[value];
    if (!v->zero_margins) return;
    float *const first = value_data(w, value, i), *const base = first - (v->interior - v->base);
    const size_t line = v->cols * v->channels;
    memset(base, 0, (v->interior - v->base) * sizeof *base);
    for (size_t r = 0; r < v->rows; r++) {
        float *const gap = first + r * v->row + line;
        const size_t floats = r + 1 < v->rows ? v->row - line : (size_t)(base + v->floats - gap);
        memset(gap, 0, floats * sizeof *gap);
    }
}

/* The first tap of a convolution's first output: in its input, or in the copy it takes. */
static const float *convolved(const fd_work *w, const fd_step *step, size_t i) {
    const float *const in = input_data(w, step, i);
    if (!step->gather_floats) return in - step->origin;
    float *const copy = w->own + w->model->scratch + step->gather;
    memset(copy, 0, step->gather_floats * sizeof *copy);
    fd_copy_args a = step->gathered;
    for (size_t r = 0; r < step->gather_rows; r++) {
        a.in = in + r * step->gather_from;
        a.out = copy + step->origin + r * step->gather_to;
        w->model->isa->floats->copy(&a);
    }
    return copy;
}

static void run_groups(const fd_work *w, const fd_step *step, const fd_conv2d_args *args) {
    fd_conv2d_args a = *args;
    for (size_t g = 0; g < step->groups; g++) {
        w->model->isa->floats->conv2d(&a);
        a.in += step->group_in;
        a.out += step->group_out;
        a.weights += step->group_weights;
        a.bias += step->group_bias;
    }
    if (step->after.epilogue.activation == FD_ACT_LINEAR && step->after.epilogue.axis == FD_AXIS_NONE) return;
    fd_eltwise_args after = step->after;
    after.in = after.out = args->out;
    w->model->isa->floats->eltwise(&after);
}

static void run_conv2d(const fd_work *w, const fd_step *step, size_t i) {
    const float *const image = convolved(w, step, i);
    float *const to = value_data(w, step->out, i), *const scratch = w->own + w->model->scratch;
    if (step->winograd) {
        fd_winograd_args a = step->args.winograd;
        a.in = image;
        a.out = to;
        a.v = scratch;
        a.products = scratch + step->scratch_split;
        step->winograd(&a);
    } else if (step->is_depthwise) {
        fd_depthwise_args a = step->args.depthwise;
        a.in = image;
        a.out = to;
        w->model->isa->floats->depthwise(&a);
    } else {
        fd_conv2d_args a = step->args.conv2d;
        a.in = image;
        a.out = to;
        a.ring = scratch;
        if (step->groups)
            run_groups(w, step, &a);
        else
            w->model->isa->floats->conv2d(&a);
    }
}

static float greatest_of(const float *x, size_t n) {
    float greatest = x[0];
    for (size_t i = 1; i < n; i++) greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

/* Out of place, or in place. */
static void softmax_of(const fd_float_kernels *kernels, const float *x, float *out, size_t n, float temperature) {
    if (temperature > 0) {
        /* Differences to the greatest: they are at most 0 and stay so, where a quotient of x might overflow. */
        const float greatest = greatest_of(x, n);
        for (size_t k = 0; k < n; k++) out[k] = (x[k] - greatest) / temperature;
        x = out;
    }
    kernels->softmax(x, out, n);
}

/* One of a step's copies. */
static void run_copy(const fd_work *w, const fd_copy_args *args, const float *in, float *out) {
    fd_copy_args a = *args;
    a.in = in;
    a.out = out;
    w->model->isa->floats->copy(&a);
}

static void run_reshape(const fd_work *w, const fd_step *step, size_t i) {
    const fd_value *const in = &w->model->values[step->in], *const out = &w->model->values[step->out];
    const float *from = input_data(w, step, i);
    float *const to = value_data(w, step->out, i), *const scratch = w->own + w->model->scratch;
    const int to_vector = out->row == out->cols * out->channels;
    if (in->row != in->cols * in->channels || to_vector) {
        run_copy(w, &step->args.copy[0], from, to_vector ? to : scratch);
        from = scratch;
    }
    if (!to_vector) run_copy(w, &step->args.copy[1], from, to);
}

static void run_pad(const fd_work *w, const fd_step *step, size_t i) {
    const fd_value *const v = &w->model->values[step->out];
    float *const to = value_data(w, step->out, i);
    for (size_t r = 0; r < v->rows; r++)
        for (size_t k = 0; k < v->cols * v->channels; k++) to[r * v->row + k] = step->fill;
    run_copy(w, &step->args.copy[0], input_data(w, step, i), to + step->origin);
}

/* Softmax and layer normalization work on the channels of each pixel. */
static void run_pixels(const fd_work *w, const fd_step *step, size_t i) {
    const fd_float_kernels *const kernels = w->model->isa->floats;
    const fd_value *const in = &w->model->values[step->in], *const out = &w->model->values[step->out];
    const int is_softmax = step->opcode == FD_OP_SOFTMAX;
    fd_layernorm_args a = {0};
    if (!is_softmax) a = step->args.layernorm;
    for (size_t r = 0; r < in->rows; r++) {
        const float *const from = input_data(w, step, i) + r * in->row;
        float *const to = value_data(w, step->out, i) + r * out->row;
        for (size_t k = 0; k < in->cols * in->channels; k += in->channels) {
            if (is_softmax) {
                softmax_of(kernels, from + k, to + k, in->channels, step->args.temperature);
                continue;
            }
            a.in = from + k;
            a.out = to + k;
            kernels->layernorm(&a);
        }
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

/* A step that takes one image at a time, on image i of the chunk. */
static void run_step(const fd_work *w, const fd_step *step, size_t i) {
    const fd_float_kernels *const kernels = w->model->isa->floats;
    const float *const in = input_data(w, step, i);
    float *const out = value_data(w, step->out, i);
    zero_margins(w, step->out, i);
    switch (step->opcode) {
    case FD_OP_CONV2D: run_conv2d(w, step, i); break;
    case FD_OP_DENSE: run_dense(w, step, i, i + 1, 0, panels_of(step)); break;
    case FD_OP_POOL2D: {
        fd_pool2d_args a = step->args.pool2d;
        a.in = in;
        a.out = out;
        kernels->pool2d(&a);
        break;
    }
    case FD_OP_ELTWISE: {
        fd_eltwise_args a = step->args.eltwise;
        a.in = in;
        a.out = out;
        kernels->eltwise(&a);
        break;
    }
    case FD_OP_BINARY: {
        fd_binary_args a = step->args.binary;
        a.a = in;
        if (step->in2 != FD_FILE_NONE) a.b = operand_data(w, step->in2, i);
        a.out = out;
        kernels->binary(&a);
        break;
    }
    case FD_OP_CONCAT:
        run_copy(w, &step->args.copy[0], in, out);
        run_copy(w, &step->args.copy[1], operand_data(w, step->in2, i), out + step->origin);
        break;
    case FD_OP_RESHAPE: run_reshape(w, step, i); break;
    case FD_OP_TRANSPOSE: run_copy(w, &step->args.copy[0], in, out); break;
    case FD_OP_PAD: run_pad(w, step, i); break;
    case FD_OP_SOFTMAX:
    case FD_OP_LAYERNORM: run_pixels(w, step, i); break;
    default: break;
    }
}

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
    if (!w->input) zero_margins(w, m->steps[0].out, slot);
    if (call->type == FD_INPUT_U8) {
        const uint8_t *const from = (const uint8_t *)call->input + i * v->elements;
        for (size_t r = 0; r < v->rows; r++)
            m->isa->floats->from_u8(from + r * row, to + r * v->row, row, (float)m->ops[0].u8_divisor);
        return 1;
    }
    const float *const from = (const float *)call->input + i * v->elements;
    const size_t outside = m->isa->floats->find_outside(from, v->elements, fd_finite_bound(m->ops[0].range_lo),
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
        const float *const logits =
            last->opcode == FD_OP_SOFTMAX && m->batched < m->op_count ? input_data(w, last, i) : values;
        if (call->outputs.values) memcpy(call->outputs.values + (first + i) * n, values, n * sizeof(float));
        if (call->outputs.logits) memcpy(call->outputs.logits + (first + i) * n, logits, n * sizeof(float));
        /* Not of the probabilities: rounding, and a temperature above 1, may make equal what was not. */
        if (call->outputs.labels) call->outputs.labels[first + i] = index_of_greatest(logits, n);
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

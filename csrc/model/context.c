/* The public API: contexts. */
#include "model/context.h"

#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "model/pool.h"

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
    layout->arena = layout->units + fd_round_up(model->file.op_count * sizeof(size_t), FD_ALIGN);
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
    atomic_init(&c->cancelled, 0);
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

void fd_context_cancel(fd_context *context) {
    if (context) atomic_store(&context->cancelled, 1);
}

void fd_context_resume(fd_context *context) {
    if (context) atomic_store(&context->cancelled, 0);
}

fd_status fd_context_set_timeout(fd_context *context, uint64_t nanoseconds, fd_error *error) {
    if (!context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_set_timeout: the context is NULL");
    context->timeout = nanoseconds;
    return FD_OK;
}

fd_status fd_context_set_poll(fd_context *context, int (*poll)(void *arg), void *arg, fd_error *error) {
    if (!context) return fd_fail(error, FD_ERR_ARGUMENT, "fd_context_set_poll: the context is NULL");
    context->poll = poll;
    context->poll_arg = arg;
    return FD_OK;
}

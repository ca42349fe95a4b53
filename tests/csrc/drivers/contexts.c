/* contexts MODEL.fdm
 *
 * Contexts in memory of the caller: what they need is what fd_context_size says, anywhere in memory, and they give the
 * same bits. And no run allocates: linked with --wrap for the functions below, which count.
 */
#include "driver.h"

enum { IMAGES = 70, CANARY = 0x5A };

static size_t allocations;
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size) { return allocations++, __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return allocations++, __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return allocations++, __real_realloc(memory, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return allocations++, __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    return allocations++, __real_posix_memalign(memory, alignment, size);
}

static fd_model *model;
static fd_model_info info;
static unsigned char *bytes;
static float *images, *values, *want;
static int64_t *labels;

/* Runs with a context and compares; everything that it needs is there already. */
static void run(fd_context *context, size_t n, fd_input_type type) {
    fd_error error;
    const fd_outputs out = {.values = values, .labels = labels};
    const void *const input = type == FD_INPUT_U8 ? (const void *)bytes : images;
    if (fd_run(model, context, input, type, n, &out, NULL, &error) != FD_OK)
        DIE("%s: %s", fd_status_name(error.status), error.message);
    if (memcmp(values, want, n * info.output_elements * sizeof *want) != 0) DIE("%zu images give other bits", n);
}

static void run_all(fd_context *context, const char *which) {
    static const size_t batches[] = {0, 1, 2, 33, IMAGES};
    run(context, IMAGES, FD_INPUT_F32); /* the first run with several threads starts them */
    const size_t before = allocations;
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        run(context, batches[b], FD_INPUT_F32);
        run(context, batches[b], FD_INPUT_U8);
    }
    if (allocations != before) DIE("%zu allocations in runs with %s", allocations - before, which);
}

static void expect_refused(fd_status status, fd_status wanted, const fd_error *error, fd_context *const *context) {
    if (status != wanted || error->status != wanted || !error->message[0] || (context && *context))
        DIE("%s, expected %s", fd_status_name(status), fd_status_name(wanted));
}

static void in_memory_of_the_caller(unsigned threads, size_t offset) {
    size_t size;
    fd_context *context;
    OK(fd_context_size(model, threads, &size, &error));
    /* `memory` is `offset` modulo 64. */
    unsigned char *const block = exactly(size + 128);
    unsigned char *const memory = block + (64 - (uintptr_t)block % 64) + offset;
    memset(block, CANARY, size + 128);
    OK(fd_context_create_in(model, threads, memory, size, &context, &error));
    run_all(context, "memory of the caller");
    fd_context_free(context);
    /* The memory is the caller's again, and may hold anything before the next one. */
    memset(memory, 0xFF, size);
    OK(fd_context_create_in(model, threads, memory, size, &context, &error));
    run_all(context, "memory used again");
    fd_context_free(context);
    for (unsigned char *at = block; at < block + size + 128; at++)
        if ((at < memory || at >= memory + size) && *at != CANARY) DIE("something was written outside");
    fd_error refused;
    if (offset == 1) /* where nothing is left over */
        expect_refused(fd_context_create_in(model, threads, memory, size - 1, &context, &refused), FD_ERR_ARGUMENT,
                       &refused, &context);
    expect_refused(fd_context_create_in(model, threads, memory, 0, &context, &refused), FD_ERR_ARGUMENT, &refused,
                   &context);
    free(block);
}

static void refusals(void) {
    static const unsigned wrong[] = {0, 257, 1u << 31};
    unsigned char memory[64];
    fd_context *context;
    size_t size = 1;
    fd_error error;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_refused(fd_context_create(model, wrong[i], &context, &error), FD_ERR_ARGUMENT, &error, &context);
        expect_refused(fd_context_create_in(model, wrong[i], memory, sizeof memory, &context, &error), FD_ERR_ARGUMENT,
                       &error, &context);
        expect_refused(fd_context_size(model, wrong[i], &size, &error), FD_ERR_ARGUMENT, &error, NULL);
        if (size) DIE("a size without success");
    }
    expect_refused(fd_context_create_in(model, 1, NULL, 1u << 30, &context, &error), FD_ERR_ARGUMENT, &error, &context);
    context = (fd_context *)(void *)memory; /* anything but NULL */
    expect_refused(fd_context_create(NULL, 1, &context, &error), FD_ERR_ARGUMENT, &error, &context);
    context = (fd_context *)(void *)memory;
    expect_refused(fd_context_create_in(NULL, 1, memory, sizeof memory, &context, &error), FD_ERR_ARGUMENT, &error,
                   &context);
    expect_refused(fd_context_size(NULL, 1, &size, &error), FD_ERR_ARGUMENT, &error, NULL);
    fd_model *none = model;
    expect_refused(fd_model_open(NULL, &none, &error), FD_ERR_ARGUMENT, &error, NULL);
    if (none) DIE("a model without a path");
    none = model;
    expect_refused(fd_model_open_memory(NULL, 1, &none, &error), FD_ERR_ARGUMENT, &error, NULL);
    if (none) DIE("a model of nothing");
    if (fd_context_size(model, 1, NULL, NULL) != FD_ERR_ARGUMENT) DIE("a size that goes nowhere");
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("usage: contexts MODEL.fdm");
    OK(fd_model_open(argv[1], &model, &error));
    fd_model_get_info(model, &info);
    if (!info.u8_divisor) DIE("%s takes no bytes", argv[1]);
    bytes = exactly(IMAGES * info.input_elements);
    images = exactly(IMAGES * info.input_elements * sizeof *images);
    want = exactly(IMAGES * info.output_elements * sizeof *want);
    values = exactly(IMAGES * info.output_elements * sizeof *values);
    labels = exactly(IMAGES * sizeof *labels);
    uint64_t state = 1;
    for (size_t i = 0; i < IMAGES * info.input_elements; i++) {
        bytes[i] = (unsigned char)(random_pixel(&state) * (float)info.u8_divisor);
        images[i] = (float)bytes[i] / (float)info.u8_divisor;
    }
    fd_context *context;
    const size_t before = allocations;
    OK(fd_context_create(model, 1, &context, &error));
    if (allocations == before) DIE("allocations are not counted: link with --wrap");
    const fd_outputs out = {.values = want};
    OK(fd_run(model, context, images, FD_INPUT_F32, IMAGES, &out, NULL, &error));
    run_all(context, "fd_context_create");
    fd_context_free(context);
    fd_context_free(NULL);
    OK(fd_context_create(model, 3, &context, &error));
    run_all(context, "three threads");
    fd_context_free(context);

    for (unsigned threads = 1; threads <= 3; threads += 2)
        for (size_t offset = 0; offset < 64; offset += offset == 0 ? 1 : 31) in_memory_of_the_caller(threads, offset);
    refusals();
    free(bytes);
    free(images);
    free(want);
    free(values);
    free(labels);
    fd_model_close(model);
    return 0;
}

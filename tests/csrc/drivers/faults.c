/* faults MODEL.fdm
 *
 * Every allocation fails once, from opening a model to the end of a run: each time the call says so, gives nothing, and
 * leaves nothing behind (a sanitizer sees leaks). Where no thread can be started, the caller does the work, with the
 * same bits. Linked with --wrap for the functions below.
 */
#include <pthread.h>

#include "driver.h"

enum { IMAGES = 70, THREADS = 3 };

static size_t left = SIZE_MAX; /* allocations before one that fails */
static size_t refused;         /* allocations, or threads, that failed */
static int threads_fail;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);

static int fails(void) {
    if (left == SIZE_MAX || left-- > 0) return 0;
    left = SIZE_MAX;
    refused++;
    return 1;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return fails() ? NULL : __real_realloc(memory, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    return fails() ? 12 /* ENOMEM */ : __real_posix_memalign(memory, alignment, size);
}
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg) {
    if (threads_fail) return refused++, 11 /* EAGAIN */;
    return __real_pthread_create(thread, attributes, start, arg);
}

static const char *path;
static void *file;
static size_t file_size;
static float *images, *values, *want;
static size_t value_bytes;

static void expect(fd_status status, const fd_error *error, const void *given) {
    if (status != FD_ERR_MEMORY || error->status != FD_ERR_MEMORY || !error->message[0] || given)
        DIE("%s, expected %s", fd_status_name(status), fd_status_name(FD_ERR_MEMORY));
}

/* Opens, runs and closes; whether no allocation failed. */
static int all(int from_memory, unsigned threads, size_t n) {
    fd_error failure;
    fd_model *model = NULL;
    fd_context *context = NULL;
    const fd_outputs out = {.values = values};
    fd_status status =
        from_memory ? fd_model_open_memory(file, file_size, &model, &failure) : fd_model_open(path, &model, &failure);
    if (status != FD_OK) return expect(status, &failure, model), 0;
    status = fd_context_create(model, threads, &context, &failure);
    if (status != FD_OK) {
        expect(status, &failure, context);
        fd_model_close(model);
        return 0;
    }
    memset(values, 0, value_bytes);
    OK(fd_run(model, context, images, FD_INPUT_F32, n, &out, NULL, &error)); /* allocates nothing */
    if (memcmp(values, want, value_bytes / IMAGES * n) != 0) DIE("other bits");
    fd_context_free(context);
    fd_model_close(model);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("usage: faults MODEL.fdm");
    path = argv[1];
    file = read_file(path, &file_size);
    fd_model *model;
    fd_context *context;
    OK(fd_model_open(path, &model, &error));
    OK(fd_context_create(model, 1, &context, &error));
    fd_model_info info;
    fd_model_get_info(model, &info);
    value_bytes = IMAGES * info.output_elements * sizeof(float);
    images = exactly(IMAGES * info.input_elements * sizeof(float));
    values = exactly(value_bytes);
    want = exactly(value_bytes);
    uint64_t state = 1;
    for (size_t i = 0; i < IMAGES * info.input_elements; i++) images[i] = random_pixel(&state);
    const fd_outputs out = {.values = want};
    OK(fd_run(model, context, images, FD_INPUT_F32, IMAGES, &out, NULL, &error));
    fd_context_free(context);
    fd_model_close(model);

    threads_fail = 1; /* first: threads that were started stay */
    if (!all(1, THREADS, IMAGES) || !all(1, THREADS, 2) || !refused) DIE("no thread was refused");
    threads_fail = 0;
    size_t total = 0;
    for (int from_memory = 0; from_memory < 2; from_memory++) {
        size_t first = 0;
        for (;; first++) {
            left = first;
            if (all(from_memory, THREADS, IMAGES)) break;
        }
        if (first < 3) DIE("%zu allocations failed, expected more", first);
        left = SIZE_MAX;
        total += first;
    }
    printf("%zu allocations failed\n", total);
    free(images);
    free(values);
    free(want);
    free(file);
    return 0;
}

/* run_model THREADS STEM...
 *
 * Runs the model STEM.fdm on the float32 images of STEM.in, writes its values and then its logits to STEM.out, and
 * prints the ISA that did it. On the way it runs the same images in batches of 1, 2, 5 and 33, and, if the model takes
 * bytes, bytes and the floats they stand for: a row that comes out with other bits is a failure.
 *
 * What the library reads and writes ends where an inaccessible page begins, so that a vector too many is fatal on any
 * CPU and in any build.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

typedef struct buffer {
    void *data;
    size_t size;
    char *map;
    size_t map_size;
} buffer;

static buffer buffer_make(size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
    buffer b = {.size = size, .map_size = pages + page};
    b.map = mmap(NULL, b.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.map == MAP_FAILED || mprotect(b.map + pages, page, PROT_NONE) != 0) DIE("cannot map %zu bytes", b.map_size);
    b.data = b.map + pages - size;
    return b;
}

static void buffer_free(buffer *b) { munmap(b->map, b->map_size); }

/* What n images give. */
typedef struct results {
    size_t n, each;
    buffer values, logits, labels;
} results;

static results run(const fd_model *model, fd_context *context, const void *images, fd_input_type type, size_t n) {
    fd_model_info info;
    fd_model_get_info(model, &info);
    const size_t bytes = n * info.input_elements * (type == FD_INPUT_U8 ? 1 : sizeof(float));
    buffer input = buffer_make(bytes);
    memcpy(input.data, images, bytes);
    results r = {.n = n, .each = info.output_elements};
    r.values = buffer_make(n * r.each * sizeof(float));
    r.logits = buffer_make(n * r.each * sizeof(float));
    r.labels = buffer_make(n * sizeof(int64_t));
    const fd_outputs outputs = {r.values.data, r.logits.data, r.labels.data};
    OK(fd_run(model, context, input.data, type, n, &outputs, NULL, &error));
    if (memcmp(input.data, images, bytes) != 0) DIE("the input was written to");
    buffer_free(&input);
    return r;
}

static void results_free(results *r) {
    buffer_free(&r->values);
    buffer_free(&r->logits);
    buffer_free(&r->labels);
}

/* Rows [first, first + got.n) of `want` are `got`, bit for bit. */
static void expect_same(const results *want, size_t first, const results *got, const char *what) {
    const size_t at = first * want->each * sizeof(float);
    if (memcmp((char *)want->values.data + at, got->values.data, got->values.size) != 0 ||
        memcmp((char *)want->logits.data + at, got->logits.data, got->logits.size) != 0 ||
        memcmp((int64_t *)want->labels.data + first, got->labels.data, got->labels.size) != 0)
        DIE("images %zu to %zu give other bits %s", first, first + got->n - 1, what);
}

static void check_batches(const fd_model *model, fd_context *context, const float *images, size_t elements,
                          const results *want) {
    static const size_t batches[] = {1, 2, 5, 33};
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        for (size_t first = 0; first < want->n; first += batches[b]) {
            const size_t n = batches[b] < want->n - first ? batches[b] : want->n - first;
            results got = run(model, context, images + first * elements, FD_INPUT_F32, n);
            expect_same(want, first, &got, "in another batch");
            results_free(&got);
        }
    }
}

static void check_bytes(const fd_model *model, fd_context *context, const float *images, size_t elements, size_t n,
                        unsigned divisor) {
    unsigned char *const bytes = exactly(n * elements);
    float *const floats = exactly(n * elements * sizeof(float));
    for (size_t i = 0; i < n * elements; i++) {
        bytes[i] = (unsigned char)(images[i] * (float)divisor + 0.5f);
        floats[i] = (float)bytes[i] / (float)divisor;
    }
    results want = run(model, context, floats, FD_INPUT_F32, n);
    results got = run(model, context, bytes, FD_INPUT_U8, n);
    expect_same(&want, 0, &got, "as bytes");
    results_free(&want);
    results_free(&got);
    free(bytes);
    free(floats);
}

static void run_stem(const char *stem, unsigned threads) {
    char path[4096];
    fd_model *model;
    fprintf(stderr, "%s\n", stem); /* the last one is where it went wrong */
    snprintf(path, sizeof path, "%s.fdm", stem);
    OK(fd_model_open(path, &model, &error));
    fd_model_info info;
    fd_model_get_info(model, &info);
    fd_context *context;
    OK(fd_context_create(model, threads, &context, &error));

    size_t size;
    snprintf(path, sizeof path, "%s.in", stem);
    float *const images = read_file(path, &size);
    const size_t n = size / (info.input_elements * sizeof(float));
    if (n == 0 || n * info.input_elements * sizeof(float) != size) DIE("%s holds no whole images", path);

    results all = run(model, context, images, FD_INPUT_F32, n);
    check_batches(model, context, images, info.input_elements, &all);
    if (info.u8_divisor) check_bytes(model, context, images, info.input_elements, n, info.u8_divisor);

    snprintf(path, sizeof path, "%s.out", stem);
    FILE *const out = fopen(path, "wb");
    if (!out || fwrite(all.values.data, 1, all.values.size, out) != all.values.size ||
        fwrite(all.logits.data, 1, all.logits.size, out) != all.logits.size || fclose(out) != 0)
        DIE("cannot write %s", path);
    results_free(&all);
    free(images);
    fd_context_free(context);
    fd_model_close(model);
}

int main(int argc, char **argv) {
    if (argc < 3) DIE("usage: run_model THREADS STEM...");
    const char *isa;
    OK(fd_isa_selected(&isa, &error));
    for (int i = 2; i < argc; i++) run_stem(argv[i], (unsigned)atoi(argv[1]));
    puts(isa);
    return 0;
}

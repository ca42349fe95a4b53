/* mistakes MODEL.fdm FOLDER
 *
 * What callers get wrong: null pointers, numbers out of range, files that cannot be read. Each is refused with the
 * status that the header names and a sentence, with and without an fd_error, and gives nothing. Linked with --wrap for
 * the functions below, for a file that shrinks while it is read, and one that has no size.
 */
#include "driver.h"

enum { IMAGES = 3, STATUSES = 12 };

enum { NO_SEEK = -1 };
static int reads_fail, seeks_fail = NO_SEEK; /* from where */
size_t __real_fread(void *data, size_t size, size_t count, FILE *stream);
int __real_fseek(FILE *stream, long offset, int whence);
size_t __wrap_fread(void *data, size_t size, size_t count, FILE *stream);
int __wrap_fseek(FILE *stream, long offset, int whence);
size_t __wrap_fread(void *data, size_t size, size_t count, FILE *stream) {
    return __real_fread(data, size, reads_fail ? count / 2 : count, stream);
}
int __wrap_fseek(FILE *stream, long offset, int whence) {
    return whence == seeks_fail ? -1 : __real_fseek(stream, offset, whence);
}

static fd_error said;

/* The call, once with `said` as its fd_error and once without: of the status, and the message has the words. */
#define REFUSED(wanted, words, call_with)                                                         \
    do {                                                                                          \
        fd_error *error = &said;                                                                  \
        memset(&said, 0, sizeof said);                                                            \
        const fd_status with = (call_with);                                                       \
        error = NULL;                                                                             \
        const fd_status without = (call_with);                                                    \
        if (with != (wanted) || without != (wanted) || said.status != (wanted))                   \
            DIE("%s: %s, expected %s", #call_with, fd_status_name(with), fd_status_name(wanted)); \
        if (!strstr(said.message, words)) DIE("%s: says '%s'", #call_with, said.message);         \
    } while (0)

/* The same for calls that create something: then there is nothing. */
#define NOT_CREATED(wanted, words, created, call_with)            \
    do {                                                          \
        (created) = (void *)&said; /* must be overwritten */      \
        REFUSED(wanted, words, call_with);                        \
        if (created) DIE("%s has created something", #call_with); \
    } while (0)

static void names(void) {
    for (int status = 0; status < STATUSES; status++) {
        const char *const name = fd_status_name((fd_status)status);
        if (strncmp(name, status ? "FD_ERR_" : "FD_OK", 5) != 0 || strchr(name, '?'))
            DIE("status %d is %s", status, name);
        for (int other = 0; other < status; other++)
            if (strcmp(name, fd_status_name((fd_status)other)) == 0) DIE("%s twice", name);
    }
    if (strcmp(fd_status_name((fd_status)STATUSES), "FD_ERR_?") != 0)
        DIE("a status that is not in the header has a name");
    int usable;
    for (size_t i = 0; fd_isa_name(i, &usable); i++)
        if (strcmp(fd_isa_name(i, NULL), fd_isa_name(i, &usable)) != 0) DIE("an ISA has two names");
    const char *name;
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_isa_selected(NULL, error));
    OK(fd_isa_selected(&name, &error));
}

static void files(const char *path, const char *folder) {
    size_t size;
    fd_model *model;
    unsigned char *const file = read_file(path, &size);
    NOT_CREATED(FD_ERR_ARGUMENT, "NULL", model, fd_model_open(NULL, &model, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_model_open(path, NULL, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "NULL", model, fd_model_open_memory(NULL, size, &model, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_model_open_memory(file, size, NULL, error));
    NOT_CREATED(FD_ERR_FORMAT, "", model, fd_model_open_memory(NULL, 0, &model, error));
    NOT_CREATED(FD_ERR_FORMAT, "", model, fd_model_open_memory(file, size - 1, &model, error));
    NOT_CREATED(FD_ERR_IO, "cannot open", model, fd_model_open("/nowhere/model.fdm", &model, error));
    NOT_CREATED(FD_ERR_IO, "", model, fd_model_open(folder, &model, error));
    static const int places[] = {SEEK_END, SEEK_SET};
    for (size_t i = 0; i < 2; i++) {
        seeks_fail = places[i];
        NOT_CREATED(FD_ERR_IO, "not a regular file", model, fd_model_open(path, &model, error));
    }
    seeks_fail = NO_SEEK;
    reads_fail = 1;
    NOT_CREATED(FD_ERR_IO, "cannot read", model, fd_model_open(path, &model, error));
    reads_fail = 0;
    const fd_limits earlier = {.size = 1}, small = {.size = sizeof small, .file_bytes = size - 1};
    NOT_CREATED(FD_ERR_ARGUMENT, "size", model, fd_model_open_limited(path, &earlier, &model, error));
    NOT_CREATED(FD_ERR_LIMIT, "file_bytes", model, fd_model_open_limited(path, &small, &model, error));
    NOT_CREATED(FD_ERR_LIMIT, "file_bytes", model, fd_model_open_memory_limited(file, size, &small, &model, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_limits_default(NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_model_get_usage(NULL, NULL, error));
    fd_model_close(NULL);
    free(file);
}

static int never(void *unused) { return unused != NULL; }

static void contexts(const fd_model *model) {
    fd_context *context;
    size_t size;
    NOT_CREATED(FD_ERR_ARGUMENT, "NULL", context, fd_context_create(NULL, 1, &context, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_create(model, 1, NULL, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "threads is 0", context, fd_context_create(model, 0, &context, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "1 to 256", context, fd_context_create(model, 257, &context, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_size(model, 1, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_size(NULL, 1, &size, error));
    REFUSED(FD_ERR_ARGUMENT, "threads is 0", fd_context_size(model, 0, &size, error));
    OK(fd_context_size(model, 1, &size, &error));
    void *const memory = exactly(size);
    NOT_CREATED(FD_ERR_ARGUMENT, "NULL", context, fd_context_create_in(NULL, 1, memory, size, &context, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "NULL", context, fd_context_create_in(model, 1, NULL, size, &context, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_create_in(model, 1, memory, size, NULL, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "threads", context, fd_context_create_in(model, 300, memory, size, &context, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "needs", context, fd_context_create_in(model, 1, memory, 0, &context, error));
    NOT_CREATED(FD_ERR_ARGUMENT, "needs", context, fd_context_create_in(model, 1, memory, size / 2, &context, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_profile(NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_set_timeout(NULL, 1, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_context_set_poll(NULL, never, NULL, error));
    OK(fd_context_create(model, 2, &context, &error));
    REFUSED(FD_ERR_ARGUMENT, "expected 1", fd_context_profile(context, NULL, error));
    fd_context_free(context);
    fd_context_free(NULL);
    fd_context_cancel(NULL);
    fd_context_resume(NULL);
    free(memory);
}

static void runs(const fd_model *model, const fd_model_info *info) {
    fd_context *context;
    float *const images = exactly(IMAGES * info->input_elements * sizeof *images);
    float *const values = exactly(IMAGES * info->output_elements * sizeof *values);
    uint64_t *const times = exactly(info->ops * sizeof *times), seed = 1;
    for (size_t i = 0; i < IMAGES * info->input_elements; i++) images[i] = random_pixel(&seed);
    for (size_t i = 0; i < info->ops; i++) times[i] = 0;
    const fd_outputs out = {.values = values};
    const fd_input_data in = {images, FD_INPUT_F32}, nothing = {NULL, FD_INPUT_F32}, odd = {images, (fd_input_type)7};
    const fd_input_type kind = FD_INPUT_F32;
    OK(fd_context_create(model, 1, &context, &error));
    OK(fd_context_profile(context, times, &error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run(NULL, context, images, kind, 1, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run(model, NULL, images, kind, 1, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run(model, context, NULL, kind, 1, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run(model, context, images, kind, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "type 7", fd_run(model, context, images, odd.type, 1, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "too large", fd_run(model, context, images, kind, SIZE_MAX / 2, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "too large",
            fd_run(model, context, images, kind, SIZE_MAX / info->input_elements + 1, &out, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run_all(NULL, context, &in, 1, 1, &out, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run_all(model, NULL, &in, 1, 1, &out, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run_all(model, context, NULL, 1, 1, &out, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run_all(model, context, &in, 1, 1, NULL, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "NULL", fd_run_all(model, context, &nothing, 1, 1, &out, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "2 inputs", fd_run_all(model, context, &in, 2, 1, &out, 1, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "0 outputs", fd_run_all(model, context, &in, 1, 1, &out, 0, NULL, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "type 7", fd_run_all(model, context, &odd, 1, 1, &out, 1, NULL, NULL, error));
    for (size_t i = 0; i < info->ops; i++)
        if (times[i]) DIE("a run that was refused took time");
    OK(fd_run(model, context, NULL, kind, 0, &out, NULL, &error)); /* no images need no memory */
    OK(fd_run(model, context, images, kind, IMAGES, &out, NULL, &error));
    OK(fd_context_profile(context, NULL, &error));
    fd_context_free(context);
    free(images);
    free(values);
    free(times);
}

static void probes(void) {
    const float memory[64] = {0};
    uint64_t work = 0;
    REFUSED(FD_ERR_ARGUMENT, "work", fd_probe(NULL, FD_PROBE_FMA, NULL, 0, 1, NULL, error));
    REFUSED(FD_ERR_ARGUMENT, "memory", fd_probe(NULL, FD_PROBE_READ, NULL, 64, 1, &work, error));
    REFUSED(FD_ERR_ARGUMENT, "kind is 9", fd_probe(NULL, (fd_probe_kind)9, NULL, 0, 1, &work, error));
    REFUSED(FD_ERR_ISA, "mmx", fd_probe("mmx", FD_PROBE_FMA, NULL, 0, 1, &work, error));
    OK(fd_probe("generic", FD_PROBE_FMA, NULL, 0, 2, &work, &error));
    if (!work) DIE("nothing was multiplied");
    OK(fd_probe(NULL, FD_PROBE_DOT, NULL, 0, 2, &work, &error));
    OK(fd_probe(NULL, FD_PROBE_READ, memory, 64, 3, &work, &error));
    if (work != 3 * sizeof memory) DIE("%llu bytes were read", (unsigned long long)work);
}

int main(int argc, char **argv) {
    if (argc != 3) DIE("usage: mistakes MODEL.fdm FOLDER");
    fd_model *model;
    fd_model_info info;
    names();
    files(argv[1], argv[2]);
    OK(fd_model_open(argv[1], &model, &error));
    fd_model_get_info(model, &info);
    contexts(model);
    runs(model, &info);
    probes();
    fd_model_close(model);
    return 0;
}

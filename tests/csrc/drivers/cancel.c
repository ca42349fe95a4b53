/* cancel MODEL.fdm
 *
 * Runs that are ended by other threads, by a timeout, and by the function that they poll, with one thread and several;
 * each context is as good as before. And limits, by callers of other versions. Meant for the thread sanitizer.
 */
#define _DEFAULT_SOURCE /* usleep */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "driver.h"

enum { FEW = 70, ROUNDS = 6 };

static fd_model *model;
static size_t inputs, outputs, many;
static float *images, *want, *values;

/* Ends runs of a context until it is told to stop. */
typedef struct canceller {
    fd_context *context;
    atomic_int stop;
} canceller;

static void *cancel(void *arg) {
    canceller *const c = arg;
    while (!atomic_load(&c->stop)) {
        usleep(2000);
        fd_context_cancel(c->context);
    }
    return NULL;
}

static fd_status run(fd_context *context, size_t n, fd_error *error) {
    const fd_outputs out = {.values = values};
    return fd_run(model, context, images, FD_INPUT_F32, n, &out, NULL, error);
}

static void still_good(fd_context *context, const char *after) {
    OK(run(context, FEW, &error));
    if (memcmp(values, want, FEW * outputs * sizeof *want) != 0) DIE("other bits after %s", after);
}

static void expect(fd_status status, fd_status wanted, const fd_error *error) {
    if (status != wanted || error->status != wanted || !error->message[0])
        DIE("%s, expected %s", fd_status_name(status), fd_status_name(wanted));
}

static int polls;
static int poll_three_times(void *arg) {
    if (arg != &polls) DIE("poll got another argument");
    return ++polls == 3;
}

static void stop_runs(unsigned threads) {
    fd_context *context;
    fd_error refused;
    OK(fd_context_create(model, threads, &context, &error));
    still_good(context, "nothing");
    for (int i = 0; i < ROUNDS; i++) {
        canceller c = {.context = context};
        atomic_init(&c.stop, 0);
        pthread_t thread;
        if (pthread_create(&thread, NULL, cancel, &c) != 0) DIE("cannot start a thread");
        expect(run(context, many, &refused), FD_ERR_CANCELLED, &refused);
        expect(run(context, 1, &refused), FD_ERR_CANCELLED, &refused); /* and later ones, however short */
        atomic_store(&c.stop, 1);
        pthread_join(thread, NULL);
        expect(run(context, 1, &refused), FD_ERR_CANCELLED, &refused);
        fd_context_resume(context);
        still_good(context, "a cancellation");

        OK(fd_context_set_timeout(context, 3000000, &error));
        expect(run(context, many, &refused), FD_ERR_TIMEOUT, &refused);
        OK(fd_context_set_timeout(context, 0, &error));
        still_good(context, "a timeout");

        polls = 0;
        OK(fd_context_set_poll(context, poll_three_times, &polls, &error));
        expect(run(context, many, &refused), FD_ERR_CANCELLED, &refused);
        if (polls != 3) DIE("%d polls", polls);
        OK(fd_context_set_poll(context, NULL, NULL, &error));
        still_good(context, "a poll");
    }
    fd_context_free(context);
    fd_context_cancel(NULL);
    fd_context_resume(NULL);
    expect(fd_context_set_timeout(NULL, 1, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_context_set_poll(NULL, NULL, NULL, &refused), FD_ERR_ARGUMENT, &refused);
}

/* An input is read after results are written. */
static void overlaps(void) {
    fd_context *context;
    fd_error refused;
    OK(fd_context_create(model, 1, &context, &error));
    const fd_outputs over[] = {{.values = images}, {.logits = images + inputs}, {.labels = (int64_t *)(void *)images}};
    for (size_t i = 0; i < sizeof over / sizeof *over; i++)
        expect(fd_run(model, context, images, FD_INPUT_F32, 2, &over[i], NULL, &refused), FD_ERR_ARGUMENT, &refused);
    still_good(context, "what was refused");
    fd_context_free(context);
}

static void limits(const char *path) {
    fd_error refused;
    fd_limits usage = {.size = sizeof usage};
    OK(fd_model_get_usage(model, &usage, &error));
    fd_model *again;
    OK(fd_model_open_limited(path, &usage, &again, &error));
    fd_model_close(again);
    uint64_t *const members = &usage.file_bytes;
    for (size_t i = 0; i < (sizeof usage - sizeof usage.size) / sizeof *members; i++) {
        members[i]--;
        again = model;
        expect(fd_model_open_limited(path, &usage, &again, &refused), FD_ERR_LIMIT, &refused);
        if (again) DIE("a model beyond limit %zu", i);
        const uint64_t less = members[i];
        members[i] = 0; /* the default */
        OK(fd_model_open_limited(path, &usage, &again, &error));
        fd_model_close(again);
        members[i] = less + 1;
    }
    /* A caller of a later version, and one that has forgotten its size. */
    struct {
        fd_limits known;
        uint64_t later;
    } later = {.known = usage, .later = 1};
    later.known.size = sizeof later;
    OK(fd_model_open_limited(path, &later.known, &again, &error));
    fd_model_close(again);
    OK(fd_limits_default(&later.known, &error));
    if (later.known.size != sizeof usage || later.later != 1) DIE("more than fd_limits was written");
    usage.size = 8;
    expect(fd_limits_default(&usage, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_limits_default(NULL, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_model_get_usage(model, &usage, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_model_get_usage(NULL, &later.known, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_model_open_limited(path, &usage, &again, &refused), FD_ERR_ARGUMENT, &refused);
    expect(fd_model_open_memory_limited(images, 64, &usage, &again, &refused), FD_ERR_ARGUMENT, &refused);
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("usage: cancel MODEL.fdm");
    OK(fd_model_open(argv[1], &model, &error));
    fd_model_info info;
    fd_model_get_info(model, &info);
    inputs = info.input_elements;
    outputs = info.output_elements;
    many = ((size_t)64 << 20) / inputs; /* seconds of work */
    images = exactly(many * inputs * sizeof *images);
    values = exactly(many * outputs * sizeof *values);
    want = exactly(FEW * outputs * sizeof *want);
    uint64_t state = 1;
    for (size_t i = 0; i < many * inputs; i++) images[i] = random_pixel(&state);
    fd_context *one;
    OK(fd_context_create(model, 1, &one, &error));
    OK(run(one, FEW, &error));
    memcpy(want, values, FEW * outputs * sizeof *want);
    fd_context_free(one);
    stop_runs(1);
    stop_runs(3);
    overlaps();
    limits(argv[1]);
    free(images);
    free(values);
    free(want);
    fd_model_close(model);
    return 0;
}

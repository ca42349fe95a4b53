/* threads MODEL.fdm [fork | alone | many]
 *
 * Several threads share a model, each with a context of three threads of its own; every result must be, bit for bit,
 * that of one thread and one image at a time. With `fork`, processes are forked off meanwhile, and again when all is
 * quiet; each child must get the same results. With `alone`, most calls have one image, which the threads share. With
 * `many`, there are hundreds of callers.
 */
#define _DEFAULT_SOURCE /* fork, alarm */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

enum { CALLERS = 4, CALLS = 15, MANY_CALLERS = 200, MANY_CALLS = 1, THREADS = 3, IMAGES = 70 };
enum { CHILDREN = 20, CHILD_SECONDS = 60 };

static fd_model *model;
static size_t inputs, outputs;
static float *images, *want;
static int alone, hundreds, calls = CALLS;
static atomic_int forking; /* the callers go on until it is over */

/* Rows [first, first + n) once more; whether they are what they were. */
static int run_again(fd_context *context, float *values, size_t first, size_t n) {
    fd_error error;
    const fd_outputs out = {.values = values};
    if (fd_run(model, context, images + first * inputs, FD_INPUT_F32, n, &out, NULL, &error) != FD_OK)
        DIE("%s: %s", fd_status_name(error.status), error.message);
    return memcmp(values, want + first * outputs, n * outputs * sizeof(float)) == 0;
}

static void *caller(void *seed) {
    uint64_t state = *(uint64_t *)seed;
    fd_context *context;
    /* Those of hundreds that all shared their work would mostly wait for each other. */
    const unsigned share = hundreds && state % 16 ? 1 : THREADS;
    OK(fd_context_create(model, share, &context, &error));
    float *const values = exactly(IMAGES * outputs * sizeof(float));
    for (int i = 0; i < calls || atomic_load(&forking); i++) {
        const size_t first = random_below(&state, IMAGES), most = hundreds ? 4 : alone ? 1 + (i % 4 == 0) : IMAGES;
        const size_t n = 1 + random_below(&state, IMAGES - first < most ? IMAGES - first : most);
        if (!run_again(context, values, first, n))
            DIE("images %zu to %zu give other bits in threads", first, first + n - 1);
    }
    free(values);
    fd_context_free(context);
    return NULL;
}

/* Where clang counts what is reached, a process that ends by _exit has to say so. */
__attribute__((weak)) int __llvm_profile_write_file(void);

/* The context and the memory are the parent's: between fork and _exit, only fd_run is on trial. */
static void fork_once(fd_context *context, float *values) {
    const pid_t child = fork();
    if (child < 0) DIE("cannot fork");
    if (child == 0) {
        alarm(CHILD_SECONDS); /* a child that hangs dies of SIGALRM */
        const int good = run_again(context, values, 0, IMAGES) && run_again(context, values, 3, 50);
        if (__llvm_profile_write_file) __llvm_profile_write_file();
        _exit(good ? 0 : 2);
    }
    int status;
    if (waitpid(child, &status, 0) != child) DIE("cannot wait for the child");
    if (WIFSIGNALED(status)) DIE("the child died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0) DIE("the child gets other bits");
}

int main(int argc, char **argv) {
    if (argc < 2) DIE("usage: threads MODEL.fdm [fork | alone | many]");
    alone = argc > 2 && strcmp(argv[2], "alone") == 0;
    const int forks = argc > 2 && strcmp(argv[2], "fork") == 0;
    hundreds = argc > 2 && strcmp(argv[2], "many") == 0;
    const int callers = hundreds ? MANY_CALLERS : CALLERS;
    if (hundreds) calls = MANY_CALLS;
    OK(fd_model_open(argv[1], &model, &error));
    fd_model_info info;
    fd_model_get_info(model, &info);
    inputs = info.input_elements;
    outputs = info.output_elements;
    images = exactly(IMAGES * inputs * sizeof(float));
    want = exactly(IMAGES * outputs * sizeof(float));
    uint64_t state = 1;
    for (size_t i = 0; i < IMAGES * inputs; i++) images[i] = random_pixel(&state);

    fd_context *one, *many;
    OK(fd_context_create(model, 1, &one, &error));
    OK(fd_context_create(model, THREADS, &many, &error));
    for (size_t i = 0; i < IMAGES; i++) {
        const fd_outputs out = {.values = want + i * outputs};
        OK(fd_run(model, one, images + i * inputs, FD_INPUT_F32, 1, &out, NULL, &error));
    }
    float *const values = exactly(IMAGES * outputs * sizeof(float));

    pthread_t threads[MANY_CALLERS];
    uint64_t seeds[MANY_CALLERS];
    atomic_init(&forking, forks);
    for (int i = 0; i < callers; i++) {
        seeds[i] = (uint64_t)i + 1;
        if (pthread_create(&threads[i], NULL, caller, &seeds[i]) != 0) DIE("cannot start a thread");
    }
    for (int i = 0; forks && i < CHILDREN; i++) fork_once(many, values);
    atomic_store(&forking, 0);
    for (int i = 0; i < callers; i++) pthread_join(threads[i], NULL);
    if (!run_again(many, values, 0, IMAGES)) DIE("other bits after the threads have gone");
    if (forks) {
        fork_once(many, values);
        if (!run_again(many, values, 0, IMAGES)) DIE("other bits after a fork");
    }

    free(values);
    free(images);
    free(want);
    fd_context_free(one);
    fd_context_free(many);
    fd_model_close(model);
    return 0;
}

#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "model/watch.h"

#include <time.h>

/* Between two calls of the caller's function. */
#define POLL_NANOSECONDS UINT64_C(10000000)

uint64_t fd_watch_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void end(fd_watch *watch, fd_status status) {
    int none = FD_OK;
    atomic_compare_exchange_strong(&watch->verdict, &none, (int)status);
}

static int is_cancelled(const fd_watch *watch) {
    return atomic_load_explicit(&watch->context->cancelled, memory_order_relaxed);
}

void fd_watch_start(fd_watch *watch, fd_context *context) {
    watch->context = context;
    watch->deadline = context->timeout ? fd_add_capped(fd_watch_now(), context->timeout) : 0;
    watch->polled = 0;
    atomic_init(&watch->verdict, is_cancelled(watch) ? FD_ERR_CANCELLED : FD_OK);
}

int fd_watch_look(fd_watch *watch, unsigned worker) {
    const fd_context *const context = watch->context;
    if (fd_watch_over(watch)) return 0;
    if (is_cancelled(watch)) end(watch, FD_ERR_CANCELLED);
    const int asks = worker == 0 && context->poll;
    if (!watch->deadline && !asks) return !fd_watch_over(watch);
    const uint64_t time = fd_watch_now();
    if (watch->deadline && time >= watch->deadline) end(watch, FD_ERR_TIMEOUT);
    if (asks && !watch->polled) watch->polled = time; /* not yet: it may soon be done */
    if (asks && time - watch->polled >= POLL_NANOSECONDS) {
        watch->polled = time;
        if (context->poll(context->poll_arg)) end(watch, FD_ERR_CANCELLED);
    }
    return !fd_watch_over(watch);
}

fd_status fd_watch_status(fd_watch *watch, fd_error *error) {
    const fd_status verdict = (fd_status)atomic_load(&watch->verdict);
    if (verdict == FD_ERR_CANCELLED) return fd_fail(error, verdict, "the run was cancelled");
    if (verdict == FD_ERR_TIMEOUT)
        return fd_fail(error, verdict, "the run took longer than its timeout of %g seconds",
                       (double)watch->context->timeout * 1e-9);
    return FD_OK;
}

/* Whether a call goes on: it may be cancelled, run out of time, or be ended by a function of the caller. */
#ifndef FD_MODEL_WATCH_H
#define FD_MODEL_WATCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/memory.h"
#include "model/context.h"

/* Operations between two looks of a worker at clock and context: some milliseconds, so that a short call never looks.
 */
#define FD_WATCH_OPERATIONS ((uint64_t)1 << 24)

/* Of a call, shared by its workers. */
typedef struct fd_watch {
    fd_context *context;
    uint64_t deadline;   /* of the monotonic clock, in nanoseconds; 0: none */
    uint64_t polled;     /* when the caller's function was called last; of worker 0 alone */
    _Atomic int verdict; /* an fd_status: FD_OK while it goes on */
} fd_watch;

/* Of a worker: what it has done since it looked last. */
typedef struct fd_pace {
    unsigned worker;
    uint64_t operations;
} fd_pace;

/* The monotonic clock, in nanoseconds. */
uint64_t fd_watch_now(void);

/* At the start of a call. Whether it is to begin at all, fd_watch_over says. */
void fd_watch_start(fd_watch *watch, fd_context *context);

/* Looks; worker 0, the caller, also asks its function. False if the call is over. */
int fd_watch_look(fd_watch *watch, unsigned worker);

static inline int fd_watch_over(fd_watch *watch) {
    return atomic_load_explicit(&watch->verdict, memory_order_relaxed) != FD_OK;
}

/* Before a worker does so many operations: false if it is to leave them. */
static inline int fd_watch_goes_on(fd_watch *watch, fd_pace *pace, uint64_t operations) {
    if (fd_watch_over(watch)) return 0;
    pace->operations = fd_add_capped(pace->operations, operations);
    if (pace->operations < FD_WATCH_OPERATIONS) return 1;
    pace->operations = 0;
    return fd_watch_look(watch, pace->worker);
}

/* The status of a call that is over, and its sentence; FD_OK if it was not ended. */
fd_status fd_watch_status(fd_watch *watch, fd_error *error);

#endif

/* A context: the memory of one call at a time. */
#ifndef FD_MODEL_CONTEXT_H
#define FD_MODEL_CONTEXT_H

#include <stdatomic.h>

#include "base/status.h"
#include "model/gain.h"

/* It is followed, in the same block of memory, by `units` and `arena`. */
struct fd_context {
    unsigned threads;
    int owns_memory;
    float *arena;          /* threads times model->arena floats */
    uint64_t *nanoseconds; /* an entry an op, or NULL */
    size_t *units;         /* of each phase of a chunk: op_count entries */
    uint64_t timeout;      /* nanoseconds, or 0 */
    int (*poll)(void *arg);
    void *poll_arg;
    fd_gain gain;
    atomic_int cancelled;
};

#endif

/* Running a model on what a worker has: images one by one, then a chunk of them. Nothing here knows of threads. */
#ifndef FD_MODEL_EXECUTE_H
#define FD_MODEL_EXECUTE_H

#include <time.h>

#include "model/model.h"
#include "model/watch.h"

/* One call of fd_run, as its workers see it. */
typedef struct fd_call {
    const fd_model *model;
    float *arena; /* of all workers */
    const fd_input_data *inputs;
    const fd_outputs *outputs;
    size_t output_count;   /* of those, the first ones of the model */
    uint64_t *nanoseconds; /* an entry an op, or NULL */
    fd_watch *watch;
} fd_call;

/* Whose arenas a worker uses. */
typedef struct fd_owners {
    unsigned scratch, image, chunk; /* of what a step needs while it runs; of values of one image, of the whole chunk */
} fd_owners;

/* What a worker works on, of the chunk whose first image is `first` of the call. */
fd_work fd_work_of(const fd_call *call, fd_owners owners, size_t first);

/* Where the time goes; `since` is read first when a worker begins. */
typedef struct fd_clock {
    struct timespec since;
} fd_clock;

void fd_clock_start(const fd_call *call, fd_clock *clock);

/* Takes the inputs of image i of the chunk. Returns as fd_execute_image does. */
size_t fd_execute_inputs(const fd_call *call, const fd_work *work, size_t first, size_t i, fd_clock *clock);

/* Everything that happens to image i of the chunk alone. Returns the model's input_elements, or the index of its
 * first value that is out of range, counted through all inputs. `clock` may be NULL. It is not done if the call is over
 * then. */
size_t fd_execute_image(const fd_call *call, const fd_work *work, size_t first, size_t i, fd_clock *clock,
                        fd_pace *pace);

/* A share of an op that takes the whole chunk. */
void fd_execute_op(const fd_planned *op, const fd_work *work, fd_share share);

/* All ops that take the whole chunk, on `rows` images; or some of them, if the call is over then. */
void fd_execute_chunk(const fd_call *call, const fd_work *work, size_t rows, fd_clock *clock, fd_pace *pace);

/* Gives the caller what came out. */
void fd_execute_outputs(const fd_call *call, const fd_work *work, size_t first, size_t rows);

#endif

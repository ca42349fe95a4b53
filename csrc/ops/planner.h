/* What operators plan with.
 *
 * Everything is planned twice, by the same code. The first time it is counted: fd_plan_take gives NULL, and who gets
 * NULL fills nothing. Then the limits are enforced and the memory is allocated, and the second time it is filled. So
 * nothing foretells what a planner takes, and no planner may ask which of the times it is, but by that NULL. */
#ifndef FD_OPS_PLANNER_H
#define FD_OPS_PLANNER_H

#include "cpu/cpu.h"
#include "format/file.h"
#include "format/panels.h"
#include "kernels/kernels.h"
#include "ops/step.h"

/* An activation, and where it lies in the arena. */
typedef struct fd_value {
    size_t rows, cols, channels; /* rank 1 is 1 x 1 x features */
    size_t elements;
    uint32_t writer;  /* the op whose output it is */
    size_t margin[4]; /* top, left, bottom, right: what its readers want of zeros, or room, around it */
    int is_vector;    /* a reader takes the image as a vector: it has no margins */
    int is_input;     /* the first of the network, which may be read where the caller has it */
    int zero_margins; /* its memory is shared: who writes it zeroes the margins, which are zero from the start if not */
    int of_chunk;     /* there is room for all images of a chunk */
    size_t row;       /* between image rows */
    size_t floats;    /* of an image, margins included */
    size_t base;      /* of its storage, margins included */
    size_t interior;  /* of its first element */
} fd_value;

/* What an operator says of itself: fd_op_info of fastdigit.h, less what the file says. */
typedef struct fd_op_facts {
    char label[40];
    char algorithm[32];
    const char *kernel; /* a row of kernels.def */
    const char *arithmetic, *precision;
    uint64_t multiply_adds, executed;
    size_t weight_bytes;
    size_t scratch; /* floats; fd_plan_scratch counts them */
} fd_op_facts;

/* An operator of the program, ready to run. */
typedef struct fd_planned {
    const fd_step *steps;
    size_t parts;  /* into which even one image's work may be cut */
    uint64_t work; /* operations an image, all of them; while it is planned, those that fd_plan_work added */
    fd_op_facts facts;
} fd_planned;

typedef struct fd_plan {
    const fd_file *file;
    const fd_isa *isa;
    const fd_value *values;  /* by tensor index; unused for weights */
    size_t chunk;            /* images in a chunk */
    size_t scratch_at;       /* offset in the arena, of what a step needs while it runs */
    struct fd_input *inputs; /* what the operators INPUT plan */

    /* Counted, then filled. */
    char *memory;        /* NULL: it is being counted */
    size_t room;         /* bytes that may be taken */
    size_t taken;        /* bytes, whole cache lines; SIZE_MAX: more than that */
    size_t zeros_needed; /* values of the longest bias of the operators that have none, */
    size_t zeros_room;   /* how many zeros there are for them, */
    const float *zeros;  /* and where */
    size_t scratch;      /* floats, of the step that needs most */
    uint64_t work;       /* operations an image, of the ops planned so far */
    int too_large;       /* a step would need an image beyond FD_PLAN_MAX_IMAGE */

    /* Of the operator that is being planned. */
    fd_planned *planned;
    const fd_step **tail;
} fd_plan;

/* Floats of the largest image that a value or a step may have, margins included: what 32 bits of a tap reach. */
#define FD_PLAN_MAX_IMAGE ((size_t)1 << 28)

/* `count` elements of `size` bytes, aligned to FD_ALIGN and zero: NULL while they are counted. */
void *fd_plan_take(fd_plan *plan, size_t count, size_t size);

/* The next step: a copy of *step, of `size` bytes, which begins with fd_step. */
void fd_plan_step(fd_plan *plan, const fd_step *step, size_t size);

/* So many floats that are the step's own while the operator runs, aligned to FD_ALIGN. */
fd_place fd_plan_scratch(fd_plan *plan, size_t floats);

/* Floats of an image. Where that is beyond FD_PLAN_MAX_IMAGE the model is refused, and it is 0. */
size_t fd_plan_image(fd_plan *plan, size_t rows, size_t cols, size_t channels);

/* The bias of op, or as many zeros as its padded columns; NULL while they are counted. */
const float *fd_plan_bias(fd_plan *plan, const fd_file_op *op, size_t columns);

/* Activation, scale and shift of op. */
fd_epilogue fd_plan_epilogue(const fd_plan *plan, const fd_file_op *op);

/* What an op takes is counted in operations: as many multiply-adds of a convolution as take the same time, roughly, so
 * that a limit of them is one of time. Of each op its multiply-adds, the values that it reads and writes and its
 * activation are counted by plan.c; fd_plan_work adds what else it does. */
enum {
    FD_PLAN_VALUE_WORK = 16,      /* a float that passes through memory */
    FD_PLAN_ACTIVATION_WORK = 32, /* an exponential or the like */
    FD_PLAN_CALL_WORK = 256       /* a kernel that is called for a few values */
};
void fd_plan_work(fd_plan *plan, uint64_t operations);

/* What the activation of op takes, of so many values. */
uint64_t fd_plan_activation_work(const fd_file_op *op, uint64_t values);

/* What `count` multiply-adds for each of `channels` take beyond their number: vectors are whole in each group. */
void fd_plan_lanes_work(fd_plan *plan, uint64_t count, size_t channels, size_t groups);

/* Adds what the pooling of op takes, if it has one. */
void fd_plan_pooling_work(fd_plan *plan, const fd_file_op *op);

static inline int fd_is_margin(const size_t margin[4]) { return margin[0] || margin[1] || margin[2] || margin[3]; }

static inline int fd_has_margins(const fd_value *value) { return fd_is_margin(value->margin); }

/* Where a value lies. */
fd_place fd_place_of(const fd_value *value);

/* `floats` further. */
static inline fd_place fd_place_at(fd_place place, ptrdiff_t floats) {
    place.offset += floats;
    return place;
}

/* The value of a tensor index. */
static inline const fd_value *fd_plan_value(const fd_plan *plan, uint32_t index) { return &plan->values[index]; }

/* Its facts, for planners to fill. */
static inline fd_op_facts *fd_plan_facts(const fd_plan *plan) { return &plan->planned->facts; }

/* Bytes of weights, bias, scale and shift as they lie in the file. */
size_t fd_plan_weight_bytes(const fd_plan *plan, const fd_file_op *op);

/* A name of FD_DTYPE_*. */
const char *fd_dtype_name(uint32_t dtype);

#endif

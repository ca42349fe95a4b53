/* What a worker does: one step after the other, each of which knows its kernel, its arguments and where its operands
 * lie, and decides nothing. */
#ifndef FD_OPS_STEP_H
#define FD_OPS_STEP_H

#include <stddef.h>
#include <stdint.h>

/* Whose memory an operand lies in. */
enum {
    FD_OWN,     /* of one image, whoever works on it; the next one takes it over */
    FD_CHUNK,   /* of the chunk, which workers may share: room for each of its images */
    FD_SCRATCH, /* of the worker, while a step runs */
    FD_INPUT    /* of the network's first input: the caller's, or one of the others */
};

/* Where an operand lies, in floats. */
typedef struct fd_place {
    unsigned base;
    ptrdiff_t offset; /* of the first image's first element; of an input, from where that is read */
    size_t image;     /* between images of a chunk; 0: there is room for one image only */
} fd_place;

/* What a worker works on. */
typedef struct fd_work {
    float *bases[3];     /* FD_OWN, FD_CHUNK, FD_SCRATCH */
    const float *input;  /* the first element of the chunk's first image */
    size_t input_stride; /* to the next image's */
} fd_work;

static inline const float *fd_source(const fd_work *work, const fd_place *place, size_t image) {
    if (place->base == FD_INPUT) return work->input + (ptrdiff_t)(image * work->input_stride) + place->offset;
    return work->bases[place->base] + place->offset + image * place->image;
}

/* The same of an operand that is written, which the network's input is not. */
static inline float *fd_target(const fd_work *work, const fd_place *place, size_t image) {
    return work->bases[place->base] + place->offset + image * place->image;
}

/* Somebody's share of a step: images [first, end) of the chunk, and parts [part, part_end) of those into which the
 * operator can be cut. Shares write different outputs, and split no sum. */
typedef struct fd_share {
    size_t first, end;
    size_t part, part_end;
} fd_share;

/* The head of every kind of step; what the kind needs comes behind it. */
typedef struct fd_step fd_step;
struct fd_step {
    void (*run)(const fd_step *step, const fd_work *work, const fd_share *share);
    const fd_step *next; /* of the same operator; NULL: it was the last */
};

#endif

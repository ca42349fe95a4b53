/* A loaded model: the validated file, and the plan to run it on this CPU. */
#ifndef FD_MODEL_MODEL_H
#define FD_MODEL_MODEL_H

#include "base/status.h"
#include "cpu/cpu.h"
#include "format/file.h"
#include "model/limits.h"
#include "ops/input.h"
#include "ops/planner.h"

/* What leaves the arena. */
typedef struct fd_output {
    fd_place values, logits; /* logits: of the values, or of what a softmax made them of */
    size_t elements;
    size_t rows, line, row;       /* how many; floats in one, and between them in the arena */
    int has_softmax, has_sigmoid; /* as fd_port_info says */
} fd_output;

struct fd_model {
    /* The file. */
    unsigned char *bytes;
    size_t byte_count;
    const char *meta;
    size_t meta_bytes;
    fd_file file;

    /* The plan. */
    const fd_isa *isa;
    fd_input *inputs;
    size_t input_elements; /* of all of them */
    fd_planned *planned;   /* by op index */
    void *memory;          /* of all steps, and of what is derived from weights */
    size_t batched;        /* ops from here on take a whole chunk, those before one image at a time */
    size_t chunk;          /* images in a chunk */
    fd_output *outputs;
    size_t arena;           /* floats a worker needs */
    uint64_t multiply_adds; /* per image */
    uint64_t operations;    /* per image: those of the ops together, as the limit counts them */
    int watches_ops;        /* they are so many that a call may have to end between two ops */
    size_t plan_bytes;      /* of `memory` */
};

/* load.c: fills the file part from model->bytes, or says what is wrong with it. */
fd_status fd_load(fd_model *model, const fd_limits *limits, fd_error *error);

/* plan.c: fills the plan of a loaded model. */
fd_status fd_plan_model(fd_model *model, const fd_limits *limits, fd_error *error);

#endif

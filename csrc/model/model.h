/* A loaded model: the validated file, and the plan to run it on this CPU. */
#ifndef FD_MODEL_MODEL_H
#define FD_MODEL_MODEL_H

#include "base/status.h"
#include "cpu/cpu.h"
#include "format/file.h"
#include "ops/input.h"
#include "ops/planner.h"

struct fd_model {
    /* The file. */
    unsigned char *bytes;
    size_t byte_count;
    const char *meta;
    size_t meta_bytes;
    fd_file file;

    /* The plan. */
    const fd_isa *isa;
    fd_input input;
    fd_planned *planned;     /* by op index */
    void *memory;            /* of all steps, and of what is derived from weights */
    size_t batched;          /* ops from here on take a whole chunk, those before one image at a time */
    size_t chunk;            /* images in a chunk */
    fd_place output, logits; /* of the last op, or of its input if that op makes probabilities of it */
    size_t output_elements;
    int has_sigmoid;        /* as fd_model_info says */
    size_t arena;           /* floats a worker needs */
    uint64_t multiply_adds; /* per image */
};

/* load.c: fills the file part from model->bytes, or says what is wrong with it. */
fd_status fd_load(fd_model *model, fd_error *error);

/* plan.c: fills the plan of a loaded model. */
fd_status fd_plan_model(fd_model *model, fd_error *error);

#endif

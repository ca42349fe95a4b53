/* A loaded model: the validated file, and the plan to run it on this CPU. */
#ifndef FD_MODEL_MODEL_H
#define FD_MODEL_MODEL_H

#include <float.h>

#include "base/status.h"
#include "cpu/cpu.h"
#include "format/format.h"
#include "kernels/kernels.h"
#include "model/algorithm.h"

/* Rows that go through the dense layers together: enough to read each weight rarely, few enough that their
 * activations stay in cache. */
#define FD_CHUNK_ROWS 32

/* Where an activation lives in a worker's arena. */
typedef struct fd_value {
    size_t rows, cols, channels; /* rank 1 is 1 x 1 x features */
    size_t elements;
    size_t base;      /* of its storage, margins included */
    size_t interior;  /* of its first element */
    size_t row;       /* between image rows */
    size_t floats;    /* of an image, margins included */
    size_t image;     /* between images of a chunk; 0: there is room for one image only */
    size_t margin[4]; /* top, left, bottom, right: what its readers want of zeros, or room, around it */
    int has_margins;
    int zero_margins; /* its memory is shared: who writes it zeroes the margins, which are zero from the start if not */
    int contiguous;   /* a reader takes the image as a vector: it has no margins */
} fd_value;

/* One op, ready to run: everything but the addresses that depend on the worker and the image. */
typedef struct fd_step {
    uint32_t opcode;
    uint32_t in, in2, out; /* values; in2 may be FD_FILE_NONE */
    union {
        fd_conv2d_args conv2d;
        fd_winograd_args winograd;
        fd_dense_args dense;
        fd_pool2d_args pool2d;
        fd_eltwise_args eltwise;
        fd_depthwise_args depthwise;
        fd_binary_args binary;
        fd_layernorm_args layernorm;
        fd_copy_args copy[2];
        float temperature; /* of a softmax; 0: none */
    } args;
    size_t origin;         /* convolution: of the first tap in a padded image, from the first element */
    size_t gather;         /* convolution that copies its input first: where in scratch it goes, */
    size_t gather_floats;  /* how large it is with its margins (0: it is read where it lies), */
    fd_copy_args gathered; /* and how: so many copies, with these strides between them */
    size_t gather_rows, gather_from, gather_to;
    int is_depthwise;
    size_t groups, group_in, group_out, group_weights, group_bias; /* grouped convolution: strides between groups */
    fd_eltwise_args after;                                         /* and its epilogue */
    float fill;                                                    /* of a PAD */
    size_t column_bytes;                                           /* dense: of one output's weights */
    size_t scratch_split;                       /* winograd: floats of its patches, before those of its products */
    void (*winograd)(const fd_winograd_args *); /* NULL: conv2d */
    void (*dense)(const fd_dense_args *);       /* dense, dense_narrow or dense_dynamic */
} fd_step;

struct fd_model {
    /* The file. */
    unsigned char *file;
    size_t file_bytes;
    const char *meta;
    size_t meta_bytes;
    const fd_file_tensor *tensors;
    size_t tensor_count;
    const fd_file_op *ops;
    size_t op_count;
    const unsigned char *weights;
    size_t weight_bytes;

    /* The plan. */
    const fd_isa *isa;
    fd_value *values;       /* by tensor index; unused for weights */
    uint32_t *writers;      /* by tensor index: the op that writes it */
    fd_step *steps;         /* by op index; steps[0] is INPUT */
    size_t batched;         /* steps from here on take a whole chunk, those before one image at a time */
    size_t chunk;           /* rows in a chunk */
    uint32_t *taps;         /* of all convolutions */
    float *zeros;           /* a bias for layers without one */
    float *transformed;     /* weights of all Winograd and grouped convolutions */
    int8_t *interleaved;    /* weights of all dynamically quantised dense layers, and */
    int32_t *sums;          /* those of their columns */
    size_t scratch;         /* offset in the arena, of what a step needs while it runs */
    size_t arena;           /* floats a worker needs */
    uint64_t multiply_adds; /* per image */
};

/* Infinite bounds of an input's range accept what is finite, and nothing else. */
static inline float fd_finite_bound(float bound) {
    return bound < -FLT_MAX ? -FLT_MAX : bound > FLT_MAX ? FLT_MAX : bound;
}

/* load.c: fills the file part from model->file, or says what is wrong with it. */
fd_status fd_load(fd_model *model, fd_error *error);

/* plan.c: fills the plan of a loaded model. */
fd_status fd_plan(fd_model *model, fd_error *error);

#endif

/* A file in memory: its sections, and how to look up what their records name. */
#ifndef FD_FORMAT_FILE_H
#define FD_FORMAT_FILE_H

#include "format/format.h"

typedef struct fd_file {
    const fd_file_tensor *tensors;
    size_t tensor_count;
    const fd_file_op *ops;
    size_t op_count;
    const unsigned char *weights;
    size_t weight_bytes;
    const fd_file_port *ports; /* the inputs, then the outputs; NULL: one of each, without names */
    size_t input_count;        /* of the ops, these are first */
    size_t output_count;
} fd_file;

/* The tensor of the k-th output: of the last op, if nothing else is said. */
static inline uint32_t fd_file_output(const fd_file *file, size_t k) {
    return file->ports ? file->ports[file->input_count + k].tensor : file->ops[file->op_count - 1].output;
}

/* What a tensor's dims mean: a vector is an image of 1 x 1 pixels. */
typedef struct fd_dims {
    size_t rank, rows, cols, channels, elements;
} fd_dims;

static inline fd_dims fd_dims_of(const fd_file_tensor *t) {
    if (t->rank != 3) return (fd_dims){t->rank, 1, 1, t->dims[0], t->dims[0]};
    return (fd_dims){3, t->dims[0], t->dims[1], t->dims[2], (size_t)t->dims[0] * t->dims[1] * t->dims[2]};
}

/* The values of a weight that is there. */
static inline const void *fd_file_weight(const fd_file *file, uint32_t index) {
    return file->weights + file->tensors[index].offset;
}

/* The values of a weight, or NULL for FD_FILE_NONE. */
static inline const void *fd_file_values(const fd_file *file, uint32_t index) {
    return index == FD_FILE_NONE ? NULL : fd_file_weight(file, index);
}

/* And their bytes. */
static inline size_t fd_file_bytes(const fd_file *file, uint32_t index) {
    return index == FD_FILE_NONE ? 0 : (size_t)file->tensors[index].size;
}

#endif

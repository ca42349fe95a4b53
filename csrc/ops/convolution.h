/* What the ways to compute a CONV2D share: the choice among them, and images that are cut into parts. */
#ifndef FD_OPS_CONVOLUTION_H
#define FD_OPS_CONVOLUTION_H

#include "base/memory.h"
#include "ops/algorithm.h"
#include "ops/steps.h"

typedef struct fd_conv_plan {
    fd_algorithm algorithm;
    fd_conv_shape shape;
    size_t patch_rows, patch_cols; /* 0 if direct */
    size_t repeat;                 /* depthwise: outputs of each input channel; otherwise 1 */
    size_t abreast;                /* direct: neighbouring outputs that share a vector of channels */
    size_t margin[4];              /* top, left, bottom, right of the input: padding, and room for the last patches */
} fd_conv_plan;

/* An image can be cut into parts of so many rows of outputs before pooling: the last part may have fewer. */
typedef struct fd_cut {
    size_t part_rows;
    size_t pooled; /* of those, rows that pooling makes one of */
} fd_cut;

/* Where the rows of a share begin; *rows becomes how many there are. */
static inline size_t fd_cut_rows(const fd_cut *cut, const fd_share *share, size_t *rows, fd_epilogue *epilogue) {
    const size_t first = share->part * cut->part_rows;
    *rows = fd_min(share->part_end * cut->part_rows, *rows) - first;
    fd_cut_skip(epilogue, first);
    return first;
}

/* Cuts an image into parts of so many rows, unless its input is gathered first, which each worker would do again. */
static inline fd_cut fd_plan_cut(fd_plan *p, const fd_image *in, size_t rows, size_t part_rows, size_t pooled) {
    if (in->first.base == FD_SCRATCH) return (fd_cut){rows, pooled};
    p->planned->parts = (rows + part_rows - 1) / part_rows;
    return (fd_cut){part_rows, pooled};
}

/* The steps of a convolution by one of Winograd's algorithms. */
void fd_plan_winograd(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, const fd_image *in);

#endif

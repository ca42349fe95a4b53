/* Steps that more than one operator is made of. */
#ifndef FD_OPS_STEPS_H
#define FD_OPS_STEPS_H

#include "ops/planner.h"

/* Scale and shift from a later row on. */
static inline void fd_cut_skip(fd_epilogue *epilogue, size_t rows) {
    if (epilogue->axis != FD_AXIS_HEIGHT) return;
    epilogue->scale += rows;
    epilogue->shift += rows;
}

/* One copy; `args` without addresses. */
void fd_steps_copy(fd_plan *plan, fd_place in, fd_place out, const fd_copy_args *args);

/* Activation, scale and shift; `args` without addresses. by_rows: the operator is cut into the rows of the result, and
 * a share does its own; otherwise each does the whole of it. */
void fd_steps_eltwise(fd_plan *plan, fd_place in, fd_place out, const fd_eltwise_args *args, int by_rows);

/* Zeros around a value, if its memory may have been another's before. */
void fd_steps_zero_margins(fd_plan *plan, const fd_value *value);

/* An image that a step reads. */
typedef struct fd_image {
    fd_place first; /* element, or tap */
    size_t row, channels;
} fd_image;

fd_image fd_image_of(const fd_value *value);

/* A copy of `in` with zeros around it (top, left, bottom, right), in scratch, with each channel `repeat` times; at the
 * first element within the margins. For who wants margins of a vector, which has none. */
fd_image fd_steps_gather(fd_plan *plan, const fd_value *in, const size_t margin[4], size_t repeat);

/* A whole value, to somewhere with other strides between rows and pixels. */
fd_copy_args fd_copy_of(const fd_value *in, size_t out_row, size_t out_pixel);

fd_eltwise_args fd_eltwise_of(const fd_value *in, const fd_value *out, fd_epilogue epilogue);

/* Pooling of op; what it reads is left open. */
fd_pool2d_args fd_pool_of(const fd_file_op *op, const fd_value *out);

/* Pooling; `args` without addresses. by_rows: as for fd_steps_eltwise. */
void fd_steps_pool(fd_plan *plan, fd_place in, fd_place out, const fd_pool2d_args *args, int by_rows);

#endif

/* How a convolution is computed: decided from its shape alone, so that a model's bits depend neither on its data nor on
 * the ISA. */
#ifndef FD_OPS_ALGORITHM_H
#define FD_OPS_ALGORITHM_H

#include <stddef.h>
#include <stdint.h>

#include "format/format.h"

typedef enum fd_algorithm {
    FD_DIRECT,                   /* conv2d */
    FD_WINOGRAD_4X4_3X3,         /* winograd_4x4_3x3 */
    FD_WINOGRAD_2X2_2X2,         /* winograd_2x2_2x2 */
    FD_WINOGRAD_2X2_5X5,         /* winograd_2x2_5x5 */
    FD_WINOGRAD_1X4_1X3,         /* winograd_1x4_1x3 */
    FD_WINOGRAD_4X1_3X1,         /* winograd_4x1_3x1 */
    FD_WINOGRAD_1X4_1X5,         /* winograd_1x4_1x5 */
    FD_WINOGRAD_4X1_5X1,         /* winograd_4x1_5x1 */
    FD_WINOGRAD_1X2_1X7,         /* winograd_1x2_1x7 */
    FD_WINOGRAD_2X1_7X1,         /* winograd_2x1_7x1 */
    FD_WINOGRAD_2X2_3X3_STRIDE2, /* winograd_2x2_3x3_stride2 */
    FD_ALGORITHMS
} fd_algorithm;

/* A convolution's sizes: input channels, outputs that pooling reads, channels. */
typedef struct fd_conv_shape {
    size_t in_channels, rows, cols, channels;
} fd_conv_shape;

/* Estimated cost of an image, in lanes of vector instructions, of all widths together; 0 if the algorithm cannot
 * compute op. */
uint64_t fd_algorithm_cost(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *shape);

/* The algorithm of least estimated cost. */
fd_algorithm fd_algorithm_choose(const fd_file_op *op, const fd_conv_shape *shape);

/* Whether a Winograd kernel takes the pooling of op: of two dimensions, 2x2 maxima that neither overlap nor leave
 * outputs over. */
int fd_algorithm_pools(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *shape);

/* Rows and columns: outputs of a Winograd patch (m), the filter's (r), and positions, as many as a patch has inputs;
 * all 0 for FD_DIRECT. */
typedef struct fd_winograd_sizes {
    size_t m[2], r[2], positions, stride;
} fd_winograd_sizes;

fd_winograd_sizes fd_algorithm_sizes(fd_algorithm algorithm);

/* Transforms the panels of an op's weights (FORMAT.md) for a Winograd algorithm: for each position the panels of an
 * in_channels x channels matrix. `out` has positions * in_channels * padded channels floats. */
void fd_algorithm_transform(fd_algorithm algorithm, const float *panels, const fd_conv_shape *shape, float *out);

#endif

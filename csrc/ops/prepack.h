/* Weights as one kernel wants them, made from the file's when a model is opened. */
#ifndef FD_OPS_PREPACK_H
#define FD_OPS_PREPACK_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a column of `depth` weights, in groups of four. */
static inline size_t fd_prepack_column(size_t depth) { return (depth + 3) / 4 * 4; }

/* From the panels of depth x channels bytes (FORMAT.md) to those of dense_dynamic, which sums four products at once:
 * in place of a row of P bytes, a panel has four rows of 4 P, the bytes of a column side by side, and zeros behind the
 * last row. `out` has fd_prepack_column(depth) bytes for each padded column. `sums`: of the bytes of each. */
void fd_prepack_dynamic(const int8_t *panels, size_t depth, size_t channels, int8_t *out, int32_t *sums);

/* The panels of a grouped convolution hold the columns of all groups: gives each group panels and a bias of its own,
 * one behind the other, each column where it was but for the groups before. `weights` and `bias` are zero. */
void fd_prepack_groups(const float *panels, const float *biases, size_t depth, size_t channels, size_t groups,
                       float *weights, float *bias);

/* A convolution of few channels whose neighbouring outputs, `abreast` of them, are the channels of one. */
typedef struct fd_prepack_abreast_sizes {
    size_t rows, cols, col_stride; /* of the kernel */
    size_t in_channels, channels, abreast;
} fd_prepack_abreast_sizes;

/* Its weights are those of each output, side by side and each where it looks, in a single panel of FD_PANEL_ALIGN
 * columns, of a kernel wider by (abreast - 1) strides. `weights` and `bias` are zero. */
void fd_prepack_abreast(const float *panels, const float *biases, const fd_prepack_abreast_sizes *sizes, float *weights,
                        float *bias);

#endif

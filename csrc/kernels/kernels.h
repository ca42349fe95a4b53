/* The kernels: what each takes, and the tables of one ISA.
 *
 * A kernel checks nothing and allocates nothing: ops/ hands it pointers and sizes that the loader has validated.
 * Strides and offsets count floats. Images are NHWC; "row" is the distance between image rows, a pixel's channels
 * are adjacent and pixels are adjacent within a row, so a pixel's stride is the number of channels.
 */
#ifndef FD_KERNELS_KERNELS_H
#define FD_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Activation, then x * scale + shift along an axis (FD_ACT_*, FD_AXIS_* of format/format.h). */
typedef struct fd_epilogue {
    uint32_t activation;
    float alpha;
    uint32_t axis;
    const float *scale; /* one value per index of the axis; for FD_AXIS_CHANNEL padded to FD_PANEL_ALIGN */
    const float *shift;
} fd_epilogue;

/* Pooling windows over rows x cols pixels. Row r of the input, which is any of its rows, lies at
 * in + (r % in_ring) * in_row, so that a ring of the last few rows serves as well as a whole image. */
typedef struct fd_pool2d_args {
    const float *in;
    float *out;
    size_t in_row, in_ring, out_row;
    size_t rows, cols, channels;
    size_t out_first, out_count, out_cols; /* output rows to compute: the first, how many; columns */
    uint32_t mode;                         /* FD_POOL_* */
    uint32_t size[2], stride[2], pad[2];   /* vertical, horizontal; pad: top, left */
} fd_pool2d_args;

typedef struct fd_eltwise_args {
    const float *in;
    float *out; /* may be in */
    size_t in_row, out_row;
    size_t rows, cols, channels;
    size_t row_index; /* index of the first row along FD_AXIS_HEIGHT */
    fd_epilogue epilogue;
} fd_eltwise_args;

/* Convolution, bias, epilogue, pooling: the output is never larger than what pooling leaves of it.
 *
 * The sum of an output starts at the bias and takes taps in the order of the weight rows, one accumulator an output:
 * tiles may change, its bits do not. Nor do they with outputs abreast, where it takes zeros between its taps: of up to
 * FD_PANEL_ALIGN channels a sum is normalised to have no -0, which is all that zeros can change in one of finite
 * values. */
typedef struct fd_conv2d_args {
    const float *in; /* padded image: the first tap of output (0, 0) */
    float *out;
    const float *weights; /* panels, FORMAT.md */
    const float *bias;    /* padded to FD_PANEL_ALIGN */
    const uint32_t *taps; /* offset of each of the `depth` weight rows' inputs from an output's first tap */
    size_t depth;         /* kernel height * kernel width * input channels */
    size_t in_row_step;   /* between the first taps of vertically adjacent outputs */
    size_t in_col_step;   /* and of horizontally adjacent ones */
    size_t plane_row;     /* of 3x3 adjacent floats as taps, outputs adjacent too: between rows of floats; or 0 */
    size_t rows, cols;    /* convolution outputs, those that pooling reads */
    size_t channels;      /* output channels; or those of some neighbouring outputs, which `pool` tells apart */
    size_t before, after; /* channels that the panels have in front of these, a multiple of FD_PANEL_ALIGN, and behind
                             them: bias, epilogue and output are those of the first that is wanted */
    size_t out_row;
    size_t out_col; /* between pixels of the output: more than `channels` for one group of many */
    fd_epilogue epilogue;
    uint32_t pool_mode;
    /* Any other pooling or activation than those the fused loop has goes through a ring of convolution rows. */
    float
        *ring; /* scratch for it: pool.in_ring rows of cols * channels; `out` is where row 0 of the pooled ones lies */
    fd_pool2d_args pool;
} fd_conv2d_args;

/* Depthwise convolution: each channel by itself, one accumulator an output that takes taps in the order of the weight
 * rows, from the bias; then the epilogue. Weights are panels as of conv2d, with a row for each tap. */
typedef struct fd_depthwise_args {
    const float *in; /* padded image: the first tap of output (0, 0) */
    float *out;
    const float *weights;
    const float *bias;    /* padded to FD_PANEL_ALIGN */
    const uint32_t *taps; /* offset of each tap's pixel from an output's first */
    size_t taps_count;
    size_t in_row_step, in_col_step;
    size_t rows, cols, channels;
    size_t out_row;
    fd_epilogue epilogue;
} fd_depthwise_args;

/* a (op) b, element by element, then the epilogue. b has the dims of a, or 1 in some of them: strides of 0. */
typedef struct fd_binary_args {
    const float *a, *b;
    float *out;
    size_t a_row, b_row, b_col, out_row; /* b_col: between pixels of b */
    int one;                             /* b has one channel */
    size_t rows, cols, channels;
    uint32_t op; /* FD_BINARY_* */
    fd_epilogue epilogue;
} fd_binary_args;

/* A block of size[0] x size[1] x size[2] floats, from one set of strides to another; they do not overlap. */
typedef struct fd_copy_args {
    const float *in;
    float *out;
    size_t size[3], in_stride[3], out_stride[3];
} fd_copy_args;

/* (x - mean) / sqrt(variance + epsilon) * scale + shift over n values. Whatever the width of vectors, a sum is taken in
 * FD_CHAINS chains, value i in chain i % FD_CHAINS; then the second half of them is added to the first, until one is
 * left. */
typedef struct fd_layernorm_args {
    const float *in;
    float *out; /* may be in */
    size_t n;
    float epsilon;
    const float *scale, *shift; /* n values, or NULL: 1, 0 */
} fd_layernorm_args;

#define FD_CHAINS 16

/* One step of a recurrent layer, for one sequence (FORMAT.md has the formulas). The reset gate of FD_RECURRENT_GRU
 * comes before the product of the candidate: recurrent_reset writes what it keeps of the state. */
typedef struct fd_recurrent_args {
    const float *in, *product; /* for each gate, units floats: the input's share; of state and weights, and bias */
    float *state, *cell;       /* units floats, of the step before, then of this one; the cell of an LSTM */
    float *kept;               /* units floats; recurrent_reset writes them */
    size_t units;
    uint32_t kind;              /* FD_RECURRENT_* */
    uint32_t gates, activation; /* FD_ACT_*, of the gates, of the candidate and the cell */
    float gates_alpha, alpha;
} fd_recurrent_args;

/* Convolution with stride and dilation 1, any activation, 2x2 max pooling or none: as many patches as cover the
 * outputs. Where the last patches reach beyond the image, it is zero: those inputs cancel, but their rounding errors do
 * not. */
typedef struct fd_winograd_args {
    const float *in; /* padded image */
    float *out;
    const float *weights; /* transformed: position, then panels of in_channels rows */
    const float *bias;    /* padded to FD_PANEL_ALIGN */
    size_t in_row, in_channels;
    size_t rows, cols; /* convolution outputs, those that pooling reads; even if pooled */
    size_t channels;
    size_t out_row;
    fd_epilogue epilogue;
    int pooled;
    size_t patch_rows, patch_cols;
    float *v;        /* scratch: for each position patches * in_channels, and FD_PANEL_ALIGN - 1 that are overwritten */
    float *products; /* scratch: for each position patches * channels padded to FD_PANEL_ALIGN */
    size_t v_step, products_step; /* between positions */
} fd_winograd_args;

/* y = activation(x W + bias) for m rows. The sum of an output starts at the bias, or at 0 with a scale, which it is
 * multiplied by at the end, before the bias. It takes inputs in order; an input that is zero may be left out, which
 * changes no bit, for the result is normalised to have no -0. dense_narrow is for
 * a single panel of at most FD_NARROW columns: it sums in FD_NARROW_CHAINS interleaved chains, ((0 + 1) + (2 + 3)) +
 * bias, because one chain for each of so few outputs would wait for the latency of every addition.
 *
 * dense_dynamic takes bytes in groups of four rows (prepack.h), and quantises its inputs as FORMAT.md says: its sums
 * are exact, and its results the same bits on every ISA. */
typedef struct fd_dense_args {
    const float *in;
    float *out;          /* m rows of `channels` */
    const void *weights; /* panels of dtype; dense_dynamic: of bytes by fours */
    uint32_t dtype;      /* FD_DTYPE_*; dense_narrow: f32 */
    const float *bias;   /* padded to FD_PANEL_ALIGN */
    const float *scale;  /* of i8 weights, padded to FD_PANEL_ALIGN; otherwise NULL */
    const int32_t *sums; /* dense_dynamic: of each column's weights, padded to FD_PANEL_ALIGN */
    size_t m, depth, channels;
    size_t in_row, out_row;
    fd_epilogue epilogue; /* axis is FD_AXIS_NONE */
    float *scratch;       /* FD_DENSE_SCRATCH or FD_DYNAMIC_SCRATCH floats; dense_narrow: none */
} fd_dense_args;

#define FD_NARROW_CHAINS 4

/* Scratch of `dense`: of one row a list of its nonzero inputs, values, and indices that go on a little; of m rows, the
 * sums of a panel. */
#define FD_DENSE_LIST(depth) (((depth) + 15) / 16 * 16)
#define FD_DENSE_SUMS(m) ((m) * FD_PANEL)
#define FD_DENSE_SCRATCH(m, depth) \
    (FD_DENSE_SUMS(m) > 2 * FD_DENSE_LIST(depth) + 16 ? FD_DENSE_SUMS(m) : 2 * FD_DENSE_LIST(depth) + 16)

/* Bytes of a quantised row, whole vectors; scratch of `dense_dynamic`, for m rows and what their bytes stand for. */
#define FD_DYNAMIC_STRIDE(depth) (((depth) + 15) / 16 * 16)
#define FD_DYNAMIC_SCRATCH(m, depth) ((m) * (FD_DYNAMIC_STRIDE(depth) / sizeof(float) + 2))

typedef struct fd_float_kernels {
    size_t vector_floats;
#define FD_FLOAT_KERNEL(name, type, params) type(*name) params;
#include "kernels/kernels.def"
} fd_float_kernels;

typedef struct fd_byte_kernels {
#define FD_BYTE_KERNEL(name, type, params) type(*name) params;
#include "kernels/kernels.def"
} fd_byte_kernels;

#endif

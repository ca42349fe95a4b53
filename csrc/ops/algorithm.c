#include "ops/algorithm.h"

#include "base/memory.h"
#include "format/panels.h"

/* Vector instructions of one patch beside the products: transforming an input vector (two passes over size lines, and
 * its loads and stores), and an output vector with its epilogue. */
enum { INPUT_4X4 = 220, OUTPUT_4X4 = 200, INPUT_2X2 = 30, OUTPUT_2X2 = 35 };

/* With fewer patches than this, a position's product waits for its weights instead. */
enum { PATCHES_MIN = 4 };

/* Transformed weights are read once an image: beyond a second-level cache they cost more than they save. */
#define WEIGHTS_MAX ((size_t)1 << 20)

fd_winograd_sizes fd_algorithm_sizes(fd_algorithm algorithm) {
    switch (algorithm) {
    case FD_WINOGRAD_4X4_3X3: return (fd_winograd_sizes){4, 3, 36};
    case FD_WINOGRAD_2X2_2X2: return (fd_winograd_sizes){2, 2, 9};
    default: return (fd_winograd_sizes){0, 0, 0};
    }
}

static int fits(fd_winograd_sizes w, const fd_file_op *op, const fd_conv_shape *s) {
    if (op->kernel[0] != w.r || op->kernel[1] != w.r) return 0;
    if (op->stride[0] != 1 || op->stride[1] != 1 || op->dilation[0] != 1 || op->dilation[1] != 1) return 0;
    if (op->activation != FD_ACT_LINEAR && op->activation != FD_ACT_RELU && op->activation != FD_ACT_CLIPPED_RELU)
        return 0;
    if (op->pool_mode == FD_POOL_NONE) return 1;
    return op->pool_mode == FD_POOL_MAX && op->pool[0] == 2 && op->pool[1] == 2 && op->pool_stride[0] == 2 &&
           op->pool_stride[1] == 2 && op->pool_pad[0] == 0 && op->pool_pad[1] == 0 && s->rows % 2 == 0 &&
           s->cols % 2 == 0;
}

/* Lanes that n channels take, with vectors of 4, of 8 and of 16 floats together. Algorithms differ in the bits of their
 * results, so the choice must be the same on every ISA: the one that costs them least together. It costs none of them
 * much more than its own choice would: n of several vectors take nearly as many lanes of any. */
static uint64_t lanes_of(size_t n) { return fd_round_up(n, 4) + fd_round_up(n, 8) + fd_round_up(n, 16); }

uint64_t fd_algorithm_cost(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *s) {
    const uint64_t in = lanes_of(s->in_channels), out = lanes_of(s->channels);
    if (algorithm == FD_DIRECT)
        return (uint64_t)s->rows * s->cols * op->kernel[0] * op->kernel[1] * s->in_channels * out;
    const fd_winograd_sizes w = fd_algorithm_sizes(algorithm);
    if (!fits(w, op, s)) return 0;
    if (w.positions * s->in_channels * fd_panel_columns(s->channels) * sizeof(float) > WEIGHTS_MAX) return 0;
    const uint64_t patches = (uint64_t)((s->rows + w.m - 1) / w.m) * ((s->cols + w.m - 1) / w.m);
    const uint64_t products = (patches > PATCHES_MIN ? patches : PATCHES_MIN) * w.positions * s->in_channels * out;
    const uint64_t transforms = w.m == 4 ? in * INPUT_4X4 + out * OUTPUT_4X4 : in * INPUT_2X2 + out * OUTPUT_2X2;
    return products + patches * transforms;
}

fd_algorithm fd_algorithm_choose(const fd_file_op *op, const fd_conv_shape *shape) {
    fd_algorithm best = FD_DIRECT;
    uint64_t least = fd_algorithm_cost(FD_DIRECT, op, shape);
    for (fd_algorithm a = FD_WINOGRAD_4X4_3X3; a <= FD_WINOGRAD_2X2_2X2; a++) {
        const uint64_t cost = fd_algorithm_cost(a, op, shape);
        if (!cost || cost >= least) continue;
        best = a;
        least = cost;
    }
    return best;
}

/* The filter transform G, (m + r - 1) x r; the transforms of inputs and outputs are in kernels/winograd.inl.h. */
#define SQRT_2 1.41421356237309504880
static const double G_4X4_3X3[6][3] = {
    {1, 0, 0},
    {-2.0 / 3, -SQRT_2 / 3, -1.0 / 3},
    {-2.0 / 3, SQRT_2 / 3, -1.0 / 3},
    {1.0 / 6, SQRT_2 / 6, 1.0 / 3},
    {1.0 / 6, -SQRT_2 / 6, 1.0 / 3},
    {0, 0, 1},
};
static const double G_2X2_2X2[3][2] = {{1, 0}, {1, 1}, {0, 1}};

/* G g G' in double precision, rounded once. */
static void transform_filter(const double *matrix, size_t size, size_t r, const double *g, double *out) {
    double half[6 * 3];
    for (size_t i = 0; i < size; i++) {
        for (size_t x = 0; x < r; x++) {
            half[i * r + x] = 0;
            for (size_t y = 0; y < r; y++) half[i * r + x] += matrix[i * r + y] * g[y * r + x];
        }
        for (size_t j = 0; j < size; j++) {
            out[i * size + j] = 0;
            for (size_t x = 0; x < r; x++) out[i * size + j] += half[i * r + x] * matrix[j * r + x];
        }
    }
}

void fd_algorithm_transform(fd_algorithm algorithm, const float *panels, const fd_conv_shape *s, float *out) {
    const fd_winograd_sizes w = fd_algorithm_sizes(algorithm);
    const double *const matrix = algorithm == FD_WINOGRAD_4X4_3X3 ? &G_4X4_3X3[0][0] : &G_2X2_2X2[0][0];
    const size_t size = w.m + w.r - 1, padded = fd_panel_columns(s->channels);
    const size_t depth = w.r * w.r * s->in_channels;
    for (size_t first = 0; first < padded; first += FD_PANEL) {
        const size_t panel = fd_panel_width(s->channels, first);
        const float *const from = panels + first * depth;
        for (size_t c = 0; c < s->in_channels; c++) {
            for (size_t n = 0; n < panel; n++) {
                double g[9], u[36];
                for (size_t tap = 0; tap < w.r * w.r; tap++)
                    g[tap] = (double)from[(tap * s->in_channels + c) * panel + n];
                transform_filter(matrix, size, w.r, g, u);
                for (size_t p = 0; p < w.positions; p++)
                    out[(p * padded + first) * s->in_channels + c * panel + n] = (float)u[p];
            }
        }
    }
}

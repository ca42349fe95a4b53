#include "ops/algorithm.h"

#include "base/memory.h"
#include "format/panels.h"

/* With fewer patches than this, a position's product waits for its weights instead. Transformed weights are read once
 * an image: where they do not stay in a second-level cache, it waits as long as more patches take. */
enum { PATCHES_MIN = 4, PATCHES_MIN_FAR = 16 };
#define WEIGHTS_NEAR ((size_t)1 << 20)

/* Beyond this, memory and the time of opening a model grow more than anybody wants: a network of many such layers would
 * be refused for its plan_bytes. */
#define WEIGHTS_MAX ((size_t)20 << 20)

/* Fewer channels the definition computes with neighbouring columns in a vector, which its cost does not know. */
enum { LINE_CHANNELS_MIN = 8 };

/* The filter transforms G, (m + r - 1) x r; those of inputs and outputs are in kernels/winograd*.inl.h. */
#define SQRT_2 1.41421356237309504880
static const double G_4X4_3X3[] = {
    1,        0,           0,        /* at 0 */
    -2.0 / 3, -SQRT_2 / 3, -1.0 / 3, /* at -+1 / sqrt 2 */
    -2.0 / 3, SQRT_2 / 3,  -1.0 / 3, /**/
    1.0 / 6,  SQRT_2 / 6,  1.0 / 3,  /* at -+sqrt 2 */
    1.0 / 6,  -SQRT_2 / 6, 1.0 / 3,  /**/
    0,        0,           1,        /* at infinity */
};
static const double G_2X2_2X2[] = {1, 0, 1, 1, 0, 1};
static const double G_2X2_5X5[6][5] = {
    {1, 0, 0, 0, 0}, /* at the same points */
    {-2.0 / 3, -SQRT_2 / 3, -1.0 / 3, -SQRT_2 / 6, -1.0 / 6},
    {-2.0 / 3, SQRT_2 / 3, -1.0 / 3, SQRT_2 / 6, -1.0 / 6},
    {1.0 / 6, SQRT_2 / 6, 1.0 / 3, SQRT_2 / 3, 2.0 / 3},
    {1.0 / 6, -SQRT_2 / 6, 1.0 / 3, -SQRT_2 / 3, 2.0 / 3},
    {0, 0, 0, 0, 1},
};

static const double G_2X2_3X3_STRIDE2[5][3] = {
    {1, 0, 0}, /* F(2, 2) of the taps at even inputs, with that at the odd ones in between */
    {1, 0, 1}, {0, 1, 0}, {0, 1, 0}, {0, 0, 1},
};
static const double G_4_5[8][5] = {
    {1, 0, 0, 0, 0},                                    /* at 0 */
    {-2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9}, /* at +-1 */
    {-2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9, -2.0 / 9},
    {32.0 / 45, 16.0 / 45, 8.0 / 45, 4.0 / 45, 2.0 / 45}, /* at +-1/2 */
    {32.0 / 45, -16.0 / 45, 8.0 / 45, -4.0 / 45, 2.0 / 45},
    {1.0 / 90, 2.0 / 90, 4.0 / 90, 8.0 / 90, 16.0 / 90}, /* at +-2 */
    {1.0 / 90, -2.0 / 90, 4.0 / 90, -8.0 / 90, 16.0 / 90},
    {0, 0, 0, 0, 1}, /* at infinity */
};
static const double G_2_7[8][7] = {
    {1, 0, 0, 0, 0, 0, 0}, /* at the same points */
    {-2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9, -2.0 / 9},
    {32.0 / 45, 16.0 / 45, 8.0 / 45, 4.0 / 45, 2.0 / 45, 1.0 / 45, 0.5 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45, -4.0 / 45, 2.0 / 45, -1.0 / 45, 0.5 / 45},
    {1.0 / 90, 2.0 / 90, 4.0 / 90, 8.0 / 90, 16.0 / 90, 32.0 / 90, 64.0 / 90},
    {1.0 / 90, -2.0 / 90, 4.0 / 90, -8.0 / 90, 16.0 / 90, -32.0 / 90, 64.0 / 90},
    {0, 0, 0, 0, 0, 0, 1},
};

/* Of a Winograd algorithm: its sizes, G, and what one patch takes beside the multiply-adds of its products, in as many
 * of those as take the same time: for a vector of input channels the transform, for one of output channels the products
 * on their way through memory, the transform and the epilogue. */
typedef struct winograd {
    fd_winograd_sizes sizes;
    const double *g;
    unsigned input, output;
} winograd;

static const winograd WINOGRADS[] = {
    [FD_WINOGRAD_4X4_3X3] = {{{4, 4}, {3, 3}, 36, 1}, G_4X4_3X3, 320, 350},
    [FD_WINOGRAD_2X2_2X2] = {{{2, 2}, {2, 2}, 9, 1}, G_2X2_2X2, 40, 55},
    [FD_WINOGRAD_2X2_5X5] = {{{2, 2}, {5, 5}, 36, 1}, &G_2X2_5X5[0][0], 320, 230},
    [FD_WINOGRAD_2X2_3X3_STRIDE2] = {{{2, 2}, {3, 3}, 25, 2}, &G_2X2_3X3_STRIDE2[0][0], 85, 100},
    [FD_WINOGRAD_1X4_1X3] = {{{1, 4}, {1, 3}, 6, 1}, G_4X4_3X3, 30, 40},
    [FD_WINOGRAD_4X1_3X1] = {{{4, 1}, {3, 1}, 6, 1}, G_4X4_3X3, 30, 40},
    [FD_WINOGRAD_1X4_1X5] = {{{1, 4}, {1, 5}, 8, 1}, &G_4_5[0][0], 40, 50},
    [FD_WINOGRAD_4X1_5X1] = {{{4, 1}, {5, 1}, 8, 1}, &G_4_5[0][0], 40, 50},
    [FD_WINOGRAD_1X2_1X7] = {{{1, 2}, {1, 7}, 8, 1}, &G_2_7[0][0], 38, 40},
    [FD_WINOGRAD_2X1_7X1] = {{{2, 1}, {7, 1}, 8, 1}, &G_2_7[0][0], 38, 40},
};

/* Sides of the largest filter, and of its transform. */
enum { TAPS_SIDE_MAX = 7, SIDE_MAX = 8 };

fd_winograd_sizes fd_algorithm_sizes(fd_algorithm algorithm) { return WINOGRADS[algorithm].sizes; }

/* Whether its filters are of one dimension. */
static int is_line(fd_algorithm algorithm) {
    const size_t *const r = WINOGRADS[algorithm].sizes.r;
    return r[0] == 1 || r[1] == 1;
}

int fd_algorithm_pools(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *s) {
    return !is_line(algorithm) && op->pool_mode == FD_POOL_MAX && op->pool[0] == 2 && op->pool[1] == 2 &&
           op->pool_stride[0] == 2 && op->pool_stride[1] == 2 && op->pool_pad[0] == 0 && op->pool_pad[1] == 0 &&
           s->rows % 2 == 0 && s->cols % 2 == 0;
}

/* Lanes that n channels take, with vectors of 4, of 8 and of 16 floats together. Algorithms differ in the bits of their
 * results, so the choice must be the same on every ISA: the one that costs them least together. It costs none of them
 * much more than its own choice would: n of several vectors take nearly as many lanes of any. */
static uint64_t lanes_of(size_t n) { return fd_round_up(n, 4) + fd_round_up(n, 8) + fd_round_up(n, 16); }

uint64_t fd_algorithm_cost(fd_algorithm algorithm, const fd_file_op *op, const fd_conv_shape *s) {
    const uint64_t in = lanes_of(s->in_channels), out = lanes_of(s->channels);
    if (algorithm == FD_DIRECT)
        return (uint64_t)s->rows * s->cols * op->kernel[0] * op->kernel[1] * s->in_channels * out;
    const winograd *const w = &WINOGRADS[algorithm];
    if (op->kernel[0] != w->sizes.r[0] || op->kernel[1] != w->sizes.r[1]) return 0;
    if (op->stride[0] != w->sizes.stride || op->stride[1] != w->sizes.stride || op->dilation[0] != 1 ||
        op->dilation[1] != 1)
        return 0;
    if (is_line(algorithm) && s->channels < LINE_CHANNELS_MIN) return 0;
    const size_t weights = w->sizes.positions * s->in_channels * fd_panel_columns(s->channels) * sizeof(float);
    if (weights > WEIGHTS_MAX) return 0;
    const size_t *const m = w->sizes.m, least = weights > WEIGHTS_NEAR ? PATCHES_MIN_FAR : PATCHES_MIN;
    const uint64_t patches = (uint64_t)((s->rows + m[0] - 1) / m[0]) * ((s->cols + m[1] - 1) / m[1]);
    const uint64_t products = (patches > least ? patches : least) * w->sizes.positions * s->in_channels * out;
    return products + patches * (in * w->input + out * w->output);
}

fd_algorithm fd_algorithm_choose(const fd_file_op *op, const fd_conv_shape *shape) {
    fd_algorithm best = FD_DIRECT;
    uint64_t least = fd_algorithm_cost(FD_DIRECT, op, shape);
    for (fd_algorithm a = FD_DIRECT + 1; a < FD_ALGORITHMS; a++) {
        const uint64_t cost = fd_algorithm_cost(a, op, shape);
        if (!cost || cost >= least) continue;
        best = a;
        least = cost;
    }
    return best;
}

/* G of one dimension: of size x r; of a dimension in which the filter has one tap, 1. */
typedef struct transform {
    const double *g;
    size_t size, r;
} transform;

static transform transform_of(fd_algorithm algorithm, int dimension) {
    static const double one[] = {1};
    const winograd *const w = &WINOGRADS[algorithm];
    const size_t m = w->sizes.m[dimension], r = w->sizes.r[dimension];
    return (transform){r == 1 ? one : w->g, (m - 1) * w->sizes.stride + r, r};
}

/* G g G' of the filters of FD_PANEL_ALIGN adjacent columns, in double precision, rounded once. Their taps are tap_step
 * apart, and positions become position_step apart. */
static void transform_filters(const transform *rows, const transform *cols, const float *g, size_t tap_step, float *out,
                              size_t position_step) {
    double half[SIDE_MAX * TAPS_SIDE_MAX][FD_PANEL_ALIGN];
    for (size_t i = 0; i < rows->size; i++) {
        for (size_t x = 0; x < cols->r; x++) {
            double *const sums = half[i * cols->r + x];
            for (size_t n = 0; n < FD_PANEL_ALIGN; n++) sums[n] = 0;
            for (size_t y = 0; y < rows->r; y++)
                for (size_t n = 0; n < FD_PANEL_ALIGN; n++)
                    sums[n] += rows->g[i * rows->r + y] * (double)g[(y * cols->r + x) * tap_step + n];
        }
        for (size_t j = 0; j < cols->size; j++) {
            double sums[FD_PANEL_ALIGN] = {0};
            for (size_t x = 0; x < cols->r; x++)
                for (size_t n = 0; n < FD_PANEL_ALIGN; n++)
                    sums[n] += half[i * cols->r + x][n] * cols->g[j * cols->r + x];
            for (size_t n = 0; n < FD_PANEL_ALIGN; n++) out[(i * cols->size + j) * position_step + n] = (float)sums[n];
        }
    }
}

void fd_algorithm_transform(fd_algorithm algorithm, const float *panels, const fd_conv_shape *s, float *out) {
    const transform rows = transform_of(algorithm, 0), cols = transform_of(algorithm, 1);
    const size_t padded = fd_panel_columns(s->channels), depth = rows.r * cols.r * s->in_channels;
    for (size_t first = 0; first < padded; first += FD_PANEL) {
        const size_t panel = fd_panel_width(s->channels, first);
        for (size_t c = 0; c < s->in_channels; c++)
            for (size_t n = 0; n < panel; n += FD_PANEL_ALIGN)
                transform_filters(&rows, &cols, panels + first * depth + c * panel + n, s->in_channels * panel,
                                  out + first * s->in_channels + c * panel + n, padded * s->in_channels);
    }
}

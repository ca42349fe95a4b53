/* CONV2D by Winograd's algorithms: blocks of patches, each transformed, multiplied and transformed back. */
#include <stdio.h>

#include "ops/convolution.h"

typedef struct winograd_step {
    fd_step step;
    fd_cut cut;
    fd_winograd_sizes sizes;
    size_t block_rows, block_cols; /* of outputs: of the patches that are computed together */
    fd_pool2d_args apart; /* if pooling is a step of its own: parts are rows of its windows, unless size is 0 */
    fd_place in, out, v, products;
    void (*kernel)(const fd_winograd_args *);
    fd_winograd_args args;
} winograd_step;

/* Where the rows of a share begin; *args has how many there are, and their scale. Of windows that overlap two shares
 * compute what they do; whole patches, so that an output has the same bits in both. */
static size_t cut_patches(const winograd_step *s, const fd_share *share, fd_winograd_args *args) {
    const fd_pool2d_args *const p = &s->apart;
    if (p->size[0] == 0) return fd_cut_rows(&s->cut, share, &args->rows, &args->epilogue);
    const size_t above = share->part * p->stride[0], below = (share->part_end - 1) * p->stride[0] + p->size[0];
    const size_t first = above > p->pad[0] ? (above - p->pad[0]) / s->sizes.m[0] * s->sizes.m[0] : 0;
    args->rows = fd_min(below - p->pad[0], args->rows) - first;
    fd_cut_skip(&args->epilogue, first);
    return first;
}

/* The blocks side by side that begin at a row of the image, or of a share of it. */
static void run_blocks(const winograd_step *s, const fd_winograd_args *part, size_t row) {
    const fd_winograd_sizes *const w = &s->sizes;
    for (size_t col = 0; col < part->cols; col += s->block_cols) {
        fd_winograd_args a = *part;
        a.rows = fd_min(s->block_rows, part->rows - row);
        a.cols = fd_min(s->block_cols, part->cols - col);
        a.patch_rows = (a.rows + w->m[0] - 1) / w->m[0];
        a.patch_cols = (a.cols + w->m[1] - 1) / w->m[1];
        a.in += (row * a.in_row + col * a.in_channels) * w->stride;
        a.out += row / s->cut.pooled * a.out_row + col / s->cut.pooled * a.channels;
        fd_cut_skip(&a.epilogue, row);
        if (a.epilogue.axis == FD_AXIS_WIDTH) a.epilogue.scale += col, a.epilogue.shift += col;
        s->kernel(&a);
    }
}

static void run_winograd(const fd_step *step, const fd_work *work, const fd_share *share) {
    const winograd_step *const s = (const winograd_step *)step;
    fd_winograd_args part = s->args;
    const size_t row = cut_patches(s, share, &part);
    for (size_t i = share->first; i < share->end; i++) {
        part.in = fd_source(work, &s->in, i) + row * s->sizes.stride * part.in_row;
        part.out = fd_target(work, &s->out, i) + row / s->cut.pooled * part.out_row;
        part.v = fd_target(work, &s->v, i);
        part.products = fd_target(work, &s->products, i);
        for (size_t done = 0; done < part.rows; done += s->block_rows) run_blocks(s, &part, done);
    }
}

/* Between the positions of a patch, in floats, with room for a vector too many: an odd number of cache lines. With a
 * power of two all positions would fall into the same few sets of a first-level cache and drive each other out. */
static size_t position_step(size_t patches, size_t channels) {
    const size_t line = FD_ALIGN / sizeof(float), needed = patches * channels + FD_PANEL_ALIGN - 1;
    return ((needed + line - 1) / line | 1) * line;
}

#define KERNEL(algorithm, name)    \
    case algorithm:                \
        s->kernel = kernels->name; \
        facts->kernel = #name;     \
        break;

static void choose_winograd(const fd_plan *p, fd_algorithm algorithm, winograd_step *s) {
    const fd_float_kernels *const kernels = p->isa->floats;
    fd_op_facts *const facts = fd_plan_facts(p);
    switch (algorithm) {
        KERNEL(FD_WINOGRAD_4X4_3X3, winograd_4x4_3x3)
        KERNEL(FD_WINOGRAD_2X2_2X2, winograd_2x2_2x2)
        KERNEL(FD_WINOGRAD_2X2_5X5, winograd_2x2_5x5)
        KERNEL(FD_WINOGRAD_2X2_3X3_STRIDE2, winograd_2x2_3x3_stride2)
        KERNEL(FD_WINOGRAD_1X4_1X3, winograd_1x4_1x3)
        KERNEL(FD_WINOGRAD_4X1_3X1, winograd_4x1_3x1)
        KERNEL(FD_WINOGRAD_1X4_1X5, winograd_1x4_1x5)
        KERNEL(FD_WINOGRAD_4X1_5X1, winograd_4x1_5x1)
        KERNEL(FD_WINOGRAD_1X2_1X7, winograd_1x2_1x7)
        KERNEL(FD_WINOGRAD_2X1_7X1, winograd_2x1_7x1)
    case FD_DIRECT:
    case FD_ALGORITHMS: break; /* are not planned here */
    }
}

#undef KERNEL

/* The patches that are computed together, block[0] rows by block[1] columns of them. All, unless what is transformed
 * would leave the caches; smaller blocks gain nothing. But so many that reading the weights again costs little beside
 * their products. */
static void choose_block(const fd_conv_plan *plan, size_t patch_floats, size_t block[2]) {
    enum { BLOCK_FLOATS = (512 << 10) / sizeof(float), BLOCK_PATCHES = 24 };
    size_t patches = BLOCK_FLOATS / patch_floats;
    if (patches < BLOCK_PATCHES) patches = BLOCK_PATCHES;
    const size_t across = (plan->patch_cols + patches - 1) / patches; /* blocks side by side */
    const size_t blocks = (plan->patch_rows * plan->patch_cols + patches - 1) / patches;
    block[0] = (plan->patch_rows + blocks - 1) / blocks;
    block[1] = (plan->patch_cols + across - 1) / across;
}

/* Pooling that the kernel does not know is a step of its own, from scratch. */
void fd_plan_winograd(fd_plan *p, const fd_file_op *op, const fd_conv_plan *plan, const fd_image *in) {
    const fd_value *const out = fd_plan_value(p, op->output);
    const fd_conv_shape *const shape = &plan->shape;
    const fd_winograd_sizes w = fd_algorithm_sizes(plan->algorithm);
    const size_t padded = fd_panel_columns(out->channels);
    size_t block[2];
    choose_block(plan, w.positions * (in->channels + padded), block);
    const int halved = fd_algorithm_pools(plan->algorithm, op, shape), apart = op->pool_mode != FD_POOL_NONE && !halved;
    float *const weights = fd_plan_take(p, w.positions * in->channels * padded, sizeof *weights);
    if (weights) fd_algorithm_transform(plan->algorithm, fd_file_values(p->file, op->weights), shape, weights);
    winograd_step s = {
        .step = {.run = run_winograd},
        .cut = apart ? (fd_cut){shape->rows, 1} : fd_plan_cut(p, in, shape->rows, w.m[0], halved ? 2 : 1),
        .sizes = w,
        .block_rows = block[0] * w.m[0],
        .block_cols = block[1] * w.m[1],
        .in = in->first,
        .out =
            apart ? fd_plan_scratch(p, fd_plan_image(p, shape->rows, shape->cols, shape->channels)) : fd_place_of(out),
        .args =
            {
                .weights = weights,
                .bias = fd_plan_bias(p, op, out->channels),
                .in_row = in->row,
                .in_channels = in->channels,
                .rows = shape->rows,
                .cols = shape->cols,
                .channels = out->channels,
                .out_row = apart ? shape->cols * shape->channels : out->row,
                .epilogue = fd_plan_epilogue(p, op),
                .pooled = halved,
                .v_step = position_step(block[0] * block[1], in->channels),
                .products_step = position_step(block[0] * block[1], padded),
            },
    };
    choose_winograd(p, plan->algorithm, &s);
    s.v = fd_plan_scratch(p, w.positions * s.args.v_step);
    s.products = fd_plan_scratch(p, w.positions * s.args.products_step);
    fd_pool2d_args pool = fd_pool_of(op, out);
    pool.in_row = s.args.out_row;
    pool.in_ring = pool.rows = shape->rows;
    pool.cols = shape->cols;
    const int by_windows = apart && in->first.base != FD_SCRATCH;
    if (by_windows) s.apart = pool;
    fd_plan_step(p, &s.step, sizeof s);
    if (apart) fd_steps_pool(p, s.out, fd_place_of(out), &pool, by_windows);
    fd_op_facts *const facts = fd_plan_facts(p);
    snprintf(facts->algorithm, sizeof facts->algorithm, "F(%zux%zu,%zux%zu)", w.m[0], w.m[1], w.r[0], w.r[1]);
    facts->executed = fd_mul_capped(plan->patch_rows * plan->patch_cols * w.positions, in->channels * out->channels);
    facts->weight_bytes += w.positions * in->channels * padded * sizeof(float) - fd_file_bytes(p->file, op->weights);
}

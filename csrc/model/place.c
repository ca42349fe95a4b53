#include "model/place.h"

#include "base/memory.h"
#include "model/arena.h"
#include "ops/ops.h"

/* What a chunk's dense activations may take: this, or half of what the weights that they share take, for those would
 * have to be read again for the next chunk. */
#define CHUNK_FLOATS ((size_t)1 << 18)
/* Weights that stay in a second-level cache while images go through them one after the other. */
#define NEAR_FLOATS ((size_t)96 << 10)
/* Up to here the values of an image stay in a second-level cache without sharing memory. */
#define SHARE_FLOATS ((size_t)1 << 15)

/* While values are placed. */
typedef struct fd_places {
    const fd_file *file;
    fd_value *values;
    fd_block *blocks; /* by op index: of its output */
    uint32_t *order;  /* scratch */
    fd_placement *placement;
} fd_places;

/* Images of a chunk whose values take so many floats each, between ops whose weights take so many in all. */
static size_t chunk_of(size_t per_image, size_t shared) {
    const size_t most = shared / 2 > CHUNK_FLOATS ? shared / 2 : CHUNK_FLOATS;
    size_t chunk = FD_CHUNK_ROWS;
    while (chunk > 1 && fd_mul_capped(per_image, chunk) > most) chunk /= 2;
    return chunk;
}

static size_t floats_of(const fd_file *f, uint32_t tensor) {
    return tensor == FD_FILE_NONE ? 0 : fd_dims_of(&f->tensors[tensor]).elements;
}

/* The vectors at the end of the program take a chunk of images at once, which reads the weights of dense layers once;
 * chunk sizes are chosen so that what lies between them stays in cache. So do the ops in front of them, from where on
 * least comes from afar: the weights of those that each image goes through alone, unless they are so few that they stay
 * near; and for the others their values, and a chunk's part of their weights. */
static void split_program(fd_places *p) {
    const fd_file *const f = p->file;
    size_t batched = f->op_count, alone = 0, shared = 0, values = 0, moved = 0;
    for (size_t i = 0; i < f->op_count; i++) alone += fd_file_bytes(f, f->ops[i].weights) / sizeof(float);
    size_t least = alone > NEAR_FLOATS ? alone : 0;
    for (size_t i = f->op_count; i-- > f->input_count;) {
        const fd_file_op *const op = &f->ops[i];
        const size_t weights = fd_file_bytes(f, op->weights) / sizeof(float);
        alone -= weights;
        shared += weights;
        values += floats_of(f, op->output);
        moved += floats_of(f, op->input) + floats_of(f, op->input2) + floats_of(f, op->output);
        const size_t cost = (alone > NEAR_FLOATS ? alone : 0) + moved + shared / chunk_of(values, shared);
        const int only_vectors = batched == i + 1 && f->tensors[op->output].rank == 1;
        if (!only_vectors && cost >= least) continue;
        batched = i;
        least = cost;
    }
    p->placement->batched = batched;
}

/* From the op that writes it to the last that reads it. What images of a chunk leave for the batched ops is needed
 * during all of the ops before, which run once an image; results are needed to the end. */
static void find_lifetimes(fd_places *p) {
    const fd_file *const f = p->file;
    fd_block *const blocks = p->blocks;
    for (size_t i = 0; i < f->op_count; i++) blocks[i].first = blocks[i].last = i;
    for (size_t i = f->input_count; i < f->op_count; i++) {
        const fd_file_op *const op = &f->ops[i];
        blocks[p->values[op->input].writer].last = i;
        if (op->input2 != FD_FILE_NONE) blocks[p->values[op->input2].writer].last = i;
    }
    for (size_t k = 0; k < f->output_count; k++) {
        const uint32_t writer = p->values[fd_file_output(f, k)].writer;
        const fd_file_op *const op = &f->ops[writer];
        blocks[writer].last = f->op_count;
        if (fd_operator_of(op->opcode)->gives_probabilities) blocks[p->values[op->input].writer].last = f->op_count;
    }
    for (size_t i = 0; i < f->op_count; i++) {
        fd_value *const v = &p->values[f->ops[i].output];
        const size_t batched = p->placement->batched;
        v->of_chunk = i >= batched || blocks[i].last >= batched;
        if (v->of_chunk && i < batched) blocks[i].first = 0;
    }
}

static void choose_chunk(fd_places *p) {
    const fd_file *const f = p->file;
    size_t per_image = 0, shared = 0;
    for (size_t i = 1; i < f->op_count; i++) {
        const fd_value *const v = &p->values[f->ops[i].output];
        if (v->of_chunk) per_image += v->elements;
        if (i >= p->placement->batched) shared += fd_file_bytes(f, f->ops[i].weights) / sizeof(float);
    }
    p->placement->chunk = chunk_of(per_image, shared);
}

/* Small networks give each value a place of its own, whose margins are zeroed once, when the context is made, for
 * nothing ever writes there again. In others, values that are not needed together share memory. */
static void place(fd_places *p) {
    const fd_file *const f = p->file;
    size_t own = 0;
    for (size_t i = 0; i < f->op_count; i++) {
        fd_value *const v = &p->values[f->ops[i].output];
        v->row = (v->cols + v->margin[1] + v->margin[3]) * v->channels;
        v->floats = (v->rows + v->margin[0] + v->margin[2]) * v->row;
        p->blocks[i].floats = v->of_chunk ? v->floats * p->placement->chunk : v->floats;
        if (!v->of_chunk) own += v->floats;
    }
    const int share = own > SHARE_FLOATS;
    p->placement->arena = fd_arena_place(p->blocks, p->order, f->op_count, share);
    for (size_t i = 0; i < f->op_count; i++) {
        fd_value *const v = &p->values[f->ops[i].output];
        v->base = p->blocks[i].at;
        v->interior = v->base + v->margin[0] * v->row + v->margin[1] * v->channels;
        v->zero_margins = share && fd_has_margins(v);
    }
}

fd_status fd_place_values(const fd_file *file, fd_value *values, fd_placement *placement, fd_error *error) {
    fd_places p = {
        .file = file,
        .values = values,
        .blocks = fd_alloc(file->op_count * sizeof *p.blocks),
        .order = fd_alloc(file->op_count * sizeof *p.order),
        .placement = placement,
    };
    const int placed = p.blocks && p.order;
    if (placed) {
        split_program(&p);
        find_lifetimes(&p);
        choose_chunk(&p);
        place(&p);
    }
    fd_free(p.blocks);
    fd_free(p.order);
    return placed ? FD_OK : fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");
}

#include "model/arena.h"

#include <string.h>

#include "base/memory.h"

/* Indices of the blocks, the largest first; insertion keeps those of a size in their order. */
static void sort_by_size(const fd_block *blocks, uint32_t *order, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t k = i;
        for (; k > 0 && blocks[order[k - 1]].floats < blocks[i].floats; k--) order[k] = order[k - 1];
        order[k] = (uint32_t)i;
    }
}

/* The lowest gap between the first `placed` blocks of `order`, sorted by address, that a block fits into; *position is
 * its rank among them. */
static size_t find_gap(const fd_block *blocks, const uint32_t *order, size_t placed, const fd_block *block,
                       size_t *position) {
    size_t at = 0;
    for (size_t i = 0; i < placed; i++) {
        const fd_block *const other = &blocks[order[i]];
        if (other->last < block->first || block->last < other->first) continue;
        if (other->at >= at + block->floats) break;
        if (other->at + other->floats > at) at = other->at + other->floats;
    }
    for (*position = 0; *position < placed && blocks[order[*position]].at <= at;) ++*position;
    return at;
}

size_t fd_arena_place(fd_block *blocks, uint32_t *order, size_t n, int share) {
    size_t end = 0;
    for (size_t i = 0; i < n; i++) blocks[i].floats = fd_round_up(blocks[i].floats, FD_ALIGN / sizeof(float));
    if (!share) {
        for (size_t i = 0; i < n; i++) {
            blocks[i].at = end;
            end += blocks[i].floats;
        }
        return end;
    }
    sort_by_size(blocks, order, n);
    for (size_t i = 0; i < n; i++) {
        const uint32_t index = order[i];
        fd_block *const block = &blocks[index];
        size_t position;
        block->at = find_gap(blocks, order, i, block, &position);
        memmove(order + position + 1, order + position, (i - position) * sizeof *order);
        order[position] = index;
        if (block->at + block->floats > end) end = block->at + block->floats;
    }
    return end;
}

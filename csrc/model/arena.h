/* Where blocks that are not needed all at once lie in one piece of memory. */
#ifndef FD_MODEL_ARENA_H
#define FD_MODEL_ARENA_H

#include <stddef.h>
#include <stdint.h>

/* `floats` that are needed from step `first` to step `last`; `at` is where they go. */
typedef struct fd_block {
    size_t floats, first, last, at;
} fd_block;

/* Places n blocks, whole cache lines each, and returns how many floats they need together. Two whose steps overlap do
 * not share memory; with `share` 0 no two do. `order` is scratch for n indices. */
size_t fd_arena_place(fd_block *blocks, uint32_t *order, size_t n, int share);

#endif

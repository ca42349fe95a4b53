/* Aligned memory and arithmetic that cannot wrap. */
#ifndef FD_BASE_MEMORY_H
#define FD_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Cache line, and the widest vector. */
#define FD_ALIGN 64

/* `size` bytes aligned to FD_ALIGN, or NULL; large blocks ask for huge pages. fd_alloc zeroes them, fd_alloc_raw leaves
 * that to who fills them. Freed with fd_free. */
void *fd_alloc(size_t size);
void *fd_alloc_raw(size_t size);
void fd_free(void *memory);

/* True and *out set, or false if the result does not fit. */
static inline bool fd_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool fd_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* The greatest number if the result does not fit. */
static inline uint64_t fd_mul_capped(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}
static inline uint64_t fd_add_capped(uint64_t a, uint64_t b) {
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline size_t fd_round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline size_t fd_min(size_t a, size_t b) { return a < b ? a : b; }

#endif

#define _DEFAULT_SOURCE /* madvise */
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Weights are read in panels whose rows lie kilobytes apart: with 4 KiB pages the TLB would be asked for each. */
#define HUGE_PAGE ((size_t)2 << 20)

void *fd_alloc_raw(size_t size) {
    if (size > SIZE_MAX - HUGE_PAGE) return NULL;
    const bool huge = size >= HUGE_PAGE;
    const size_t align = huge ? HUGE_PAGE : FD_ALIGN;
    void *memory = NULL;
    if (posix_memalign(&memory, align, fd_round_up(size ? size : 1, FD_ALIGN)) != 0) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (huge) madvise(memory, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a hint: failure costs speed only */
#endif
    return memory;
}

void *fd_alloc(size_t size) {
    void *const memory = fd_alloc_raw(size);
    return memory ? memset(memory, 0, size) : NULL;
}

void fd_free(void *memory) { free(memory); }

/* The network's inputs, which are the caller's: they are checked or converted, image by image. */
#ifndef FD_OPS_INPUT_H
#define FD_OPS_INPUT_H

#include "fastdigit.h"
#include "format/file.h"
#include "kernels/kernels.h"
#include "ops/step.h"

typedef struct fd_input {
    fd_place place;         /* in the arena */
    int is_copied;          /* floats too: there are margins around it, or it is not the first input */
    size_t rows, line, row; /* how many; floats in one, and between them in the arena */
    size_t elements;
    float lo, hi; /* finite */
    unsigned u8_divisor;
    size_t (*find_outside)(const float *x, size_t n, float lo, float hi);
    void (*from_u8)(const uint8_t *x, float *y, size_t n, float divisor);
} fd_input;

/* Whether the steps read what the caller gave where it lies: floats of the first input, without margins. */
static inline int fd_input_in_place(const fd_input *in, fd_input_type type) {
    return type == FD_INPUT_F32 && !in->is_copied;
}

/* Takes image i of a call as the chunk's image `slot`. Returns the index of the first value that is out of range, or
 * `elements` if none is. */
size_t fd_input_take(const fd_input *in, const fd_work *work, const void *images, fd_input_type type, size_t i,
                     size_t slot);

#endif

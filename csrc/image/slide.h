/* Sliding extremes, which fd_image_sliding_max, fd_image_closing and fd_image_paper are made of. */
#ifndef FD_IMAGE_SLIDE_H
#define FD_IMAGE_SLIDE_H

#include <stdbool.h>
#include <stddef.h>

/* Rows, or columns, that go through the loops together. */
#define FD_IMAGE_LANES ((size_t)8)

/* The greatest or the least of each `window` neighbours of each row, or column, which goes on by `margin` values as it
 * begins and ends, and gets shorter by window - 1; it is at least `window` long. Rows begin `stride` values apart. `in`
 * and `out` may be the same, if their strides are and `margin` is 0. */
void fd_image_slide_rows(const double *in, size_t in_stride, size_t height, size_t width, size_t margin, size_t window,
                         bool greatest, double *out, size_t out_stride, double *scratch);
void fd_image_slide_columns(const double *in, size_t in_stride, size_t height, size_t width, size_t margin,
                            size_t window, bool greatest, double *out, size_t out_stride, double *scratch);

/* Scratch memory for planes of that size with that margin, to be freed; NULL if there is none. */
double *fd_image_slide_scratch(size_t height, size_t width, size_t margin);

#endif

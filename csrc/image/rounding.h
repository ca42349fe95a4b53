/* Rounding to whole numbers, ties to even, in two additions: a call of libm takes ten times as long. */
#ifndef FD_IMAGE_ROUNDING_H
#define FD_IMAGE_ROUNDING_H

/* Of less than 2^51. Beside this number, doubles are whole. */
static inline double fd_image_nearest(double value) {
    const double whole = 6755399441055744.0; /* 3 * 2^51 */
    return value + whole - whole;
}

#endif

#include "image/image.h"
#include "image/slide.h"

#include <stdlib.h>
#include <string.h>

/* ---- Means of blocks ---- */

/* Rows of a block are added up first, then its columns. */
#define AVERAGE(NAME, PIXEL, COLUMN, SUM)                                                                   \
    bool NAME(const PIXEL *pixels, size_t height, size_t width, size_t channels, size_t block, double full, \
              double *out) {                                                                                \
        const size_t length = width * channels, columns = (width + block - 1) / block;                      \
        if (block == 1) {                                                                                   \
            for (size_t i = 0; i < height * length; i++) out[i] = (double)pixels[i] / full;                 \
            return true;                                                                                    \
        }                                                                                                   \
        COLUMN *const sums = malloc(length * sizeof *sums);                                                 \
        if (!sums) return false;                                                                            \
        for (size_t y = 0; y < height; y += block) {                                                        \
            const size_t rows = block < height - y ? block : height - y;                                    \
            const PIXEL *row = pixels + y * length;                                                         \
            for (size_t i = 0; i < length; i++) sums[i] = (COLUMN)row[i];                                   \
            for (size_t k = 1; k < rows; k++) {                                                             \
                row += length;                                                                              \
                for (size_t i = 0; i < length; i++) sums[i] = (COLUMN)(sums[i] + row[i]);                   \
            }                                                                                               \
            for (size_t x = 0; x < columns; x++) {                                                          \
                const size_t wide = block < width - x * block ? block : width - x * block;                  \
                for (size_t c = 0; c < channels; c++) {                                                     \
                    SUM sum = 0;                                                                            \
                    for (size_t k = 0; k < wide; k++) sum += sums[(x * block + k) * channels + c];          \
                    *out++ = (double)sum / (double)(rows * wide) / full;                                    \
                }                                                                                           \
            }                                                                                               \
        }                                                                                                   \
        free(sums);                                                                                         \
        return true;                                                                                        \
    }

/* The analyzer knows nothing of products, so not that columns of `block` pixels cover the width and no more. */
/* NOLINTBEGIN(clang-analyzer-security.ArrayBound) */
AVERAGE(average_many_u8, uint8_t, uint64_t, uint64_t)
AVERAGE(fd_image_average_u16, uint16_t, uint64_t, uint64_t)
AVERAGE(fd_image_average_f64, double, double, double)

/* So few bytes one below the other have a sum of 16 bits. */
enum { most_in_16 = 65535 / 255 };
AVERAGE(average_few_u8, uint8_t, uint16_t, uint32_t)
/* NOLINTEND(clang-analyzer-security.ArrayBound) */

bool fd_image_average_u8(const uint8_t *pixels, size_t height, size_t width, size_t channels, size_t block, double full,
                         double *out) {
    return (block <= most_in_16 ? average_few_u8 : average_many_u8)(pixels, height, width, channels, block, full, out);
}

/* ---- Sliding extremes ---- */

#define LANES FD_IMAGE_LANES

/* Here it takes counts for 0 in one loop, which writes, and for more in the next, which reads. */
/* NOLINTBEGIN(clang-analyzer-core.UndefinedBinaryOperatorResult, clang-analyzer-security.ArrayBound) */
static void greater_of(double *restrict a, const double *restrict b, size_t count) {
    for (size_t i = 0; i < count; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
}

static void lesser_of(double *restrict a, const double *restrict b, size_t count) {
    for (size_t i = 0; i < count; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
}

/* The same of one item, into `item`. Not unrolled, or else gcc 12 makes scalars of it. */
static inline void extend(double *restrict item, const double *restrict by, bool greatest) {
    if (greatest) {
#pragma GCC unroll 1
        for (size_t k = 0; k < LANES; k++) item[k] = item[k] > by[k] ? item[k] : by[k];
    } else {
#pragma GCC unroll 1
        for (size_t k = 0; k < LANES; k++) item[k] = item[k] < by[k] ? item[k] : by[k];
    }
}

/* NOLINTEND(clang-analyzer-core.UndefinedBinaryOperatorResult, clang-analyzer-security.ArrayBound) */

/* Of `count` items of LANES values the extreme of each `window` neighbours: M. van Herk, "A fast algorithm for local
 * minimum and maximum filters on rectangular and octagonal kernels", Pattern Recognition Letters 13(7), 1992. Items are
 * in blocks of `window`, and each window has what is left of one of them and what there is of the next. `values` are
 * overwritten; the result is in `rests`. */
static inline void slide(double *restrict values, double *restrict rests, size_t count, size_t window, bool greatest) {
    memcpy(rests, values, count * LANES * sizeof *rests);
    for (size_t first = 0; first < count; first += window) {
        const size_t end = window < count - first ? first + window : count;
        for (size_t i = end - 1; i-- > first;) extend(rests + i * LANES, rests + (i + 1) * LANES, greatest);
        for (size_t i = first + 1; i < end; i++) extend(values + i * LANES, values + (i - 1) * LANES, greatest);
    }
    const double *const last = values + (window - 1) * LANES;
    (greatest ? greater_of : lesser_of)(rests, last, (count - (window - 1)) * LANES);
}

/* Returns where the result is. */
static const double *slide_lanes(double *values, double *rests, size_t count, size_t window, bool greatest) {
    if (greatest)
        slide(values, rests, count, window, true);
    else
        slide(values, rests, count, window, false);
    return rests;
}

/* The item of a row or column of `count` that goes on by `margin` as it begins and ends. */
static inline size_t clipped(size_t i, size_t margin, size_t count) {
    return i < margin ? 0 : i - margin < count ? i - margin : count - 1;
}

void fd_image_slide_rows(const double *in, size_t in_stride, size_t height, size_t width, size_t margin, size_t window,
                         bool greatest, double *out, size_t out_stride, double *scratch) {
    const size_t count = width + 2 * margin, left = count - (window - 1);
    for (size_t y = 0; y < height; y += LANES) {
        const size_t lanes = LANES < height - y ? LANES : height - y;
        for (size_t k = 0; k < LANES; k++) {
            const double *const row = in + (y + (k < lanes ? k : 0)) * in_stride;
            /* The analyzer takes a plane for empty, or its height for one that wraps around, and so for never written.
             * NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign) */
            for (size_t i = 0; i < margin; i++) scratch[i * LANES + k] = row[0];
            for (size_t x = 0; x < width; x++) scratch[(margin + x) * LANES + k] = row[x];
            for (size_t i = margin + width; i < count; i++) scratch[i * LANES + k] = row[width - 1];
        }
        const double *const slid = slide_lanes(scratch, scratch + count * LANES, count, window, greatest);
        for (size_t k = 0; k < lanes; k++)
            for (size_t x = 0; x < left; x++) out[(y + k) * out_stride + x] = slid[x * LANES + k];
    }
}

void fd_image_slide_columns(const double *in, size_t in_stride, size_t height, size_t width, size_t margin,
                            size_t window, bool greatest, double *out, size_t out_stride, double *scratch) {
    const size_t count = height + 2 * margin, left = count - (window - 1);
    for (size_t x = 0; x < width; x += LANES) {
        const size_t lanes = LANES < width - x ? LANES : width - x;
        for (size_t i = 0; i < count; i++) {
            const double *const row = in + clipped(i, margin, height) * in_stride + x;
            if (lanes == LANES)
                memcpy(scratch + i * LANES, row, LANES * sizeof *row);
            else
                for (size_t k = 0; k < LANES; k++) scratch[i * LANES + k] = row[k < lanes ? k : 0];
        }
        const double *const slid = slide_lanes(scratch, scratch + count * LANES, count, window, greatest);
        for (size_t y = 0; y < left; y++) {
            double *const row = out + y * out_stride + x;
            if (lanes == LANES)
                memcpy(row, slid + y * LANES, LANES * sizeof *row);
            else
                memcpy(row, slid + y * LANES, lanes * sizeof *row);
        }
    }
}

double *fd_image_slide_scratch(size_t height, size_t width, size_t margin) {
    return malloc(2 * LANES * ((height > width ? height : width) + 2 * margin) * sizeof(double));
}

bool fd_image_sliding_max(const double *values, size_t height, size_t width, size_t window, int axis, double *out) {
    double *const scratch = fd_image_slide_scratch(height, width, 0);
    if (!scratch) return false;
    if (axis == 0)
        fd_image_slide_columns(values, width, height, width, 0, window, true, out, width, scratch);
    else
        fd_image_slide_rows(values, width, height, width, 0, window, true, out, width - (window - 1), scratch);
    free(scratch);
    return true;
}

bool fd_image_closing(const double *values, size_t height, size_t width, size_t window, double *out) {
    const size_t by = window - 1, high = height + by, wide = width + by;
    double *const work = malloc(high * wide * sizeof *work), *const scratch = fd_image_slide_scratch(height, width, by);
    const bool done = work && scratch;
    if (done) {
        fd_image_slide_columns(values, width, height, width, by, window, true, work, wide, scratch);
        fd_image_slide_rows(work, wide, high, width, by, window, true, work, wide, scratch);
        fd_image_slide_columns(work, wide, high, wide, 0, window, false, work, wide, scratch);
        fd_image_slide_rows(work, wide, height, wide, 0, window, false, out, width, scratch);
    }
    free(work);
    free(scratch);
    return done;
}

bool fd_image_flattened(const double *values, size_t height, size_t width, size_t window, double little, double *out) {
    if (!fd_image_closing(values, height, width, window, out)) return false;
    for (size_t i = 0; i < height * width; i++) out[i] = (values[i] + little) / (out[i] + little);
    return true;
}

/* ---- Means of boxes ---- */

/* Rows of sums that are made at once, for each value waits for the one on its left. */
enum { rows_at_once = 4 };

bool fd_image_box_mean(const double *values, size_t height, size_t width, size_t window, double *out) {
    /* Sums of all pixels above and to the left, of the plane with its edges repeated; of the last rows. */
    const size_t before = window / 2 + 1, length = width + window, kept = window + rows_at_once;
    double *const sums = calloc(kept * length, sizeof *sums), *const column = calloc(length, sizeof *column);
    const double area = (double)(window * window);
    const bool done = sums && column;
    for (size_t i = 0; done && i < height + window; i += rows_at_once) {
        const double *row[rows_at_once];
        double *sum[rows_at_once], total[rows_at_once] = {0};
        for (size_t k = 0; k < rows_at_once; k++) {
            const size_t y = i + k < before ? 0 : i + k - before;
            row[k] = values + (y < height ? y : height - 1) * width;
            sum[k] = sums + (i + k) % kept * length;
        }
        for (size_t j = 0; j < length; j++) {
            const size_t place = j < before ? 0 : j - before, x = place < width ? place : width - 1;
            double above = column[j];
            for (size_t k = 0; k < rows_at_once; k++) sum[k][j] = total[k] += above += row[k][x];
            column[j] = above;
        }
        for (size_t k = 0; k < rows_at_once && i + k < height + window; k++) {
            if (i + k < window) continue;
            const double *const first = sums + (i + k - window) % kept * length, *const last = sum[k];
            for (size_t x = 0; x < width; x++, out++)
                *out = ((last[x + window] - first[x + window]) - (last[x] - first[x])) / area;
        }
    }
    free(sums);
    free(column);
    return done;
}

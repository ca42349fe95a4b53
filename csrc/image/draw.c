#include "image/image.h"
#include "image/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t scaled(size_t n, double scale) {
    const double size = fd_image_nearest((double)n * scale);
    return size < 1 ? 1 : (size_t)size;
}

void fd_image_fitted_size(size_t height, size_t width, size_t box, size_t *rows, size_t *columns) {
    const double scale = (double)box / (double)(height > width ? height : width);
    *rows = scaled(height, scale);
    *columns = scaled(width, scale);
}

/* The weights of those of `count` samples that sample `i` of `made` takes: `first` is the first of them. `weights` has
 * room for most_taken(). Returns how many. */
static size_t taken(size_t count, size_t made, size_t i, double *weights, size_t *first) {
    const double step = (double)count / (double)made, reach = step > 1 ? step : 1;
    const double centre = ((double)i + 0.5) * step - 0.5;
    const double from = ceil(centre - reach);
    *first = from > 0 ? (size_t)from : 0;
    size_t many = 0;
    double sum = 0;
    for (size_t j = *first; j < count; j++) {
        const double weight = 1 - fabs(centre - (double)j) / reach;
        if ((double)j > centre && !(weight > 0)) break;
        weights[many] = weight > 0 ? weight : 0;
        sum += weights[many++];
    }
    for (size_t j = 0; j < many; j++) weights[j] /= sum;
    return many;
}

static size_t most_taken(size_t count, size_t made) { return 2 * (count / made + 1) + 3; }

bool fd_image_resample(const double *ink, size_t stride, size_t height, size_t width, size_t rows, size_t columns,
                       double *out) {
    const size_t most =
        most_taken(height, rows) > most_taken(width, columns) ? most_taken(height, rows) : most_taken(width, columns);
    double *const weights = malloc((most + rows * width) * sizeof *weights), *const half = weights + most;
    if (!weights) return false;
    size_t first;
    memset(half, 0, rows * width * sizeof *half);
    for (size_t i = 0; i < rows; i++) {
        double *const row = half + i * width;
        const size_t many = taken(height, rows, i, weights, &first);
        for (size_t k = 0; k < many; k++) {
            const double *const source = ink + (first + k) * stride;
            for (size_t x = 0; x < width; x++) row[x] += weights[k] * source[x];
        }
    }
    for (size_t j = 0; j < columns; j++) {
        const size_t many = taken(width, columns, j, weights, &first);
        for (size_t i = 0; i < rows; i++) {
            const double *const row = half + i * width + first;
            double sum = 0;
            for (size_t k = 0; k < many; k++) sum += weights[k] * row[k];
            out[i * columns + j] = sum;
        }
    }
    free(weights);
    return true;
}

double fd_image_mean_width(const double *ink, size_t height, size_t width) {
    double sum = 0, outline = 0;
    for (size_t i = 0; i < height * width; i++) sum += ink[i];
    /* From each pixel, and from those above and to the left of the plane: what the next to the right and below differ
     * by. Beyond the plane there is nothing. */
    for (size_t y = 0; y <= height; y++)
        for (size_t x = 0; x <= width; x++) {
            const double *const below = ink + y * width + x;
            const double here = y && x ? below[-(ptrdiff_t)width - 1] : 0;
            const double across = (y && x < width ? below[-(ptrdiff_t)width] : 0) - here;
            const double down = (x && y < height ? below[-1] : 0) - here;
            outline += sqrt(across * across + down * down);
        }
    return 2 * sum / (outline > 1e-12 ? outline : 1e-12);
}

static size_t begin(double moment, double total, size_t count, size_t side) {
    const double at = fd_image_nearest((double)side / 2 - moment / total);
    const size_t last = side - count;
    return at < 0 ? 0 : (size_t)at < last ? (size_t)at : last;
}

void fd_image_place(const double *ink, size_t rows, size_t columns, size_t side, uint8_t *out) {
    double total = 0, down = 0, across = 0, greatest = 0;
    for (size_t y = 0; y < rows; y++) {
        double sum = 0;
        for (size_t x = 0; x < columns; x++) {
            const double value = ink[y * columns + x];
            sum += value;
            across += value * (double)x;
            greatest = value > greatest ? value : greatest;
        }
        down += sum * (double)y;
        total += sum;
    }
    const size_t top = begin(down, total, rows, side), left = begin(across, total, columns, side);
    memset(out, 0, side * side);
    for (size_t y = 0; y < rows; y++)
        for (size_t x = 0; x < columns; x++) {
            const double value = 255 * (ink[y * columns + x] / greatest);
            out[(top + y) * side + left + x] = (uint8_t)fd_image_nearest(value < 0 ? 0 : value);
        }
}

bool fd_image_draw(const double *ink, size_t height, size_t width, size_t box, size_t side, uint8_t *out) {
    size_t rows, columns;
    fd_image_fitted_size(height, width, box, &rows, &columns);
    double *const small = malloc(rows * columns * sizeof *small);
    const bool done = small && fd_image_resample(ink, width, height, width, rows, columns, small);
    if (done) fd_image_place(small, rows, columns, side, out);
    free(small);
    return done;
}

void fd_image_put(const double *ink, size_t height, size_t width, double *out, size_t stride) {
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            const double here = ink[y * width + x], below = out[y * stride + x];
            out[y * stride + x] = here > below ? here : below;
        }
}

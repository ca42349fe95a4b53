#include "image/image.h"

#include <stdlib.h>
#include <string.h>

void fd_image_run_lengths(const uint8_t *mask, size_t height, size_t width, int32_t *out) {
    /* Down, how much of the run is above; back up, how much it is in all. */
    for (size_t x = 0; x < width; x++) out[x] = mask[x] != 0;
    for (size_t y = 1; y < height; y++) {
        const int32_t *const above = out + (y - 1) * width;
        int32_t *const row = out + y * width;
        for (size_t x = 0; x < width; x++) row[x] = (above[x] + 1) & -(int32_t)(mask[y * width + x] != 0);
    }
    for (size_t y = height - 1; y-- > 0;) {
        const int32_t *const below = out + (y + 1) * width;
        int32_t *const row = out + y * width;
        for (size_t x = 0; x < width; x++) {
            /* All bits, or none: without a branch, several pixels are done at once. */
            const int32_t go_on = -(int32_t)((row[x] > 0) & (below[x] > 0));
            row[x] = (below[x] & go_on) | (row[x] & ~go_on);
        }
    }
}

bool fd_image_stroke_width(const double *values, size_t height, size_t width, double threshold, double *out) {
    size_t box[4];
    *out = 0;
    if (!fd_image_box(values, height, width, threshold, box)) return true;
    const size_t rows = box[1] - box[0], columns = box[3] - box[2], pixels = rows * columns;
    const size_t longest = rows < columns ? rows : columns;
    uint8_t *const mask = calloc(pixels, 1);
    int32_t *const upright = malloc(pixels * sizeof *upright);
    size_t *const counts = calloc(longest + 1, sizeof *counts);
    const bool done = mask && upright && counts;
    if (done) {
        for (size_t y = 0; y < rows; y++) {
            const double *const row = values + (box[0] + y) * width + box[2];
            for (size_t x = 0; x < columns; x++) mask[y * columns + x] = row[x] > threshold;
        }
        fd_image_run_lengths(mask, rows, columns, upright);
        size_t total = 0;
        for (size_t y = 0; y < rows; y++) {
            const int32_t *const row = upright + y * columns;
            for (size_t x = 0; x < columns;) {
                if (!row[x]) {
                    x++;
                    continue;
                }
                size_t end = x + 1;
                while (end < columns && row[end]) end++;
                const size_t level = end - x;
                total += level;
                for (; x < end; x++) counts[(size_t)row[x] < level ? (size_t)row[x] : level]++;
            }
        }
        /* The two in the middle, which are one if the number is odd. */
        double middle[2] = {0, 0};
        for (size_t i = 0; i < 2; i++) {
            const size_t rank = i ? total / 2 : (total - 1) / 2;
            size_t length = 0, passed = 0;
            while ((passed += counts[length]) <= rank) length++;
            middle[i] = (double)length;
        }
        *out = (middle[0] + middle[1]) / 2;
    }
    free(mask);
    free(upright);
    free(counts);
    return done;
}

bool fd_image_squares(const double *values, size_t height, size_t width, double low, double high, size_t side,
                      uint8_t *out, size_t *count) {
    *count = 0;
    if (side > height || side > width) return true;
    /* Where columns of that length end that lie beside one another. */
    int32_t *const tall = calloc(width, sizeof *tall);
    if (!tall) return false;
    const int32_t enough = (int32_t)side;
    for (size_t y = 0; y < height; y++) {
        const double *const row = values + y * width;
        int32_t any = 0;
        for (size_t x = 0; x < width; x++) {
            tall[x] = ((row[x] > low) & (row[x] < high)) ? tall[x] + 1 : 0;
            any |= tall[x] >= enough;
        }
        if (y + 1 < side) continue;
        if (!any) {
            if (out) memset(out, 0, width - side + 1);
        } else {
            size_t wide = 0;
            for (size_t x = 0; x < width; x++) {
                wide = tall[x] >= enough ? wide + 1 : 0;
                *count += wide >= side;
                if (out && x + 1 >= side) out[x + 1 - side] = wide >= side;
            }
        }
        if (out) out += width - side + 1;
    }
    free(tall);
    return true;
}

/* How much ink rises from one place in a line to another. */
static double rise(const double *line, size_t length, size_t stride, size_t from, size_t to) {
    return line[(to < length ? to : length - 1) * stride] - line[(from < length ? from : length - 1) * stride];
}

size_t fd_image_runs(const double *ink, size_t height, size_t width, bool upright, size_t step, double threshold,
                     fd_image_run *out) {
    const size_t lines = upright ? width : height, length = upright ? height : width, stride = upright ? width : 1;
    size_t count = 0;
    for (size_t i = 0; i < lines; i += step) {
        const double *const line = ink + i * (upright ? 1 : width);
        for (size_t start = 0; start < length; start++) {
            if (!(line[start * stride] > threshold)) continue;
            size_t end = start + 1;
            while (end < length && line[end * stride] > threshold) end++;
            if (start > 0 || end < length) {
                const double first = start ? rise(line, length, stride, start < 2 ? 0 : start - 2, start + 1) : -1;
                const double last = end < length ? rise(line, length, stride, end + 1, end < 2 ? 0 : end - 2) : -1;
                out[count++] =
                    (fd_image_run){end - start, first > last ? first : last, line[(start + end) / 2 * stride]};
            }
            start = end;
        }
    }
    return count;
}

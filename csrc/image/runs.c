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

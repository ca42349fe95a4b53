#include "image/image.h"

#include <stdlib.h>
#include <string.h>

/* Of a block's pixels, how many are darker than what counts as its paper. */
static const double paper_quantile = 0.8;
/* Blocks that a stroke may be wide; and of those around it, over how many paper is averaged. */
enum { widest_stroke = 5, smoothed = 3 };
/* Where there is little light, differences count for less: of white paper's. */
static const double little_light = 0.15;
/* Every so many rows and columns are enough to know quantiles. */
enum { sampled_rows = 2, sampled_columns = 3 };

/* Planes go on beyond their ends mirrored, not repeated: what is at the edge may be a frame. */
static size_t mirrored(size_t at, size_t count) {
    if (count == 1) return 0;
    const size_t period = 2 * (count - 1), place = at % period;
    return place < count ? place : period - place;
}

/* The paper of each block, blocks that strokes darken filled from those around them: rows x columns. */
static bool paper_of_blocks(const double *grey, size_t height, size_t width, bool dark, size_t block, double *paper) {
    const size_t rows = (height + block - 1) / block, columns = (width + block - 1) / block;
    const size_t pixels = block * block;
    const size_t rank = (size_t)(paper_quantile * (double)pixels);
    double *const values = malloc(3 * pixels * sizeof *values), *const scratch = values + pixels;
    double *const own = malloc(rows * columns * sizeof *own);
    bool done = values && own;
    if (done) {
        for (size_t row = 0; row < rows; row++)
            for (size_t column = 0; column < columns; column++) {
                double *value = values;
                for (size_t y = row * block; y < (row + 1) * block; y++) {
                    const double *const line = grey + mirrored(y, height) * width;
                    const size_t start = column * block, inside = width - start < block ? width - start : block;
                    memcpy(value, line + start, inside * sizeof *value);
                    for (size_t x = inside; x < block; x++) value[x] = line[mirrored(start + x, width)];
                    if (!dark)
                        for (size_t x = 0; x < block; x++) value[x] = 1 - value[x];
                    value += block;
                }
                own[row * columns + column] = fd_image_select(values, pixels, rank, scratch);
            }
        done = fd_image_closing(own, rows, columns, widest_stroke, paper);
    }
    if (done) {
        memcpy(own, paper, rows * columns * sizeof *own);
        done = fd_image_box_mean(own, rows, columns, smoothed, paper);
    }
    free(values);
    free(own);
    return done;
}

/* Between the middles of which blocks a pixel lies, and the share of the second. */
typedef struct {
    size_t first, second;
    double part;
} between;

static between place_of(size_t pixel, size_t blocks, size_t block) {
    const double at = ((double)pixel + 0.5) / (double)block - 0.5, last = (double)(blocks - 1);
    const double inside = at < 0 ? 0 : at > last ? last : at;
    const size_t first = (size_t)inside;
    return (between){first, first + 1 < blocks ? first + 1 : first, inside - (double)first};
}

/* The share of the paper's light that each pixel lacks; paper is interpolated between the middles of blocks. */
static bool away_from_blocks(const double *grey, size_t height, size_t width, bool dark, size_t block,
                             const double *paper, double *out) {
    const size_t rows = (height + block - 1) / block, columns = (width + block - 1) / block;
    double *const parts = calloc(width, sizeof *parts), *const line = malloc((columns + 1) * sizeof *line);
    size_t *const ends = calloc(columns, sizeof *ends); /* Of each block, where the next is the first of two. */
    const bool done = parts && line && ends;
    if (done) {
        for (size_t x = 0; x < width; x++) {
            const between at = place_of(x, columns, block);
            parts[x] = at.part;
            ends[at.first] = x + 1;
        }
        for (size_t y = 0; y < height; y++) {
            const between row = place_of(y, rows, block);
            for (size_t i = 0; i < columns; i++)
                line[i] = (1 - row.part) * paper[row.first * columns + i] + row.part * paper[row.second * columns + i];
            line[columns] = line[columns - 1];
            double *const light = out + y * width;
            for (size_t i = 0, x = 0; i < columns; i++)
                for (; x < width && x < ends[i]; x++) light[x] = (1 - parts[x]) * line[i] + parts[x] * line[i + 1];
            const double *const here = grey + y * width;
            if (dark)
                for (size_t x = 0; x < width; x++) light[x] = (light[x] - here[x]) / (light[x] + little_light);
            else
                for (size_t x = 0; x < width; x++) light[x] = (light[x] - (1 - here[x])) / (light[x] + little_light);
        }
    }
    free(parts);
    free(line);
    free(ends);
    return done;
}

bool fd_image_page_ink(const double *grey, size_t height, size_t width, bool dark, size_t block, double *out,
                       fd_image_contrast *contrast) {
    const size_t rows = (height + block - 1) / block, columns = (width + block - 1) / block;
    const size_t some =
        ((height + sampled_rows - 1) / sampled_rows) * ((width + sampled_columns - 1) / sampled_columns);
    double *const paper = malloc(rows * columns * sizeof *paper), *const seen = malloc(some * sizeof *seen);
    bool done = paper && seen && paper_of_blocks(grey, height, width, dark, block, paper) &&
                away_from_blocks(grey, height, width, dark, block, paper, out);
    if (done) {
        double *value = seen;
        for (size_t y = 0; y < height; y += sampled_rows)
            for (size_t x = 0; x < width; x += sampled_columns)
                /* There is room for `some`, which the analyzer does not divide out: as many as these loops have.
                 * NOLINTNEXTLINE(clang-analyzer-security.ArrayBound) */
                *value++ = out[y * width + x];
        done = fd_image_stretched(out, height * width, seen, some, false, out, contrast);
    }
    free(paper);
    free(seen);
    return done;
}

size_t fd_image_points(const double *ink, size_t height, size_t width, double threshold, size_t most, double *down,
                       double *across, size_t out[2]) {
    const size_t inked = fd_image_count_above(ink, height * width, threshold);
    const size_t every = (inked + most - 1) / most;
    size_t found = 0, before = 0, first = width, last = 0;
    double sum = 0;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            if (!(ink[y * width + x] > threshold)) continue;
            if (x < first) first = x;
            if (x > last) last = x;
            if (before++ % every) continue;
            down[found] = (double)y;
            across[found++] = (double)x;
            sum += (double)x;
        }
    const double mean = found ? sum / (double)found : 0;
    for (size_t i = 0; i < found; i++) across[i] -= mean;
    out[0] = first;
    out[1] = last;
    return found;
}

bool fd_image_sharpness(const double *down, const double *across, size_t count, const double *slopes, size_t many,
                        double low, size_t rows, int64_t *out) {
    int32_t *const sums = malloc(rows * sizeof *sums);
    if (!sums) return false;
    for (size_t k = 0; k < many; k++) {
        memset(sums, 0, rows * sizeof *sums);
        for (size_t i = 0; i < count; i++) sums[(size_t)(down[i] - slopes[k] * across[i] + low)]++;
        out[k] = 0;
        for (size_t y = 0; y < rows; y++) out[k] += (int64_t)sums[y] * sums[y];
    }
    free(sums);
    return true;
}

void fd_image_shear(const double *values, size_t height, size_t width, const double *moved, size_t wide, double *out) {
    memset(out, 0, height * wide * sizeof *out);
    for (size_t y = 0; y < height; y++) {
        const size_t by = (size_t)moved[y];
        const double part = moved[y] - (double)by;
        const double *const row = values + y * width;
        double *const made = out + y * wide + by;
        for (size_t x = 0; x < width; x++) made[x] = (1 - part) * row[x];
        for (size_t x = 0; x < width; x++) made[x + 1] += part * row[x];
    }
}

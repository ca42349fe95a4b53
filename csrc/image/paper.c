#include "image/image.h"
#include "image/rounding.h"
#include "image/slide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the way around the plane: what touches so much of its border is no stroke; or so much, if it goes around a corner
 * and the plane is no tight crop. */
static const double longest_contact = 0.4, corner_contact = 0.1;
/* Of the range: what the border without strokes differs from the border by where one touches it. */
static const double contact = 0.25;
/* How opposite neighbours are, of the range, and how different. */
static const double opposite = 0.35, different = 0.1;
/* From the first tenth of a bell curve to its first quarter, and from there to its middle, in standard deviations; and
 * so many of them are still paper. */
static const double tenth_to_quarter = 0.607, quarter_to_middle = 0.674, above_noise = 3;
/* Of the way from what differs most to the paper: most of the ink. And ink less than that from the paper is pale. */
static const double most = 0.75, pale = 0.25;

fd_image_flatness fd_image_flat_paper(const double *grey, size_t height, size_t width) {
    fd_image_flatness found = {true, grey[0], 0, 0};
    const double *const last = grey + (height - 1) * width;
    for (size_t x = 0; x < width && found.flat; x++) found.flat = grey[x] == found.paper && last[x] == found.paper;
    for (size_t y = 0; y < height && found.flat; y++)
        found.flat = grey[y * width] == found.paper && grey[y * width + width - 1] == found.paper;
    if (!found.flat) return found;
    const fd_image_range range = fd_image_extremes(grey, height * width);
    found.least = range.least;
    found.greatest = range.greatest;
    found.flat = found.paper == range.least || found.paper == range.greatest;
    return found;
}

void fd_image_away_from(const double *grey, size_t count, double paper, bool dark, double little, double *out) {
    const double light = (dark ? paper : 1 - paper) + little;
    for (size_t i = 0; i < count; i++) out[i] = (dark ? paper - grey[i] : (1 - paper) - (1 - grey[i])) / light;
}

/* ---- Structure and noise ---- */

/* `steps` has room for a value a pixel, `scratch` for two. */
static double typical_step(const double *grey, size_t height, size_t width, size_t every, int axis, double *steps,
                           double *scratch) {
    size_t count = 0;
    if (axis == 0)
        for (size_t y = 0; y + 1 < height; y++)
            for (size_t x = 0; x < width; x += every)
                steps[count++] = fabs(grey[(y + 1) * width + x] - grey[y * width + x]);
    else
        for (size_t y = 0; y < height; y += every)
            for (size_t x = 0; x + 1 < width; x++) steps[count++] = fabs(grey[y * width + x + 1] - grey[y * width + x]);
    /* What equals the first that is left out counts as often as it must. */
    const size_t least = (size_t)(0.8 * (double)count);
    const double first = fd_image_select(steps, count, least, scratch);
    double sum = 0;
    size_t below = 0;
    for (size_t i = 0; i < count; i++) {
        const bool less = steps[i] < first;
        sum += less ? steps[i] : 0;
        below += less;
    }
    return (sum + (double)(least - below) * first) / (double)least;
}

bool fd_image_structure(const double *grey, size_t height, size_t width, const double *rows, const double *columns,
                        size_t window, size_t every, double out[2]) {
    /* What is left is scratch for typical_step afterwards. */
    double *const left = malloc(2 * height * width * sizeof *left), *const mean = malloc(height * width * sizeof *mean);
    bool done = left && mean;
    if (done) {
        double light[3][3] = {{0}};
        for (size_t y = 0; y < height; y++) {
            const double *const row = grey + y * width;
            double sums[3] = {0, 0, 0};
            for (size_t x = 0; x < width; x++)
                for (size_t j = 0; j < 3; j++) sums[j] += row[x] * columns[j * width + x];
            for (size_t i = 0; i < 3; i++)
                for (size_t j = 0; j < 3; j++) light[i][j] += rows[i * height + y] * sums[j];
        }
        light[1][2] = light[2][1] = light[2][2] = 0; /* of a higher degree */
        for (size_t y = 0; y < height; y++) {
            double part[3] = {0, 0, 0};
            for (size_t i = 0; i < 3; i++)
                for (size_t j = 0; j < 3; j++) part[j] += rows[i * height + y] * light[i][j];
            for (size_t x = 0; x < width; x++) {
                const double smooth =
                    part[0] * columns[x] + part[1] * columns[width + x] + part[2] * columns[2 * width + x];
                left[y * width + x] = grey[y * width + x] - smooth;
            }
        }
        done = fd_image_box_mean(left, height, width, window, mean);
    }
    if (done) {
        /* Nearer to the border, pixels would count several times. */
        const size_t edge = window / 2;
        out[0] = 0;
        for (size_t y = edge; y < height - edge; y++) {
            const fd_image_range range = fd_image_extremes(mean + y * width + edge, width - 2 * edge);
            if (-range.least > out[0]) out[0] = -range.least;
            if (range.greatest > out[0]) out[0] = range.greatest;
        }
        const double down = typical_step(grey, height, width, every, 0, mean, left);
        const double across = typical_step(grey, height, width, every, 1, mean, left);
        out[1] = down > across ? down : across;
    }
    free(left);
    free(mean);
    return done;
}

/* ---- Polarity ---- */

bool fd_image_skew(const double *grey, size_t height, size_t width, size_t window, double out[2]) {
    const size_t pixels = height * width;
    double *const mean = malloc(pixels * sizeof *mean);
    if (!mean || !fd_image_box_mean(grey, height, width, window, mean)) {
        free(mean);
        return false;
    }
    double cubes[2] = {0, 0}, sizes[2] = {0, 0};
    for (size_t i = 0; i < pixels; i++) {
        const double away = grey[i] - mean[i], cube = away * away * away;
        cubes[i % 2] += cube;
        sizes[i % 2] += fabs(cube);
    }
    free(mean);
    out[0] += cubes[0] + cubes[1];
    out[1] += sizes[0] + sizes[1];
    return true;
}

static inline int side_of(double value, double middle) { return (value > middle) - (value < middle); }

double fd_image_border_vote(const double *grey, size_t height, size_t width, double middle) {
    const double *const last = grey + (height - 1) * width;
    int64_t votes = 0;
    for (size_t x = 0; x < width; x++) votes += side_of(grey[x], middle) + side_of(last[x], middle);
    for (size_t y = 0; y < height; y++)
        votes += side_of(grey[y * width], middle) + side_of(grey[y * width + width - 1], middle);
    return (double)votes / (double)(2 * (height + width));
}

/* 1 or 0. */
static inline double is_opposite(double a, double b) {
    return (double)((fabs(a + b - 1) < opposite) & (fabs(b - a) > different));
}

bool fd_image_opposites(const double *grey, size_t height, size_t width, double least, double greatest,
                        double *out_rows, double *out_columns) {
    double *const rows = malloc(2 * width * sizeof *rows);
    if (!rows) return false;
    double *before = rows, *here = rows + width;
    for (size_t x = 0; x + 1 < width; x++) out_columns[x] = 0;
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) here[x] = (grey[y * width + x] - least) / (greatest - least);
        for (size_t x = 0; x + 1 < width; x++) out_columns[x] += is_opposite(here[x], here[x + 1]);
        if (y) {
            double count = 0;
            for (size_t x = 0; x < width; x++) count += is_opposite(before[x], here[x]);
            out_rows[y - 1] = count / (double)width;
        }
        double *const swap = before;
        before = here;
        here = swap;
    }
    for (size_t x = 0; x + 1 < width; x++) out_columns[x] /= (double)height;
    free(rows);
    return true;
}

/* ---- Paper ---- */

/* Of the ring's pixels, clockwise from the upper left corner, what is left without strokes that touch it. */
static bool paper_of_border(const double *ring, size_t height, size_t width, double range, double *filled) {
    const size_t count = 2 * (height + width), part = (size_t)fd_image_nearest(longest_contact * (double)count);
    const size_t window = part < 3 ? 3 : part, wide = count + 2 * (window - 1);
    double *const around = malloc(2 * wide * sizeof *around), *const greatest = around ? around + wide : NULL;
    uint8_t *const touched = malloc(count);
    bool done = around && touched;
    if (done) {
        for (size_t i = 0; i < wide; i++) around[i] = ring[(count - (window - 1) + i) % count];
        done = fd_image_sliding_max(around, 1, wide, window, 1, greatest);
    }
    if (done) {
        /* The least is the greatest of the negatives. */
        for (size_t i = 0; i < wide - (window - 1); i++) greatest[i] = -greatest[i];
        done = fd_image_sliding_max(greatest, 1, wide - (window - 1), window, 1, filled);
    }
    if (done) {
        bool any = false;
        for (size_t i = 0; i < count; i++) filled[i] = -filled[i];
        for (size_t i = 0; i < count; i++) {
            /* Light that falls off to one side stays as it is. */
            touched[i] = filled[i] - ring[i] > contact * range;
            if (!touched[i]) filled[i] = ring[i];
            any |= touched[i];
        }
        const size_t corners[5] = {0, width, width + height, 2 * width + height, count};
        bool all = true;
        for (size_t side = 0; side < 4; side++) {
            bool here = false;
            for (size_t i = corners[side]; i < corners[side + 1]; i++) here |= touched[i];
            all &= here;
        }
        if (any && !all) { /* else nothing touches it, or a digit all around */
            size_t start = 0;
            while (touched[start]) start++;
            for (size_t begin = 0; begin < count; begin++) {
                if (!touched[(start + begin) % count]) continue;
                size_t end = begin;
                bool corner = false;
                for (; end < count && touched[(start + end) % count]; end++)
                    for (size_t side = 0; side < 4 && end > begin; side++)
                        corner |= (start + end) % count == corners[side];
                if (corner && (double)(end - begin) > corner_contact * (double)count)
                    for (size_t i = begin; i < end; i++) filled[(start + i) % count] = ring[(start + i) % count];
                begin = end;
            }
        }
    }
    free(around);
    free(touched);
    return done;
}

/* The pixels beyond each side, with those of the corners. */
typedef struct {
    const double *top, *right, *bottom, *left;
} edges;

/* What lies around the plane: `memory` holds 4 * (height + width). */
static bool edges_of(const double *grey, size_t height, size_t width, double *memory, edges *found) {
    const size_t count = 2 * (height + width);
    double *const ring = memory, *const filled = memory + count, *at = ring;
    const double *const last = grey + (height - 1) * width;
    for (size_t x = 0; x < width; x++) *at++ = grey[x];
    for (size_t y = 0; y < height; y++) *at++ = grey[y * width + width - 1];
    for (size_t x = width; x-- > 0;) *at++ = last[x];
    for (size_t y = height; y-- > 0;) *at++ = grey[y * width];
    const fd_image_range range = fd_image_extremes(grey, height * width);
    if (!paper_of_border(ring, height, width, range.greatest - range.least, filled)) return false;
    /* The ring's memory is free now. Rows have the corners; of a single row or column, the later side counts. */
    double *const top = ring, *const bottom = top + width, *const left = bottom + width, *const right = left + height;
    for (size_t x = 0; x < width; x++) {
        bottom[x] = filled[2 * width + height - 1 - x];
        top[x] = height == 1 ? bottom[x] : filled[x];
    }
    for (size_t y = 0; y < height; y++) {
        right[y] = filled[width + y];
        left[y] = width == 1 ? right[y] : filled[count - 1 - y];
    }
    left[0] = top[0];
    right[0] = top[width - 1];
    left[height - 1] = bottom[0];
    right[height - 1] = bottom[width - 1];
    *found = (edges){top, right, bottom, left};
    return true;
}

bool fd_image_paper(const double *grey, size_t height, size_t width, size_t window, double *out) {
    /* A closing of the plane with window - 1 pixels around it, of which one is made; the others are the same. */
    const size_t by = window - 1, wide = width + by, high = height + by;
    double *const framed = malloc((height + 2) * (width + 2) * sizeof *framed);
    double *const upright = malloc(high * (width + 2) * sizeof *upright);
    double *const closed = malloc(high * wide * sizeof *closed);
    double *const border = malloc(4 * (height + width) * sizeof *border);
    double *const scratch = fd_image_slide_scratch(height + 2, width + 2, by);
    edges around;
    const bool done =
        framed && upright && closed && border && scratch && edges_of(grey, height, width, border, &around);
    if (done && by) {
        for (size_t y = 0; y < height + 2; y++) {
            double *const row = framed + y * (width + 2);
            const size_t inside = y < 1 ? 0 : y > height ? height - 1 : y - 1;
            row[0] = around.left[inside];
            memcpy(row + 1,
                   y < 1        ? around.top
                   : y > height ? around.bottom
                                : grey + inside * width,
                   width * sizeof *row);
            row[width + 1] = around.right[inside];
        }
        fd_image_slide_columns(framed, width + 2, height + 2, width + 2, by - 1, window, true, upright, width + 2,
                               scratch);
        fd_image_slide_rows(upright, width + 2, high, width + 2, by - 1, window, true, closed, wide, scratch);
        fd_image_slide_columns(closed, wide, high, wide, 0, window, false, closed, wide, scratch);
        fd_image_slide_rows(closed, wide, height, wide, 0, window, false, out, width, scratch);
    } else if (done)
        memcpy(out, grey, height * width * sizeof *out);
    free(framed);
    free(upright);
    free(closed);
    free(border);
    free(scratch);
    return done;
}

bool fd_image_away(const double *grey, size_t height, size_t width, size_t window, double little, double *out) {
    if (!fd_image_paper(grey, height, width, window, out)) return false;
    for (size_t i = 0; i < height * width; i++) out[i] = (out[i] - grey[i]) / (out[i] + little);
    return true;
}

/* What most of the ink is at least as far as, of all that is nearer to `top` than to the paper; of negatives if
 * `below`. `scratch` holds 3 * count. */
static double most_ink(const double *seen, size_t count, double paper, double top, bool below, double *scratch) {
    const double sign = below ? -1 : 1, middle = paper + (top - paper) / 2;
    size_t much = 0;
    for (size_t i = 0; i < count; i++) {
        const double value = sign * seen[i];
        scratch[much] = value;
        much += value > middle;
    }
    if (much) fd_image_quantiles(scratch, much, &most, 1, scratch + count, &top);
    return top;
}

bool fd_image_stretched(const double *away, size_t count, const double *seen, size_t some, bool flat, double *out,
                        fd_image_contrast *contrast) {
    double *const values = malloc(3 * some * sizeof *values), *const scratch = values + some;
    if (!values) return false;
    /* Paper is at least half of the plane: the lower half of the noise's bell curve is all its. */
    double lower[2] = {0, 0};
    if (!flat) fd_image_quantiles(seen, some, (const double[]){0.1, 0.25}, 2, scratch, lower);
    const double low = lower[0], quarter = lower[1];
    const double noise = (quarter - low) / tenth_to_quarter, paper = quarter + quarter_to_middle * noise;
    const double top = most_ink(seen, some, paper, fd_image_extremes(away, count).greatest, false, values);
    *contrast = (fd_image_contrast){noise, top > paper ? top - paper : 0, 0};
    if (!flat && top > paper && top - paper < pale) {
        const double least = fd_image_extremes(seen, some).least;
        if (least < paper) contrast->other = most_ink(seen, some, -paper, -least, true, values) + paper;
    }
    free(values);
    if (top <= paper) {
        memset(out, 0, count * sizeof *out);
        return true;
    }
    const double half = (top - paper) / 2, start = paper + (above_noise * noise < half ? above_noise * noise : half);
    const double full = top - start;
    for (size_t i = 0; i < count; i++) {
        /* In this form, each is one instruction. */
        const double ink = (away[i] - start) / full, some_ink = ink > 0 ? ink : 0;
        out[i] = some_ink < 1 ? some_ink : 1;
    }
    return true;
}

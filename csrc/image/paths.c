#include "image/image.h"

#include <stdlib.h>

void fd_image_cheapest_paths(const double *ink, size_t height, size_t width, bool upwards, double paper,
                             double sideways, double *totals, int8_t *steps) {
    for (size_t i = 0; i < height; i++) {
        const size_t y = upwards ? height - 1 - i : i;
        const double *const costs = ink + y * width;
        double *const total = totals + y * width;
        int8_t *const step = steps + y * width;
        if (i == 0) {
            for (size_t x = 0; x < width; x++) {
                total[x] = costs[x] + paper;
                step[x] = 0;
            }
            continue;
        }
        const double *const before = upwards ? total + width : total - width;
        for (size_t x = 0; x < width; x++) {
            double best = before[x];
            int8_t from = 0;
            if (x && before[x - 1] + sideways < best) {
                best = before[x - 1] + sideways;
                from = -1;
            }
            if (x + 1 < width && before[x + 1] + sideways < best) {
                best = before[x + 1] + sideways;
                from = 1;
            }
            total[x] = best + (costs[x] + paper);
            step[x] = from;
        }
    }
}

/* Where a path may begin. */
typedef struct {
    double total;
    int32_t row, column;
} place;

static int cheapest_first(const void *left, const void *right) {
    const place *const a = left, *const b = right;
    if (a->total != b->total) return a->total < b->total ? -1 : 1;
    return a->row != b->row ? (a->row < b->row ? -1 : 1) : (a->column > b->column) - (a->column < b->column);
}

/* Of a row, the places through which a path costs no more than through any neighbour. */
static size_t cheaper_than_neighbours(const double *totals, size_t width, int32_t row, const fd_image_cuts *kind,
                                      place *found) {
    const size_t window = kind->window;
    size_t count = 0, next = 0;
    for (size_t x = 0; x < width; x++) {
        const double at = (double)x;
        if (x < next || totals[x] > kind->most || at <= kind->margin || at >= (double)width - kind->margin) continue;
        const size_t first = x < window ? 0 : x - window, end = window < width - x ? x + window + 1 : width;
        bool least = true;
        for (size_t i = first; i < end && least; i++) least = totals[x] <= totals[i];
        if (!least) continue;
        found[count++] = (place){totals[x], row, (int32_t)x};
        next = x + window;
    }
    return count;
}

static void follow(const int8_t *up, const int8_t *down, size_t height, size_t width, const place *from,
                   int32_t *path) {
    int32_t x = from->column;
    for (size_t y = (size_t)from->row + 1; y-- > 0;) {
        path[y] = x;
        x += up[y * width + (size_t)x];
    }
    x = from->column;
    for (size_t y = (size_t)from->row; y < height; y++) {
        path[y] = x;
        x += down[y * width + (size_t)x];
    }
}

static bool is_apart(const int32_t *path, const int32_t *others, size_t count, size_t height, double apart) {
    for (size_t k = 0; k < count; k++) {
        int64_t sum = 0;
        for (size_t y = 0; y < height; y++) sum += abs(path[y] - others[k * height + y]);
        if (!((double)sum / (double)height > apart)) return false;
    }
    return true;
}

/* Which part each pixel lies in: as many paths are to the left of it. */
static void share_out(const double *ink, size_t height, size_t width, const int32_t *paths, size_t count,
                      double threshold, uint32_t *owners, fd_image_part *parts) {
    for (size_t i = 0; i <= count; i++) parts[i] = (fd_image_part){{height, 0, width, 0}, 0};
    for (size_t y = 0; y < height; y++) {
        uint32_t *const owner = owners + y * width;
        for (size_t x = 0; x < width; x++) owner[x] = 0;
        for (size_t k = 0; k < count; k++)
            for (size_t x = (size_t)paths[k * height + y] + 1; x < width; x++) owner[x]++;
        for (size_t x = 0; x < width; x++) {
            if (!(ink[y * width + x] > threshold)) continue;
            fd_image_part *const part = parts + owner[x];
            part->area++;
            if (y < part->box[0]) part->box[0] = y;
            part->box[1] = y + 1;
            if (x < part->box[2]) part->box[2] = x;
            if (x + 1 > part->box[3]) part->box[3] = x + 1;
        }
    }
}

bool fd_image_cut(const double *ink, size_t height, size_t width, const fd_image_cuts *kind, double threshold,
                  uint32_t *owners, fd_image_part *parts, size_t *count) {
    *count = 0;
    const size_t pixels = height * width, rows = sizeof kind->rows / sizeof kind->rows[0];
    double *const down = malloc((2 * pixels + width) * sizeof *down), *const up = down + pixels;
    int8_t *const above = malloc(2 * pixels), *const below = above + pixels;
    place *const places = malloc(rows * width * sizeof *places);
    int32_t *const paths = malloc((kind->paths + 1) * height * sizeof *paths);
    const bool done = down && above && places && paths;
    if (done) {
        fd_image_cheapest_paths(ink, height, width, false, kind->paper, kind->sideways, down, above);
        fd_image_cheapest_paths(ink, height, width, true, kind->paper, kind->sideways, up, below);
        double *const totals = up + pixels;
        size_t found = 0, kept = 0;
        for (size_t i = 0; i < rows; i++) {
            const size_t part = (size_t)(kind->rows[i] * (double)height), row = part < height ? part : height - 1;
            for (size_t x = 0, at = row * width; x < width; x++, at++)
                totals[x] = down[at] + up[at] - (ink[at] + kind->paper);
            found += cheaper_than_neighbours(totals, width, (int32_t)row, kind, places + found);
        }
        qsort(places, found, sizeof *places, cheapest_first);
        for (size_t i = 0; i < found && kept < kind->paths; i++) {
            int32_t *const path = paths + kept * height;
            follow(above, below, height, width, places + i, path);
            kept += is_apart(path, paths, kept, height, kind->apart);
        }
        share_out(ink, height, width, paths, kept, threshold, owners, parts);
        *count = kept + 1;
    }
    free(down);
    free(above);
    free(places);
    free(paths);
    return done;
}

#include "image/image.h"
#include "image/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is searched: the mask, and what is known of it. */
typedef struct {
    const uint8_t *mask;
    const int32_t *runs; /* how long the upright run is that a pixel lies in */
    int32_t height, width;
    const fd_image_line_kind *kind;
} picture;

typedef struct {
    int32_t y, x;
} pixel;

/* How far a slope goes down from the middle to a column. */
static int32_t drop(const picture *of, int32_t slope, int32_t x) {
    return (int32_t)fd_image_nearest(slope * 2.0 / of->width * (x - of->width / 2.0));
}

/* The votes of all straight rows: of each slope, -steps to steps, and each row, how many pixels lie in it. */
typedef struct {
    int32_t steps, margin, rows; /* rows: of a slope; the first is that of -margin */
    int32_t *votes;              /* (2 * steps + 1, rows) */
    int32_t *drops;              /* (2 * steps + 1, width) */
} ballot;

static void vote(const ballot *box, int32_t width, const pixel *pixels, size_t count, int32_t each) {
    for (int32_t k = 0; k <= 2 * box->steps; k++) {
        int32_t *const votes = box->votes + (size_t)k * (size_t)box->rows;
        const int32_t *const drops = box->drops + (size_t)k * (size_t)width;
        for (size_t i = 0; i < count; i++) votes[pixels[i].y - drops[pixels[i].x] + box->margin] += each;
    }
}

/* The slope and row that most pixels lie in; of equals the most level. Returns how many. */
static int32_t most_voted(const picture *of, const ballot *box, int32_t *slope, int32_t *row) {
    double best = -INFINITY;
    int32_t found = 0;
    for (int32_t k = -box->steps; k <= box->steps; k++) {
        const int32_t *const votes = box->votes + (size_t)(k + box->steps) * (size_t)box->rows;
        int32_t most = 0;
        for (int32_t y = 0; y < box->rows; y++)
            if (votes[y] > votes[most]) most = y;
        const double score = votes[most] - of->kind->level * fabs(k * 2.0 / of->width);
        if (score > best) {
            best = score;
            found = votes[most];
            *slope = k;
            *row = most - box->margin;
        }
    }
    return found;
}

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The line along the rows `centre`, one a column; false if there is none. `lengths` and `sorted` have room for a value
 * a column. `top` first has the row of each column's run. */
static bool followed(const picture *of, const int32_t *centre, int32_t *lengths, double *sorted, fd_image_line *line,
                     int32_t *top, int32_t *bottom) {
    const int32_t height = of->height, width = of->width;
    const fd_image_line_kind *const kind = of->kind;
    for (int32_t x = 0; x < width; x++) {
        lengths[x] = 0;
        top[x] = centre[x];
        /* The row itself, then below and above, further and further. */
        for (int32_t k = 0; k <= 2 * (int32_t)kind->aside && !lengths[x]; k++) {
            const int32_t y = centre[x] + (k % 2 ? k / 2 + 1 : -(k / 2));
            if (y < 0 || y >= height || !of->mask[(size_t)y * (size_t)width + (size_t)x]) continue;
            lengths[x] = of->runs[(size_t)y * (size_t)width + (size_t)x];
            top[x] = y;
        }
    }
    /* The longest stretch that lacks no more than `gap` columns in a row. */
    int32_t start = 0, end = 0;
    for (int32_t x = 0; x < width;) {
        if (!lengths[x]) {
            x++;
            continue;
        }
        const int32_t begin = x;
        int32_t last = x;
        for (; x < width && x - last <= (int32_t)kind->gap + 1; x++)
            if (lengths[x]) last = x;
        if (last + 1 - begin > end - start) {
            start = begin;
            end = last + 1;
        }
        x = last + 1;
        while (x < width && !lengths[x]) x++;
    }
    size_t covered = 0;
    for (int32_t x = start; x < end; x++)
        if (lengths[x]) sorted[covered++] = lengths[x];
    if (!covered || end - start < kind->length * width || (double)covered < kind->covered * (end - start)) return false;
    qsort(sorted, covered, sizeof *sorted, ascending);
    const double place = kind->quantile * (double)(covered - 1);
    const size_t low = (size_t)place, high = low + 1 < covered ? low + 1 : low;
    const double thickness = sorted[low] + (sorted[high] - sorted[low]) * (place - (double)low);
    if (thickness > kind->thickest) return false;
    /* A longer run is a stroke that crosses the line, or ends at it. */
    int32_t alone = 0, alone_inside = 0;
    for (int32_t x = 0; x < width; x++) {
        const bool is_alone = lengths[x] && lengths[x] <= 1.5 * thickness + 1;
        alone += is_alone;
        alone_inside += is_alone && x >= start && x < end;
        if (!is_alone) {
            bottom[x] = top[x] = top[x] > 0 ? top[x] : 0;
            continue;
        }
        for (int32_t k = 0; k < (int32_t)(2 * thickness) + 2; k++)
            if (top[x] > 0 && of->mask[(size_t)(top[x] - 1) * (size_t)width + (size_t)x]) top[x]--;
        /* With soft edges, which are below the threshold. */
        bottom[x] = top[x] + lengths[x] + 1 < height ? top[x] + lengths[x] + 1 : height;
        top[x] = top[x] > 0 ? top[x] - 1 : 0;
    }
    if (alone_inside < kind->alone * (end - start)) return false;
    const int32_t ends = (int32_t)kind->ends;
    if (ends && !(start < ends && end > width - ends && (double)alone / width > kind->all)) return false;
    *line = (fd_image_line){(size_t)start, (size_t)end, thickness};
    return true;
}

/* Whether a run is no thicker than a line; there are none of length 0. */
static inline bool is_thin(int32_t run, uint32_t thickest) { return (uint32_t)run - 1 < thickest; }

static size_t count_thin(const int32_t *runs, size_t count, uint32_t thickest) {
    uint32_t thin = 0; /* Fewer than pixels of a plane. */
    for (size_t i = 0; i < count; i++) thin += is_thin(runs[i], thickest);
    return thin;
}

/* Pixels that are looked at together: most are of no thin run. */
enum { looked_at = 16 };

/* The `count` pixels of runs that are no thicker than a line, row by row. */
static void thin_pixels(const picture *of, uint32_t thickest, pixel *pixels, size_t count) {
    const size_t width = (size_t)of->width;
    size_t found = 0;
    for (int32_t y = 0; y < of->height; y++) {
        const int32_t *const runs = of->runs + (size_t)y * width;
        for (size_t begin = 0; begin < width; begin += looked_at) {
            const size_t end = looked_at < width - begin ? begin + looked_at : width;
            if (!count_thin(runs + begin, end - begin, thickest)) continue;
            for (size_t x = begin; x < end; x++)
                if (found < count && is_thin(runs[x], thickest)) pixels[found++] = (pixel){y, (int32_t)x};
        }
    }
}

void fd_image_transpose_u8(const uint8_t *mask, size_t height, size_t width, uint8_t *out) {
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) out[x * height + y] = mask[y * width + x];
}

bool fd_image_spans(const uint8_t *mask, size_t height, size_t width, bool upright, size_t pixels, size_t columns,
                    size_t ends, bool *out) {
    const size_t wide = upright ? height : width;
    uint8_t *const inked = calloc(wide, 1);
    if (!inked) return false;
    size_t all = 0, some = 0;
    for (size_t y = 0; y < height; y++) {
        const uint8_t *const row = mask + y * width;
        size_t count = 0;
        for (size_t x = 0; x < width; x++) count += row[x] != 0;
        all += count;
        if (upright)
            inked[y] = count > 0;
        else if (count)
            for (size_t x = 0; x < width; x++) inked[x] |= row[x];
    }
    for (size_t x = 0; x < wide; x++) some += inked[x] != 0;
    bool first = !ends, last = first;
    for (size_t x = 0; x < ends && x < wide; x++) {
        first |= inked[x] != 0;
        last |= inked[wide - 1 - x] != 0;
    }
    free(inked);
    *out = all >= pixels && some >= columns && first && last;
    return true;
}

bool fd_image_level_lines(const uint8_t *mask, size_t height, size_t width, const fd_image_line_kind *kind,
                          fd_image_line *lines, int32_t *tops, int32_t *bottoms, size_t *count) {
    *count = 0;
    const double wide = (double)width;
    const int32_t half = (int32_t)fd_image_nearest(kind->slope * wide / 2), steps = half > 1 ? half : 1;
    const int32_t margin = (int32_t)(kind->slope * wide) + 2;
    const size_t slopes = 2 * (size_t)steps + 1, rows = height + 2 * (size_t)margin;
    int32_t *const runs = malloc(height * width * sizeof *runs);
    int32_t *const votes = calloc(slopes * rows, sizeof *votes), *const drops = calloc(slopes * width, sizeof *drops);
    int32_t *const centre = malloc(2 * width * sizeof *centre);
    double *const sorted = malloc(width * sizeof *sorted);
    const uint32_t thickest = (uint32_t)kind->thickest;
    pixel *pixels = NULL;
    size_t left = 0;
    if (runs) {
        fd_image_run_lengths(mask, height, width, runs);
        left = count_thin(runs, height * width, thickest);
        pixels = calloc(left + 1, sizeof *pixels); /* of none, there would be no memory */
    }
    const bool done = runs && pixels && votes && drops && centre && sorted;
    if (done) {
        const picture of = {mask, runs, (int32_t)height, (int32_t)width, kind};
        const ballot box = {steps, margin, (int32_t)rows, votes, drops};
        int32_t *const lengths = centre + width;
        for (int32_t k = -steps, i = 0; k <= steps; k++)
            for (int32_t x = 0; x < of.width; x++) drops[i++] = drop(&of, k, x);
        thin_pixels(&of, thickest, pixels, left);
        vote(&box, of.width, pixels, left, 1);
        for (size_t tries = 0; tries < kind->tries && *count < kind->most && (double)left >= kind->fewest * wide;
             tries++) {
            int32_t slope = 0, row = 0;
            const int32_t voted = most_voted(&of, &box, &slope, &row);
            if (voted < kind->votes * wide) break;
            const int32_t *const down = drops + (size_t)(slope + steps) * width;
            for (int32_t x = 0; x < of.width; x++) centre[x] = row + down[x];
            fd_image_line *const line = lines + *count;
            const bool found =
                followed(&of, centre, lengths, sorted, line, tops + *count * width, bottoms + *count * width);
            const double reach = found ? (double)kind->beyond + line->thickness : 2;
            *count += found;
            /* Those that are done with come last. */
            size_t others = left;
            for (size_t i = 0; i < others;) {
                const pixel own = pixels[i];
                if (abs(own.y - centre[own.x]) > reach) {
                    i++;
                    continue;
                }
                pixels[i] = pixels[--others];
                pixels[others] = own;
            }
            if (others == left) break; /* nothing that voted lies there any more: it would go on for ever */
            vote(&box, of.width, pixels + others, left - others, -1);
            left = others;
        }
    }
    free(runs);
    free(pixels);
    free(votes);
    free(drops);
    free(centre);
    free(sorted);
    return done;
}

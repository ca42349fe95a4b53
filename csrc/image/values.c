#include "image/image.h"

#include <stdlib.h>
#include <string.h>

fd_image_range fd_image_extremes(const double *values, size_t count) {
    /* Two of each, so that no comparison waits for the last. */
    double low[2] = {values[0], values[0]}, high[2] = {values[0], values[0]};
    for (size_t i = 0; i + 1 < count; i += 2)
        for (size_t j = 0; j < 2; j++) {
            const double value = values[i + j];
            low[j] = value < low[j] ? value : low[j];
            high[j] = value > high[j] ? value : high[j];
        }
    const double last = values[count - 1];
    fd_image_range range = {low[0] < low[1] ? low[0] : low[1], high[0] > high[1] ? high[0] : high[1]};
    if (last < range.least) range.least = last;
    if (last > range.greatest) range.greatest = last;
    return range;
}

size_t fd_image_count_above(const double *values, size_t count, double threshold) {
    int64_t above = 0;
    for (size_t i = 0; i < count; i++) above += values[i] > threshold;
    return (size_t)above;
}

double fd_image_coverage(const double *values, size_t count) {
    const double half = fd_image_extremes(values, count).greatest / 2;
    return (double)fd_image_count_above(values, count, half) / (double)count;
}

static int compare(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static inline double median_of(double a, double b, double c) {
    const double low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* The value of a rank, and if `next` is not NULL, in *next the one behind it, if it is not the last. Quickselect with
 * pivots of three; a sort where these are bad again and again. `values` and `spare` have room for `count` values, and
 * are overwritten. No branch waits for a comparison: of few values, those that are foretold wrong would take most of
 * the time. */
static double quickselect(double *values, double *spare, size_t count, size_t rank, double *next) {
    double behind = values[0]; /* The least of those that were left out as greater. */
    for (int rounds = 64; count > 1; rounds--) {
        if (!rounds) {
            qsort(values, count, sizeof *values, compare);
            if (next) *next = rank + 1 < count ? values[rank + 1] : behind;
            return values[rank];
        }
        const double pivot = median_of(values[0], values[count / 2], values[count - 1]);
        size_t less = 0, greater = 0;
        for (size_t i = 0; i < count; i++) {
            const double value = values[i];
            values[less] = value;
            less += value < pivot;
            spare[greater] = value;
            greater += value > pivot;
        }
        if (rank < less) {
            count = less;
            behind = pivot;
            continue;
        }
        const size_t end = count - greater;
        if (rank < end) { /* a pivot itself */
            if (next) *next = rank + 1 < end ? pivot : greater ? fd_image_extremes(spare, greater).least : behind;
            return pivot;
        }
        rank -= end;
        count = greater;
        double *const swap = values;
        values = spare;
        spare = swap;
    }
    if (next) *next = behind;
    return values[0];
}

/* Bins by which a search is narrowed down, of more values than that. */
enum { bins = 512 };

static inline size_t bin_of(double value, double least, double scale) { return (size_t)((value - least) * scale); }

/* What is known of values in which ranks are looked for. */
typedef struct {
    const double *values;
    size_t count, least; /* how many are equal to the least */
    fd_image_range range;
    double scale; /* of bins; 0: no bins, for values are few, or alike */
    uint32_t counts[bins];
} ranked;

static void rank_values(const double *values, size_t count, ranked *known) {
    known->values = values;
    known->count = count;
    known->range = fd_image_extremes(values, count);
    known->least = 0;
    for (size_t i = 0; i < count; i++) known->least += values[i] == known->range.least;
    const double least = known->range.least, scale = (bins - 1) / (known->range.greatest - least);
    /* Of pictures on flat paper, most values are the least. */
    known->scale = count > bins && known->least <= count / 2 && scale < 1e300 ? scale : 0;
    /* Whatever the scale: static analysis does not see that only one other than 0 has them read. */
    memset(known->counts, 0, sizeof known->counts);
    if (known->scale == 0) return;
    /* In four, for counting again in one bin waits for the last time. */
    uint32_t more[3][bins] = {{0}};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        known->counts[bin_of(values[i], least, scale)]++;
        for (size_t k = 0; k < 3; k++) more[k][bin_of(values[i + 1 + k], least, scale)]++;
    }
    for (; i < count; i++) known->counts[bin_of(values[i], least, scale)]++;
    for (size_t k = 0; k < bins; k++) known->counts[k] += more[0][k] + more[1][k] + more[2][k];
}

/* The value of a rank, and if `next` is not NULL, in *next the one behind it, if it is not the last. */
static double value_of(const ranked *known, size_t rank, double *scratch, double *next) {
    const double *const values = known->values, least = known->range.least;
    const size_t count = known->count;
    if (rank + 1 < known->least) {
        if (next) *next = least;
        return least;
    }
    size_t before = 0, some = count;
    if (known->scale == 0)
        memcpy(scratch, values, count * sizeof *values);
    else {
        size_t bin = 0;
        while (before + known->counts[bin] <= rank) before += known->counts[bin++];
        /* Its bin, and if it is the last there, the next one in which there is something. */
        size_t last = bin;
        if (before + known->counts[bin] == rank + 1)
            for (size_t k = bin + 1; k < bins && last == bin; k++)
                if (known->counts[k]) last = k;
        some = 0;
        for (size_t i = 0; i < count; i++) {
            const size_t place = bin_of(values[i], least, known->scale);
            scratch[some] = values[i];
            some += place >= bin && place <= last;
        }
    }
    return quickselect(scratch, scratch + count, some, rank - before, next);
}

double fd_image_select(const double *values, size_t count, size_t rank, double *scratch) {
    if (count <= bins) {
        memcpy(scratch, values, count * sizeof *values);
        return quickselect(scratch, scratch + count, count, rank, NULL);
    }
    ranked known;
    rank_values(values, count, &known);
    return value_of(&known, rank, scratch, NULL);
}

void fd_image_quantiles(const double *values, size_t count, const double *parts, size_t wanted, double *scratch,
                        double *out) {
    ranked known;
    rank_values(values, count, &known);
    for (size_t i = 0; i < wanted; i++) {
        const double place = parts[i] * (double)(count - 1);
        const size_t below = (size_t)place;
        double high = 0;
        const double low = value_of(&known, below, scratch, &high);
        out[i] = below + 1 < count ? low + (high - low) * (place - (double)below) : low;
    }
}

/* image ROUNDS
 *
 * Each loop over pixels, on planes of every small size with exactly the memory that it says it takes, so that a
 * sanitizer sees the first byte too many; and with each of its allocations failing once. Prints how many did. Linked
 * with --wrap for the functions below.
 */
#include <math.h>

#include "driver.h"
#include "image/image.h"

static size_t left = SIZE_MAX; /* allocations before one that fails */
static size_t refused;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static int fails(void) {
    if (left == SIZE_MAX || left-- > 0) return 0;
    left = SIZE_MAX;
    refused++;
    return 1;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return fails() ? NULL : __real_realloc(memory, size); }

/* The call, with its first allocation failing, then its second, until none is left that fails. */
#define EACH_FAILS(call)                                        \
    for (size_t allocation = 0;; allocation++) {                \
        const size_t before = refused;                          \
        left = allocation;                                      \
        const bool done = (call);                               \
        left = SIZE_MAX;                                        \
        if (done != (refused == before)) DIE("%s lies", #call); \
        if (done) break;                                        \
    }

static uint64_t seed = 1;

static double *plane(size_t count) {
    double *const values = exactly(count * sizeof *values);
    const size_t kind = random_below(&seed, 4);
    for (size_t i = 0; i < count; i++) values[i] = kind ? (double)random_pixel(&seed) : 0.5;
    return values;
}

static double *room(size_t count) { return exactly(count * sizeof(double)); }

static size_t up_to(size_t n) { return 1 + random_below(&seed, n); }

static void filters(const double *values, size_t height, size_t width) {
    for (size_t axis = 0; axis < 2; axis++) {
        const size_t window = up_to(axis ? width : height), less = window - 1;
        double *const out = room((height - (axis ? 0 : less)) * (width - (axis ? less : 0)));
        EACH_FAILS(fd_image_sliding_max(values, height, width, window, (int)axis, out));
        free(out);
    }
    double *const out = room(height * width);
    EACH_FAILS(fd_image_flattened(values, height, width, up_to(40), 0.15, out));
    EACH_FAILS(fd_image_box_mean(values, height, width, up_to(40), out));
    EACH_FAILS(fd_image_away(values, height, width, up_to(40), 0.15, out));
    fd_image_away_from(values, height * width, 0.5, height & 1, 0.15, out);
    fd_image_contrast contrast;
    EACH_FAILS(
        fd_image_stretched(values, height * width, values, up_to(height * width), width % 2 == 1, out, &contrast));
    EACH_FAILS(fd_image_page_ink(values, height, width, width & 1, up_to(17), out, &contrast));
    free(out);
}

static void averages(size_t height, size_t width) {
    const size_t block = up_to(height > width ? height : width), channels = up_to(4), count = height * width * channels;
    double *const out = room((height + block - 1) / block * ((width + block - 1) / block) * channels);
    uint8_t *const bytes = exactly(count);
    uint16_t *const words = exactly(2 * count);
    double *const reals = plane(count);
    memset(bytes, 255, count);
    memset(words, 255, 2 * count);
    EACH_FAILS(fd_image_average_u8(bytes, height, width, channels, block, 255, out));
    if (out[0] != 1) DIE("%g of white", out[0]);
    EACH_FAILS(fd_image_average_u16(words, height, width, channels, block, 65535, out));
    if (out[0] != 1) DIE("%g of white", out[0]);
    EACH_FAILS(fd_image_average_f64(reals, height, width, channels, block, 1, out));
    free(out);
    free(bytes);
    free(words);
    free(reals);
}

static void light(const double *grey, size_t height, size_t width) {
    const size_t count = height * width;
    double pair[2] = {0, 0}, *const rows = room(3 * height), *const columns = room(3 * width);
    for (size_t i = 0; i < 3 * height; i++) rows[i] = random_pixel(&seed);
    for (size_t i = 0; i < 3 * width; i++) columns[i] = random_pixel(&seed);
    const size_t shorter = height < width ? height : width;
    if (shorter > 1) {
        const size_t window = (up_to(shorter - 1) - 1) | 1;
        if (window < shorter)
            EACH_FAILS(fd_image_structure(grey, height, width, rows, columns, window, up_to(3), pair));
    }
    EACH_FAILS(fd_image_skew(grey, height, width, up_to(40), pair));
    fd_image_border_vote(grey, height, width, 0.5);
    const fd_image_flatness flat = fd_image_flat_paper(grey, height, width);
    const fd_image_range range = fd_image_extremes(grey, count);
    if (flat.flat && (flat.least != range.least || flat.greatest != range.greatest)) DIE("flat, but not so");
    double *const down = room(height - 1), *const across = room(width - 1);
    EACH_FAILS(fd_image_opposites(grey, height, width, 0, 1, down, across));
    double *const scratch = room(2 * count);
    fd_image_quantiles(grey, count, (const double[]){0, 0.3, 1}, 3, scratch, (double[3]){0});
    fd_image_select(grey, count, random_below(&seed, count), scratch);
    fd_image_coverage(grey, count);
    free(scratch);
    free(rows);
    free(columns);
    free(down);
    free(across);
}

static void marks(const double *ink, size_t height, size_t width) {
    const size_t cell = up_to(4), rows = (height + cell - 1) / cell, columns = (width + cell - 1) / cell;
    double *const cells = room(rows * columns), *const out = room(height * width);
    int32_t *const labels = exactly(rows * columns * sizeof *labels);
    fd_image_cells(ink, height, width, cell, 0.6, cells);
    fd_image_marks found;
    EACH_FAILS(fd_image_find_marks(cells, rows, columns, 0, labels, &found));
    if (found.count) {
        int64_t *const boxes = exactly(found.count * 4 * sizeof *boxes);
        double *const amounts = room(found.count);
        uint8_t *const kept = exactly(found.count);
        int64_t *const areas = exactly(found.count * sizeof *areas), *const chosen = exactly(sizeof *chosen);
        for (size_t i = 0; i < found.count; i++) {
            for (size_t k = 0; k < 4; k++) boxes[4 * i + k] = found.items[i].box[k];
            amounts[i] = found.items[i].ink;
            areas[i] = found.items[i].area;
            const bool closed = fd_image_is_closed(labels, columns, boxes + 4 * i, (int32_t)i, 0.15, 0.85);
            if (!closed && areas[i] == (boxes[4 * i + 1] - boxes[4 * i]) * (boxes[4 * i + 3] - boxes[4 * i + 2]))
                DIE("mark %zu fills its box", i);
        }
        int64_t height_of_all, height_of_one;
        EACH_FAILS(fd_image_height_of_most(boxes, areas, NULL, found.count, 2, &height_of_all));
        *chosen = (int64_t)found.count - 1;
        EACH_FAILS(fd_image_height_of_most(boxes, areas, chosen, 1, 0, &height_of_one));
        if (height_of_one != boxes[4 * *chosen + 1] - boxes[4 * *chosen]) DIE("the height of one mark");
        free(areas);
        free(chosen);
        fd_image_keep(boxes, amounts, found.count, rows, columns, 0.03, kept);
        EACH_FAILS(fd_image_keep_ink(ink, height, width, labels, cell, kept, out));
        free(boxes);
        free(amounts);
        free(kept);
    }
    free(found.items);
    free(cells);
    free(labels);
    free(out);
}

static void paths(const double *ink, size_t height, size_t width) {
    double *const totals = room(height * width);
    int8_t *const steps = exactly(height * width);
    for (size_t upwards = 0; upwards < 2; upwards++)
        fd_image_cheapest_paths(ink, height, width, upwards == 1, 0.002, 0.03, totals, steps);
    free(totals);
    free(steps);
    const fd_image_cuts kind = {.paper = 0.002,
                                .sideways = 0.2,
                                .rows = {0.25, 0.5, 1},
                                .most = 3,
                                .margin = 1,
                                .apart = 0.5,
                                .window = up_to(9),
                                .paths = up_to(5)};
    uint32_t *const owners = exactly(height * width * sizeof *owners);
    fd_image_part *const parts = exactly((kind.paths + 1) * sizeof *parts);
    size_t count, inked = 0;
    EACH_FAILS(fd_image_cut(ink, height, width, &kind, 0.2, owners, parts, &count));
    for (size_t i = 0; i < count; i++) inked += parts[i].area;
    if (inked != fd_image_count_above(ink, height * width, 0.2)) DIE("%zu pixels in %zu parts", inked, count);
    free(owners);
    free(parts);
}

static void candidates(void) {
    const size_t count = up_to(12), most = up_to(9);
    fd_image_piece *const pieces = exactly(count * sizeof *pieces);
    fd_image_candidate *const found = exactly(count * most * sizeof *found);
    for (size_t i = 0; i < count; i++) {
        const int32_t top = (int32_t)up_to(9), left_ = (int32_t)up_to(9);
        pieces[i] = (fd_image_piece){{top, top + (int32_t)up_to(9), left_, left_ + (int32_t)up_to(9)},
                                     (int32_t)random_below(&seed, 3)};
    }
    size_t many;
    EACH_FAILS(fd_image_find_candidates(pieces, count, most, 12, 3, found, &many));
    for (size_t i = 0; i < many; i++)
        if (found[i].start >= found[i].end || (i && found[i].end < found[i - 1].end)) DIE("candidate %zu", i);
    free(pieces);
    free(found);
}

static void search(void) {
    const size_t pieces = up_to(6), count = pieces * (pieces + 1) / 2;
    fd_image_candidate *const candidates = exactly(count * sizeof *candidates);
    double *const gains = room(count * FD_IMAGE_LABELS), *const losses = plane(pieces);
    size_t number = 0;
    for (size_t end = 1; end <= pieces; end++)
        for (size_t start = 0; start < end; start++)
            candidates[number++] = (fd_image_candidate){
                .start = (int32_t)start, .end = (int32_t)end, .cut = (int32_t)random_below(&seed, 2)};
    for (size_t i = 0; i < count * FD_IMAGE_LABELS; i++) gains[i] = i % 3 ? (double)NAN : (double)random_pixel(&seed);
    const size_t length = random_below(&seed, 2) ? FD_IMAGE_ANY_LENGTH : up_to(pieces + 1);
    fd_image_ways found;
    EACH_FAILS(fd_image_search(candidates, count, gains, losses, pieces, 0.5, up_to(300), length, &found));
    for (size_t i = 0; i < found.count; i++) {
        if (i && found.scores[i] > found.scores[i - 1]) DIE("way %zu is better than the one before it", i);
        for (size_t k = 0; k < found.lengths[i]; k++) {
            const size_t at = i * found.longest + k;
            if (isnan(gains[(size_t)found.chosen[at] * FD_IMAGE_LABELS + (size_t)found.labels[at]]))
                DIE("no such label");
        }
    }
    fd_image_free_ways(&found);
    free(candidates);
    free(gains);
    free(losses);
}

static void shear(const double *values, size_t height, size_t width) {
    double *const moved = room(height), *const out = room(height * (width + 6));
    for (size_t y = 0; y < height; y++) moved[y] = 4.9 * (double)random_pixel(&seed);
    fd_image_shear(values, height, width, moved, width + 6, out);
    double before = 0, behind = 0;
    for (size_t i = 0; i < height * width; i++) before += values[i];
    for (size_t i = 0; i < height * (width + 6); i++) behind += out[i];
    if (fabs(before - behind) > 1e-9 * (before + 1)) DIE("%g became %g", before, behind);
    free(moved);
    free(out);
}

static void runs_of_lines(const double *ink, size_t height, size_t width) {
    const size_t step = up_to(5), lines = (height + step - 1) / step, columns = (width + step - 1) / step;
    for (int upright = 0; upright < 2; upright++) {
        const size_t most = upright ? columns * ((height + 1) / 2) : lines * ((width + 1) / 2);
        fd_image_run *const found = exactly(most * sizeof *found);
        const size_t count = fd_image_runs(ink, height, width, upright, step, 0.5, found);
        if (count > most) DIE("%zu runs", count);
        for (size_t i = 0; i < count; i++)
            if (found[i].length >= (upright ? height : width)) DIE("a run from edge to edge");
        free(found);
    }
}

static void points(const double *ink, size_t height, size_t width) {
    const size_t most = up_to(50);
    double *const down = room(most), *const across = room(most);
    size_t ends[2];
    const size_t found = fd_image_points(ink, height, width, 0.5, most, down, across, ends);
    if ((found > 0) != (fd_image_count_above(ink, height * width, 0.5) > 0) || (found && ends[1] < ends[0]))
        DIE("%zu points", found);
    free(down);
    free(across);
}

static void slopes(void) {
    const size_t count = up_to(50), many = up_to(3);
    double *const down = room(count), *const across = room(count), *const tried = room(many);
    for (size_t i = 0; i < count; i++) {
        down[i] = (double)random_below(&seed, 20);
        across[i] = (double)random_below(&seed, 21) - 10;
    }
    for (size_t k = 0; k < many; k++) tried[k] = k ? 0.2 : -0.2;
    int64_t *const sharp = exactly(many * sizeof *sharp);
    EACH_FAILS(fd_image_sharpness(down, across, count, tried, many, 2, 24, sharp));
    if (sharp[0] < (int64_t)count || sharp[0] > (int64_t)(count * count)) DIE("%zu pixels as sharp", count);
    free(down);
    free(across);
    free(tried);
    free(sharp);
}

static void texts(void) {
    const size_t count = up_to(40), classes = FD_IMAGE_LABELS + 1, most = up_to(20);
    double *const steps = room(count * classes);
    for (size_t i = 0; i < count * classes; i++) steps[i] = (double)random_pixel(&seed) / (double)classes;
    fd_image_texts found;
    EACH_FAILS(fd_image_likely_texts(steps, count, 1e-3, most, &found));
    if (!found.count || found.count > most) DIE("%zu texts", found.count);
    double *const logs = room(found.count);
    EACH_FAILS(fd_image_text_logs(steps, count, found.digits, found.lengths, found.count, 1e-30, logs));
    int32_t *const where = exactly(found.lengths[0] * sizeof *where);
    EACH_FAILS(fd_image_places(steps, count, found.digits, found.lengths[0], 1e-30, where));
    for (size_t k = 1; k < found.lengths[0]; k++)
        if (where[k] <= where[k - 1]) DIE("digit %zu comes before the last one", k);
    free(where);
    free(logs);
    free(steps);
    fd_image_free_texts(&found);
}

static void draw(const double *ink, size_t height, size_t width) {
    size_t box[4], rows, columns;
    const size_t side = up_to(28);
    if (!fd_image_box(ink, height, width, 0.1, box)) return;
    fd_image_fitted_size(box[1] - box[0], box[3] - box[2], side, &rows, &columns);
    double *const small = room(rows * columns);
    uint8_t *const image = exactly(28 * 28);
    EACH_FAILS(fd_image_resample(ink + box[0] * width + box[2], width, box[1] - box[0], box[3] - box[2], rows, columns,
                                 small));
    fd_image_mean_width(small, rows, columns);
    fd_image_place(small, rows, columns, 28, image);
    EACH_FAILS(fd_image_draw(ink, height, width, side, 28, image));
    double *const larger = room((rows + 1) * (columns + 2));
    memset(larger, 0, (rows + 1) * (columns + 2) * sizeof *larger);
    fd_image_put(small, rows, columns, larger + columns + 3, columns + 2);
    free(larger);
    free(small);
    free(image);
}

static void lines(const double *values, size_t height, size_t width) {
    const size_t count = height * width, side = up_to(9);
    uint8_t *const mask = exactly(count), *const turned = exactly(count);
    int32_t *const runs = exactly(count * sizeof *runs);
    for (size_t i = 0; i < count; i++) mask[i] = values[i] > 0.5 || i / width == height / 2;
    fd_image_run_lengths(mask, height, width, runs);
    fd_image_transpose_u8(mask, height, width, turned);
    double stroke;
    EACH_FAILS(fd_image_stroke_width(values, height, width, 0.3, &stroke));
    size_t found = 0;
    const bool fits = side <= height && side <= width;
    uint8_t *const where = fits ? exactly((height - side + 1) * (width - side + 1)) : NULL;
    EACH_FAILS(fd_image_squares(values, height, width, 0.1, 2, side, where, &found));
    bool spans;
    EACH_FAILS(fd_image_spans(mask, height, width, height & 1, 3, 3, random_below(&seed, 3), &spans));
    const fd_image_line_kind kind = {.length = 0.3,
                                     .covered = 0.5,
                                     .alone = 0.1,
                                     .votes = 0.2,
                                     .fewest = 0.2,
                                     .thickest = (double)up_to(9),
                                     .slope = random_pixel(&seed),
                                     .level = 1,
                                     .quantile = 0.5,
                                     .gap = random_below(&seed, 9),
                                     .aside = random_below(&seed, 9),
                                     .beyond = 1,
                                     .most = up_to(5),
                                     .tries = up_to(9),
                                     .ends = random_below(&seed, 4)};
    fd_image_line *const all = exactly(kind.most * sizeof *all);
    int32_t *const tops = exactly(kind.most * width * sizeof *tops);
    int32_t *const bottoms = exactly(kind.most * width * sizeof *bottoms);
    EACH_FAILS(fd_image_level_lines(mask, height, width, &kind, all, tops, bottoms, &found));
    for (size_t i = 0; i < found; i++)
        for (size_t x = all[i].start; x < all[i].end; x++)
            if (tops[i * width + x] > bottoms[i * width + x] || bottoms[i * width + x] < 0) DIE("a line upside down");
    free(all);
    free(tops);
    free(bottoms);
    free(where);
    free(mask);
    free(turned);
    free(runs);
}

/* Values for which each pivot of three is next to the least, by McIlroy's adversary (A killer adversary for quicksort,
 * 1999): it is asked instead of values, and says only then which of two is less. */
enum { HARD = 400, UNDECIDED = HARD };
static struct {
    double values[HARD];
    size_t decided, candidate;
} adversary;

static int is_less(size_t a, size_t b) {
    double *const values = adversary.values;
    if (a != b && values[a] == UNDECIDED && values[b] == UNDECIDED)
        values[a == adversary.candidate ? a : b] = (double)adversary.decided++;
    if (values[a] == UNDECIDED)
        adversary.candidate = a;
    else if (values[b] == UNDECIDED)
        adversary.candidate = b;
    return values[a] < values[b];
}

static size_t middle(size_t a, size_t b, size_t c) {
    const int swap = !is_less(a, b);
    const size_t low = swap ? b : a, high = swap ? a : b;
    return is_less(c, low) ? low : is_less(high, c) ? high : c;
}

/* What the selection would compare, on the way to the greatest. */
static void hard_selection(void) {
    size_t order[HARD];
    for (size_t i = 0; i < HARD; i++) {
        order[i] = i;
        adversary.values[i] = UNDECIDED;
    }
    for (size_t count = HARD; count > 1;) {
        const size_t pivot = middle(order[0], order[count / 2], order[count - 1]);
        size_t greater = 0;
        for (size_t i = 0; i < count; i++) {
            const size_t item = order[i];
            is_less(item, pivot);
            order[greater] = item;
            greater += (size_t)is_less(pivot, item);
        }
        count = greater;
    }
    double *const scratch = room(2 * HARD), *const ranked = room(HARD);
    for (size_t rank = 0; rank < HARD; rank++) {
        ranked[rank] = fd_image_select(adversary.values, HARD, rank, scratch);
        if (rank && ranked[rank] < ranked[rank - 1]) DIE("rank %zu is less than the one before", rank);
    }
    if (ranked[0] != 0 || ranked[HARD - 1] != fd_image_extremes(adversary.values, HARD).greatest) DIE("wrong ranks");
    free(scratch);
    free(ranked);
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("image ROUNDS");
    hard_selection();
    for (long round = strtol(argv[1], NULL, 10); round-- > 0;) {
        const size_t height = up_to(round % 3 ? 40 : 3), width = up_to(round % 5 ? 40 : 3);
        double *const values = plane(height * width);
        filters(values, height, width);
        averages(height, width);
        light(values, height, width);
        marks(values, height, width);
        draw(values, height, width);
        paths(values, height, width);
        shear(values, height, width);
        lines(values, height, width);
        candidates();
        search();
        texts();
        slopes();
        points(values, height, width);
        runs_of_lines(values, height, width);
        free(values);
    }
    printf("%zu\n", refused);
    return 0;
}

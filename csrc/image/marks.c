#include "image/image.h"
#include "image/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void fd_image_cells(const double *ink, size_t height, size_t width, size_t cell, double threshold, double *out) {
    for (size_t top = 0; top < height; top += cell)
        for (size_t left = 0; left < width; left += cell) {
            const size_t bottom = cell < height - top ? top + cell : height;
            const size_t right = cell < width - left ? left + cell : width;
            double sum = 0;
            bool inked = false;
            for (size_t y = top; y < bottom; y++)
                for (size_t x = left; x < right; x++) {
                    sum += ink[y * width + x];
                    inked |= ink[y * width + x] > threshold;
                }
            *out++ = inked ? sum : 0;
        }
}

/* Cells in a row that touch. */
typedef struct {
    int32_t y, start, end; /* row, columns */
    int32_t parent;        /* an earlier run of the same mark, or itself */
    double ink;
} run;

typedef struct {
    run *items;
    size_t count, room;
} runs;

static bool append(runs *list, run item) {
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 256;
        run *const items = realloc(list->items, room * sizeof *items);
        if (!items) return false;
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = item;
    return true;
}

static int32_t first_of(run *items, int32_t at) {
    while (items[at].parent != at) {
        items[at].parent = items[items[at].parent].parent;
        at = items[at].parent;
    }
    return at;
}

/* Finds the runs of all rows and joins those that touch. */
static bool found_runs(const double *cells, size_t rows, size_t columns, double threshold, runs *list) {
    size_t before = 0; /* the first run of the row above */
    for (size_t y = 0; y < rows; y++) {
        const double *const row = cells + y * columns;
        const size_t here = list->count;
        size_t above = before;
        for (size_t x = 0; x < columns;) {
            if (!(row[x] > threshold)) {
                x++;
                continue;
            }
            const size_t start = x;
            double ink = 0;
            while (x < columns && row[x] > threshold) ink += row[x++];
            const int32_t mine = (int32_t)list->count;
            if (!append(list, (run){(int32_t)y, (int32_t)start, (int32_t)x, mine, ink})) return false;
            while (above < here && list->items[above].end < (int32_t)start) above++;
            /* The last that it touches may touch the next one, too. */
            for (size_t other = above; other < here && list->items[other].start <= (int32_t)x; other++) {
                const int32_t a = first_of(list->items, (int32_t)other), b = first_of(list->items, mine);
                if (a < b)
                    list->items[b].parent = a;
                else
                    list->items[a].parent = b;
            }
        }
        before = here;
    }
    return true;
}

bool fd_image_find_marks(const double *cells, size_t rows, size_t columns, double threshold, int32_t *labels,
                         fd_image_marks *marks) {
    runs list = {NULL, 0, 0};
    *marks = (fd_image_marks){0, NULL};
    bool done = found_runs(cells, rows, columns, threshold, &list);
    if (done) {
        /* Parents come first, so that their numbers are known: `parent` becomes the number. */
        for (size_t i = 0; i < list.count; i++) {
            run *const item = list.items + i;
            const bool first = item->parent == (int32_t)i;
            item->parent = first ? (int32_t)marks->count++ : list.items[item->parent].parent;
        }
        marks->items = malloc((marks->count + 1) * sizeof *marks->items); /* of none, still memory */
        done = marks->items != NULL;
    }
    if (done) {
        for (size_t i = 0; i < marks->count; i++) marks->items[i] = (fd_image_mark){{INT32_MAX, 0, INT32_MAX, 0}, 0, 0};
        memset(labels, -1, rows * columns * sizeof *labels);
        for (const run *item = list.items; item < list.items + list.count; item++) {
            fd_image_mark *const mark = marks->items + item->parent;
            /* The analyzer takes list.count for another number than marks were counted from.
             * NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
            if (item->y < mark->box[0]) mark->box[0] = item->y;
            mark->box[1] = item->y + 1;
            if (item->start < mark->box[2]) mark->box[2] = item->start;
            if (item->end > mark->box[3]) mark->box[3] = item->end;
            mark->area += item->end - item->start;
            mark->ink += item->ink;
            int32_t *const row = labels + (size_t)item->y * columns;
            for (int32_t x = item->start; x < item->end; x++) row[x] = item->parent;
        }
    }
    free(list.items);
    return done;
}

/* A mark's height, and how many cells it has. */
typedef struct {
    int64_t height, area;
} upright;

static int by_height(const void *left, const void *right) {
    const int64_t a = ((const upright *)left)->height, b = ((const upright *)right)->height;
    return (a > b) - (a < b);
}

bool fd_image_height_of_most(const int64_t *boxes, const int64_t *areas, const int64_t *chosen, size_t many,
                             int64_t lowest, int64_t *out) {
    upright *const found = malloc((many + 1) * sizeof *found); /* of none, still memory */
    if (!found) return false;
    size_t count = 0;
    int64_t total = 0, sum = 0;
    for (size_t i = 0; i < many; i++) {
        const size_t number = chosen ? (size_t)chosen[i] : i;
        const upright own = {boxes[4 * number + 1] - boxes[4 * number], areas[number]};
        if (own.height < lowest) continue;
        found[count++] = own;
        total += own.area;
    }
    qsort(found, count, sizeof *found, by_height);
    *out = 0;
    for (size_t i = 0; i < count && 2 * sum < total; i++) {
        sum += found[i].area;
        *out = found[i].height;
    }
    free(found);
    return true;
}

/* How many of the lines across a band of a mark have something of it. Cells lie `step` apart in a line, and lines
 * `stride` apart. */
static int64_t lines_with(const int32_t *first, size_t lines, size_t stride, size_t band, size_t step, int32_t number) {
    int64_t found = 0;
    for (size_t i = 0; i < lines; i++)
        for (size_t k = 0; k < band; k++)
            if (first[i * stride + k * step] == number) {
                found++;
                break;
            }
    return found;
}

/* The same for both ends of a mark, one of whose sides is `count`, the other `lines`. */
static bool closed_by(const int32_t *first, size_t lines, size_t stride, size_t count, size_t step, int32_t number,
                      double near, double whole) {
    const double part = fd_image_nearest(near * (double)count);
    size_t band = part > 2 ? (size_t)part : 2;
    if (band > count) band = count;
    const double least = whole * (double)lines;
    return (double)lines_with(first, lines, stride, band, step, number) >= least &&
           (double)lines_with(first + (count - band) * step, lines, stride, band, step, number) >= least;
}

bool fd_image_is_closed(const int32_t *labels, size_t columns, const int64_t box[4], int32_t number, double near,
                        double whole) {
    const int32_t *const first = labels + (size_t)box[0] * columns + (size_t)box[2];
    const size_t high = (size_t)(box[1] - box[0]), wide = (size_t)(box[3] - box[2]);
    return closed_by(first, wide, 1, high, columns, number, near, whole) &&
           closed_by(first, high, columns, wide, 1, number, near, whole);
}

static bool is_at_border(const int64_t box[4], size_t rows, size_t columns) {
    return box[0] == 0 || box[2] == 0 || box[1] == (int64_t)rows || box[3] == (int64_t)columns;
}

void fd_image_keep(const int64_t *boxes, const double *ink, size_t count, size_t rows, size_t columns, double speck,
                   uint8_t *kept) {
    size_t main = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const int64_t *const box = boxes + 4 * i;
        const double down = (double)(box[0] + box[1]) / (double)rows - 1;
        const double across = (double)(box[2] + box[3]) / (double)columns - 1;
        const double middle = sqrt(down * down + across * across); /* from 0 there to 1.41 in a corner */
        const double weight = ink[i] * (1.5 - middle) * (is_at_border(box, rows, columns) ? 0.5 : 1);
        if (weight > most) {
            most = weight;
            main = i;
        }
    }
    const int64_t *const digit = boxes + 4 * main;
    const bool cut_off = is_at_border(digit, rows, columns);
    for (size_t i = 0; i < count; i++) {
        const int64_t *const box = boxes + 4 * i;
        const bool inside = box[1] > digit[0] && box[0] < digit[1] && box[3] > digit[2] && box[2] < digit[3];
        kept[i] = ink[i] >= speck * ink[main] && (cut_off || inside || !is_at_border(box, rows, columns));
    }
}

bool fd_image_keep_ink(const double *ink, size_t height, size_t width, const int32_t *labels, size_t cell,
                       const uint8_t *kept, double *out) {
    const size_t rows = (height + cell - 1) / cell, columns = (width + cell - 1) / cell, wide = columns + 2;
    /* Cells of marks that are kept, with a margin; these and what is above and below them. */
    uint8_t *const own = calloc((rows + 2) * wide + columns + 2, 1), *const near = own + (rows + 2) * wide;
    if (!own) return false;
    size_t first = rows, end = 0; /* of the rows in which there are any */
    for (size_t y = 0; y < rows; y++) {
        const int32_t *const label = labels + y * columns;
        int32_t all = -1;
        for (size_t x = 0; x < columns; x++) all &= label[x];
        if (all == -1) continue; /* no mark at all */
        uint8_t any = 0, *const row = own + (y + 1) * wide + 1;
        for (size_t x = 0; x < columns; x++)
            if (label[x] >= 0) any |= row[x] = kept[label[x]];
        if (!any) continue;
        if (y < first) first = y;
        end = y + 1;
    }
    memset(out, 0, height * width * sizeof *out);
    first -= first > 0;
    end += end > 0 && end < rows;
    for (size_t y = first; y < end; y++) {
        const uint8_t *const above = own + y * wide, *const here = above + wide, *const below = here + wide;
        for (size_t x = 0; x < wide; x++) near[x] = above[x] | here[x] | below[x];
        const int32_t *const label = labels + y * columns;
        for (size_t x = 0; x < columns; x++) /* A cell of faint pixels beside a mark is the mark's soft edge. */
            near[x] = here[x + 1] | ((near[x] | near[x + 1] | near[x + 2]) & (label[x] < 0));
        const size_t bottom = cell < height - y * cell ? (y + 1) * cell : height;
        for (size_t x = 0; x < columns; x++) {
            if (!near[x]) continue;
            const size_t left = x * cell;
            while (x < columns && near[x]) x++;
            const size_t right = x * cell < width ? x * cell : width;
            for (size_t i = y * cell; i < bottom; i++)
                memcpy(out + i * width + left, ink + i * width + left, (right - left) * sizeof *out);
        }
    }
    free(own);
    return true;
}

bool fd_image_box(const double *values, size_t height, size_t width, double threshold, size_t box[4]) {
    size_t top = height, bottom = 0, left = width, right = 0;
    for (size_t y = 0; y < height; y++) {
        const double *const row = values + y * width;
        size_t first = 0, end = width;
        while (first < width && !(row[first] > threshold)) first++;
        if (first == width) continue;
        while (!(row[end - 1] > threshold)) end--;
        if (top == height) top = y;
        bottom = y + 1;
        if (first < left) left = first;
        if (end > right) right = end;
    }
    box[0] = top;
    box[1] = bottom;
    box[2] = left;
    box[3] = right;
    return bottom > 0;
}

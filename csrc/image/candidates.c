#include "image/image.h"

#include <stdlib.h>

/* Where a mark's pieces begin and end. */
typedef struct {
    int32_t mark;
    size_t first, last;
} extent;

static int by_mark(const void *left, const void *right) {
    const extent *const a = left, *const b = right;
    if (a->mark != b->mark) return a->mark < b->mark ? -1 : 1;
    return (a->first > b->first) - (a->first < b->first);
}

/* Of each piece, the first and the last one of its mark; of one mark, they need not stand side by side. */
static bool found_extents(const fd_image_piece *pieces, size_t count, extent *own) {
    extent *const sorted = malloc(count * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < count; i++) sorted[i] = (extent){pieces[i].mark, i, i};
    qsort(sorted, count, sizeof *sorted, by_mark);
    for (size_t start = 0, end; start < count; start = end) {
        for (end = start + 1; end < count && sorted[end].mark == sorted[start].mark;) end++;
        for (size_t i = start; i < end; i++)
            own[sorted[i].first] = (extent){sorted[i].mark, sorted[start].first, sorted[end - 1].first};
    }
    free(sorted);
    return true;
}

bool fd_image_find_candidates(const fd_image_piece *pieces, size_t count, size_t most, double widest, double smallest,
                              fd_image_candidate *out, size_t *found) {
    *found = 0;
    extent *const own = malloc(count * sizeof *own);
    const bool done = own && found_extents(pieces, count, own);
    for (size_t end = 1; done && end <= count; end++) {
        fd_image_candidate joined = {0};
        size_t earliest = count, latest = 0;
        bool is_one = true;
        const size_t first = most < end ? end - most : 0;
        for (size_t start = end; start > first;) {
            start--;
            const fd_image_piece *const piece = pieces + start;
            const bool alone = start + 1 == end;
            for (int edge = 0; edge < 4; edge++) {
                const int32_t at = piece->box[edge], before = joined.box[edge];
                const bool further = edge % 2 ? at > before : at < before;
                if (alone || further) joined.box[edge] = at;
            }
            is_one = is_one && piece->mark == pieces[end - 1].mark;
            if (own[start].first < earliest) earliest = own[start].first;
            if (own[start].last > latest) latest = own[start].last;
            const double high = joined.box[1] - joined.box[0], wide = joined.box[3] - joined.box[2];
            if (!alone && wide > widest) break;
            if (high < smallest && wide < smallest) continue;
            joined.start = (int32_t)start;
            joined.end = (int32_t)end;
            joined.cut = (earliest < start) + (latest >= end);
            joined.is_mark = is_one && !joined.cut;
            out[(*found)++] = joined;
        }
    }
    free(own);
    return done;
}

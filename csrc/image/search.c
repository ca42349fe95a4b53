#include "image/image.h"

#include <stdlib.h>
#include <string.h>

/* A digit of a way, behind those of `before`; a way of no digits is NULL. */
typedef struct digit digit;
struct digit {
    const digit *before;
    uint64_t hash; /* of the text */
    int32_t length, candidate;
    int8_t label;
};

/* Ways are kept until the end: they lie in blocks that never move. */
typedef struct block block;
struct block {
    block *next;
    size_t used;
    digit digits[1024];
};

/* A way as far as some piece. `last` is what it would be kept as; `same` is where that is kept, if it is. */
typedef struct {
    double score;
    const digit *same;
    digit last;
} way;

typedef struct {
    way *items;
    size_t count, room;
} ways;

static bool append(ways *list, const way *item) {
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 256;
        way *const items = realloc(list->items, room * sizeof *items);
        if (!items) return false;
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = *item;
    return true;
}

static const digit *keep(block **blocks, const digit *made) {
    if (!*blocks || (*blocks)->used == sizeof(*blocks)->digits / sizeof(*blocks)->digits[0]) {
        block *const more = malloc(sizeof *more);
        if (!more) return NULL;
        more->next = *blocks;
        more->used = 0;
        *blocks = more;
    }
    digit *const kept = (*blocks)->digits + (*blocks)->used++;
    *kept = *made;
    return kept;
}

/* Of two texts, or the numbers of their candidates, as many as both have: what differs first decides. */
static int compare_ways(const digit *a, const digit *b, bool labels) {
    int order = 0;
    while (a && a->length > (b ? b->length : 0)) {
        a = a->before;
        order = 1;
    }
    while (b && b->length > (a ? a->length : 0)) {
        b = b->before;
        order = -1;
    }
    for (; a && b && a != b; a = a->before, b = b->before) {
        const int32_t left = labels ? a->label : a->candidate, right = labels ? b->label : b->candidate;
        if (left != right) order = left > right ? 1 : -1;
    }
    return order;
}

static inline const digit *digits_of(const way *of) { return of->last.length ? &of->last : NULL; }

/* The better comes first; of equals, that of the greater text, then of the greater numbers. */
static int best_first(const void *left, const void *right) {
    const way *const a = left, *const b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    const int text = compare_ways(digits_of(a), digits_of(b), true);
    return -(text ? text : compare_ways(digits_of(a), digits_of(b), false));
}

/* What ways of different texts are found by, and how many there are of each length. */
typedef struct {
    const way **slots;
    size_t mask;
    uint32_t *of_length;
} texts;

/* True if no way of the text was there; it then is. */
static bool is_new(texts *known, const way *item) {
    size_t slot = (size_t)item->last.hash & known->mask;
    for (; known->slots[slot]; slot = (slot + 1) & known->mask) {
        const way *const other = known->slots[slot];
        if (other->last.hash == item->last.hash && !compare_ways(digits_of(other), digits_of(item), true)) return false;
    }
    known->slots[slot] = item;
    return true;
}

/* Keeps the best ways of different texts: `most`, or so many of each length, which is at most `longest`. */
static bool keep_best(ways *found, size_t most, size_t longest, bool by_length, block **blocks, ways *kept) {
    size_t room = 16;
    while (room < 2 * found->count) room *= 2;
    texts known = {(const way **)calloc(room, sizeof *known.slots), room - 1,
                   calloc(longest + 1, sizeof *known.of_length)};
    bool done = known.slots && known.of_length;
    if (done) qsort(found->items, found->count, sizeof *found->items, best_first);
    for (size_t i = 0; done && i < found->count; i++) {
        way *const item = found->items + i;
        uint32_t *const many = known.of_length + (by_length ? item->last.length : 0);
        if (*many >= most || !is_new(&known, item)) continue;
        ++*many;
        if (!item->same && item->last.length) done = (item->same = keep(blocks, &item->last)) != NULL;
        done = done && append(kept, item);
    }
    free((void *)known.slots);
    free(known.of_length);
    return done;
}

/* All ways that a candidate ends. */
static bool extend(const fd_image_candidate *candidate, int32_t number, const double *gains, double alone,
                   size_t longest, const way *from, size_t count, ways *found) {
    bool done = true;
    for (size_t i = 0; done && !candidate->cut && i < count; i++) {
        way left_out = from[i];
        left_out.score -= alone;
        done = append(found, &left_out);
    }
    for (int8_t label = 0; done && label < FD_IMAGE_LABELS; label++) {
        const double gain = gains[label];
        if (gain != gain) continue;
        for (size_t i = 0; done && i < count; i++) {
            const digit *const last = &from[i].last;
            if ((size_t)last->length >= longest) continue;
            const uint64_t hash = (last->hash ^ (uint64_t)(label + 1)) * 0x9E3779B97F4A7C15u;
            const way more = {
                from[i].score + gain, NULL, {from[i].same, hash ^ hash >> 29, last->length + 1, number, label}};
            done = append(found, &more);
        }
    }
    return done;
}

bool fd_image_search(const fd_image_candidate *candidates, size_t count, const double *gains, const double *losses,
                     size_t pieces, double alone, size_t most, size_t length, fd_image_ways *out) {
    *out = (fd_image_ways){0, 0, NULL, NULL, NULL, NULL};
    const bool by_length = length != FD_IMAGE_ANY_LENGTH;
    const size_t longest = by_length && length < pieces ? length : pieces;
    /* The ways to each piece lie behind one another; starts[i] is where those to piece i begin. */
    size_t *const starts = malloc((pieces + 2) * sizeof *starts);
    ways best = {NULL, 0, 0}, found = {NULL, 0, 0};
    block *blocks = NULL;
    bool done = starts && append(&best, &(way){0, NULL, {NULL, 0, 0, -1, -1}});
    if (done) {
        starts[0] = 0;
        starts[1] = 1;
    }
    for (size_t end = 1, number = 0; done && end <= pieces; end++) {
        found.count = 0;
        for (size_t i = starts[end - 1]; done && i < starts[end]; i++) {
            way left_out = best.items[i];
            left_out.score -= losses[end - 1];
            done = append(&found, &left_out);
        }
        for (; done && number < count && (size_t)candidates[number].end == end; number++) {
            const size_t start = (size_t)candidates[number].start;
            done = extend(candidates + number, (int32_t)number, gains + number * FD_IMAGE_LABELS, alone, longest,
                          best.items + starts[start], starts[start + 1] - starts[start], &found);
        }
        done = done && keep_best(&found, most, longest, by_length, &blocks, &best);
        if (done) starts[end + 1] = best.count;
    }
    if (done) {
        const way *const first = best.items + starts[pieces];
        /* Of no ways or no digits, still memory. */
        const size_t last = best.count - starts[pieces], digits = last * longest + 1;
        out->longest = longest;
        out->scores = malloc((last + 1) * sizeof *out->scores);
        out->lengths = malloc((last + 1) * sizeof *out->lengths);
        out->labels = malloc(digits * sizeof *out->labels);
        out->chosen = malloc(digits * sizeof *out->chosen);
        done = out->scores && out->lengths && out->labels && out->chosen;
        for (size_t i = 0; done && i < last; i++) {
            const size_t many = (size_t)first[i].last.length, at = out->count * longest;
            if (by_length && many != length) continue;
            out->scores[out->count] = first[i].score;
            out->lengths[out->count++] = many;
            size_t k = many;
            for (const digit *own = first[i].same; own; own = own->before) {
                out->labels[at + --k] = own->label;
                out->chosen[at + k] = own->candidate;
            }
        }
    }
    if (!done) fd_image_free_ways(out);
    while (blocks) {
        block *const next = blocks->next;
        free(blocks);
        blocks = next;
    }
    free(starts);
    free(best.items);
    free(found.items);
    return done;
}

void fd_image_free_ways(fd_image_ways *found) {
    free(found->scores);
    free(found->lengths);
    free(found->labels);
    free(found->chosen);
    *found = (fd_image_ways){0, 0, NULL, NULL, NULL, NULL};
}

#include "image/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES (FD_IMAGE_LABELS + 1)
/* After so many steps, probabilities are scaled, lest they become too small for a float. */
#define SCALED 8

/* A text: that of `parent` and one more digit. Texts of the beam are found among the children of one another. */
typedef struct {
    int32_t parent, child, sibling; /* -1: none */
    int32_t length;
    int32_t step, slot; /* where it is in the beam, and in which step it was there */
    int8_t digit;
} text;

typedef struct {
    text *items;
    size_t count, room;
} texts;

/* What may be in the beam: a text, or one that has `digit` behind it. `all` is the probability of both endings. */
typedef struct {
    double all, blank, label; /* ends in nothing, in its last digit */
    const texts *of;
    int32_t text;
    int8_t digit; /* -1: the text itself */
} prefix;

static int32_t child_of(const texts *of, int32_t parent, int8_t digit) {
    int32_t at = of->items[parent].child;
    while (at >= 0 && of->items[at].digit != digit) at = of->items[at].sibling;
    return at;
}

static bool add_text(texts *of, int32_t parent, int8_t digit) {
    if (of->count == of->room) {
        const size_t room = of->room ? 2 * of->room : 256;
        if (room > INT32_MAX) return false;
        text *const items = realloc(of->items, room * sizeof *items);
        if (!items) return false;
        of->items = items;
        of->room = room;
    }
    text *const made = of->items + of->count;
    *made = (text){parent, -1, -1, 0, -1, 0, digit};
    if (parent >= 0) {
        made->length = of->items[parent].length + 1;
        made->sibling = of->items[parent].child;
        of->items[parent].child = (int32_t)of->count;
    }
    of->count++;
    return true;
}

/* As strings: what differs first decides, and else the shorter comes first. */
static int compare_texts(const prefix *left, const prefix *right) {
    const text *const items = left->of->items;
    int32_t a = left->text, b = right->text;
    int32_t long_a = items[a].length + (left->digit >= 0), long_b = items[b].length + (right->digit >= 0);
    int8_t digit_a = left->digit >= 0 ? left->digit : items[a].digit;
    int8_t digit_b = right->digit >= 0 ? right->digit : items[b].digit;
    int order = (long_a > long_b) - (long_a < long_b);
    /* a and b are the texts before their last digits. */
    if (left->digit < 0) a = items[a].parent;
    if (right->digit < 0) b = items[b].parent;
    while (long_a > 0 && long_b > 0) {
        if (long_a == long_b) {
            if (digit_a != digit_b) order = digit_a > digit_b ? 1 : -1;
            if (a == b) break;
        }
        const int32_t longer = long_a - long_b;
        if (longer >= 0) {
            digit_a = items[a].digit;
            a = items[a].parent;
            long_a--;
        }
        if (longer <= 0) {
            digit_b = items[b].digit;
            b = items[b].parent;
            long_b--;
        }
    }
    return order;
}

static int likelier_first(const void *left, const void *right) {
    const prefix *const a = left, *const b = right;
    if (a->all != b->all) return a->all > b->all ? -1 : 1;
    return compare_texts(a, b);
}

/* Of the beam's `count` texts, with room for CLASSES times as many, what they become in a step; returns how many. */
static size_t taken_on(texts *known, prefix *beam, size_t count, int32_t step, const double *row, double least) {
    for (size_t i = 0; i < count; i++) {
        known->items[beam[i].text].step = step;
        known->items[beam[i].text].slot = (int32_t)i;
    }
    /* What the texts gain from one another is added behind what they have of themselves. */
    prefix *const before = beam + count * CLASSES;
    memcpy(before, beam, count * sizeof *beam);
    for (size_t i = 0; i < count; i++) {
        const int8_t last = known->items[beam[i].text].digit;
        beam[i].blank = (before[i].blank + before[i].label) * row[0];
        beam[i].label = last >= 0 ? before[i].label * row[last + 1] : 0;
    }
    size_t found = count;
    for (size_t i = 0; i < count; i++) {
        const int8_t last = known->items[before[i].text].digit;
        const double both = before[i].blank + before[i].label;
        for (int8_t digit = 0; digit < FD_IMAGE_LABELS; digit++) {
            const double chance = row[digit + 1];
            if (!(chance >= least)) continue;
            const double gain = (digit == last ? before[i].blank : both) * chance;
            if (!(gain > 0)) continue;
            const int32_t child = child_of(known, before[i].text, digit);
            if (child >= 0 && known->items[child].step == step)
                beam[known->items[child].slot].label += gain;
            else
                beam[found++] = (prefix){0, 0, gain, known, before[i].text, digit};
        }
    }
    for (size_t i = 0; i < found; i++) beam[i].all = beam[i].blank + beam[i].label;
    return found;
}

static bool told(const texts *known, const prefix *beam, size_t count, fd_image_texts *out) {
    size_t digits = 0;
    for (size_t i = 0; i < count; i++) digits += (size_t)known->items[beam[i].text].length;
    out->lengths = malloc((count + 1) * sizeof *out->lengths);
    out->digits = malloc(digits + 1);
    if (!out->lengths || !out->digits) return false;
    out->count = count;
    uint8_t *end = out->digits;
    for (size_t i = 0; i < count; i++) {
        const text *item = known->items + beam[i].text;
        out->lengths[i] = (size_t)item->length;
        end += item->length;
        for (uint8_t *at = end; item->parent >= 0; item = known->items + item->parent) *--at = (uint8_t)item->digit;
    }
    return true;
}

bool fd_image_likely_texts(const double *steps, size_t count, double least, size_t most, fd_image_texts *out) {
    *out = (fd_image_texts){0, NULL, NULL};
    texts known = {NULL, 0, 0};
    /* All that a beam becomes, and the beam before. */
    prefix *const beam = malloc(most * (CLASSES + 1) * sizeof *beam);
    bool done = beam && add_text(&known, -1, -1);
    size_t kept = 1;
    if (done) beam[0] = (prefix){1, 1, 0, &known, 0, -1};
    for (size_t step = 0; done && step < count; step++) {
        const size_t found = taken_on(&known, beam, kept, (int32_t)step, steps + step * CLASSES, least);
        qsort(beam, found, sizeof *beam, likelier_first);
        kept = found < most ? found : most;
        const double top = beam[0].all;
        for (size_t i = 0; done && i < kept; i++) {
            prefix *const item = beam + i;
            item->blank /= top;
            item->label /= top;
            if (item->digit < 0) continue;
            const int32_t child = child_of(&known, item->text, item->digit);
            done = child >= 0 || add_text(&known, item->text, item->digit);
            item->text = child >= 0 ? child : (int32_t)known.count - 1;
            item->digit = -1;
        }
    }
    done = done && told(&known, beam, kept, out);
    if (!done) fd_image_free_texts(out);
    free(beam);
    free(known.items);
    return done;
}

void fd_image_free_texts(fd_image_texts *found) {
    free(found->lengths);
    free(found->digits);
    *found = (fd_image_texts){0, NULL, NULL};
}

/* The class of a state: nothing before, between and behind the digits. */
static inline size_t class_of(const uint8_t *digits, size_t state) {
    return state % 2 ? (size_t)digits[state / 2] + 1 : 0;
}

/* Whether a state comes after the one before the last as well: over what is nothing, between different digits. */
static inline bool skips(const uint8_t *digits, size_t state) {
    return state % 2 && state > 1 && digits[state / 2] != digits[state / 2 - 1];
}

/* One step further. Two states more lie before the first: before the first step, it is in the second of them. From
 * behind, so that each is read before it is written. */
static void step_on(double *reached, const uint8_t *digits, size_t length, const double *row, bool first) {
    for (size_t k = length; k > 0; k--) {
        const size_t state = 2 * k - 1;
        reached[state + 3] = (reached[state + 3] + reached[state + 2]) * row[0];
        double sum = reached[state + 2] + reached[state + 1];
        if (skips(digits, state) || (first && state == 1)) sum += reached[state];
        reached[state + 2] = sum * row[digits[k - 1] + 1];
    }
    reached[2] = (reached[2] + reached[1]) * row[0];
    reached[0] = reached[1] = 0;
}

bool fd_image_text_logs(const double *steps, size_t count, const uint8_t *digits, const size_t *lengths, size_t many,
                        double least, double *out) {
    size_t longest = 0;
    for (size_t i = 0; i < many; i++)
        if (lengths[i] > longest) longest = lengths[i];
    double *const reached = malloc((2 * longest + 3) * sizeof *reached);
    double *const rows = calloc(count, CLASSES * sizeof *rows);
    const bool done = reached && rows;
    /* What is less is scaled up to it, lest it vanish. */
    const double smallest = pow(least, SCALED);
    for (size_t i = 0; done && i < count * CLASSES; i++) rows[i] = steps[i] > least ? steps[i] : least;
    for (size_t i = 0; done && i < many; digits += lengths[i++]) {
        const size_t length = lengths[i], states = 2 * length + 1;
        memset(reached, 0, (states + 2) * sizeof *reached);
        reached[1] = 1;
        double total = 0;
        for (size_t step = 0; step < count; step++) {
            step_on(reached, digits, length, rows + step * CLASSES, step == 0);
            if (step % SCALED) continue;
            double scale = 0;
            for (size_t state = 0; state < states; state++) scale += reached[state + 2];
            if (scale < smallest) scale = smallest;
            total += log(scale);
            for (size_t state = 0; state < states; state++) reached[state + 2] /= scale;
        }
        const double end = reached[states + 1] + (length ? reached[states] : 0);
        out[i] = total + log(end > smallest ? end : smallest);
    }
    free(reached);
    free(rows);
    return done;
}

bool fd_image_places(const double *steps, size_t count, const uint8_t *digits, size_t length, double least,
                     int32_t *out) {
    const size_t states = 2 * length + 1;
    double *const score = malloc(states * sizeof *score);
    uint8_t *const came = calloc(count, states); /* from how many states before */
    const bool done = score && came;
    if (done) {
        double logs[CLASSES];
        for (size_t state = 0; state < states; state++) score[state] = -INFINITY;
        for (size_t step = 0; step < count; step++) {
            for (size_t i = 0; i < CLASSES; i++) logs[i] = log(fmax(steps[step * CLASSES + i], least));
            if (step == 0) {
                for (size_t state = 0; state < 2 && state < states; state++)
                    score[state] = logs[class_of(digits, state)];
                continue;
            }
            for (size_t state = states; state-- > 0;) {
                double best = score[state];
                uint8_t from = 0;
                if (state > 0 && score[state - 1] > best) {
                    best = score[state - 1];
                    from = 1;
                }
                if (skips(digits, state) && score[state - 2] > best) {
                    best = score[state - 2];
                    from = 2;
                }
                score[state] = best + logs[class_of(digits, state)];
                came[step * states + state] = from;
            }
        }
        for (size_t i = 0; i < length; i++) out[i] = -1;
        size_t state = states - 1;
        if (states > 1 && score[states - 2] > score[states - 1]) state--;
        for (size_t step = count; step-- > 0;) {
            if (state % 2) {
                int32_t *const at = out + state / 2;
                const size_t class = class_of(digits, state);
                /* The first of equals. */
                if (*at < 0 || steps[step * CLASSES + class] >= steps[(size_t)*at * CLASSES + class])
                    *at = (int32_t)step;
            }
            state -= came[step * states + state];
        }
    }
    free(score);
    free(came);
    return done;
}

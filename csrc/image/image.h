/* Loops over the pixels of small pictures: what fastdigit.images and fastdigit.reader are made of.
 *
 * A plane is `height` rows of `width` doubles, row after row without gaps; a pixel is at [y * width + x]. Sides are at
 * least 1 and at most FD_IMAGE_SIDE, a plane has less than 2^31 pixels, and windows are at most FD_IMAGE_WINDOW, so
 * that no size wraps. Values are finite: pixels and ink are in 0..1. Boxes are first row, end of rows, first column,
 * end of columns; ends are one past the last. What is written to never overlaps what is read, unless it says so.
 *
 * Functions that need memory of their own return false if there is none, and have then written nothing that counts.
 * None of them keeps anything between calls, so threads may call them at once. Sums are taken in a fixed order.
 *
 * Nothing here depends on the engine, or the engine on it. */
#ifndef FD_IMAGE_H
#define FD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FD_IMAGE_SIDE ((size_t)1 << 24)
#define FD_IMAGE_WINDOW ((size_t)1 << 16)

/* ---- values.c: counts and quantiles ---- */

typedef struct {
    double least, greatest;
} fd_image_range;
fd_image_range fd_image_extremes(const double *values, size_t count);

size_t fd_image_count_above(const double *values, size_t count, double threshold);

/* The share of the values that are above half of the greatest. */
double fd_image_coverage(const double *values, size_t count);

/* The value of rank `rank` < count, from 0. `scratch` has room for 2 * count values. */
double fd_image_select(const double *values, size_t count, size_t rank, double *scratch);

/* The quantiles `parts`, each in 0..1, of at least one value, interpolated linearly as by numpy.quantile. `scratch` as
 * above. */
void fd_image_quantiles(const double *values, size_t count, const double *parts, size_t wanted, double *scratch,
                        double *out);

/* ---- filters.c ---- */

/* Means of blocks of `block` x `block` pixels of `channels` values each, divided by `full`: out has
 * ceil(height / block) x ceil(width / block) pixels; blocks at the end are smaller. */
bool fd_image_average_u8(const uint8_t *pixels, size_t height, size_t width, size_t channels, size_t block, double full,
                         double *out);
bool fd_image_average_u16(const uint16_t *pixels, size_t height, size_t width, size_t channels, size_t block,
                          double full, double *out);
bool fd_image_average_f64(const double *pixels, size_t height, size_t width, size_t channels, size_t block, double full,
                          double *out);

/* The greatest of each `window` neighbours of a column (axis 0) or row (axis 1), which gets shorter by window - 1. */
bool fd_image_sliding_max(const double *values, size_t height, size_t width, size_t window, int axis, double *out);

/* What is darker than its surroundings and narrower than `window` is filled: each value becomes the least of the
 * greatest of window x window neighbours. Beyond the border, the pixels there go on. */
bool fd_image_closing(const double *values, size_t height, size_t width, size_t window, double *out);

/* Each value beside that of its closing, (value + little) / (closing + little): of paper, 1 in any light. */
bool fd_image_flattened(const double *values, size_t height, size_t width, size_t window, double little, double *out);

/* The mean of window x window pixels around each; beyond the border, the pixels there go on. */
bool fd_image_box_mean(const double *values, size_t height, size_t width, size_t window, double *out);

/* ---- runs.c: how wide ink is ---- */

/* Of each pixel in the mask (not 0), how long the run of such pixels in its column is; 0 for all others. */
void fd_image_run_lengths(const uint8_t *mask, size_t height, size_t width, int32_t *out);

/* The median of the shorter of the runs above the threshold, level and upright, through each pixel above it; 0 if none
 * is. */
bool fd_image_stroke_width(const double *values, size_t height, size_t width, double threshold, double *out);

/* How many squares of `side` pixels a side lie where low < value < high; if `out` is not NULL, which, by their first
 * corners: (height - side + 1) x (width - side + 1) of 0 and 1. None if side is longer than a side of the plane. */
bool fd_image_squares(const double *values, size_t height, size_t width, double low, double high, size_t side,
                      uint8_t *out, size_t *count);

typedef struct {
    size_t length; /* In pixels. */
    double rise;   /* Of ink at its steeper end, from two pixels outside to two inside. */
    double middle; /* The ink there. */
} fd_image_run;

/* The runs above the threshold in every `step`-th row, or column if upright, but for those from edge to edge; there is
 * room for one in two pixels of these lines, rounded up. Returns how many. */
size_t fd_image_runs(const double *ink, size_t height, size_t width, bool upright, size_t step, double threshold,
                     fd_image_run *out);

/* ---- paper.c: the light that ink is seen in ---- */

typedef struct {
    bool flat; /* The border is of one brightness, which is the least or the greatest of all. */
    double paper, least, greatest;
} fd_image_flatness;
fd_image_flatness fd_image_flat_paper(const double *grey, size_t height, size_t width);

/* The share of the paper's light that each pixel lacks: (paper - grey) / (paper + little) of dark ink, and of bright
 * ink the same of the negative. */
void fd_image_away_from(const double *grey, size_t count, double paper, bool dark, double little, double *out);

/* How far the plane is from smooth light, and how noisy it is: out[0] is the greatest mean of window x window pixels
 * (window odd, less than both sides) of what is left without the polynomials of degree 2 at most, of which `rows`
 * (3, height) and `columns` (3, width) are orthonormal bases by degree; out[1] is the typical difference of neighbours,
 * the mean of the least four fifths, in every `every`-th row or column, of that direction where it is greater. */
bool fd_image_structure(const double *grey, size_t height, size_t width, const double *rows, const double *columns,
                        size_t window, size_t every, double out[2]);

/* Adds to out[0] the cubes of the differences from the mean of window x window pixels, to out[1] their sizes. */
bool fd_image_skew(const double *grey, size_t height, size_t width, size_t window, double out[2]);

/* Of the border's pixels, the share that is above `middle`, less the share below. Corners count twice. */
double fd_image_border_vote(const double *grey, size_t height, size_t width, double middle);

/* Of neighbours in a column (out_rows, height - 1) and in a row (out_columns, width - 1), the share in which one is
 * nearly the negative of the other, if `least` is black and `greatest` white. */
bool fd_image_opposites(const double *grey, size_t height, size_t width, double least, double greatest,
                        double *out_rows, double *out_columns);

/* The brightness of the paper under dark ink: a closing by window x window, where the plane goes on beyond its border
 * as the border does without the strokes that touch it. */
bool fd_image_paper(const double *grey, size_t height, size_t width, size_t window, double *out);

/* (paper - grey) / (paper + little), of the paper that fd_image_paper finds. */
bool fd_image_away(const double *grey, size_t height, size_t width, size_t window, double little, double *out);

typedef struct {
    double noise; /* One standard deviation of the paper. */
    double range; /* Between paper and ink; 0 if there is none. */
    double other; /* The same of what is on the other side of the paper; 0 where ink is not pale. */
} fd_image_contrast;
/* The ink, 0..1, of differences from the paper: 0 up to three deviations of its noise, 1 from most of the ink on. These
 * are judged by `seen`: all of the differences, or some of them. If `flat`, paper is 0 and has no noise, and may be
 * left out of them. `out` may be `away`. */
bool fd_image_stretched(const double *away, size_t count, const double *seen, size_t some, bool flat, double *out,
                        fd_image_contrast *contrast);

/* ---- page.c ---- */

/* The ink, 0..1, of a page in any light, bright ink if not `dark`. The paper of a block of block x block pixels is what
 * four fifths of them are darker than; blocks that strokes darken are filled from those around them, and paper between
 * the middles of blocks is interpolated. */
bool fd_image_page_ink(const double *grey, size_t height, size_t width, bool dark, size_t block, double *out,
                       fd_image_contrast *contrast);

/* Of what is above the threshold, rows and columns of every so-manyth pixel, so that there are at most `most`; out[0]
 * and out[1]: the first and last column in which there is any. `down` and `across` have room for `most`, and the mean
 * of the columns is taken from these. Returns how many. */
size_t fd_image_points(const double *ink, size_t height, size_t width, double threshold, size_t most, double *down,
                       double *across, size_t out[2]);

/* How sharp lines of text are along each of `many` slopes, in rows a column: the sum of the squares of how many pixels
 * each row has, of `rows`. Pixel i is `down[i]` rows from the first one and `across[i]` columns from where rows are
 * counted, `low` above it; all of them lie inside, along each slope. */
bool fd_image_sharpness(const double *down, const double *across, size_t count, const double *slopes, size_t many,
                        double low, size_t rows, int64_t *out);

/* Moves row y to the right by moved[y] columns, which is not negative; between two of them, values are shared out. What
 * is moved furthest still has a column behind it in rows of `wide`. */
void fd_image_shear(const double *values, size_t height, size_t width, const double *moved, size_t wide, double *out);

/* ---- marks.c: what touches ---- */

/* The sum of each block of cell x cell pixels if one of them is above the threshold, which is not negative, else 0: out
 * has ceil(height / cell) x ceil(width / cell) cells. */
void fd_image_cells(const double *ink, size_t height, size_t width, size_t cell, double threshold, double *out);

typedef struct {
    int32_t box[4]; /* In cells. */
    int32_t area;   /* Cells of it. */
    double ink;     /* The sum of these. */
} fd_image_mark;

typedef struct {
    size_t count;
    fd_image_mark *items; /* To be freed. */
} fd_image_marks;

/* Finds the marks: what is above the threshold and touches, corners included, is one. They are numbered from 0 by their
 * first cells, row by row; labels (rows, columns) tells whose a cell is, or -1. */
bool fd_image_find_marks(const double *cells, size_t rows, size_t columns, double threshold, int32_t *labels,
                         fd_image_marks *marks);

/* The height of most ink's marks: the least for which those that are no higher have half of the cells of all. Marks
 * lower than `lowest` do not count; 0 if no other is. `chosen` has the numbers of `many` marks; NULL: all. */
bool fd_image_height_of_most(const int64_t *boxes, const int64_t *areas, const int64_t *chosen, size_t many,
                             int64_t lowest, int64_t *out);

/* Whether, of a mark, there is something at its top and at its bottom in so many of its columns, and at its left and
 * right in so many of its rows, `whole` of all: within `near` of its height or width, at least two pixels. */
bool fd_image_is_closed(const int32_t *labels, size_t columns, const int64_t box[4], int32_t number, double near,
                        double whole);

/* Which of at least one mark belong to the digit (1), and which to none (0). The digit's main mark is that of most ink,
 * which counts for more in the middle and for half at the border. Marks of less than `speck` of its ink are dirt. What
 * the border cuts off is not the digit's, unless its main mark is cut off too or their boxes overlap. */
void fd_image_keep(const int64_t *boxes, const double *ink, size_t count, size_t rows, size_t columns, double speck,
                   uint8_t *kept);

/* The ink in the cells of marks that are kept and in the eight around each, but for cells of other marks. */
bool fd_image_keep_ink(const double *ink, size_t height, size_t width, const int32_t *labels, size_t cell,
                       const uint8_t *kept, double *out);

/* The box of what is above the threshold; false if nothing is. */
bool fd_image_box(const double *values, size_t height, size_t width, double threshold, size_t box[4]);

/* ---- lines.c: long straight marks ---- */

typedef struct {
    double length;   /* Of the width, that a line goes through at least. */
    double covered;  /* Of that, where it is inked. */
    double alone;    /* Of that, where nothing else touches the line. */
    double votes;    /* Of the width, how many pixels in a straight row are worth following. */
    double fewest;   /* Of the width, how many pixels must be left to go on. */
    double thickest; /* In pixels. */
    double slope;    /* Of the steepest line: rows a column. */
    double level;    /* Votes that a slope of 1 costs. */
    double quantile; /* Of the lengths of runs: the thickness. */
    size_t gap;      /* Columns that may be missing. */
    size_t aside;    /* Rows beside the straight line where its pixels may be. */
    size_t beyond;   /* Rows beside a line's thickness that are done with it. */
    size_t most;     /* Lines. */
    size_t tries;    /* Straight rows that are followed. */
    size_t ends;     /* If not 0: lines go from one of the first to one of the last so many columns, */
    double all;      /* and are alone in more than this share of all columns. */
} fd_image_line_kind;

typedef struct {
    size_t start, end; /* Columns. */
    double thickness;  /* In pixels. */
} fd_image_line;

void fd_image_transpose_u8(const uint8_t *mask, size_t height, size_t width, uint8_t *out);

/* Whether there can be lines: at least so many pixels and columns are inked, and, if `ends` is not 0, some of the first
 * and of the last so many columns. If `upright`, rows stand for columns. */
bool fd_image_spans(const uint8_t *mask, size_t height, size_t width, bool upright, size_t pixels, size_t columns,
                    size_t ends, bool *out);

/* Lines of a mask that are nearly level. Straight rows of many pixels, found by a Hough transform, are followed one by
 * one. Of line i and each column, tops[i * width + x] and bottoms[...] are the first and end row of what is the line's
 * alone; the same if there is nothing. All three have room for kind->most lines. */
bool fd_image_level_lines(const uint8_t *mask, size_t height, size_t width, const fd_image_line_kind *kind,
                          fd_image_line *lines, int32_t *tops, int32_t *bottoms, size_t *count);

/* ---- paths.c: where marks may be cut ---- */

/* Of each pixel, the cost of the cheapest path to it from the first row, or, upwards, from the last one. A path goes
 * sideways by one pixel a row at most, which costs `sideways`, and each pixel costs its ink and `paper`. steps: by how
 * many columns the path's pixel in the row before lies aside, -1 to 1; of equals, 0, then -1. */
void fd_image_cheapest_paths(const double *ink, size_t height, size_t width, bool upwards, double paper,
                             double sideways, double *totals, int8_t *steps);

typedef struct {
    double paper, sideways; /* As above. */
    double rows[3];         /* Of the height: through every column of these rows the cheapest path is looked for. */
    double most;            /* What a path costs at most. */
    double margin;          /* Columns at the ends where no path goes through these rows. */
    double apart;           /* Columns that a path is away from all others, in the mean over its rows, at least. */
    size_t window;          /* Neighbours on each side of which it is the cheapest. */
    size_t paths;           /* How many at most. */
} fd_image_cuts;

typedef struct {
    size_t box[4]; /* Of what is above the threshold in it, */
    size_t area;   /* and how many pixels that are. */
} fd_image_part;

/* Cuts ink along the cheapest paths from top to bottom into `count` parts; there is room for kind->paths + 1. owners:
 * of each pixel, the number of its part. A path's own pixels go to the part on its left. */
bool fd_image_cut(const double *ink, size_t height, size_t width, const fd_image_cuts *kind, double threshold,
                  uint32_t *owners, fd_image_part *parts, size_t *count);

/* ---- candidates.c: what may be a digit ---- */

/* A mark of a field, or a part of one. */
typedef struct {
    int32_t box[4], mark;
} fd_image_piece;

/* Pieces start to end of a field, joined. */
typedef struct {
    int32_t start, end, box[4];
    int32_t cut;     /* At how many of its two sides a mark is cut. */
    int32_t is_mark; /* Not 0 if it is one mark, and all of it. */
} fd_image_candidate;

/* Finds all runs of `most` pieces at most that have the size of a digit, sorted by their ends: several together are no
 * wider than `widest`, and one side is no smaller than `smallest`. Returns how many; there is room for `most` of each
 * piece. */
bool fd_image_find_candidates(const fd_image_piece *pieces, size_t count, size_t most, double widest, double smallest,
                              fd_image_candidate *out, size_t *found);

/* ---- search.c: the best ways to read a field ---- */

#define FD_IMAGE_LABELS 10
#define FD_IMAGE_ANY_LENGTH SIZE_MAX

/* Of each way its score, how many digits it has, and of each digit the label and the candidate's number; rows of
 * `longest`. */
typedef struct {
    size_t count, longest;
    double *scores;
    size_t *lengths;
    int8_t *labels;
    int32_t *chosen;
} fd_image_ways;

/* Finds the ways through a field of the greatest scores: the best `most` of different texts at each piece, or so many
 * of each length if `length` is not FD_IMAGE_ANY_LENGTH; of these, only ways of that length are told. The best come
 * first; of equals, those of the greater text. A way gains by the label of each of its candidates (gains: count x
 * FD_IMAGE_LABELS, NaN for what it is not), and loses by each piece that is left out, or `alone` for all of a candidate
 * that is not cut. Candidates are sorted by their ends, which are at most `pieces`. To be freed, by
 * fd_image_free_ways. */
bool fd_image_search(const fd_image_candidate *candidates, size_t count, const double *gains, const double *losses,
                     size_t pieces, double alone, size_t most, size_t length, fd_image_ways *out);
void fd_image_free_ways(fd_image_ways *ways);

/* ---- texts.c: fields that are read uncut ---- */

/* Steps are rows of FD_IMAGE_LABELS + 1 probabilities: that there is nothing, and of each digit. In a row, what is the
 * same digit is one, unless nothing is between (connectionist temporal classification). There is at least one. */

/* Texts: of each its length, and the digits of all behind one another. */
typedef struct {
    size_t count;
    size_t *lengths;
    uint8_t *digits;
} fd_image_texts;

/* The most probable texts, `most` at most, the best first; of equals, the one that strings are sorted by. Digits that
 * are less probable in a step than `least` are not looked at there. A beam of prefixes as wide is searched. To be
 * freed, by fd_image_free_texts. */
bool fd_image_likely_texts(const double *steps, size_t count, double least, size_t most, fd_image_texts *out);
void fd_image_free_texts(fd_image_texts *texts);

/* The logarithm of the probability of each of `many` texts, of all its alignments together; no step is less probable
 * than `least`. */
bool fd_image_text_logs(const double *steps, size_t count, const uint8_t *digits, const size_t *lengths, size_t many,
                        double least, double *out);

/* In which step each digit of the text is seen best along the most probable alignment; -1 if the steps are too few. */
bool fd_image_places(const double *steps, size_t count, const uint8_t *digits, size_t length, double least,
                     int32_t *out);

/* ---- draw.c: a digit as the network takes it ---- */

/* The rows and columns of `height` x `width` scaled until the longer side is `box`; at least 1. */
void fd_image_fitted_size(size_t height, size_t width, size_t box, size_t *rows, size_t *columns);

/* Resamples, with a triangle as wide as the coarser of both grids: linear when enlarging, averaging when reducing.
 * Rows of `ink` begin `stride` values apart. */
bool fd_image_resample(const double *ink, size_t stride, size_t height, size_t width, size_t rows, size_t columns,
                       double *out);

/* The mean width of soft strokes: twice the ink over the length of its outline, which is the sum of the gradient. */
double fd_image_mean_width(const double *ink, size_t height, size_t width);

/* Draws rows x columns of ink, neither more than `side`, as bytes into side x side of 0, with its centre of mass as
 * near to the middle as whole pixels allow and all of it inside. There is some ink; its greatest becomes 255. */
void fd_image_place(const double *ink, size_t rows, size_t columns, size_t side, uint8_t *out);

/* All of that: scaled until the longer side is `box`, which is at most `side`, and placed. */
bool fd_image_draw(const double *ink, size_t height, size_t width, size_t box, size_t side, uint8_t *out);

/* Puts ink over a plane, whose rows begin `stride` values apart: of both, the greater counts. */
void fd_image_put(const double *ink, size_t height, size_t width, double *out, size_t stride);

#endif

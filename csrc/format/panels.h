/* Where things lie in the panels of a matrix of weights (csrc/FORMAT.md). */
#ifndef FD_FORMAT_PANELS_H
#define FD_FORMAT_PANELS_H

#include "base/memory.h"
#include "format/format.h"

/* Columns with their padding. */
static inline size_t fd_panel_columns(size_t columns) { return fd_round_up(columns, FD_PANEL_ALIGN); }

/* Width of the panel whose first column is `first`, a multiple of FD_PANEL. */
static inline size_t fd_panel_width(size_t columns, size_t first) {
    return fd_min(FD_PANEL, fd_panel_columns(columns) - first);
}

/* Index of a value, in panels of `depth` rows. */
static inline size_t fd_panel_index(size_t depth, size_t columns, size_t row, size_t column) {
    const size_t first = column / FD_PANEL * FD_PANEL;
    return first * depth + row * fd_panel_width(columns, first) + (column - first);
}

/* How many panels there are. */
static inline size_t fd_panel_count(size_t columns) { return (columns + FD_PANEL - 1) / FD_PANEL; }

#endif

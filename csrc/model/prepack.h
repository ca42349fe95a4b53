/* Weights as one kernel wants them, made from the file's when a model is opened. */
#ifndef FD_MODEL_PREPACK_H
#define FD_MODEL_PREPACK_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a column of `depth` weights, in groups of four. */
static inline size_t fd_prepack_column(size_t depth) { return (depth + 3) / 4 * 4; }

/* From the panels of depth x channels bytes (FORMAT.md) to those of dense_dynamic, which sums four products at once:
 * in place of a row of P bytes, a panel has four rows of 4 P, the bytes of a column side by side, and zeros behind the
 * last row. `out` has fd_prepack_column(depth) bytes for each padded column. `sums`: of the bytes of each. */
void fd_prepack_dynamic(const int8_t *panels, size_t depth, size_t channels, int8_t *out, int32_t *sums);

#endif

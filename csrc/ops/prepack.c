#include "ops/prepack.h"

#include <string.h>

#include "format/panels.h"

/* Four rows of a panel, zeros for those from `rows` on. */
static void interleave(const int8_t *from, size_t rows, size_t width, int8_t *out, int32_t *sums) {
    static const int8_t none[FD_PANEL];
    const int8_t *row[4];
    for (size_t r = 0; r < 4; r++) row[r] = r < rows ? from + r * width : none;
    for (size_t c = 0; c < width; c++) {
        const int8_t four[4] = {row[0][c], row[1][c], row[2][c], row[3][c]};
        memcpy(out + 4 * c, four, sizeof four);
        sums[c] += four[0] + four[1] + four[2] + four[3];
    }
}

void fd_prepack_dynamic(const int8_t *panels, size_t depth, size_t channels, int8_t *out, int32_t *sums) {
    const size_t padded = fd_panel_columns(channels);
    for (size_t first = 0; first < padded; first += FD_PANEL) {
        const size_t width = fd_panel_width(channels, first);
        memset(sums + first, 0, width * sizeof *sums);
        for (size_t k = 0; k < depth; k += 4) {
            interleave(panels, fd_min(4, depth - k), width, out, sums + first);
            panels += fd_min(4, depth - k) * width;
            out += 4 * width;
        }
    }
}

void fd_prepack_groups(const float *panels, const float *biases, size_t depth, size_t channels, size_t groups,
                       float *weights, float *bias) {
    const size_t each = channels / groups, padded = fd_panel_columns(each);
    for (size_t column = 0; column < channels; column++) {
        const size_t group = column / each, own = column % each;
        float *const to = weights + group * depth * padded;
        for (size_t k = 0; k < depth; k++)
            to[fd_panel_index(depth, each, k, own)] = panels[fd_panel_index(depth, channels, k, column)];
        bias[group * padded + own] = biases[column];
    }
}

void fd_prepack_abreast(const float *panels, const float *biases, const fd_prepack_abreast_sizes *s, float *weights,
                        float *bias) {
    const size_t wide = s->cols + (s->abreast - 1) * s->col_stride;
    for (size_t y = 0; y < s->rows; y++)
        for (size_t x = 0; x < s->cols; x++)
            for (size_t c = 0; c < s->in_channels; c++, panels += FD_PANEL_ALIGN)
                for (size_t n = 0; n < s->abreast; n++)
                    memcpy(weights + ((y * wide + x + n * s->col_stride) * s->in_channels + c) * FD_PANEL_ALIGN +
                               n * s->channels,
                           panels, s->channels * sizeof *panels);
    for (size_t n = 0; n < s->abreast; n++) memcpy(bias + n * s->channels, biases, s->channels * sizeof *biases);
}

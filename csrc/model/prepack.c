#include "model/prepack.h"

#include <string.h>

#include "base/memory.h"
#include "format/format.h"

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
    const size_t padded = fd_round_up(channels, FD_PANEL_ALIGN);
    for (size_t first = 0; first < padded; first += FD_PANEL) {
        const size_t width = fd_min(FD_PANEL, padded - first);
        memset(sums + first, 0, width * sizeof *sums);
        for (size_t k = 0; k < depth; k += 4) {
            interleave(panels, fd_min(4, depth - k), width, out, sums + first);
            panels += fd_min(4, depth - k) * width;
            out += 4 * width;
        }
    }
}

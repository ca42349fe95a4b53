#include "image/image.h"

void fd_image_cheapest_paths(const double *ink, size_t height, size_t width, bool upwards, double paper,
                             double sideways, double *totals, int8_t *steps) {
    for (size_t i = 0; i < height; i++) {
        const size_t y = upwards ? height - 1 - i : i;
        const double *const costs = ink + y * width;
        double *const total = totals + y * width;
        int8_t *const step = steps + y * width;
        if (i == 0) {
            for (size_t x = 0; x < width; x++) {
                total[x] = costs[x] + paper;
                step[x] = 0;
            }
            continue;
        }
        const double *const before = upwards ? total + width : total - width;
        for (size_t x = 0; x < width; x++) {
            double best = before[x];
            int8_t from = 0;
            if (x && before[x - 1] + sideways < best) {
                best = before[x - 1] + sideways;
                from = -1;
            }
            if (x + 1 < width && before[x + 1] + sideways < best) {
                best = before[x + 1] + sideways;
                from = 1;
            }
            total[x] = best + (costs[x] + paper);
            step[x] = from;
        }
    }
}

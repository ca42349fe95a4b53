/* A word of the vector vocabulary (simd_generic.h) for ISAs that can't compress a vector. */
#ifndef FD_SIMD_PUT_NONZERO_H
#define FD_SIMD_PUT_NONZERO_H

#include <stddef.h>
#include <stdint.h>

static inline size_t v_put_nonzero(float *values, uint32_t *indices, const float *p, uint32_t first) {
    size_t count = 0;
    for (uint32_t i = 0; i < FD_VL; i++) {
        values[count] = p[i];
        indices[count] = first + i;
        count += p[i] != 0.0f;
    }
    return count;
}

#endif

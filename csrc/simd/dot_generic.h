/* Dot products of bytes: any CPU, through the vector types of GNU C. See simd_generic.h for what each word means. */
#ifndef FD_SIMD_DOT_H
#define FD_SIMD_DOT_H

#include "simd/simd_generic.h"

#define FD_DOT_MIN (-128)

/* Bytes in pairs: products of 16 bits are what SSE2 has. */
typedef int16_t fd_vs __attribute__((vector_size(4 * FD_VL)));
typedef uint16_t fd_vus __attribute__((vector_size(4 * FD_VL)));
typedef uint32_t fd_vu __attribute__((vector_size(4 * FD_VL)));

typedef fd_vs fd_dot_weight;
typedef fd_vs fd_dot_input;

static inline fd_dot_weight v_dot_weight(const int8_t *p) {
    fd_vs v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline fd_dot_input v_dot_input(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return (fd_vs)v_iset1(four);
}
static inline fd_vs v_even_bytes(fd_vs x) { return (fd_vs)((fd_vus)x << 8) >> 8; }
/* Two products make at most 2 * 128 * 127, which fits 16 bits. */
static inline fd_vi v_dot(fd_vi acc, fd_dot_input x, fd_dot_weight w) {
    const fd_vs pairs = v_even_bytes(x) * v_even_bytes(w) + (x >> 8) * (w >> 8);
    return acc + ((fd_vi)((fd_vu)pairs << 16) >> 16) + ((fd_vi)pairs >> 16);
}

#endif

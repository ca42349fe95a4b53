/* What this CPU can do and the operating system lets it. */
#ifndef FD_CPU_FEATURES_H
#define FD_CPU_FEATURES_H

#include <stdint.h>

/* A set of features is a mask of these. */
enum {
    FD_CPU_AVX2 = 1 << 0,
    FD_CPU_FMA = 1 << 1,
    FD_CPU_F16C = 1 << 2,
    FD_CPU_AVXVNNI = 1 << 3,
    FD_CPU_AVX512F = 1 << 4,
    FD_CPU_AVX512CD = 1 << 5,
    FD_CPU_AVX512BW = 1 << 6,
    FD_CPU_AVX512DQ = 1 << 7,
    FD_CPU_AVX512VL = 1 << 8,
    FD_CPU_AVX512VNNI = 1 << 9,
    FD_CPU_NEON = 1 << 10
};

/* The features of this machine. */
uint32_t fd_cpu_features(void);

#endif

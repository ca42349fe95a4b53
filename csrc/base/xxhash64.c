#include "base/xxhash64.h"

#include <string.h>

#define P1 UINT64_C(0x9E3779B185EBCA87)
#define P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P3 UINT64_C(0x165667B19E3779F9)
#define P4 UINT64_C(0x85EBCA77C2B2AE63)
#define P5 UINT64_C(0x27D4EB2F165667C5)

static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }

/* The format is little-endian, and so is every CPU this library builds for (cpu.c refuses others). */
static uint64_t read64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static uint32_t read32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static uint64_t mix(uint64_t lane, uint64_t word) { return rotl(lane + word * P2, 31) * P1; }

static uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ mix(0, lane)) * P1 + P4; }

uint64_t fd_xxhash64(const void *data, size_t size, uint64_t seed) {
    const uint8_t *p = data;
    const uint8_t *const end = p + size;
    uint64_t hash;

    if (size >= 32) {
        uint64_t lane[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
        for (; end - p >= 32; p += 32)
            for (size_t i = 0; i < 4; i++) lane[i] = mix(lane[i], read64(p + 8 * i));
        hash = rotl(lane[0], 1) + rotl(lane[1], 7) + rotl(lane[2], 12) + rotl(lane[3], 18);
        for (int i = 0; i < 4; i++) hash = merge(hash, lane[i]);
    } else {
        hash = seed + P5;
    }
    hash += size;

    for (; end - p >= 8; p += 8) hash = rotl(hash ^ mix(0, read64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        hash = rotl(hash ^ read32(p) * P1, 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++) hash = rotl(hash ^ *p * P5, 11) * P1;

    hash = (hash ^ hash >> 33) * P2;
    hash = (hash ^ hash >> 29) * P3;
    return hash ^ hash >> 32;
}

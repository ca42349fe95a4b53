/* What the drivers of the C tests share. Each is one translation unit, so that everything here is static. */
#ifndef FD_TEST_DRIVER_H
#define FD_TEST_DRIVER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastdigit.h"

/* Says why and ends the process: the test shows stderr. */
#define DIE(...)                                        \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
        exit(1);                                        \
    } while (0)

#define OK(call)                                                                         \
    do {                                                                                 \
        fd_error error;                                                                  \
        if ((call) != FD_OK) DIE("%s: %s", fd_status_name(error.status), error.message); \
    } while (0)

/* Exactly `size` bytes, so that a sanitizer sees the first byte too many. */
static inline void *exactly(size_t size) {
    void *const memory = malloc(size);
    if (!memory && size) DIE("no memory for %zu bytes", size);
    return memory;
}

static inline void *read_file(const char *path, size_t *size) {
    FILE *const stream = fopen(path, "rb");
    if (!stream || fseek(stream, 0, SEEK_END) != 0) DIE("cannot open %s", path);
    const long end = ftell(stream);
    if (end < 0) DIE("cannot find the size of %s", path);
    rewind(stream);
    *size = (size_t)end;
    void *const data = exactly(*size);
    if (fread(data, 1, *size, stream) != *size) DIE("cannot read %s", path);
    fclose(stream);
    return data;
}

/* Marsaglia, Xorshift RNGs, 2003: the same numbers on every machine. */
static inline uint64_t random64(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline size_t random_below(uint64_t *state, size_t n) { return (size_t)((random64(state) >> 16) % n); }

/* In [0, 1], half of them 0, as the pixels of a digit are. */
static inline float random_pixel(uint64_t *state) {
    const uint64_t r = random64(state);
    return r >> 63 ? 0.0f : (float)(r >> 40 & 0xFFFF) / 65535.0f;
}

#endif

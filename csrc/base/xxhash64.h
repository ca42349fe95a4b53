/* XXH64, the checksum of .fdm files: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md */
#ifndef FD_BASE_XXHASH64_H
#define FD_BASE_XXHASH64_H

#include <stddef.h>
#include <stdint.h>

uint64_t fd_xxhash64(const void *data, size_t size, uint64_t seed);

#endif

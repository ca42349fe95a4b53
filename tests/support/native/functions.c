/* Functions that the library keeps to itself, for tests, with the files that they are in. */
#include <string.h>

#include "base/xxhash64.h"
#include "ops/algorithm.h"
#include "ops/prepack.h"

#define SHOWN __attribute__((visibility("default")))

typedef void (*function)(void);

/* A function of the core, or NULL. */
SHOWN function native_function(const char *name) {
#define SHOW(shown) \
    if (strcmp(name, #shown) == 0) return (function)shown;
    SHOW(fd_xxhash64)
    SHOW(fd_prepack_dynamic)
    SHOW(fd_algorithm_cost)
    SHOW(fd_algorithm_choose)
    SHOW(fd_algorithm_sizes)
    SHOW(fd_algorithm_transform)
    return NULL;
}

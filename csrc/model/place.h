/* Where each activation lies in a worker's arena, and which of them all images of a chunk have at once. */
#ifndef FD_MODEL_PLACE_H
#define FD_MODEL_PLACE_H

#include "base/status.h"
#include "format/file.h"
#include "ops/planner.h"

/* Rows that go through the dense layers together, at most: enough to read each weight rarely, few enough that their
 * activations stay in cache. */
#define FD_CHUNK_ROWS 32

typedef struct fd_placement {
    size_t batched; /* ops from here on take a whole chunk */
    size_t chunk;   /* images in a chunk */
    size_t arena;   /* floats */
} fd_placement;

/* Places the values of a program, whose dims and margins are known. FD_ERR_MEMORY. */
fd_status fd_place_values(const fd_file *file, fd_value *values, fd_placement *placement, fd_error *error);

#endif

/* What the checks of operators share. Nothing here is called after a model was loaded. */
#ifndef FD_OPS_CHECK_H
#define FD_OPS_CHECK_H

#include "base/status.h"
#include "format/file.h"

/* Groups of fields of a record; those that an operator does not have must be zero or none. */
enum {
    FD_HAS_WEIGHTS = 1, /* and a bias */
    FD_HAS_KERNEL = 2,
    FD_HAS_ACTIVATION = 4,
    FD_HAS_SCALE = 8,
    FD_HAS_SHIFT = 16,
    FD_HAS_AXIS = 32,
    FD_HAS_AFFINE = FD_HAS_SCALE | FD_HAS_SHIFT | FD_HAS_AXIS,
    FD_HAS_POOL = 64,
    FD_HAS_RANGE = 128,
    FD_HAS_INPUT2 = 256,
    FD_HAS_OPERAND = 512, /* weights alone */
    FD_HAS_BINARY = 1024,
    FD_HAS_CONCAT_AXIS = 2048,
    FD_HAS_PAD = 4096,
    FD_HAS_PAD_CHANNELS = 8192,
    FD_HAS_PERM = 16384,
    FD_HAS_NUMBER = 32768, /* alpha alone */
    FD_HAS_QUANTIZATION = 65536
};

/* Ends a check that fails: with FD_ERR_FORMAT, and a sentence in *error. */
#define FD_REQUIRE(condition, ...)                                           \
    do {                                                                     \
        if (!(condition)) return fd_fail(error, FD_ERR_FORMAT, __VA_ARGS__); \
    } while (0)

/* Ends a check if one that it calls has failed. */
#define FD_TRY(call)                          \
    do {                                      \
        const fd_status status_ = (call);     \
        if (status_ != FD_OK) return status_; \
    } while (0)

/* Whether all fields but those in `fields` are zero or none; opcode, input and output are every operator's. */
int fd_check_fields(const fd_file_op *op, unsigned fields);

/* Each of n values of op i is within [least, most]. */
fd_status fd_check_range(const uint32_t *values, size_t n, uint32_t least, uint32_t most, const char *what, size_t i,
                         fd_error *error);

/* The weight tensor `index` of a layout, or NULL. */
const fd_file_tensor *fd_check_weight(const fd_file *file, uint32_t index, uint32_t layout);

/* It is a vector of so many values. */
fd_status fd_check_vector(const fd_file *file, uint32_t index, size_t length, const char *what, size_t i,
                          fd_error *error);

/* The weights of op i are panels of `depth` rows, *columns is set to how many there are, and the bias goes with them.
 */
fd_status fd_check_weights(const fd_file *file, size_t i, size_t depth, size_t *columns, fd_error *error);

fd_status fd_check_activation(const fd_file_op *op, size_t i, fd_error *error);

/* Scale and shift along an axis of dims. */
fd_status fd_check_affine(const fd_file *file, size_t i, const fd_dims *dims, fd_error *error);

/* Pooling, which changes dims, or none. */
fd_status fd_check_pool(const fd_file_op *op, size_t i, fd_dims *dims, fd_error *error);

#endif

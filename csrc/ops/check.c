#include "ops/check.h"

#include <math.h>
#include <string.h>

/* 0 if a tensor index is one that the op has, or none. */
static uint32_t stray(unsigned has, uint32_t index) { return !has && index != FD_FILE_NONE; }

int fd_check_fields(const fd_file_op *op, unsigned fields) {
    static const fd_file_op zero = {0};
    fd_file_op rest = *op;
    rest.opcode = rest.input = rest.output = 0;
    rest.input2 = stray(fields & FD_HAS_INPUT2, rest.input2);
    rest.weights = stray(fields & (FD_HAS_WEIGHTS | FD_HAS_OPERAND), rest.weights);
    rest.bias = stray(fields & FD_HAS_WEIGHTS, rest.bias);
    rest.scale = stray(fields & FD_HAS_SCALE, rest.scale);
    rest.shift = stray(fields & FD_HAS_SHIFT, rest.shift);
    if (fields & FD_HAS_KERNEL) {
        memset(rest.kernel, 0, sizeof rest.kernel);
        memset(rest.stride, 0, sizeof rest.stride);
        memset(rest.dilation, 0, sizeof rest.dilation);
        rest.groups = 0;
    }
    if (fields & FD_HAS_PAD) memset(rest.pad, 0, sizeof rest.pad);
    if (fields & FD_HAS_PAD_CHANNELS) memset(rest.pad_channels, 0, sizeof rest.pad_channels);
    if (fields & FD_HAS_PERM) memset(rest.perm, 0, sizeof rest.perm);
    if (fields & FD_HAS_BINARY) rest.binary = 0;
    if (fields & FD_HAS_CONCAT_AXIS) rest.concat_axis = 0;
    if (fields & FD_HAS_ACTIVATION) rest.activation = 0;
    if (fields & (FD_HAS_ACTIVATION | FD_HAS_NUMBER)) rest.alpha = 0;
    if (fields & FD_HAS_AXIS) rest.affine_axis = 0;
    if (fields & FD_HAS_POOL) {
        rest.pool_mode = 0;
        memset(rest.pool, 0, sizeof rest.pool);
        memset(rest.pool_stride, 0, sizeof rest.pool_stride);
        memset(rest.pool_pad, 0, sizeof rest.pool_pad);
    }
    if (fields & FD_HAS_RANGE) {
        rest.range_lo = rest.range_hi = 0;
        rest.u8_divisor = 0;
    }
    if (fields & FD_HAS_QUANTIZATION) rest.quantization = 0;
    return memcmp(&rest, &zero, sizeof zero) == 0;
}

fd_status fd_check_range(const uint32_t *values, size_t n, uint32_t least, uint32_t most, const char *what, size_t i,
                         fd_error *error) {
    for (size_t k = 0; k < n; k++)
        FD_REQUIRE(values[k] >= least && values[k] <= most, "%s of op %zu is %u, expected %u to %u", what, i, values[k],
                   least, most);
    return FD_OK;
}

const fd_file_tensor *fd_check_weight(const fd_file *file, uint32_t index, uint32_t layout) {
    if (index >= file->tensor_count) return NULL;
    const fd_file_tensor *const t = &file->tensors[index];
    return t->kind == FD_TENSOR_WEIGHT && t->layout == layout ? t : NULL;
}

fd_status fd_check_vector(const fd_file *file, uint32_t index, size_t length, const char *what, size_t i,
                          fd_error *error) {
    const fd_file_tensor *const t = fd_check_weight(file, index, FD_LAYOUT_ROW_MAJOR);
    FD_REQUIRE(t && t->dims[0] == length, "%s of op %zu is not a weight vector of %zu values", what, i, length);
    return FD_OK;
}

fd_status fd_check_weights(const fd_file *file, size_t i, size_t depth, size_t *columns, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    const fd_file_tensor *const w = fd_check_weight(file, op->weights, FD_LAYOUT_PANELS);
    FD_REQUIRE(w && w->dims[0] == depth, "weights of op %zu are not panels of %zu rows", i, depth);
    *columns = w->dims[1];
    return op->bias == FD_FILE_NONE ? FD_OK : fd_check_vector(file, op->bias, w->dims[1], "bias", i, error);
}

fd_status fd_check_activation(const fd_file_op *op, size_t i, fd_error *error) {
    FD_REQUIRE(op->activation < FD_ACT_END, "op %zu has unknown activation %u", i, op->activation);
    if (fd_activation_has_alpha(op->activation))
        FD_REQUIRE(isfinite(op->alpha) && op->alpha >= 0, "alpha of op %zu is not a finite number >= 0", i);
    else
        FD_REQUIRE(op->alpha == 0, "op %zu has an alpha, but not an activation that takes one", i);
    return FD_OK;
}

fd_status fd_check_affine(const fd_file *file, size_t i, const fd_dims *dims, fd_error *error) {
    const fd_file_op *const op = &file->ops[i];
    FD_REQUIRE(op->affine_axis < FD_AXIS_END, "op %zu has unknown affine_axis %u", i, op->affine_axis);
    if (op->affine_axis == FD_AXIS_NONE) {
        FD_REQUIRE(op->scale == FD_FILE_NONE && op->shift == FD_FILE_NONE,
                   "op %zu has a scale or a shift but no affine_axis", i);
        return FD_OK;
    }
    FD_REQUIRE(dims->rank == 3 || op->affine_axis == FD_AXIS_CHANNEL, "op %zu has affine_axis %u on a rank-1 tensor", i,
               op->affine_axis);
    const size_t lengths[FD_AXIS_END] = {0, dims->rows, dims->cols, dims->channels};
    FD_TRY(fd_check_vector(file, op->scale, lengths[op->affine_axis], "scale", i, error));
    return fd_check_vector(file, op->shift, lengths[op->affine_axis], "shift", i, error);
}

fd_status fd_check_pool(const fd_file_op *op, size_t i, fd_dims *dims, fd_error *error) {
    FD_REQUIRE(op->pool_mode < FD_POOL_END, "op %zu has unknown pool_mode %u", i, op->pool_mode);
    if (op->pool_mode == FD_POOL_NONE) {
        FD_REQUIRE(!op->pool[0] && !op->pool[1] && !op->pool_stride[0] && !op->pool_stride[1] && !op->pool_pad[0] &&
                       !op->pool_pad[1] && !op->pool_pad[2] && !op->pool_pad[3],
                   "op %zu has no pooling, but pooling fields that are not zero", i);
        return FD_OK;
    }
    FD_TRY(fd_check_range(op->pool, 2, 1, FD_FILE_MAX_DIM, "pool", i, error));
    FD_TRY(fd_check_range(op->pool_stride, 2, 1, FD_FILE_MAX_DIM, "pool_stride", i, error));
    for (int side = 0; side < 4; side++)
        FD_REQUIRE(op->pool_pad[side] < op->pool[side % 2], "pool_pad of op %zu is not smaller than the window", i);
    dims->rows = fd_window_count(dims->rows, op->pool_pad[0] + op->pool_pad[2], op->pool[0], 1, op->pool_stride[0]);
    dims->cols = fd_window_count(dims->cols, op->pool_pad[1] + op->pool_pad[3], op->pool[1], 1, op->pool_stride[1]);
    FD_REQUIRE(dims->rows && dims->cols, "the pooling window of op %zu does not fit its input", i);
    return FD_OK;
}

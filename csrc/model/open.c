/* The public API: opening models and closing them. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"

static fd_status open_bytes(unsigned char *file, size_t size, const fd_limits *limits, fd_model **out,
                            fd_error *error) {
    fd_model *const model = fd_alloc(sizeof *model);
    if (!model) {
        fd_free(file);
        return fd_fail(error, FD_ERR_MEMORY, "no memory for a model");
    }
    model->bytes = file;
    model->byte_count = size;
    fd_status status = fd_load(model, limits, error);
    if (status == FD_OK) status = fd_plan_model(model, limits, error);
    if (status != FD_OK) {
        fd_model_close(model);
        return status;
    }
    *out = model;
    return FD_OK;
}

static fd_status check_file_bytes(size_t size, const fd_limits *limits, fd_error *error) {
    return fd_limits_hold(size, limits->file_bytes, "file_bytes", "bytes of a file", error);
}

fd_status fd_model_open_memory(const void *data, size_t size, fd_model **model, fd_error *error) {
    return fd_model_open_memory_limited(data, size, NULL, model, error);
}

fd_status fd_model_open_memory_limited(const void *data, size_t size, const fd_limits *given, fd_model **model,
                                       fd_error *error) {
    if (model) *model = NULL;
    if (!model || (!data && size)) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open_memory: a pointer is NULL");
    fd_limits limits;
    fd_status status = fd_limits_resolve(given, &limits, error);
    if (status == FD_OK) status = check_file_bytes(size, &limits, error);
    if (status != FD_OK) return status;
    unsigned char *const file = fd_alloc_raw(size);
    if (!file) return fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %zu bytes", size);
    if (size) memcpy(file, data, size);
    return open_bytes(file, size, &limits, model, error);
}

/* The file is read, not mapped: somebody may truncate a mapped file, and the next run would die of SIGBUS. It also
 * gives the weights huge pages. Processes share them by loading before they fork. */
fd_status fd_model_open_limited(const char *path, const fd_limits *given, fd_model **model, fd_error *error) {
    if (model) *model = NULL;
    if (!model || !path) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open: a pointer is NULL");
    fd_limits limits;
    fd_status status = fd_limits_resolve(given, &limits, error);
    if (status != FD_OK) return status;
    FILE *const stream = fopen(path, "rb");
    if (!stream) return fd_fail(error, FD_ERR_IO, "cannot open '%.200s'", path);
    long size = -1;
    if (fseek(stream, 0, SEEK_END) == 0) size = ftell(stream);
    unsigned char *file = NULL;
    if (size < 0 || size == LONG_MAX || fseek(stream, 0, SEEK_SET) != 0)
        status = fd_fail(error, FD_ERR_IO, "cannot find the size of '%.200s': it is not a regular file", path);
    else if ((status = check_file_bytes((size_t)size, &limits, error)) == FD_OK && !(file = fd_alloc_raw((size_t)size)))
        status = fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %ld bytes", size);
    else if (status == FD_OK && fread(file, 1, (size_t)size, stream) != (size_t)size)
        status = fd_fail(error, FD_ERR_IO, "cannot read '%.200s'", path);
    fclose(stream);
    if (status != FD_OK) {
        fd_free(file);
        return status;
    }
    return open_bytes(file, (size_t)size, &limits, model, error);
}

fd_status fd_model_open(const char *path, fd_model **model, fd_error *error) {
    return fd_model_open_limited(path, NULL, model, error);
}

void fd_model_close(fd_model *model) {
    if (!model) return;
    fd_free(model->planned);
    fd_free(model->inputs);
    fd_free(model->outputs);
    fd_free(model->memory);
    fd_free(model->bytes);
    fd_free(model);
}

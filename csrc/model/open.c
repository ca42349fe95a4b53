/* The public API: opening models, closing them, and facts about them. */
#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"

static fd_status open_bytes(unsigned char *file, size_t size, fd_model **out, fd_error *error) {
    fd_model *const model = fd_alloc(sizeof *model);
    if (!model) {
        fd_free(file);
        return fd_fail(error, FD_ERR_MEMORY, "no memory for a model");
    }
    model->file = file;
    model->file_bytes = size;
    fd_status status = fd_load(model, error);
    if (status == FD_OK) status = fd_plan(model, error);
    if (status != FD_OK) {
        fd_model_close(model);
        return status;
    }
    *out = model;
    return FD_OK;
}

fd_status fd_model_open_memory(const void *data, size_t size, fd_model **model, fd_error *error) {
    if (model) *model = NULL;
    if (!model || (!data && size)) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open_memory: a pointer is NULL");
    unsigned char *const file = fd_alloc_raw(size);
    if (!file) return fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %zu bytes", size);
    if (size) memcpy(file, data, size);
    return open_bytes(file, size, model, error);
}

/* The file is read, not mapped: somebody may truncate a mapped file, and the next run would die of SIGBUS. It also
 * gives the weights huge pages. Processes share them by loading before they fork. */
fd_status fd_model_open(const char *path, fd_model **model, fd_error *error) {
    if (model) *model = NULL;
    if (!model || !path) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_open: a pointer is NULL");
    FILE *const stream = fopen(path, "rb");
    if (!stream) return fd_fail(error, FD_ERR_IO, "cannot open '%.200s'", path);
    long size = -1;
    if (fseek(stream, 0, SEEK_END) == 0) size = ftell(stream);
    unsigned char *file = NULL;
    fd_status status = FD_OK;
    if (size < 0 || size == LONG_MAX || fseek(stream, 0, SEEK_SET) != 0)
        status = fd_fail(error, FD_ERR_IO, "cannot find the size of '%.200s': it is not a regular file", path);
    else if (!(file = fd_alloc_raw((size_t)size)))
        status = fd_fail(error, FD_ERR_MEMORY, "no memory for a model of %ld bytes", size);
    else if (fread(file, 1, (size_t)size, stream) != (size_t)size)
        status = fd_fail(error, FD_ERR_IO, "cannot read '%.200s'", path);
    fclose(stream);
    if (status != FD_OK) {
        fd_free(file);
        return status;
    }
    return open_bytes(file, (size_t)size, model, error);
}

void fd_model_close(fd_model *model) {
    if (!model) return;
    fd_free(model->values);
    fd_free(model->writers);
    fd_free(model->steps);
    fd_free(model->taps);
    fd_free(model->transformed);
    fd_free(model->interleaved);
    fd_free(model->sums);
    fd_free(model->zeros);
    fd_free(model->file);
    fd_free(model);
}

void fd_model_get_info(const fd_model *model, fd_model_info *info) {
    const fd_file_op *const input = &model->ops[0], *const last = &model->ops[model->op_count - 1];
    const fd_file_tensor *const shape = &model->tensors[input->output], *const out = &model->tensors[last->output];
    *info = (fd_model_info){
        .isa = model->isa->name,
        .input_rank = shape->rank,
        .input_dims = {shape->dims[0], shape->dims[1], shape->dims[2]},
        .input_elements = model->values[input->output].elements,
        .output_elements = model->values[last->output].elements,
        .has_softmax = last->opcode == FD_OP_SOFTMAX && out->rank == 1,
        .range_lo = fd_finite_bound(input->range_lo),
        .range_hi = fd_finite_bound(input->range_hi),
        .u8_divisor = input->u8_divisor,
        .ops = model->op_count,
        .multiply_adds = model->multiply_adds,
        .weight_bytes = model->weight_bytes,
        .file = model->file,
        .file_bytes = model->file_bytes,
        .context_bytes = model->arena * sizeof(float),
        .meta = model->meta,
        .meta_bytes = model->meta_bytes,
        .output_rank = out->rank,
        .output_dims = {out->dims[0], out->dims[1], out->dims[2]},
    };
}

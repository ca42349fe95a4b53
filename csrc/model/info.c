/* The public API: facts about models. */
#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "ops/ops.h"

void fd_model_get_info(const fd_model *model, fd_model_info *info) {
    const fd_file *const f = &model->file;
    const fd_file_op *const last = &f->ops[f->op_count - 1];
    const fd_file_tensor *const in = &f->tensors[f->ops[0].output], *const out = &f->tensors[last->output];
    *info = (fd_model_info){
        .isa = model->isa->name,
        .input_rank = in->rank,
        .input_dims = {in->dims[0], in->dims[1], in->dims[2]},
        .input_elements = model->input.elements,
        .output_elements = model->output_elements,
        .has_softmax = fd_operator_of(last->opcode)->gives_probabilities && out->rank == 1,
        .range_lo = model->input.lo,
        .range_hi = model->input.hi,
        .u8_divisor = model->input.u8_divisor,
        .ops = f->op_count,
        .multiply_adds = model->multiply_adds,
        .weight_bytes = f->weight_bytes,
        .file = model->bytes,
        .file_bytes = model->byte_count,
        .context_bytes = model->arena * sizeof(float),
        .meta = model->meta,
        .meta_bytes = model->meta_bytes,
        .output_rank = out->rank,
        .output_dims = {out->dims[0], out->dims[1], out->dims[2]},
        .has_sigmoid = model->has_sigmoid,
    };
}

fd_status fd_model_get_op(const fd_model *model, size_t i, fd_op_info *info, fd_error *error) {
    if (!model || !info) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_op: a pointer is NULL");
    const fd_file *const f = &model->file;
    if (i >= f->op_count)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_op: there is no op %zu, the model has %zu", i,
                       f->op_count);
    const size_t first_version = offsetof(fd_op_info, scratch_bytes) + sizeof info->scratch_bytes;
    if (info->size < first_version)
        return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_op: info->size is %zu, expected sizeof(fd_op_info), %zu",
                       info->size, sizeof *info);
    const fd_file_op *const op = &f->ops[i];
    const fd_op_facts *const facts = &model->planned[i].facts;
    const fd_file_tensor *const out = &f->tensors[op->output], *const in = i ? &f->tensors[op->input] : out;
    const fd_op_info all = {
        .size = fd_min(info->size, sizeof all),
        .op = fd_operator_name(op->opcode),
        .label = facts->label,
        .kernel = facts->kernel,
        .algorithm = facts->algorithm,
        .arithmetic = facts->arithmetic,
        .precision = facts->precision,
        .input_rank = in->rank,
        .input_dims = {in->dims[0], in->dims[1], in->dims[2]},
        .output_rank = out->rank,
        .output_dims = {out->dims[0], out->dims[1], out->dims[2]},
        .multiply_adds = facts->multiply_adds,
        .executed = facts->executed,
        .weight_bytes = facts->weight_bytes,
        .scratch_bytes = facts->scratch * sizeof(float),
    };
    memcpy(info, &all, all.size);
    return FD_OK;
}

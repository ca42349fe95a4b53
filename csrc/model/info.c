/* The public API: facts about models. */
#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "ops/ops.h"

void fd_model_get_info(const fd_model *model, fd_model_info *info) {
    const fd_file *const f = &model->file;
    const fd_file_tensor *const in = &f->tensors[f->ops[0].output], *const out = &f->tensors[fd_file_output(f, 0)];
    *info = (fd_model_info){
        .isa = model->isa->name,
        .input_rank = in->rank,
        .input_dims = {in->dims[0], in->dims[1], in->dims[2]},
        .input_elements = model->inputs[0].elements,
        .output_elements = model->outputs[0].elements,
        .has_softmax = model->outputs[0].has_softmax,
        .range_lo = model->inputs[0].lo,
        .range_hi = model->inputs[0].hi,
        .u8_divisor = model->inputs[0].u8_divisor,
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
    };
}

fd_status fd_model_get_usage(const fd_model *model, fd_limits *usage, fd_error *error) {
    if (!model) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_usage: the model is NULL");
    fd_status status = fd_limits_default(usage, error); /* as large as there is room for */
    if (status != FD_OK) return status;
    const fd_limits all = {
        .size = usage->size,
        .file_bytes = model->byte_count,
        .meta_bytes = model->meta_bytes,
        .tensors = model->file.tensor_count,
        .ops = model->file.op_count,
        .operations = model->operations,
        .plan_bytes = model->plan_bytes,
        .context_bytes = model->arena * sizeof(float),
    };
    memcpy(usage, &all, usage->size);
    return FD_OK;
}

size_t fd_model_input_count(const fd_model *model) { return model->file.input_count; }

size_t fd_model_output_count(const fd_model *model) { return model->file.output_count; }

/* Says in *info what is in `all`, as far as there is room. */
static fd_status tell_port(fd_port_info *info, fd_port_info all, const fd_file_tensor *t, const fd_file_port *port,
                           fd_error *error) {
    const size_t first_version = offsetof(fd_port_info, has_sigmoid) + sizeof info->has_sigmoid;
    if (info->size < first_version)
        return fd_fail(error, FD_ERR_ARGUMENT, "info->size is %zu, expected sizeof(fd_port_info), %zu", info->size,
                       sizeof *info);
    all.size = fd_min(info->size, sizeof all);
    if (port) all.name = port->name;
    all.rank = t->rank;
    for (size_t d = 0; d < 3; d++) all.dims[d] = t->dims[d];
    memcpy(info, &all, all.size);
    return FD_OK;
}

fd_status fd_model_get_input(const fd_model *model, size_t i, fd_port_info *info, fd_error *error) {
    if (!model || !info) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_input: a pointer is NULL");
    const fd_file *const f = &model->file;
    if (i >= f->input_count)
        return fd_fail(error, FD_ERR_ARGUMENT, "there is no input %zu, the model has %zu", i, f->input_count);
    const fd_input *const in = &model->inputs[i];
    const fd_port_info all = {.name = "input",
                              .elements = in->elements,
                              .range_lo = in->lo,
                              .range_hi = in->hi,
                              .u8_divisor = in->u8_divisor};
    return tell_port(info, all, &f->tensors[f->ops[i].output], f->ports ? &f->ports[i] : NULL, error);
}

fd_status fd_model_get_output(const fd_model *model, size_t i, fd_port_info *info, fd_error *error) {
    if (!model || !info) return fd_fail(error, FD_ERR_ARGUMENT, "fd_model_get_output: a pointer is NULL");
    const fd_file *const f = &model->file;
    if (i >= f->output_count)
        return fd_fail(error, FD_ERR_ARGUMENT, "there is no output %zu, the model has %zu", i, f->output_count);
    const fd_output *const out = &model->outputs[i];
    const fd_port_info all = {
        .name = "output", .elements = out->elements, .has_softmax = out->has_softmax, .has_sigmoid = out->has_sigmoid};
    return tell_port(info, all, &f->tensors[fd_file_output(f, i)], f->ports ? &f->ports[f->input_count + i] : NULL,
                     error);
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
    const fd_file_tensor *const out = &f->tensors[op->output], *const in = op->input == FD_FILE_NONE
                                                                               ? out
                                                                               : &f->tensors[op->input];
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

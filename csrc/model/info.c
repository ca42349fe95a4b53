/* The public API: facts about models. */
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
    };
}

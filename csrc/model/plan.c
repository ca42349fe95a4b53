/* From a validated program to steps: walks the operators, twice, and enforces the limits in between. */
#include "base/memory.h"
#include "model/model.h"
#include "model/place.h"
#include "model/watch.h"
#include "ops/ops.h"
#include "ops/steps.h"

/* What every op takes beside what its planner says, in operations: a row of an image. Its values, FD_PLAN_VALUE_WORK.
 */
enum { ROW_WORK = 256 };

static fd_status check_images(const fd_plan *p, fd_error *error) {
    if (!p->too_large) return FD_OK;
    return fd_fail(error, FD_ERR_UNSUPPORTED, "the activations need more than %zu MiB an image",
                   FD_PLAN_MAX_IMAGE * sizeof(float) >> 20);
}

/* The dims of all values, and what their readers want around them. */
static fd_status shape_values(fd_plan *p, fd_value *values, fd_error *error) {
    const fd_file *const f = p->file;
    for (size_t i = 0; i < f->op_count; i++) {
        const fd_dims d = fd_dims_of(&f->tensors[f->ops[i].output]);
        values[f->ops[i].output] = (fd_value){.rows = d.rows,
                                              .cols = d.cols,
                                              .channels = d.channels,
                                              .elements = d.elements,
                                              .writer = (uint32_t)i,
                                              .is_input = i == 0};
    }
    for (size_t i = f->input_count; i < f->op_count; i++)
        if (fd_operator_of(f->ops[i].opcode)->takes_vector) values[f->ops[i].input].is_vector = 1;
    for (size_t i = f->input_count; i < f->op_count; i++) {
        const fd_file_op *const op = &f->ops[i];
        const fd_operator *const operator = fd_operator_of(op->opcode);
        size_t margin[4] = {0}, *const wanted = values[op->input].margin;
        if (operator->margins) operator->margins(p, op, margin);
        for (int side = 0; side < 4; side++)
            if (margin[side] > wanted[side]) wanted[side] = margin[side];
    }
    for (size_t i = 0; i < f->op_count; i++) {
        const fd_value *const v = &values[f->ops[i].output];
        fd_plan_image(p, v->rows + v->margin[0] + v->margin[2], v->cols + v->margin[1] + v->margin[3], v->channels);
    }
    return check_images(p, error);
}

/* What reading or writing a value takes. */
static uint64_t value_work(const fd_value *v) {
    return fd_add_capped(fd_mul_capped(FD_PLAN_VALUE_WORK, v->elements), fd_mul_capped(ROW_WORK, v->rows));
}

/* What an op takes that is planned, together. */
static uint64_t work_of(const fd_plan *p, const fd_file_op *op) {
    const fd_value *const out = fd_plan_value(p, op->output);
    uint64_t work = fd_add_capped(p->planned->work, p->planned->facts.multiply_adds);
    work = fd_add_capped(work, value_work(out));
    work = fd_add_capped(work, fd_plan_activation_work(op, out->elements));
    if (op->input != FD_FILE_NONE) work = fd_add_capped(work, value_work(fd_plan_value(p, op->input)));
    if (op->input2 != FD_FILE_NONE) work = fd_add_capped(work, value_work(fd_plan_value(p, op->input2)));
    return work;
}

/* Plans all operators: into memory for so many zeros, and what else was counted, or to count it. */
static void walk(fd_plan *p, fd_planned *planned, size_t zeros, const fd_limits *limits) {
    const fd_file *const f = p->file;
    p->taken = p->scratch = p->zeros_needed = 0;
    p->work = 0;
    p->zeros = fd_plan_take(p, zeros, sizeof *p->zeros);
    p->zeros_room = zeros;
    /* A model that is too large is refused, and need not be counted to its end. */
    for (size_t i = 0; i < f->op_count && p->taken <= limits->plan_bytes && p->work <= limits->operations; i++) {
        const fd_file_op *const op = &f->ops[i];
        p->planned = &planned[i];
        p->tail = &p->planned->steps;
        *p->planned = (fd_planned){
            .parts = 1,
            .facts = {.kernel = "", .arithmetic = "float", .precision = ""},
        };
        fd_steps_zero_margins(p, fd_plan_value(p, op->output));
        fd_operator_of(op->opcode)->plan(p, op);
        p->planned->work = work_of(p, op);
        p->work = fd_add_capped(p->work, p->planned->work);
    }
}

/* Counts, allocates within limits, fills, and compares. */
static fd_status plan_ops(fd_plan *p, fd_model *m, const fd_placement *placement, const fd_limits *limits,
                          fd_error *error) {
    fd_status status;
    walk(p, m->planned, 0, limits);
    const size_t zeros = p->zeros_needed, scratch = p->scratch;
    fd_plan_take(p, zeros, sizeof *p->zeros);
    if ((status = check_images(p, error))) return status;
    m->arena = placement->arena + scratch;
    m->operations = p->work;
    m->watches_ops = p->work >= FD_WATCH_OPERATIONS;
    if ((status = fd_limits_hold(p->work, limits->operations, "operations", FD_LIMITS_OPERATIONS, error)) ||
        (status = fd_limits_hold(p->taken, limits->plan_bytes, "plan_bytes", "bytes beside the file", error)) ||
        (status = fd_limits_hold(m->arena * sizeof(float), limits->context_bytes, "context_bytes",
                                 "bytes of scratch memory a thread", error)))
        return status;

    const size_t bytes = p->room = p->taken;
    m->plan_bytes = bytes;
    p->memory = m->memory = fd_alloc(bytes);
    if (!p->memory) return fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");
    walk(p, m->planned, zeros, limits);
    if (p->taken != bytes || p->zeros_needed != zeros || p->scratch != scratch)
        return fd_fail(error, FD_ERR_MEMORY,
                       "planning took %zu bytes, %zu zeros and %zu floats of scratch, and had counted %zu, %zu and "
                       "%zu: please report this model",
                       p->taken, p->zeros_needed, p->scratch, bytes, zeros, scratch);
    return FD_OK;
}

/* Whether each value is a probability of its own: the last op that computes something ends in a sigmoid. */
static int ends_in_sigmoid(const fd_file *f, const fd_value *values, const fd_file_op *op) {
    while (fd_operator_of(op->opcode)->moves) op = &f->ops[values[op->input].writer];
    const int sigmoid = op->activation == FD_ACT_SIGMOID || op->activation == FD_ACT_HARD_SIGMOID;
    return sigmoid && !op->affine_axis && !op->pool_mode;
}

/* What runs and descriptions ask of the whole. */
static void finish(fd_model *m, const fd_value *values) {
    const fd_file *const f = &m->file;
    for (size_t k = 0; k < f->input_count; k++) m->input_elements += m->inputs[k].elements;
    for (size_t k = 0; k < f->output_count; k++) {
        const uint32_t tensor = fd_file_output(f, k);
        const fd_value *const v = &values[tensor];
        const fd_file_op *const writer = &f->ops[v->writer];
        const int is_vector = f->tensors[tensor].rank == 1;
        fd_output *const o = &m->outputs[k];
        *o = (fd_output){
            .values = fd_place_of(v),
            .logits = fd_place_of(v),
            .elements = v->elements,
            .rows = fd_has_margins(v) ? v->rows : 1,
            .line = fd_has_margins(v) ? v->cols * v->channels : v->elements,
            .row = v->row,
            /* Of a vector: an image of probabilities has no label. */
            .has_softmax = is_vector && fd_operator_of(writer->opcode)->gives_probabilities,
            .has_sigmoid = (is_vector || v->elements == 1) && ends_in_sigmoid(f, values, writer),
        };
        if (o->has_softmax) o->logits = fd_place_of(&values[writer->input]);
    }
    for (size_t i = 0; i < f->op_count; i++) m->multiply_adds += m->planned[i].facts.multiply_adds;
}

fd_status fd_plan_model(fd_model *m, const fd_limits *limits, fd_error *error) {
    const fd_file *const f = &m->file;
    fd_status status = fd_isa_select(&m->isa, error);
    if (status) return status;
    fd_value *const values = fd_alloc(f->tensor_count * sizeof *values);
    m->planned = fd_alloc(f->op_count * sizeof *m->planned);
    m->inputs = fd_alloc(f->input_count * sizeof *m->inputs);
    m->outputs = fd_alloc(f->output_count * sizeof *m->outputs);
    fd_plan plan = {.file = f, .isa = m->isa, .values = values, .inputs = m->inputs};
    fd_placement placement;
    if (!values || !m->planned || !m->inputs || !m->outputs)
        status = fd_fail(error, FD_ERR_MEMORY, "no memory to plan a model");
    else if (!(status = shape_values(&plan, values, error)))
        status = fd_place_values(f, values, &placement, error);
    if (!status) {
        m->batched = placement.batched;
        m->chunk = plan.chunk = placement.chunk;
        plan.scratch_at = placement.arena;
        status = plan_ops(&plan, m, &placement, limits, error);
    }
    if (!status) finish(m, values);
    fd_free(values);
    return status;
}

/* drift MODEL.fdm
 *
 * A plan is counted, then filled. What if a planner took more the second time, or less? Linked with --wrap for
 * fd_operator_of, which gives planners that do. Every such model must be refused, and nothing beyond what was counted
 * be written: meant to be built with the address sanitizer.
 */
#include "driver.h"
#include "ops/ops.h"

const fd_operator *__real_fd_operator_of(uint32_t opcode);
const fd_operator *__wrap_fd_operator_of(uint32_t opcode);

typedef enum drift { NONE, MORE, LESS, STEP, ZEROS, SCRATCH, DRIFTS } drift;
static drift drifting;
static fd_operator drifted[FD_OP_END];

/* Takes memory as if it were one of an operator's. */
static void take(fd_plan *p, size_t bytes) {
    char *const memory = fd_plan_take(p, bytes, 1);
    if (memory) memset(memory, 1, bytes);
}

static void plan(fd_plan *p, const fd_file_op *op) {
    const int counting = !p->memory;
    const fd_step step = {0};
    fd_file_op without_bias = *op;
    without_bias.bias = FD_FILE_NONE;
    if (drifting == MORE && !counting) take(p, 4096);
    if (drifting == LESS && counting) take(p, 4096);
    if (drifting == STEP && !counting) fd_plan_step(p, &step, sizeof step);
    if (drifting == ZEROS && !counting) fd_plan_bias(p, &without_bias, 1u << 20);
    if (drifting == SCRATCH && !counting) fd_plan_scratch(p, 1u << 20);
    __real_fd_operator_of(op->opcode)->plan(p, op);
}

const fd_operator *__wrap_fd_operator_of(uint32_t opcode) {
    const fd_operator *const real = __real_fd_operator_of(opcode);
    if (!drifting || !real) return real;
    drifted[opcode] = *real;
    drifted[opcode].plan = plan;
    return &drifted[opcode];
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("usage: drift MODEL.fdm");
    size_t size;
    unsigned char *const file = read_file(argv[1], &size);
    for (drifting = NONE; drifting < DRIFTS; drifting++) {
        fd_model *model;
        fd_error error = {0};
        const fd_status status = fd_model_open_memory(file, size, &model, &error);
        if (drifting == NONE) {
            if (status != FD_OK) DIE("%s", error.message);
            fd_model_close(model);
        } else {
            if (status != FD_ERR_MEMORY || model || !strstr(error.message, "had counted"))
                DIE("drift %d: %s, %s", (int)drifting, fd_status_name(status), error.message);
            puts(error.message);
        }
    }
    free(file);
    return 0;
}

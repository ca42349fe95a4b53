/* describe MODEL.fdm
 *
 * A line for each op of the model: label, kernel, multiply-adds, scratch. And what fd_model_get_op does with callers of
 * other versions, and with mistakes.
 */
#include "driver.h"

enum { CANARY = 0x5A };

/* As a later version of the header may have it. */
typedef struct later_info {
    fd_op_info info;
    unsigned char added[24];
} later_info;

static void refuses(const fd_model *model, size_t i, size_t size) {
    fd_op_info info, before;
    fd_error error = {0};
    memset(&info, CANARY, sizeof info);
    info.size = size;
    before = info;
    if (fd_model_get_op(model, i, &info, &error) != FD_ERR_ARGUMENT) DIE("op %zu of size %zu is described", i, size);
    if (error.status != FD_ERR_ARGUMENT || !error.message[0]) DIE("without a message");
    if (memcmp(&info, &before, sizeof info) != 0) DIE("a call that failed has written");
    if (fd_model_get_op(model, i, &info, NULL) != FD_ERR_ARGUMENT) DIE("without an fd_error it is another status");
}

int main(int argc, char **argv) {
    if (argc != 2) DIE("usage: describe MODEL.fdm");
    fd_model *model;
    fd_model_info facts;
    OK(fd_model_open(argv[1], &model, &error));
    fd_model_get_info(model, &facts);
    uint64_t multiply_adds = 0;
    for (size_t i = 0; i < facts.ops; i++) {
        fd_op_info op = {.size = sizeof op};
        OK(fd_model_get_op(model, i, &op, &error));
        if (op.size != sizeof op) DIE("size became %zu", op.size);
        if (!op.op[0] || !op.label[0] || !op.kernel[0] || !op.algorithm || !op.arithmetic[0] || !op.precision)
            DIE("op %zu has no name of something", i);
        if (op.scratch_bytes > facts.context_bytes) DIE("op %zu has more scratch than a context", i);
        multiply_adds += op.multiply_adds;
        printf("%s, %s, %llu, %zu\n", op.label, op.kernel, (unsigned long long)op.multiply_adds, op.scratch_bytes);

        later_info later;
        memset(&later, CANARY, sizeof later);
        later.info.size = sizeof later;
        OK(fd_model_get_op(model, i, &later.info, &error));
        if (memcmp(&later.info, &op, sizeof op) != 0) DIE("a later caller is told something else");
        for (size_t k = 0; k < sizeof later.added; k++)
            if (later.added[k] != CANARY) DIE("byte %zu beyond what this version knows is written", k);
    }
    if (multiply_adds != facts.multiply_adds) DIE("the ops add up to %llu", (unsigned long long)multiply_adds);
    refuses(model, facts.ops, sizeof(fd_op_info));
    refuses(model, SIZE_MAX, sizeof(fd_op_info));
    refuses(model, 0, 0);
    refuses(model, 0, sizeof(fd_op_info) - 1);
    refuses(NULL, 0, sizeof(fd_op_info));
    if (fd_model_get_op(model, 0, NULL, NULL) != FD_ERR_ARGUMENT) DIE("NULL is described");
    fd_model_close(model);
    return 0;
}

/* ports MODEL.fdm N OUT
 *
 * For a model of two inputs and five outputs, tests/support/networks.py's two_headed: what the C API says of each, a
 * line each. Then N images through fd_run_all: the values of all inputs and outputs go to the file OUT. And what the
 * functions do with callers of other versions, and with mistakes.
 */
#include "driver.h"

enum { INPUTS = 2, OUTPUTS = 5, CANARY = 0x5A };

typedef fd_status (*describe)(const fd_model *model, size_t i, fd_port_info *info, fd_error *error);

static void refuses(describe ask, const fd_model *model, size_t i, size_t size) {
    fd_port_info info, before;
    fd_error error = {0};
    memset(&info, CANARY, sizeof info);
    info.size = size;
    before = info;
    if (ask(model, i, &info, &error) != FD_ERR_ARGUMENT) DIE("port %zu of size %zu is described", i, size);
    if (error.status != FD_ERR_ARGUMENT || !error.message[0]) DIE("without a message");
    if (memcmp(&info, &before, sizeof info) != 0) DIE("a call that failed has written");
    if (ask(NULL, i, &info, NULL) != FD_ERR_ARGUMENT || ask(model, i, NULL, NULL) != FD_ERR_ARGUMENT)
        DIE("a null pointer is taken");
}

static void tell(const fd_port_info *port) {
    if (port->size != sizeof *port) DIE("size became %zu", port->size);
    printf("%s %zu %zu %zu %zu %zu %g %g %u %d %d\n", port->name, port->rank, port->dims[0], port->dims[1],
           port->dims[2], port->elements, (double)port->range_lo, (double)port->range_hi, port->u8_divisor,
           port->has_softmax, port->has_sigmoid);
}

int main(int argc, char **argv) {
    if (argc != 4) DIE("usage: ports MODEL.fdm N OUT");
    const size_t n = (size_t)atol(argv[2]);
    fd_model *model;
    fd_context *context;
    OK(fd_model_open(argv[1], &model, &error));
    OK(fd_context_create(model, 1, &context, &error));
    if (fd_model_input_count(model) != INPUTS || fd_model_output_count(model) != OUTPUTS) DIE("another model");
    fd_input_data inputs[INPUTS];
    fd_outputs outputs[OUTPUTS];
    size_t sizes[OUTPUTS];
    uint64_t state = 1;
    for (size_t k = 0; k < INPUTS; k++) {
        fd_port_info port = {.size = sizeof port};
        OK(fd_model_get_input(model, k, &port, &error));
        tell(&port);
        float *const values = exactly(n * port.elements * sizeof *values);
        for (size_t i = 0; i < n * port.elements; i++) values[i] = random_pixel(&state);
        inputs[k] = (fd_input_data){values, FD_INPUT_F32};
    }
    for (size_t k = 0; k < OUTPUTS; k++) {
        fd_port_info port = {.size = sizeof port};
        OK(fd_model_get_output(model, k, &port, &error));
        tell(&port);
        sizes[k] = n * port.elements * sizeof(float);
        outputs[k] = (fd_outputs){.values = exactly(sizes[k])};
    }
    refuses(fd_model_get_input, model, INPUTS, sizeof(fd_port_info));
    refuses(fd_model_get_output, model, OUTPUTS, sizeof(fd_port_info));
    refuses(fd_model_get_input, model, 0, offsetof(fd_port_info, has_sigmoid));
    refuses(fd_model_get_output, model, 0, 0);

    fd_error mistake = {0};
    if (fd_run(model, context, inputs[0].values, FD_INPUT_F32, n, outputs, NULL, &mistake) != FD_ERR_ARGUMENT ||
        !strstr(mistake.message, "fd_run_all"))
        DIE("fd_run takes a model of two inputs");
    if (fd_run_all(model, context, inputs, 1, n, outputs, OUTPUTS, NULL, NULL, NULL) != FD_ERR_ARGUMENT ||
        fd_run_all(model, context, inputs, INPUTS, n, outputs, 1, NULL, NULL, NULL) != FD_ERR_ARGUMENT)
        DIE("fd_run_all takes less than there is");
    fd_input_data wrong[INPUTS] = {inputs[0], {NULL, FD_INPUT_F32}};
    if (fd_run_all(model, context, wrong, INPUTS, n, outputs, OUTPUTS, NULL, NULL, NULL) != FD_ERR_ARGUMENT)
        DIE("fd_run_all takes no values");
    OK(fd_run_all(model, context, wrong, INPUTS, 0, outputs, OUTPUTS, NULL, NULL, &error));
    size_t bad_input = 9, bad = 9;
    float *const meta = (float *)(uintptr_t)inputs[1].values;
    const float kept = meta[4 * (n - 1) + 2];
    meta[4 * (n - 1) + 2] = 1e9f;
    if (fd_run_all(model, context, inputs, INPUTS, n, outputs, OUTPUTS, &bad_input, &bad, &mistake) != FD_ERR_INPUT ||
        bad_input != 1 || bad != 4 * (n - 1) + 2)
        DIE("value %zu of input %zu is bad", bad, bad_input);
    meta[4 * (n - 1) + 2] = kept;

    OK(fd_run_all(model, context, inputs, INPUTS, n, outputs, OUTPUTS, NULL, NULL, &error));
    FILE *const out = fopen(argv[3], "wb");
    if (!out) DIE("cannot open %s", argv[3]);
    for (size_t k = 0; k < INPUTS; k++) {
        const size_t size = n * (k ? 4 : 64) * sizeof(float);
        if (fwrite(inputs[k].values, 1, size, out) != size) DIE("cannot write");
        free((void *)(uintptr_t)inputs[k].values);
    }
    for (size_t k = 0; k < OUTPUTS; k++) {
        if (fwrite(outputs[k].values, 1, sizes[k], out) != sizes[k]) DIE("cannot write");
        free(outputs[k].values);
    }
    if (fclose(out)) DIE("cannot write");
    fd_context_free(context);
    fd_model_close(model);
    return 0;
}

/* Opens what may be a model file, and runs it. Whatever the loader refuses must be refused with a status and a message;
 * whatever it opens must run, on floats and bytes, one image and several, in one thread and up to four, and give the
 * first image the same bits each time. Meant to be built with sanitizers, which see what goes wrong: files, inputs and
 * outputs lie in memory of exactly their size.
 *
 * How it is run (bytes, images, threads) follows from the checksum in its header: an input says all of what is done.
 */
#include "../csrc/drivers/driver.h"
#include "format/format.h"
#include "fuzz.h"

/* A damaged size may ask for hours. */
#ifndef FD_FUZZ_OPERATIONS
#define FD_FUZZ_OPERATIONS (UINT64_C(1) << 23)
#endif
static const fd_limits limits = {
    .size = sizeof(fd_limits),
    .operations = FD_FUZZ_OPERATIONS,
    .plan_bytes = (uint64_t)8 << 20,
    .context_bytes = (uint64_t)2 << 20,
};

/* Runs n images; the first image's values of all outputs go to first. Inputs that take bytes get them if u8. */
static void run(const fd_model *model, int u8, size_t n, unsigned threads, float *first) {
    fd_input_data inputs[FD_FILE_MAX_PORTS];
    fd_outputs outputs[FD_FILE_MAX_PORTS];
    const size_t input_count = fd_model_input_count(model), output_count = fd_model_output_count(model);
    for (size_t k = 0; k < input_count; k++) {
        uint64_t pixels = 1 + k; /* the first image is the same, whatever n */
        fd_port_info port = {.size = sizeof port};
        OK(fd_model_get_input(model, k, &port, &error));
        const int bytes = u8 && port.u8_divisor;
        unsigned char *const input = exactly(n * port.elements * (bytes ? 1 : sizeof(float)));
        for (size_t i = 0; i < n * port.elements; i++) {
            if (bytes) {
                input[i] = (unsigned char)random64(&pixels);
            } else {
                const float x = random_pixel(&pixels);
                const float value = x < port.range_lo ? port.range_lo : x > port.range_hi ? port.range_hi : x;
                memcpy(input + i * sizeof value, &value, sizeof value);
            }
        }
        inputs[k] = (fd_input_data){input, bytes ? FD_INPUT_U8 : FD_INPUT_F32};
    }
    fd_port_info ports[FD_FILE_MAX_PORTS];
    for (size_t k = 0; k < output_count; k++) {
        ports[k].size = sizeof *ports;
        OK(fd_model_get_output(model, k, &ports[k], &error));
        const size_t size = n * ports[k].elements * sizeof(float);
        outputs[k] = (fd_outputs){exactly(size), exactly(size), exactly(n * sizeof(int64_t))};
    }
    fd_context *context;
    OK(fd_context_create(model, threads, &context, &error));
    OK(fd_run_all(model, context, inputs, input_count, n, outputs, output_count, NULL, NULL, &error));
    for (size_t k = 0; k < output_count; k++) {
        const size_t elements = ports[k].elements;
        const size_t labels = elements == 1 && ports[k].has_sigmoid ? 2 : elements;
        for (size_t i = 0; i < n; i++)
            if (outputs[k].labels[i] < 0 || (size_t)outputs[k].labels[i] >= labels)
                DIE("label %lld of %zu", (long long)outputs[k].labels[i], labels);
        memcpy(first, outputs[k].values, elements * sizeof *first);
        first += elements;
        free(outputs[k].values);
        free(outputs[k].logits);
        free(outputs[k].labels);
    }
    fd_context_free(context);
    for (size_t k = 0; k < input_count; k++) free((void *)(uintptr_t)inputs[k].values);
}

static void run_some(const fd_model *model, uint64_t checksum) {
    const unsigned helpers = (unsigned)(checksum & 15); /* rarely some: to wake them takes longer than to run */
    const unsigned threads = helpers < 4 ? 1 + helpers : 1;
    const size_t few = (size_t)(checksum >> 4 & 15), n = few ? 1 + few / 3 : 34; /* which is more than a chunk */
    const int bytes = (int)(checksum >> 8 & 1);
    size_t elements = 0;
    for (size_t k = 0; k < fd_model_output_count(model); k++) {
        fd_port_info port = {.size = sizeof port};
        OK(fd_model_get_output(model, k, &port, &error));
        elements += port.elements;
    }
    const size_t size = elements * sizeof(float);
    float *const want = exactly(size), *const got = exactly(size);
    run(model, bytes, 1, 1, want);
    run(model, bytes, n, 1, got);
    if (memcmp(want, got, size) != 0) DIE("an image gives other bits among %zu", n);
    if (threads > 1) {
        run(model, bytes, checksum >> 9 & 1 ? n : 1, threads, got);
        if (memcmp(want, got, size) != 0) DIE("an image gives other bits in %u threads", threads);
    }
    free(want);
    free(got);
}

/* What tells of a model says the same of one that nobody would have made. */
static void describe(const fd_model *model) {
    fd_model_info info;
    fd_model_get_info(model, &info);
    fd_limits usage = {.size = sizeof usage};
    OK(fd_model_get_usage(model, &usage, &error));
    if (usage.operations > limits.operations || usage.plan_bytes > limits.plan_bytes ||
        usage.context_bytes > limits.context_bytes)
        DIE("a model takes more than it may");
    for (size_t i = 0; i < usage.ops; i++) {
        fd_op_info op = {.size = sizeof op};
        OK(fd_model_get_op(model, i, &op, &error));
        if (!op.label[0]) DIE("op %zu has no label", i);
    }
}

fd_fuzz_end fd_fuzz_model(const uint8_t *data, size_t size) {
    fd_error error = {0};
    fd_model *model;
    const fd_status status = fd_model_open_memory_limited(data, size, &limits, &model, &error);
    if (status == FD_OK) {
        fd_file_header header;
        memcpy(&header, data, sizeof header);
        describe(model);
        run_some(model, header.checksum);
        fd_model_close(model);
        return FD_FUZZ_RAN;
    }
    if (status != error.status || !error.message[0] || model) DIE("status %d without an error", (int)status);
    if (status != FD_ERR_FORMAT && status != FD_ERR_VERSION && status != FD_ERR_UNSUPPORTED && status != FD_ERR_LIMIT)
        DIE("%s: %s", fd_status_name(status), error.message);
    return status == FD_ERR_LIMIT ? FD_FUZZ_LIMITED : FD_FUZZ_REFUSED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)fd_fuzz_model(data, size);
    return 0;
}

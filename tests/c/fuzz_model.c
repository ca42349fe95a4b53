/* fuzz_model ROUNDS SEED MODEL.fdm...
 *
 * Damages model files at random, the same way for the same seed, and opens them. Whatever the loader refuses must be
 * refused with a status and a message; whatever it opens must run, on floats and bytes, one image and three, in one
 * thread and two, and give the first image the same bits each time. Meant to be built with sanitizers, which see what
 * goes wrong: files, inputs and outputs lie in memory of exactly their size.
 *
 * Most random damage is found by the first check that meets it. So half of the rounds mend the file afterwards: sizes
 * that follow from the damaged ones are made to agree, and networks come out that nobody would think of.
 */
#include <float.h>

#include "base/xxhash64.h"
#include "driver.h"
#include "model/format.h"
#include "model/model.h" /* fd_window_count */

/* More than this is only opened: a damaged size may ask for hours. */
#define MAX_WORK ((uint64_t)1 << 21)
#define MAX_CONTEXT_BYTES ((size_t)8 << 20)

typedef struct file {
    unsigned char *data;
    size_t size;
    /* Where things were before they were damaged. */
    size_t tensors, tensor_count, ops, op_count, weights, weight_bytes;
} file;

static uint64_t state;
static size_t below(size_t n) { return random_below(&state, n); }

static fd_file_tensor *tensors_of(const file *f) { return (fd_file_tensor *)(void *)(f->data + f->tensors); }
static fd_file_op *ops_of(const file *f) { return (fd_file_op *)(void *)(f->data + f->ops); }

static file open_good(const char *path) {
    file f = {0};
    f.data = read_file(path, &f.size);
    fd_file_section sections[FD_FILE_SECTIONS];
    memcpy(sections, f.data + sizeof(fd_file_header), sizeof sections);
    f.tensors = (size_t)sections[FD_SECTION_TENSORS - 1].offset;
    f.tensor_count = (size_t)sections[FD_SECTION_TENSORS - 1].size / sizeof(fd_file_tensor);
    f.ops = (size_t)sections[FD_SECTION_PROGRAM - 1].offset;
    f.op_count = (size_t)sections[FD_SECTION_PROGRAM - 1].size / sizeof(fd_file_op);
    f.weights = (size_t)sections[FD_SECTION_WEIGHTS - 1].offset;
    f.weight_bytes = (size_t)sections[FD_SECTION_WEIGHTS - 1].size;
    return f;
}

/* ---- Damage ---- */

static uint32_t some_word(uint32_t old) {
    static const uint32_t edges[] = {0,        1,          96,          255, 256, 1u << 16, 1u << 24, (1u << 24) + 1,
                                     1u << 31, 0x7F800000, FD_FILE_NONE};
    switch (below(6)) {
    case 0: return edges[below(sizeof edges / sizeof edges[0])];
    case 1: return old + 1;
    case 2: return old - 1;
    case 3: return old ^ 1u << below(32);
    case 4: return (uint32_t)random64(&state);
    default: return (uint32_t)below(40);
    }
}

static void damage_word(file *f, size_t first, size_t bytes) {
    unsigned char *const at = f->data + first + below(bytes / 4) * 4;
    uint32_t word;
    memcpy(&word, at, sizeof word);
    word = some_word(word);
    memcpy(at, &word, sizeof word);
}

static void damage_anywhere(file *f) {
    const size_t table = sizeof(fd_file_header) + FD_FILE_SECTIONS * sizeof(fd_file_section);
    switch (below(8)) {
    case 0: damage_word(f, 0, table); break;
    case 1: damage_word(f, 0, f->size); break;
    case 2: f->data[below(f->size)] = (unsigned char)random64(&state); break;
    case 3: /* a record over another */
        tensors_of(f)[below(f->tensor_count)] = tensors_of(f)[below(f->tensor_count)];
        break;
    case 4: ops_of(f)[below(f->op_count)] = ops_of(f)[below(f->op_count)]; break;
    case 5: damage_word(f, f->tensors, f->tensor_count * sizeof(fd_file_tensor)); break;
    default: damage_word(f, f->ops, f->op_count * sizeof(fd_file_op)); break;
    }
}

/* Small, rarely not so small. */
static uint32_t some_size(size_t least) { return (uint32_t)(least + below(below(4) ? 4 : 16)); }

/* A size, a stride, a mode: something that makes another network. */
static void damage_network(file *f) {
    fd_file_op *const op = &ops_of(f)[below(f->op_count)];
    const int has_weights = op->opcode == FD_OP_CONV2D || op->opcode == FD_OP_DENSE;
    if (op->input < f->tensor_count && below(3) == 0) {
        tensors_of(f)[op->input].dims[below(3)] = (uint32_t)(1 + below(24));
    } else if (has_weights && op->weights < f->tensor_count && below(3) == 0) {
        tensors_of(f)[op->weights].dims[1] = (uint32_t)(1 + below(120));
    } else if (op->opcode == FD_OP_DENSE && op->weights < f->tensor_count && below(2)) {
        tensors_of(f)[op->weights].dtype = (uint32_t)below(FD_DTYPE_END);
    } else if (has_weights && below(3) == 0) {
        op->bias = FD_FILE_NONE;
    } else if (has_weights && below(3) == 0) {
        op->activation = (uint32_t)below(FD_ACT_END);
        op->alpha = op->activation == FD_ACT_LEAKY_RELU || op->activation == FD_ACT_ELU ? 0.3f : 0.0f;
    }
    if (op->opcode == FD_OP_CONV2D) {
        uint32_t *const sizes[] = {op->kernel, op->stride, op->dilation};
        if (below(2)) sizes[below(3)][below(2)] = some_size(1);
        if (below(2)) op->pad[below(4)] = some_size(0);
        if (below(4) == 0) op->affine_axis = (uint32_t)below(FD_AXIS_END);
    }
    if (op->opcode == FD_OP_CONV2D || op->opcode == FD_OP_POOL2D) {
        uint32_t *const sizes[] = {op->pool, op->pool_stride};
        if (below(2)) sizes[below(2)][below(2)] = some_size(1);
        if (below(2)) op->pool_pad[below(4)] = some_size(0);
        if (below(4) == 0) op->pool_mode = (uint32_t)below(FD_POOL_END);
    }
}

/* ---- Mending: now and then it leaves something as it is, for the loader to find ---- */

/* Weights may overlap, so any place that is large enough will do. */
static void mend_place(const file *f, fd_file_tensor *t) {
    if (below(4) == 0) t->offset = below(f->weight_bytes / FD_FILE_ALIGN + 1) * FD_FILE_ALIGN;
    if (below(8) == 0) return;
    if (t->offset > f->weight_bytes || t->size > f->weight_bytes - t->offset) t->offset = 0;
}

static void mend_vector(const file *f, uint32_t *index, size_t length) {
    if (*index == FD_FILE_NONE || below(16) == 0) return;
    for (uint32_t t = 0; t < f->tensor_count && *index >= f->tensor_count; t++)
        if (tensors_of(f)[t].kind == FD_TENSOR_WEIGHT && tensors_of(f)[t].layout == FD_LAYOUT_ROW_MAJOR) *index = t;
    if (*index >= f->tensor_count) return;
    fd_file_tensor *const t = &tensors_of(f)[*index];
    t->dims[0] = (uint32_t)length;
    t->size = length * sizeof(float);
    mend_place(f, t);
}

/* Panels of `depth` rows, of as many columns as WEIGHTS has values for. */
static size_t mend_panels(const file *f, uint32_t index, size_t depth) {
    if (index >= f->tensor_count) return 0;
    fd_file_tensor *const t = &tensors_of(f)[index];
    const size_t row = depth * fd_dtype_size(t->dtype);
    const size_t most = f->weight_bytes / row / FD_PANEL_ALIGN * FD_PANEL_ALIGN;
    if (t->dims[1] > most) t->dims[1] = (uint32_t)most;
    t->dims[0] = (uint32_t)depth;
    t->size = row * ((t->dims[1] + FD_PANEL_ALIGN - 1) / FD_PANEL_ALIGN * FD_PANEL_ALIGN);
    mend_place(f, t);
    if (t->dtype == FD_DTYPE_F16 && t->offset <= f->weight_bytes && t->size <= f->weight_bytes - t->offset) {
        /* Floats, or bytes, are no infinite halves if this bit is missing. */
        unsigned char *const halves = f->data + f->weights + t->offset;
        for (size_t i = 1; i < t->size; i += 2) halves[i] &= 0xBF;
    }
    return t->dims[1];
}

static void mend_affine(const file *f, fd_file_op *op, const uint32_t dims[3]) {
    if (op->affine_axis == FD_AXIS_NONE || op->affine_axis >= FD_AXIS_END) {
        op->scale = op->shift = FD_FILE_NONE;
        return;
    }
    if (op->scale == FD_FILE_NONE) op->scale = op->shift = op->bias;
    mend_vector(f, &op->scale, dims[op->affine_axis - 1]);
    mend_vector(f, &op->shift, dims[op->affine_axis - 1]);
}

static void mend_pool(fd_file_op *op, uint32_t dims[3]) {
    if (op->pool_mode == FD_POOL_NONE) {
        memset(op->pool, 0, sizeof op->pool);
        memset(op->pool_stride, 0, sizeof op->pool_stride);
        memset(op->pool_pad, 0, sizeof op->pool_pad);
        return;
    }
    for (int d = 0; d < 2; d++) {
        if (!op->pool[d]) op->pool[d] = 1;
        if (!op->pool_stride[d]) op->pool_stride[d] = 1;
        if (below(16)) op->pool_pad[d] %= op->pool[d];
        if (below(16)) op->pool_pad[d + 2] %= op->pool[d];
        dims[d] = (uint32_t)fd_window_count(dims[d], op->pool_pad[d] + op->pool_pad[d + 2], op->pool[d], 1,
                                            op->pool_stride[d]);
    }
}

/* Makes the sizes of tensors agree with the fields of the ops, from the first op to the last. */
static void mend(file *f) {
    for (size_t i = 1; i < f->op_count; i++) {
        fd_file_op *const op = &ops_of(f)[i];
        if (op->input >= f->tensor_count || op->output >= f->tensor_count) return;
        const fd_file_tensor *const in = &tensors_of(f)[op->input];
        fd_file_tensor *const out = &tensors_of(f)[op->output];
        uint32_t dims[3] = {in->dims[0], in->dims[1], in->dims[2]};
        if (op->opcode == FD_OP_CONV2D) {
            for (int d = 0; d < 2; d++) {
                if (!op->kernel[d] || !op->stride[d] || !op->dilation[d]) return;
                dims[d] = (uint32_t)fd_window_count(dims[d], op->pad[d] + op->pad[d + 2], op->kernel[d],
                                                    op->dilation[d], op->stride[d]);
            }
            const size_t depth = (size_t)op->kernel[0] * op->kernel[1] * in->dims[2];
            if (!depth) return;
            dims[2] = (uint32_t)mend_panels(f, op->weights, depth);
            mend_vector(f, &op->bias, dims[2]);
            mend_affine(f, op, dims);
            mend_pool(op, dims);
        } else if (op->opcode == FD_OP_DENSE) {
            const size_t depth = in->rank == 3 ? (size_t)in->dims[0] * in->dims[1] * in->dims[2] : in->dims[0];
            if (!depth) return;
            dims[0] = (uint32_t)mend_panels(f, op->weights, depth);
            mend_vector(f, &op->bias, dims[0]);
            if (op->weights >= f->tensor_count || tensors_of(f)[op->weights].dtype != FD_DTYPE_I8)
                op->scale = FD_FILE_NONE;
            else if (op->scale == FD_FILE_NONE)
                op->scale = op->bias;
            mend_vector(f, &op->scale, dims[0]);
        } else if (op->opcode == FD_OP_POOL2D) {
            mend_pool(op, dims);
        } else if (op->opcode == FD_OP_ELTWISE && in->rank == 3) {
            mend_affine(f, op, dims);
        }
        memcpy(out->dims, dims, (out->rank == 3 ? 3 : 1) * sizeof *dims);
    }
}

static void seal(file *f) {
    if (f->size < sizeof(fd_file_header)) return;
    fd_file_header h;
    memcpy(&h, f->data, sizeof h);
    h.file_size = f->size;
    h.checksum = fd_xxhash64(f->data + sizeof h, f->size - sizeof h, 0);
    memcpy(f->data, &h, sizeof h);
}

static file damaged(const file *good) {
    file f = *good;
    if (below(16) == 0) f.size = below(2) ? below(f.size) : below(f.size / FD_FILE_ALIGN) * FD_FILE_ALIGN;
    f.data = exactly(f.size);
    memcpy(f.data, good->data, f.size);
    if (f.size == good->size) {
        const int network = below(2) == 0;
        for (size_t n = 1 + below(network ? 5 : 3); n > 0; n--) network ? damage_network(&f) : damage_anywhere(&f);
        if (network) mend(&f);
    }
    if (below(16)) seal(&f);
    return f;
}

/* ---- Running ---- */

/* What a run costs, pooling included. */
static uint64_t work_of(const file *f, const fd_model_info *info) {
    uint64_t work = info->multiply_adds;
    for (size_t i = 0; i < f->op_count; i++) {
        const fd_file_op *const op = &ops_of(f)[i];
        const fd_file_tensor *const out = &tensors_of(f)[op->output];
        const uint64_t elements = out->rank == 3 ? (uint64_t)out->dims[0] * out->dims[1] * out->dims[2] : out->dims[0];
        work += elements * (op->pool_mode ? op->pool[0] * op->pool[1] : 1);
    }
    return work;
}

/* Runs n images of a type; the first image's values go to first. */
static void run(const fd_model *model, const fd_model_info *info, fd_input_type type, size_t n, unsigned threads,
                float *first) {
    const size_t elements = info->input_elements, outputs = info->output_elements;
    unsigned char *const input = exactly(n * elements * (type == FD_INPUT_U8 ? 1 : sizeof(float)));
    uint64_t pixels = 1;
    for (size_t i = 0; i < n * elements; i++) {
        if (type == FD_INPUT_U8) {
            input[i] = (unsigned char)random64(&pixels);
        } else {
            const float x = random_pixel(&pixels);
            const float value = x < info->range_lo ? info->range_lo : x > info->range_hi ? info->range_hi : x;
            memcpy(input + i * sizeof value, &value, sizeof value);
        }
    }
    float *const values = exactly(n * outputs * sizeof(float)), *const logits = exactly(n * outputs * sizeof(float));
    int64_t *const labels = exactly(n * sizeof *labels);
    fd_context *context;
    OK(fd_context_create(model, threads, &context, &error));
    const fd_outputs out = {values, logits, labels};
    OK(fd_run(model, context, input, type, n, &out, NULL, &error));
    for (size_t i = 0; i < n; i++)
        if (labels[i] < 0 || (size_t)labels[i] >= outputs) DIE("label %lld of %zu", (long long)labels[i], outputs);
    memcpy(first, values, outputs * sizeof *first);
    fd_context_free(context);
    free(input);
    free(values);
    free(logits);
    free(labels);
}

static int run_all(const file *f, const fd_model *model) {
    fd_model_info info;
    fd_model_get_info(model, &info);
    if (info.context_bytes > MAX_CONTEXT_BYTES || work_of(f, &info) > MAX_WORK) return 0;
    const size_t size = info.output_elements * sizeof(float);
    float *const want = exactly(size), *const got = exactly(size);
    for (fd_input_type type = FD_INPUT_F32; type <= (info.u8_divisor ? FD_INPUT_U8 : FD_INPUT_F32); type++) {
        run(model, &info, type, 1, 1, want);
        run(model, &info, type, 3, 1, got);
        if (memcmp(want, got, size) != 0) DIE("an image gives other bits among three");
        run(model, &info, type, 1, 2, got);
        if (memcmp(want, got, size) != 0) DIE("an image gives other bits in two threads");
    }
    free(want);
    free(got);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) DIE("usage: fuzz_model ROUNDS SEED MODEL.fdm...");
    const long rounds = atol(argv[1]);
    size_t refused = 0, opened = 0, ran = 0;
    for (int i = 3; i < argc; i++) {
        file good = open_good(argv[i]);
        for (long round = 0; round < rounds; round++) {
            /* Each round is a fresh start, so that one can be run again alone. */
            state = (strtoull(argv[2], NULL, 10) + (uint64_t)round + 1) * UINT64_C(0x9E3779B97F4A7C15);
            file f = damaged(&good);
            fd_error error = {0};
            fd_model *model;
            const fd_status status = fd_model_open_memory(f.data, f.size, &model, &error);
            if (status == FD_OK) {
                opened++;
                ran += (size_t)run_all(&f, model);
                fd_model_close(model);
            } else {
                refused++;
                if (status != error.status || !error.message[0] || model)
                    DIE("status %d without an error", (int)status);
                if (status != FD_ERR_FORMAT && status != FD_ERR_VERSION && status != FD_ERR_UNSUPPORTED)
                    DIE("round %ld: %s: %s", round, fd_status_name(status), error.message);
            }
            free(f.data);
        }
        free(good.data);
    }
    printf("%zu %zu %zu\n", refused, opened, ran);
    return 0;
}

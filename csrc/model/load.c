/* From untrusted bytes to a model whose every index, size and dimension has been checked: csrc/FORMAT.md is the list.
 * What a record of an operator must be, its own file in ops/ says. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"
#include "base/xxhash64.h"
#include "format/panels.h"
#include "ops/check.h"
#include "ops/ops.h"

static int all_zero(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return 0;
    return 1;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static int is_utf8(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        const unsigned c = p[i++];
        if (c < 0x80) continue;
        const unsigned more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c < 0xC2 || c > 0xF4 || n - i < more) return 0;
        const unsigned low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        const unsigned high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (p[i] < low || p[i] > high) return 0;
        for (unsigned k = 1; k < more; k++)
            if ((p[i + k] & 0xC0) != 0x80) return 0;
        i += more;
    }
    return 1;
}

/* The exponent of a NaN or an infinity has all bits set. */
static int all_finite(const void *data, size_t n, uint32_t dtype) {
    unsigned bad = 0;
    if (dtype == FD_DTYPE_F32) {
        const uint32_t *const bits = data;
        for (size_t i = 0; i < n; i++) bad |= (bits[i] & 0x7F800000u) == 0x7F800000u;
    } else if (dtype == FD_DTYPE_F16) {
        const uint16_t *const bits = data;
        for (size_t i = 0; i < n; i++) bad |= (bits[i] & 0x7C00u) == 0x7C00u;
    }
    return !bad;
}

static fd_status load_header(fd_model *m, fd_error *error) {
    const size_t size = m->byte_count;
    FD_REQUIRE(size >= sizeof(fd_file_header) && memcmp(m->bytes, FD_FILE_MAGIC, 8) == 0,
               "not a .fdm file: it does not begin with the .fdm magic number");
    fd_file_header h;
    memcpy(&h, m->bytes, sizeof h);
    if (h.version_major != FD_FILE_VERSION_MAJOR || h.version_minor > FD_FILE_VERSION_MINOR)
        return fd_fail(error, FD_ERR_VERSION,
                       "the file has format version %u.%u, this library reads %d.%d: compile the model again with this "
                       "version of fastdigit, or update it",
                       h.version_major, h.version_minor, FD_FILE_VERSION_MAJOR, FD_FILE_VERSION_MINOR);
    FD_REQUIRE(h.header_size == sizeof h, "header_size is %u, expected %zu", h.header_size, sizeof h);
    FD_REQUIRE(h.file_size == size, "the file has %zu bytes, its header says %llu: it is truncated or was added to",
               size, (unsigned long long)h.file_size);
    FD_REQUIRE(size % FD_FILE_ALIGN == 0, "the file's size %zu is not a multiple of %d", size, FD_FILE_ALIGN);
    FD_REQUIRE(h.section_count >= FD_FILE_SECTIONS && h.section_count <= FD_FILE_MAX_SECTIONS,
               "section_count is %u, expected %d or %d", h.section_count, FD_FILE_SECTIONS, FD_FILE_MAX_SECTIONS);
    FD_REQUIRE(all_zero(h.reserved, sizeof h.reserved), "reserved bytes of the header are not zero");
    FD_REQUIRE(h.checksum == fd_xxhash64(m->bytes + sizeof h, size - sizeof h, 0),
               "the checksum is wrong: the file is damaged");
    return FD_OK;
}

/* A name, and zeros behind it. */
static int is_name(const fd_file_port *port) {
    const unsigned char *const name = (const unsigned char *)port->name;
    const unsigned char *const end = memchr(name, 0, sizeof port->name);
    return end && end > name && is_utf8(name, (size_t)(end - name)) &&
           all_zero(end, sizeof port->name - (size_t)(end - name));
}

/* All of its records but the tensors that they name, which load_program looks at. */
static fd_status load_interface(fd_model *m, const fd_file_port *ports, size_t count, fd_error *error) {
    size_t inputs = 0;
    while (inputs < count && ports[inputs].kind == FD_PORT_INPUT) inputs++;
    const size_t outputs = count - inputs;
    FD_REQUIRE(inputs >= 1 && inputs <= FD_FILE_MAX_PORTS && outputs >= 1 && outputs <= FD_FILE_MAX_PORTS,
               "INTERFACE has %zu inputs and then %zu records, expected 1 to %u of each", inputs, outputs,
               FD_FILE_MAX_PORTS);
    for (size_t i = 0; i < count; i++) {
        FD_REQUIRE(i < inputs || ports[i].kind == FD_PORT_OUTPUT, "record %zu of INTERFACE has kind %u, expected %d", i,
                   ports[i].kind, FD_PORT_OUTPUT);
        FD_REQUIRE(is_name(&ports[i]), "the name of record %zu of INTERFACE is not UTF-8 with zeros behind it", i);
        for (size_t k = i < inputs ? 0 : inputs; k < i; k++)
            FD_REQUIRE(strcmp(ports[k].name, ports[i].name) != 0, "records %zu and %zu of INTERFACE have the same name",
                       k, i);
    }
    m->file.ports = ports;
    m->file.input_count = inputs;
    m->file.output_count = outputs;
    return FD_OK;
}

static fd_status load_sections(fd_model *m, const fd_limits *limits, fd_error *error) {
    static const uint32_t record_sizes[FD_FILE_MAX_SECTIONS] = {1, sizeof(fd_file_tensor), sizeof(fd_file_op), 1,
                                                                sizeof(fd_file_port)};
    fd_file_header h;
    memcpy(&h, m->bytes, sizeof h);
    const size_t table_bytes = sizeof h + h.section_count * sizeof(fd_file_section);
    const size_t table_end = fd_round_up(table_bytes, FD_FILE_ALIGN);
    m->file.input_count = m->file.output_count = 1;
    FD_REQUIRE(m->byte_count >= table_end, "the section table does not fit the file");
    FD_REQUIRE(all_zero(m->bytes + table_bytes, table_end - table_bytes),
               "padding after the section table is not zero");
    size_t end = table_end;
    for (uint32_t i = 0; i < h.section_count; i++) {
        fd_file_section s;
        memcpy(&s, m->bytes + sizeof(fd_file_header) + i * sizeof s, sizeof s);
        FD_REQUIRE(s.kind == i + 1, "section %u has kind %u, expected %u", i, s.kind, i + 1);
        FD_REQUIRE(s.record_size == record_sizes[i], "section %u has record_size %u, expected %u", i, s.record_size,
                   record_sizes[i]);
        FD_REQUIRE(s.reserved == 0, "reserved field of section %u is not zero", i);
        FD_REQUIRE(s.offset == end, "section %u starts at %llu, expected %zu", i, (unsigned long long)s.offset, end);
        FD_REQUIRE(s.size <= m->byte_count - end, "section %u does not fit the file", i);
        FD_REQUIRE(s.size % s.record_size == 0, "section %u has a size that is not a multiple of its record_size", i);
        const unsigned char *const data = m->bytes + end;
        const size_t size = (size_t)s.size, count = size / s.record_size;
        end = fd_round_up(end + size, FD_FILE_ALIGN); /* cannot pass file_bytes, which is a multiple too */
        FD_REQUIRE(all_zero(data + size, end - (size_t)(data - m->bytes) - size),
                   "padding after section %u is not zero", i);
        switch (s.kind) {
        case FD_SECTION_META:
            FD_REQUIRE(size <= FD_FILE_MAX_META && is_utf8(data, size), "META is not UTF-8 of at most 1 MiB");
            FD_TRY(fd_limits_hold(size, limits->meta_bytes, "meta_bytes", "bytes of META", error));
            m->meta = (const char *)data;
            m->meta_bytes = size;
            break;
        case FD_SECTION_TENSORS:
            FD_REQUIRE(count >= 1 && count <= FD_FILE_MAX_RECORDS, "TENSORS has %zu records, expected 1 to %u", count,
                       FD_FILE_MAX_RECORDS);
            FD_TRY(fd_limits_hold(count, limits->tensors, "tensors", "tensors", error));
            m->file.tensors = (const fd_file_tensor *)(const void *)data;
            m->file.tensor_count = count;
            break;
        case FD_SECTION_PROGRAM:
            FD_REQUIRE(count >= 2 && count <= FD_FILE_MAX_RECORDS, "PROGRAM has %zu records, expected 2 to %u", count,
                       FD_FILE_MAX_RECORDS);
            FD_TRY(fd_limits_hold(count, limits->ops, "ops", "ops", error));
            m->file.ops = (const fd_file_op *)(const void *)data;
            m->file.op_count = count;
            break;
        case FD_SECTION_WEIGHTS:
            m->file.weights = data;
            m->file.weight_bytes = size;
            break;
        default: FD_TRY(load_interface(m, (const fd_file_port *)(const void *)data, count, error));
        }
    }
    FD_REQUIRE(end == m->byte_count, "the sections end at %zu, the file at %zu", end, m->byte_count);
    return FD_OK;
}

/* `*weights_end` is where the weights of the records before end. Weights lie one behind the other: then each byte of
 * WEIGHTS is looked at once, however many records there are. */
static fd_status load_tensor(fd_model *m, size_t i, size_t *weights_end, fd_error *error) {
    const fd_file_tensor *const t = &m->file.tensors[i];
    FD_REQUIRE(t->kind == FD_TENSOR_ACTIVATION || t->kind == FD_TENSOR_WEIGHT, "tensor %zu has unknown kind %u", i,
               t->kind);
    FD_REQUIRE(t->dtype < FD_DTYPE_END, "tensor %zu has unknown dtype %u", i, t->dtype);
    FD_REQUIRE(t->dtype == FD_DTYPE_F32 || (t->kind == FD_TENSOR_WEIGHT && t->layout == FD_LAYOUT_PANELS),
               "tensor %zu has dtype %u and is not laid out in panels", i, t->dtype);
    FD_REQUIRE(all_zero(t->reserved, sizeof t->reserved), "reserved bytes of tensor %zu are not zero", i);
    FD_REQUIRE(t->rank >= 1 && t->rank <= 3, "tensor %zu has rank %u, expected 1 to 3", i, t->rank);
    size_t elements = 1;
    for (uint32_t d = 0; d < 4; d++) {
        if (d < t->rank) {
            FD_REQUIRE(t->dims[d] >= 1 && t->dims[d] <= FD_FILE_MAX_DIM,
                       "dimension %u of tensor %zu is %u, expected 1 to %u", d, i, t->dims[d], FD_FILE_MAX_DIM);
            FD_REQUIRE(fd_mul(elements, t->dims[d], &elements), "tensor %zu is too large", i);
        } else {
            FD_REQUIRE(t->dims[d] == 0, "tensor %zu has rank %u but dimension %u is %u", i, t->rank, d, t->dims[d]);
        }
    }
    if (t->kind == FD_TENSOR_ACTIVATION) {
        FD_REQUIRE(t->rank != 2, "activation %zu has rank 2, expected 1 or 3", i);
        FD_REQUIRE(t->layout == FD_LAYOUT_ROW_MAJOR && t->offset == 0 && t->size == 0,
                   "activation %zu has a layout, an offset or a size", i);
        FD_REQUIRE(elements <= FD_FILE_MAX_DIM, "activation %zu has %zu elements, at most %u are supported", i,
                   elements, FD_FILE_MAX_DIM);
        return FD_OK;
    }
    if (t->layout == FD_LAYOUT_PANELS) {
        FD_REQUIRE(t->rank == 2, "tensor %zu is laid out in panels and has rank %u, expected 2", i, t->rank);
        elements = t->dims[0] * fd_panel_columns(t->dims[1]); /* below 2^49 */
    } else {
        FD_REQUIRE(t->layout == FD_LAYOUT_ROW_MAJOR, "tensor %zu has unknown layout %u", i, t->layout);
        FD_REQUIRE(t->rank == 1, "weight %zu is row-major and has rank %u, expected 1", i, t->rank);
    }
    const size_t bytes = elements * fd_dtype_size(t->dtype);
    FD_REQUIRE(t->size == bytes, "tensor %zu has size %llu, its dimensions make %zu", i, (unsigned long long)t->size,
               bytes);
    FD_REQUIRE(t->offset % FD_FILE_ALIGN == 0, "tensor %zu is not aligned to %d bytes", i, FD_FILE_ALIGN);
    FD_REQUIRE(t->offset <= m->file.weight_bytes && t->size <= m->file.weight_bytes - t->offset,
               "tensor %zu lies outside WEIGHTS", i);
    FD_REQUIRE(t->offset >= *weights_end, "tensor %zu does not lie behind the weights before it, which end at %zu", i,
               *weights_end);
    *weights_end = (size_t)(t->offset + t->size);
    FD_REQUIRE(all_finite(m->file.weights + t->offset, elements, t->dtype), "tensor %zu holds a NaN or an infinity", i);
    return FD_OK;
}

static int is_input(const fd_file *f, uint32_t tensor) {
    for (size_t i = 0; i < f->input_count; i++)
        if (f->ops[i].output == tensor) return 1;
    return 0;
}

/* What an op takes at the least, by its tensors alone: each weight is read, each output written. Checks of ops look at
 * weights, which ops may share: so much and no more of them, whatever the file says. */
static uint64_t least_operations(const fd_file *f, const fd_file_op *op) {
    const uint32_t weights[] = {op->weights, op->bias, op->scale, op->shift};
    uint64_t operations = FD_PLAN_VALUE_WORK * (uint64_t)fd_dims_of(&f->tensors[op->output]).elements;
    for (size_t k = 0; k < sizeof weights / sizeof *weights; k++)
        if (weights[k] < f->tensor_count) operations += f->tensors[weights[k]].size / sizeof(float);
    return operations;
}

static fd_status load_program(fd_model *m, const fd_limits *limits, unsigned char *reads, unsigned char *written,
                              fd_error *error) {
    const fd_file *const f = &m->file;
    FD_REQUIRE(f->op_count > f->input_count, "PROGRAM has %zu records, %zu of which are inputs", f->op_count,
               f->input_count);
    uint64_t operations = 0;
    for (size_t i = 0; i < f->op_count; i++) {
        const fd_file_op *const op = &f->ops[i];
        const fd_operator *const operator = fd_operator_of(op->opcode);
        FD_REQUIRE((op->opcode == FD_OP_INPUT) == (i < f->input_count),
                   "op %zu: the first %zu, and no others, are INPUT", i, f->input_count);
        FD_REQUIRE(operator, "op %zu has unknown opcode %u", i, op->opcode);
        FD_REQUIRE(fd_check_fields(op, operator->fields), "op %zu (opcode %u) has a field that its opcode does not use",
                   i, op->opcode);

        FD_REQUIRE(op->output < f->tensor_count && f->tensors[op->output].kind == FD_TENSOR_ACTIVATION &&
                       !written[op->output],
                   "the output of op %zu is not an activation of its own", i);
        operations += least_operations(f, op); /* of 4096 ops at most: cannot wrap */
        FD_TRY(fd_limits_hold(operations, limits->operations, "operations", FD_LIMITS_OPERATIONS, error));
        const fd_dims said = fd_dims_of(&f->tensors[op->output]);
        fd_dims in = said;
        if (i < f->input_count) {
            FD_REQUIRE(op->input == FD_FILE_NONE, "op %zu is INPUT and has an input", i);
            FD_REQUIRE(!f->ports || f->ports[i].tensor == op->output,
                       "record %zu of INTERFACE is tensor %u, op %zu writes %u", i, f->ports[i].tensor, i, op->output);
        } else {
            FD_REQUIRE(op->input < f->tensor_count && written[op->input],
                       "the input of op %zu was not written before it", i);
            reads[op->input] = 1;
            if (op->input2 != FD_FILE_NONE) {
                FD_REQUIRE(op->input2 < f->tensor_count && written[op->input2],
                           "the second input of op %zu was not written before it", i);
                reads[op->input2] = 1;
            }
            in = fd_dims_of(&f->tensors[op->input]);
        }
        fd_dims out = in;
        FD_TRY(operator->check(f, i, &in, &out, error));
        out.elements = out.rows * out.cols * out.channels;
        FD_REQUIRE(memcmp(&out, &said, sizeof out) == 0,
                   "the output of op %zu is (%zu, %zu, %zu) by its fields, (%zu, %zu, %zu) in TENSORS", i, out.rows,
                   out.cols, out.channels, said.rows, said.cols, said.channels);
        written[op->output] = 1;
    }
    for (size_t k = 0; k < f->output_count; k++) {
        const uint32_t t = fd_file_output(f, k);
        FD_REQUIRE(t < f->tensor_count && written[t] && !is_input(f, t),
                   "output %zu is tensor %u, expected one that an op writes, which is not INPUT", k, t);
    }
    /* Only now: an input is no output, but must be read. */
    for (size_t k = 0; k < f->output_count; k++) reads[fd_file_output(f, k)] = 1;
    for (size_t t = 0; t < f->tensor_count; t++)
        FD_REQUIRE(f->tensors[t].kind != FD_TENSOR_ACTIVATION || reads[t], "activation %zu is never read", t);
    return FD_OK;
}

fd_status fd_load(fd_model *model, const fd_limits *limits, fd_error *error) {
    fd_status status;
    if ((status = load_header(model, error))) return status;
    if ((status = load_sections(model, limits, error))) return status;
    size_t weights_end = 0;
    for (size_t i = 0; i < model->file.tensor_count; i++)
        if ((status = load_tensor(model, i, &weights_end, error))) return status;
    unsigned char *const flags = fd_alloc(2 * model->file.tensor_count);
    if (!flags) return fd_fail(error, FD_ERR_MEMORY, "no memory to load a model");
    status = load_program(model, limits, flags, flags + model->file.tensor_count, error);
    fd_free(flags);
    return status;
}

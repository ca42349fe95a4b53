/* The bytes of a .fdm file, version 1. Explained in csrc/FORMAT.md. */
#ifndef FD_FORMAT_FORMAT_H
#define FD_FORMAT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FD_FILE_MAGIC \
    "\x89"            \
    "FDM\r\n\x1a\n"
#define FD_FILE_VERSION_MAJOR 1
#define FD_FILE_VERSION_MINOR 3
#define FD_FILE_ALIGN 64
/* Those that each file has, and with INTERFACE. */
#define FD_FILE_SECTIONS 4
#define FD_FILE_MAX_SECTIONS 5

#define FD_FILE_MAX_META (1u << 20)
#define FD_FILE_MAX_RECORDS 4096u
#define FD_FILE_MAX_DIM (1u << 24)
#define FD_FILE_MAX_SMALL 255u
/* Inputs, and outputs. */
#define FD_FILE_MAX_PORTS 64u

#define FD_FILE_NONE 0xFFFFFFFFu

/* Columns of one weight panel, and the multiple to which columns are padded. */
#define FD_PANEL 96
#define FD_PANEL_ALIGN 16
/* Columns up to which a DENSE keeps f32 weights, and is summed in chains (kernels.h). */
#define FD_NARROW 32
/* Inputs up to which a DENSE may be quantised dynamically: 65536 * 255 * 127 is less than 2^31. */
#define FD_DYNAMIC_MAX_DEPTH 65536

enum { FD_SECTION_META = 1, FD_SECTION_TENSORS, FD_SECTION_PROGRAM, FD_SECTION_WEIGHTS, FD_SECTION_INTERFACE };
enum { FD_PORT_INPUT = 0, FD_PORT_OUTPUT = 1 };
enum { FD_TENSOR_ACTIVATION = 0, FD_TENSOR_WEIGHT = 1 };
enum { FD_DTYPE_F32 = 0, FD_DTYPE_F16, FD_DTYPE_I8, FD_DTYPE_END };
enum { FD_LAYOUT_ROW_MAJOR = 0, FD_LAYOUT_PANELS = 1 };

enum {
    FD_OP_NONE,
#define FD_OPERATOR(opcode, name) FD_OP_##opcode,
#include "format/ops.def"
#undef FD_OPERATOR
    FD_OP_END
};

enum {
#define FD_ACTIVATION(name, has_alpha) FD_ACT_##name,
#include "format/activations.def"
#undef FD_ACTIVATION
    FD_ACT_END
};

enum { FD_AXIS_NONE = 0, FD_AXIS_HEIGHT, FD_AXIS_WIDTH, FD_AXIS_CHANNEL, FD_AXIS_END };
enum { FD_POOL_NONE = 0, FD_POOL_MAX, FD_POOL_AVERAGE, FD_POOL_END };
enum {
    FD_BINARY_NONE,
#define FD_BINARY(enumerator, name) FD_BINARY_##enumerator,
#include "format/binaries.def"
#undef FD_BINARY
    FD_BINARY_END
};

/* Of a RECURRENT: perm[0]. */
enum {
    FD_RECURRENT_NONE = 0,
    FD_RECURRENT_SIMPLE,
    FD_RECURRENT_LSTM,
    FD_RECURRENT_GRU,
    FD_RECURRENT_GRU_AFTER,
    FD_RECURRENT_END
};

enum { FD_QUANTIZATION_WEIGHTS = 0, FD_QUANTIZATION_DYNAMIC, FD_QUANTIZATION_END };

/* Whether an activation has a parameter. */
static inline int fd_activation_has_alpha(uint32_t activation) {
    static const uint8_t has_alpha[FD_ACT_END] = {
#define FD_ACTIVATION(name, has_alpha) has_alpha,
#include "format/activations.def"
#undef FD_ACTIVATION
    };
    return activation < FD_ACT_END && has_alpha[activation];
}

/* Bytes of a value of FD_DTYPE_*. */
static inline size_t fd_dtype_size(uint32_t dtype) { return dtype == FD_DTYPE_F32 ? 4 : dtype == FD_DTYPE_F16 ? 2 : 1; }

typedef struct fd_file_header {
    uint8_t magic[8];
    uint16_t version_major;
    uint16_t version_minor;
    uint32_t header_size;
    uint64_t file_size;
    uint64_t checksum;
    uint32_t section_count;
    uint8_t reserved[28];
} fd_file_header;

typedef struct fd_file_section {
    uint32_t kind;
    uint32_t record_size;
    uint64_t offset;
    uint64_t size;
    uint64_t reserved;
} fd_file_section;

typedef struct fd_file_tensor {
    uint32_t kind;
    uint32_t dtype;
    uint32_t layout;
    uint32_t rank;
    uint32_t dims[4];
    uint64_t offset;
    uint64_t size;
    uint8_t reserved[16];
} fd_file_tensor;

typedef struct fd_file_op {
    uint32_t opcode;
    uint32_t input;
    uint32_t input2;
    uint32_t output;
    uint32_t weights;
    uint32_t bias;
    uint32_t scale;
    uint32_t shift;
    uint32_t kernel[2];
    uint32_t stride[2];
    uint32_t dilation[2];
    uint32_t pad[4];
    uint32_t groups;
    uint32_t activation;
    float alpha;
    uint32_t affine_axis;
    uint32_t pool_mode;
    uint32_t pool[2];
    uint32_t pool_stride[2];
    uint32_t pool_pad[4];
    float range_lo;
    float range_hi;
    uint32_t u8_divisor;
    uint32_t quantization; /* dense */
    uint32_t binary;
    uint32_t concat_axis;
    uint32_t pad_channels[2];
    uint8_t perm[4];
} fd_file_op;

/* An input or output of the network. */
typedef struct fd_file_port {
    uint32_t kind;
    uint32_t tensor;
    char name[248]; /* UTF-8, zeros behind it, at least one */
} fd_file_port;

/* The output size of a window that slides over `size` pixels, 0 if it does not fit. */
static inline size_t fd_window_count(size_t size, size_t pads, size_t window, size_t dilation, size_t stride) {
    const size_t extent = dilation * (window - 1) + 1;
    return size + pads < extent ? 0 : (size + pads - extent) / stride + 1;
}

_Static_assert(sizeof(fd_file_header) == 64, "header is 64 bytes");
_Static_assert(sizeof(fd_file_section) == 32, "section entry is 32 bytes");
_Static_assert(sizeof(fd_file_tensor) == 64, "tensor record is 64 bytes");
_Static_assert(sizeof(fd_file_op) == 160, "op record is 160 bytes");
_Static_assert(sizeof(fd_file_port) == 256, "interface record is 256 bytes");

#endif

#include "ops/ops.h"

static const fd_operator *const operators[FD_OP_END] = {
#define FD_OPERATOR(opcode, name) [FD_OP_##opcode] = &fd_operator_##name,
#include "format/ops.def"
#undef FD_OPERATOR
};

static const char *const names[FD_OP_END] = {
#define FD_OPERATOR(opcode, name) [FD_OP_##opcode] = #opcode,
#include "format/ops.def"
#undef FD_OPERATOR
};

const fd_operator *fd_operator_of(uint32_t opcode) { return opcode < FD_OP_END ? operators[opcode] : NULL; }

const char *fd_operator_name(uint32_t opcode) { return opcode < FD_OP_END ? names[opcode] : NULL; }

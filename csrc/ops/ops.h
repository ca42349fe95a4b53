/* The operators: one file a family, in which each says what its record must be, what it wants of its input, and of
 * which steps it is made. */
#ifndef FD_OPS_OPS_H
#define FD_OPS_OPS_H

#include "base/status.h"
#include "format/file.h"
#include "ops/planner.h"

typedef struct fd_operator {
    /* For the loader, which trusts nothing, and for nobody else. `fields` are those that a record may use: FD_HAS_* of
     * check.h. check looks at all of them and puts the dims that the output must have into *out, which begins as those
     * of the input, and for INPUT as those of its output. Indices of activations have been checked before. */
    unsigned fields;
    fd_status (*check)(const fd_file *file, size_t i, const fd_dims *in, fd_dims *out, fd_error *error);

    /* What it wants of its input, from then on without distrust. A vector has no margins, whoever else reads it. */
    int takes_vector;
    /* Zeros around it: top, left, bottom, right. NULL: none. */
    void (*margins)(const fd_plan *plan, const fd_file_op *op, size_t margin[4]);

    /* Its steps and its description. Called twice: the first time to count what it takes, see planner.h. */
    void (*plan)(fd_plan *plan, const fd_file_op *op);

    /* Its input are the logits of its output. */
    int gives_probabilities;
    /* Its output has the values of its input, in other places. */
    int moves;
} fd_operator;

#define FD_OPERATOR(opcode, name) extern const fd_operator fd_operator_##name;
#include "format/ops.def"
#undef FD_OPERATOR

/* The operator of an opcode and its name, such as "CONV2D"; NULL if there is none. */
const fd_operator *fd_operator_of(uint32_t opcode);
const char *fd_operator_name(uint32_t opcode);

#endif

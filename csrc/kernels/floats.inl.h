/* Every kernel on floats once, for the ISA whose simd_*.h came before, and their table. Included by isa/isa_*.c only.
 */
#include "kernels/common.inl.h"

#include "kernels/math.inl.h"
#include "kernels/tile.inl.h"

#include "kernels/eltwise.inl.h"
#include "kernels/input.inl.h"
#include "kernels/pool2d.inl.h"

#include "kernels/binary.inl.h"
#include "kernels/conv2d.inl.h"
#include "kernels/copy.inl.h"
#include "kernels/dense.inl.h"
#include "kernels/interpolate.inl.h"
#include "kernels/layernorm.inl.h"
#include "kernels/probe.inl.h"
#include "kernels/recurrent.inl.h"
#include "kernels/softmax.inl.h"

#include "kernels/depthwise.inl.h"
#include "kernels/winograd.inl.h"

#include "kernels/winograd_lines.inl.h"

const fd_float_kernels FD_FN(float_kernels) = {
    .vector_floats = FD_VL,
#define FD_FLOAT_KERNEL(name, type, params) .name = FD_FN(name),
#include "kernels/kernels.def"
};

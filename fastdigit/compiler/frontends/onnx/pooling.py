"""Pooling, and reductions over axes."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.moments import Moments, mean_of, reduction
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.windows import channels_last_ops, pads_of, pair_of, spatial
from fastdigit.compiler.ir import Activation, Op, Pair, Pool, Sides
from fastdigit.compiler.ops import Eltwise, Pad, Pool2D, Reshape


@converts("AveragePool", "MaxPool")
def convert_pool(importer: Importer, operator: Operator) -> str:
    image = spatial(importer, operator)
    mode = "max" if operator.op_type == "MaxPool" else "average"
    size = pair_of(importer, operator, "kernel_shape", (0, 0))
    stride = pair_of(importer, operator, "strides", (1, 1))
    if (dilation := pair_of(importer, operator, "dilations", (1, 1))) != (1, 1):
        raise operator.refuse(f"dilations={dilation}", "(1, 1)")
    pad = pads_of(importer, operator, image, size, stride)
    ceil = operator.attributes.get("ceil_mode", 0)
    ceiled = _ceil_padding(image, size, stride, pad) if ceil else pad
    ops: list[Op] = []
    if mode == "average" and operator.attributes.get("count_include_pad", 0) and any(pad):
        # What ceil_mode adds to it does not count.
        top, left, bottom, right = pad
        ops.append(Pad(((top, bottom), (left, right), (0, 0))))
        pad = (0, 0, ceiled[2] - bottom, ceiled[3] - right)
    else:
        pad = ceiled
    return channels_last_ops(importer, operator, *ops, Pool2D(Pool(mode, size, stride, pad)))


def _ceil_padding(image: Pair, size: Pair, stride: Pair, pad: Sides) -> Sides:
    """Return padding with which sizes that round down equal ``pad``'s sizes that round up.

    A window that would start in the padding at the end is left out, as ONNX has it.
    """
    ends = []
    for axis in (0, 1):
        before, after = pad[axis], pad[axis + 2]
        span = image[axis] + before + after - size[axis]
        windows = -(-span // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= image[axis] + before:
            windows -= 1
        ends.append(max(after, (windows - 1) * stride[axis] + size[axis] - image[axis] - before))
    return pad[0], pad[1], ends[0], ends[1]


@converts("GlobalAveragePool", "GlobalMaxPool")
def convert_global_pool(importer: Importer, operator: Operator) -> str:
    size = spatial(importer, operator)
    mode = "max" if operator.op_type == "GlobalMaxPool" else "average"
    return channels_last_ops(importer, operator, Pool2D(Pool(mode, size, size)))


#: What is done to each number before a reduction, and to its result.
_AROUND: dict[str, tuple[str | None, str, str | None]] = {
    "ReduceL1": ("abs", "sum", None),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceMax": (None, "max", None),
    "ReduceMean": (None, "mean", None),
    "ReduceMin": ("negative", "max", "negative"),
    "ReduceSum": (None, "sum", None),
    "ReduceSumSquare": ("square", "sum", None),
}


@converts(*_AROUND)
def convert_reduce(importer: Importer, operator: Operator) -> str | Moments:
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    given = operator.ints(1)
    if not given:
        if operator.attributes.get("noop_with_empty_axes", 0):
            return operator.value()
        given = list(range(rank))
    axes = sorted(axis % rank for axis in given)
    if axes[0] == 0 or len(set(axes)) != len(axes):
        raise operator.refuse(f"axes {list(given)} of rank {rank}", "axes behind the batch")
    behind = [axis - 1 for axis in axes]
    keep = operator.attributes.get("keepdims", 1)
    if operator.op_type == "ReduceMean" and keep:
        return mean_of(importer.builder, operator.name, operator.value(), behind)
    kept = tuple(size for axis, size in enumerate(shape) if axis not in behind)
    if not keep and not kept:
        raise operator.refuse("a single number as the result", "keepdims=1, or an axis that stays")
    before, kind, after = _AROUND[operator.op_type]
    value = _each(importer, operator, before, operator.value())
    value = importer.emit(operator, *reduction(kind, shape, behind), source=value)
    value = _each(importer, operator, after, value)
    return value if keep else importer.emit(operator, Reshape(kept), source=value)


def _each(importer: Importer, operator: Operator, function: str | None, value: str) -> str:
    """Apply a function to each number of a value."""
    if function is None:
        return value
    if function == "square":
        return importer.builder.combine(operator.name, "mul", value, value)
    if function == "negative":
        op = Eltwise(affine=uniform(importer.shape(value), -1.0))
    else:
        op = Eltwise(Activation(function))
    return importer.emit(operator, op, source=value)

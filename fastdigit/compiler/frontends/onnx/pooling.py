"""Pooling, and reductions over axes."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.moments import Moments, mean_of, reduction
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.windows import channels_last_ops, pads_of, pair_of, spatial
from fastdigit.compiler.ir import Op, Pair, Pool, Sides
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


@converts("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
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
    kinds = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "max", "ReduceSum": "sum"}
    ops = reduction(kinds[operator.op_type], shape, behind)
    if operator.op_type == "ReduceMin":  # the maximum of what is negated
        kept_shape = tuple(1 if axis in behind else size for axis, size in enumerate(shape))
        negated = (Eltwise(affine=uniform(given, -1.0)) for given in (shape, kept_shape))
        ops = [next(negated), *ops, next(negated)]
    return importer.emit(operator, *ops, *([] if keep else [Reshape(kept)]))

"""Pooling, and reductions over axes."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.moments import mean_of, reduction
from fastdigit.compiler.frontends.tflite.importer import Formula, Importer, image_shape
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.frontends.tflite.windows import image_of, pads_of, strides_of
from fastdigit.compiler.ir import Pool
from fastdigit.compiler.ops import Eltwise, Pool2D
from fastdigit.errors import ModelFormatError


@converts("AVERAGE_POOL_2D", "MAX_POOL_2D")
def convert_pool(importer: Importer, operator: Operator) -> Value:
    image, stride = image_of(operator), strides_of(operator)
    size = int(operator.option("FilterHeight")), int(operator.option("FilterWidth"))
    if min(size) < 1:
        raise ModelFormatError(f"{operator.name}: a window of {size}, expected 1 and more")
    mode = "max" if operator.op_type == "MAX_POOL_2D" else "average"
    pool = Pool(mode, size, stride, pads_of(operator, image, size, stride))
    value = importer.builder.add(operator.name, Pool2D(pool), operator.value().name)
    return Value(value, (1, *importer.shape(value)))


_KINDS = {"MEAN": "mean", "REDUCE_MAX": "max", "REDUCE_MIN": "max", "SUM": "sum"}


@converts("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")
def convert_reduce(importer: Importer, operator: Operator) -> Value | Formula:
    value = operator.value()
    rank, lead = len(value.shape), len(value.shape) - len(image_shape(value.shape))
    given = sorted({operator.axis(axis, rank) for axis in operator.ints(1)})
    kept = tuple(1 if axis in given else size for axis, size in enumerate(value.shape))
    keep = bool(operator.option("KeepDims"))
    shape = kept if keep else tuple(n for axis, n in enumerate(value.shape) if axis not in given)
    axes = [axis - lead for axis in given if axis >= lead and rank > 0]
    if not axes:
        return importer.emit(operator, shape)
    if operator.op_type == "MEAN" and keep and lead:
        mean = mean_of(importer.builder, operator.name, value.name, axes)
        return Formula(mean, shape)
    ops = reduction(_KINDS[operator.op_type], image_shape(value.shape), axes)
    if operator.op_type == "REDUCE_MIN":
        first, last = image_shape(value.shape), tuple(image_shape(kept))
        ops = [Eltwise(affine=uniform(first, -1.0)), *ops, Eltwise(affine=uniform(last, -1.0))]
    return importer.emit(operator, shape, *ops)

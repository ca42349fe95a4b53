"""Operators that make floats of bytes, or do nothing."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ops import Eltwise

#: TensorType of the schema.
FLOAT32 = 0


@converts("CAST")
def convert_cast(_importer: Importer, operator: Operator) -> Value:
    if operator.option("OutDataType") != FLOAT32:
        raise operator.refuse("a type other than FLOAT32", "FLOAT32")
    return operator.value()


@converts("DEQUANTIZE")
def convert_dequantize(importer: Importer, operator: Operator) -> Value:
    """Of an image of bytes: ``(byte - zero_point) * scale``."""
    value, known = operator.value(), operator.quantization
    if known is None:
        return value
    if known.scale.size != 1:
        raise operator.refuse(f"{known.scale.size} scales for bytes", "one for all")
    scale, zero = float(known.scale[0]), float(known.zero_point[0])
    affine = uniform(importer.shape(value.name), scale, -zero * scale)
    return importer.emit(operator, value.shape, Eltwise(affine=affine))

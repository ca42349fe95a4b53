"""Arithmetic, element by element: of two values, or of one and a constant."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.axes import aligned_shape
from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.tflite.importer import Importer, image_shape
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ir import Array, Op, Shape
from fastdigit.compiler.ops import Binary, Eltwise
from fastdigit.errors import ModelFormatError

_KINDS = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
    "MAXIMUM": "max",
    "MINIMUM": "min",
}


def _common(operator: Operator, *shapes: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ModelFormatError(f"{operator.name}: combines shapes {shapes}") from None


def _constant(operator: Operator, index: int, value: Value) -> tuple[Array, Shape]:
    """Return a constant with the axes of a value of the graph, and the shape of the result."""
    constant = operator.weights(index)
    if constant is None:
        raise ModelFormatError(f"{operator.name}: an input is missing")
    result = _common(operator, value.shape, constant.shape)
    if np.prod(result) != np.prod(value.shape):
        raise operator.refuse(
            f"a constant of shape {constant.shape} enlarges a value of shape {value.shape}",
            "a constant that keeps the shape",
        )
    dims = (1,) * (len(result) - constant.ndim) + constant.shape
    return constant.reshape(image_shape(dims) if result[0:1] == (1,) else dims), result


@converts(*_KINDS)
def convert_arithmetic(importer: Importer, operator: Operator) -> Value:
    if len(operator.inputs) != 2:
        raise ModelFormatError(f"{operator.name}: {len(operator.inputs)} operands, expected 2")
    left, right = operator.inputs
    kind = _KINDS[operator.op_type]
    if isinstance(left, Value) and isinstance(right, Value):
        return _combined(importer, operator, kind, left, right)
    value_first = isinstance(left, Value)
    value = operator.value(0 if value_first else 1)
    constant, result = _constant(operator, 1 if value_first else 0, value)
    source = importer.viewed(operator, value, image_shape(result))
    ops: list[Op] = []
    match operator.op_type, value_first:
        case "SUB", False:
            ops.append(Eltwise(affine=uniform(importer.shape(source), -1.0)))
            kind = "add"
        case "SUB", True:
            kind, constant = "add", -constant
        case "DIV", _:
            if not value_first or not constant.all():
                raise operator.refuse("a division by the image or by zero", "one by a constant")
            kind, constant = "mul", 1.0 / constant.astype(np.float64)
    return importer.emit(operator, result, *ops, Binary(kind, constant), source=source)


def _combined(
    importer: Importer, operator: Operator, kind: str, left: Value, right: Value
) -> Value:
    result = _common(operator, left.shape, right.shape)
    rank = len(image_shape(result))
    first, second = (
        importer.viewed(operator, value, aligned_shape(value.shape, len(result))[-rank:] or (1,))
        for value in (left, right)
    )
    combined = importer.builder.combine(operator.name, kind, first, second)
    return importer.emit(operator, result, source=combined)


@converts("SQUARE")
def convert_square(importer: Importer, operator: Operator) -> Value:
    value = operator.value()
    return _combined(importer, operator, "mul", value, value)


@converts("SQUARED_DIFFERENCE")
def convert_squared_difference(importer: Importer, operator: Operator) -> Value:
    left, right = operator.inputs
    if isinstance(left, Value) and isinstance(right, Value):
        difference = _combined(importer, operator, "sub", left, right)
    else:
        value = left if isinstance(left, Value) else operator.value(1)
        constant, result = _constant(operator, 1 if value is left else 0, value)
        source = importer.viewed(operator, value, image_shape(result))
        difference = importer.emit(operator, result, Binary("add", -constant), source=source)
    return _combined(importer, operator, "mul", difference, difference)


@converts("POW")
def convert_pow(importer: Importer, operator: Operator) -> Value:
    value, exponent = operator.value(), operator.weights(1)
    power = float(exponent.ravel()[0]) if exponent is not None and exponent.size == 1 else None
    if power not in (1.0, 2.0, 3.0):
        raise operator.refuse(f"exponent {power if power is not None else '?'}", "1, 2 or 3")
    result = value
    for _ in range(int(power) - 1):
        result = _combined(importer, operator, "mul", result, value)
    return result


@converts("NEG")
def convert_neg(importer: Importer, operator: Operator) -> Value:
    value = operator.value()
    affine = uniform(importer.shape(value.name), -1.0)
    return importer.emit(operator, value.shape, Eltwise(affine=affine))


@converts("PRELU")
def convert_prelu(importer: Importer, operator: Operator) -> Value:
    value = operator.value()
    slope, result = _constant(operator, 1, value)
    return importer.emit(operator, result, Binary("prelu", slope))

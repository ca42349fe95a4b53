"""Arithmetic, element by element: of two values, or of one and a constant."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.frontends.common import uniform
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, aligned, converts
from fastdigit.compiler.ir import Activation, Array, Op
from fastdigit.compiler.ops import Binary, Eltwise
from fastdigit.errors import ModelFormatError

_KINDS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min"}


@converts("Add", "Sub", "Mul", "Div", by_row=True)
def convert_arithmetic(importer: Importer, operator: Operator) -> str:
    left, right = operator.inputs
    kind = _KINDS[operator.op_type]
    if isinstance(left, str) and isinstance(right, str):
        return importer.builder.combine(operator.name, kind, left, right)
    value_first = isinstance(left, str)
    source = operator.value(0 if value_first else 1)
    constant = operator.weights(1 if value_first else 0)
    if constant is None:
        raise ModelFormatError(f"{operator.name}: an input is missing")
    shape = importer.shape(source)
    constant = aligned(operator, constant, shape).astype(np.float64)
    ops: list[Op] = []
    match operator.op_type, value_first:
        case "Sub", False:
            ops.append(Eltwise(affine=uniform(shape, -1.0)))
            kind = "add"
        case "Sub", True:
            kind, constant = "add", -constant
        case "Div", _:
            if not value_first:
                return _quotient(importer, operator, constant, source)
            if not constant.all():
                raise operator.refuse("a division by zero", "one by other constants")
            kind, constant = "mul", 1.0 / constant
    return importer.emit(operator, *ops, Binary(kind, constant), source=source)


def _quotient(importer: Importer, operator: Operator, constant: Array, source: str) -> str:
    """A constant divided by a value: the constant, in the value's shape, comes from it too."""
    nothing = Eltwise(affine=uniform(importer.shape(source), 0.0))
    dividend = importer.emit(operator, nothing, Binary("add", constant), source=source)
    return importer.builder.combine(operator.name, "div", dividend, source)


@converts("Reciprocal", elementwise=True)
def convert_reciprocal(importer: Importer, operator: Operator) -> str:
    return _quotient(importer, operator, np.ones(1), operator.value())


@converts("Max", "Min")
def convert_extremum(importer: Importer, operator: Operator) -> str:
    """Max and Min take any number of operands."""
    values = [given for given in operator.inputs if isinstance(given, str)]
    result = values[0]
    for value in values[1:]:
        result = importer.builder.combine(operator.name, _KINDS[operator.op_type], result, value)
    for index, given in enumerate(operator.inputs):
        if not isinstance(given, str) and (constant := operator.weights(index)) is not None:
            constant = aligned(operator, constant, importer.shape(result))
            binary = Binary(_KINDS[operator.op_type], constant)
            result = importer.emit(operator, binary, source=result)
    return result


@converts("Sum", "Mean")
def convert_sum(importer: Importer, operator: Operator) -> str:
    result = operator.value()
    for index in range(1, len(operator.inputs)):
        result = importer.builder.combine(operator.name, "add", result, operator.value(index))
    if operator.op_type == "Mean":
        scaled = Eltwise(affine=uniform(importer.shape(result), 1.0 / len(operator.inputs)))
        result = importer.emit(operator, scaled, source=result)
    return result


@converts("Pow")
def convert_pow(importer: Importer, operator: Operator) -> str:
    exponent = operator.weights(1)
    power = None if exponent is None or exponent.size != 1 else float(exponent.ravel()[0])
    value = operator.value()
    if power == 0.5:
        return importer.emit(operator, Eltwise(Activation("sqrt")))
    if power not in (1.0, 2.0, 3.0, 4.0):
        given = power if exponent is not None else "?"
        raise operator.refuse(f"exponent {given}", "1, 2, 3, 4 or 0.5")
    result = value
    for _ in range(int(power) - 1):
        result = importer.builder.combine(operator.name, "mul", result, value)
    return result


@converts("Neg", elementwise=True)
def convert_neg(importer: Importer, operator: Operator) -> str:
    affine = uniform(importer.shape(operator.value()), -1.0)
    return importer.emit(operator, Eltwise(affine=affine))


@converts("PRelu")
def convert_prelu(importer: Importer, operator: Operator) -> str:
    slope = operator.weights(1)
    if slope is None:
        raise ModelFormatError(f"{operator.name}: the slope is missing")
    slope = aligned(operator, slope, importer.shape(operator.value()))
    return importer.emit(operator, Binary("prelu", slope))


@converts("Scaler", domain="ai.onnx.ml")
def convert_scaler(importer: Importer, operator: Operator) -> str:
    """``(x - offset) * scale``, as scikit-learn's StandardScaler."""
    shape = importer.shape(operator.value())
    offset, scale = (
        np.asarray(operator.attributes.get(name, default), np.float64)
        for name, default in (("offset", [0.0]), ("scale", [1.0]))
    )
    if len(shape) != 1 or any(given.size not in (1, shape[0]) for given in (offset, scale)):
        raise operator.refuse(f"{offset.size} offsets for shape {shape}", "one for each feature")
    return importer.emit(operator, Binary("add", -offset), Binary("mul", scale))

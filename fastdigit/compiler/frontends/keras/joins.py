"""Layers that join branches, and arithmetic by operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, uniform
from fastdigit.compiler.frontends.keras.layers import describe
from fastdigit.compiler.frontends.keras.registry import Join, joins
from fastdigit.compiler.ops import Eltwise
from fastdigit.errors import UnsupportedError

__all__ = ["convert_operation"]


def _join(kind: str) -> Join:
    def convert(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
        value = inputs[0]
        for other in inputs[1:]:
            value = builder.combine(describe(layer), kind, value, other)
        return value

    return convert


for _layer, _kind in {
    **{"Add": "add", "Subtract": "sub", "Multiply": "mul", "Maximum": "max", "Minimum": "min"}
}.items():
    joins(_layer)(_join(_kind))


@joins("Average")
def convert_average(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    value = _join("add")(builder, layer, inputs)
    scaled = Eltwise(affine=uniform(builder.shapes[value], 1.0 / len(inputs)))
    return builder.add(describe(layer), scaled, value)


@joins("Concatenate")
def convert_concatenate(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    rank = len(builder.shapes[inputs[0]]) + 1
    axis = layer.axis + rank if layer.axis < 0 else layer.axis
    if not 0 < axis < rank:
        raise UnsupportedError(
            f"layer {describe(layer)}: axis={layer.axis}; supported is one behind the batch"
        )
    return builder.concat(describe(layer), axis - 1, inputs)


def convert_operation(
    builder: GraphBuilder, operation: Any, node: Any, values: Mapping[int, str]
) -> str:
    """Convert arithmetic that was written with operators, such as ``x * 2 + y``."""
    kind = _OPERATIONS.get(type(operation).__name__)
    arguments = list(node.arguments.args)
    name = describe(operation)
    if kind is None or len(arguments) != 2 or node.arguments.kwargs:
        raise UnsupportedError(
            f"operation {name} is not supported; supported are layers, and "
            f"{', '.join(_OPERATIONS)} of two operands"
        )
    operands = [values.get(id(argument), argument) for argument in arguments]
    left, right = operands
    if isinstance(left, str) and isinstance(right, str):
        return builder.combine(name, kind, left, right)
    value, other = (left, right) if isinstance(left, str) else (right, left)
    constant = np.asarray(other, dtype=np.float64)
    if constant.size != 1 or not np.isfinite(constant).all():
        raise UnsupportedError(f"operation {name}: a constant of shape {constant.shape}, not 1")
    number, shape = float(constant.ravel()[0]), builder.shapes[value]
    match kind, value is left:
        case "add", _:
            affine = uniform(shape, 1.0, number)
        case "sub", first:
            affine = uniform(shape, 1.0, -number) if first else uniform(shape, -1.0, number)
        case "mul", _:
            affine = uniform(shape, number)
        case _, first:
            if not first or number == 0:
                raise UnsupportedError(f"operation {name}: a division by the image or by zero")
            affine = uniform(shape, 1.0 / number)
    return builder.add(name, Eltwise(affine=affine), value)


_OPERATIONS = {
    **{"Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "TrueDivide": "div"}
}

"""Layers that join branches, and arithmetic by operators."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, clip, uniform
from fastdigit.compiler.frontends.keras.layers import axis_of
from fastdigit.compiler.frontends.keras.network import Layer, describe
from fastdigit.compiler.frontends.keras.normalization import numbers
from fastdigit.compiler.frontends.keras.registry import Join, Ops, converts, joins
from fastdigit.compiler.ir import Array, Shape
from fastdigit.compiler.ops import Binary, Eltwise, Reshape
from fastdigit.errors import UnsupportedError

_KINDS = {
    "Add": "add",
    "Subtract": "sub",
    "Multiply": "mul",
    "Divide": "div",
    "Maximum": "max",
    "Minimum": "min",
}


def _values(layer: Layer, operands: list[str | Array]) -> list[str]:
    values = [operand for operand in operands if isinstance(operand, str)]
    if not values or len(values) != len(operands):
        raise UnsupportedError(
            f"layer {describe(layer)} is called with a constant; expected values"
        )
    return values


def _join(kind: str) -> Join:
    def convert(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
        value, *others = _values(layer, operands)
        for other in others:
            left, right = _aligned(builder, layer, value, other)
            value = builder.combine(describe(layer), kind, left, right)
        return value

    return convert


def _aligned(builder: GraphBuilder, layer: Layer, left: str, right: str) -> tuple[str, str]:
    """Give two values one rank, as Keras' merging layers broadcast: axes behind the batch."""
    ranks = [len(builder.shapes[value]) for value in (left, right)]
    found = []
    for value, rank in zip((left, right), ranks, strict=True):
        missing = max(ranks) - rank
        if missing:
            shape = (1,) * missing + builder.shapes[value]
            value = builder.add(describe(layer), Reshape(shape), value)
        found.append(value)
    return found[0], found[1]


for _layer, _kind in _KINDS.items():
    if _layer != "Divide":
        joins(_layer)(_join(_kind))


@joins("Average")
def convert_average(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
    value = _join("add")(builder, layer, operands)
    scaled = Eltwise(affine=uniform(builder.shapes[value], 1.0 / len(operands)))
    return builder.add(describe(layer), scaled, value)


@joins("Concatenate", "ops.Concatenate")
def convert_concatenate(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
    values = _values(layer, operands)
    axis = axis_of(layer, layer.single("axis"), builder.shapes[values[0]])
    return builder.concat(describe(layer), axis, values)


@joins(*(f"ops.{name}" for name in _KINDS))
def convert_operation(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
    """Convert arithmetic that was written with operators, such as ``x * 2 + y``."""
    kind, name = _KINDS[layer.kind.removeprefix("ops.")], describe(layer)
    if len(operands) != 2:
        raise UnsupportedError(f"operation {name} has {len(operands)} operands, expected 2")
    left, right = operands
    if isinstance(left, str) and isinstance(right, str):
        return builder.combine(name, kind, left, right)
    value, other, first = (left, right, True) if isinstance(left, str) else (right, left, False)
    if not isinstance(value, str) or not isinstance(other, np.ndarray):
        raise UnsupportedError(f"operation {name} of two constants; supported is one of a value")
    for op in _with_constant(layer, kind, other, first, builder.shapes[value]):
        value = builder.add(name, op, value)
    return value


def _with_constant(layer: Layer, kind: str, other: Array, first: bool, shape: Shape) -> Ops:
    """Return arithmetic of a value and a constant; ``first``: whether the value comes first."""
    name = describe(layer)
    if not np.isfinite(other).all():
        raise UnsupportedError(f"operation {name}: a constant that is not finite")
    if other.ndim > len(shape):  # with an axis for the batch
        if other.shape[0] != 1:
            raise UnsupportedError(f"operation {name}: a constant for each image of the batch")
        other = other[0]
    if kind == "div":
        if not first or not other.all():
            raise UnsupportedError(f"operation {name}: a division by the image or by zero")
        kind, other = "mul", 1.0 / other
    if kind == "sub":
        kind = "add"
        other = -other if first else other
        flipped: Ops = [] if first else [Eltwise(affine=uniform(shape, -1.0))]
    else:
        flipped = []
    if other.size != 1 or kind in ("max", "min"):
        return [*flipped, Binary(kind, np.atleast_1d(other))]
    number = float(other.ravel()[0])
    scale, shift = (number, 0.0) if kind == "mul" else (-1.0 if flipped else 1.0, number)
    return [Eltwise(affine=uniform(shape, scale, shift))]


@converts("ops.Negative")
def convert_negative(_layer: Layer, shape: Shape) -> Ops:
    return [Eltwise(affine=uniform(shape, -1.0))]


@joins("ops.Square")
def convert_square(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
    (value,) = _values(layer, operands)
    return builder.combine(describe(layer), "mul", value, value)


@converts("ops.Clip")
def convert_clip(layer: Layer, _shape: Shape) -> Ops:
    return clip(*(float(numbers(layer, bound).item()) for bound in ("x_min", "x_max")))

"""Activations that are written with an exponential: selu, elu and softplus in pieces.

An exponential, and what arithmetic makes of it, is kept as a formula until the pieces are an
activation that there is, or until something else asks for its value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, uniform
from fastdigit.compiler.frontends.tflite.registry import Value
from fastdigit.compiler.ir import Activation
from fastdigit.compiler.ops import Binary, Eltwise
from fastdigit.errors import UnsupportedError

__all__ = ["Exponential", "Positive", "joined"]

#: Converters write constants as float32.
_CLOSE = 1e-6
#: Of Klambauer et al., "Self-Normalizing Neural Networks" (2017).
_SELU = (1.0507009873554805, 1.6732632423543772)


@dataclass(frozen=True)
class Exponential:
    """``factor * exp(x) + shift``; ``source`` is the value x of the graph."""

    name: str
    source: str
    factor: float = 1.0
    shift: float = 0.0

    def placed(self, builder: GraphBuilder) -> str:
        """Add the operator that computes it to the graph; return the value."""
        plain = self.factor == 1 and self.shift == 0
        affine = None if plain else uniform(builder.shapes[self.source], self.factor, self.shift)
        return builder.add(self.name, Eltwise(Activation("exponential"), affine), self.source)


@dataclass(frozen=True)
class Positive:
    """Whether ``source``, a value of the graph, is greater than zero."""

    name: str
    source: str

    def refused(self) -> UnsupportedError:
        return UnsupportedError(f"{self.name}: a comparison; supported is that in selu and elu")


def joined(
    builder: GraphBuilder, name: str, kind: str, operands: Sequence[Any]
) -> Exponential | Positive | str | None:
    """Return what an operator makes of its operands, or the value if it is an activation; None if
    it is neither."""
    match kind, operands:
        case "EXP", [Value(source)]:
            return Exponential(name, source)
        case "GREATER", [Value(source), np.ndarray() as bound] if not bound.any():
            return Positive(name, source)
        case "NEG", [Exponential() as what]:
            return replace(what, name=name, factor=-what.factor, shift=-what.shift)
        case "LOG", [Exponential(_, source, 1.0, 1.0)]:
            return builder.add(name, Eltwise(Activation("softplus")), source)
        case "ADD" | "MUL" | "SUB" | "DIV", [left, right]:
            return _arithmetic(name, kind, left, right)
        case "SELECT" | "SELECT_V2", [Positive(_, source), Value(above), Exponential() as below]:
            if below.source == source:
                return _selected(builder, name, source, above, below)
        case "SELECT" | "SELECT_V2", [Positive(_, source), Value(above), Value(below)]:
            return _scaled_elu(builder, name, source, above, below)
    return None


def _arithmetic(name: str, kind: str, left: Any, right: Any) -> Exponential | None:
    first, second = _number(left), _number(right)
    match left, right:
        case Exponential(), _ if second is not None and not (kind == "DIV" and second == 0):
            what = left
            match kind:
                case "ADD" | "SUB":
                    added = second if kind == "ADD" else -second
                    return replace(what, name=name, shift=what.shift + added)
                case "MUL" | "DIV":
                    times = second if kind == "MUL" else 1.0 / second
                    factor, shift = what.factor * times, what.shift * times
                    return replace(what, name=name, factor=factor, shift=shift)
        case _, Exponential() if first is not None and kind in ("ADD", "MUL"):
            return _arithmetic(name, kind, right, left)
    return None


def _number(given: Any) -> float | None:
    if isinstance(given, np.ndarray) and given.size == 1 and given.dtype.kind == "f":
        number = float(given.ravel()[0])
        return number if math.isfinite(number) else None
    return None


def _selected(
    builder: GraphBuilder, name: str, x: str, above: str, below: Exponential
) -> str | None:
    """``scale x`` above zero, ``factor (exp(x) - 1)`` below."""
    scale = 1.0 if above == x else _factor(builder, x, above)
    if scale is None or scale <= 0 or below.factor < 0:
        return None
    if abs(below.factor + below.shift) > _CLOSE * abs(below.factor):
        return None
    alpha = below.factor / scale
    if math.isclose(scale, _SELU[0], rel_tol=_CLOSE) and math.isclose(
        alpha, _SELU[1], rel_tol=_CLOSE
    ):
        return builder.add(name, Eltwise(Activation("selu")), x)
    affine = uniform(builder.shapes[x], scale) if scale != 1.0 else None
    return builder.add(name, Eltwise(Activation("elu", alpha), affine), x)


def _scaled_elu(builder: GraphBuilder, name: str, x: str, above: str, below: str) -> str | None:
    """``elu(x)`` above zero, a multiple of it below."""
    node, alpha = builder.producers.get(above), _factor(builder, above, below)
    if node is None or node.inputs != (x,) or alpha is None or alpha < 0:
        return None
    if not isinstance(node.op, Eltwise) or node.op.affine is not None:
        return None
    if node.op.activation != Activation("elu", 1.0):
        return None
    return builder.add(name, Eltwise(Activation("elu", alpha)), x)


def _factor(builder: GraphBuilder, x: str, value: str) -> float | None:
    """Return the number that x is multiplied by, if a value is that."""
    node = builder.producers.get(value)
    if node is None or node.inputs != (x,) or not isinstance(node.op, Binary):
        return None
    return _number(node.op.constant) if node.op.kind == "mul" else None

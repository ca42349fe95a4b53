"""What looks at all of the last axis: softmax, its logarithm, and layer normalization."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastdigit.compiler.ir import Array, Op, Shape
from fastdigit.compiler.ops.rules import check_finite, check_vector, require

__all__ = ["LayerNorm", "LogSoftmax", "Softmax"]


@dataclass(frozen=True)
class Softmax(Op):
    """Softmax over the last axis, divided by ``temperature`` first."""

    temperature: float = 1.0

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        with np.errstate(over="ignore"):
            stored = float(np.float32(self.temperature))
        require(
            math.isfinite(stored) and stored > 0,
            f"Softmax has temperature {self.temperature}, expected a number > 0 that float32 has",
        )
        return shape


@dataclass(frozen=True)
class LogSoftmax(Op):
    """The logarithm of a softmax over the last axis: also where the softmax itself would be 0."""

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return shape


@dataclass(frozen=True, eq=False)
class LayerNorm(Op):
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` over the last axis.

    ``scale`` and ``shift`` are (size of the last axis,).
    """

    epsilon: float
    scale: Array | None = None
    shift: Array | None = None

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            math.isfinite(self.epsilon) and self.epsilon > 0,
            f"LayerNorm epsilon {self.epsilon} is not > 0",
        )
        check_vector("scale", self.scale, shape[-1])
        check_vector("shift", self.shift, shape[-1])
        return shape

    def check_values(self) -> None:
        check_finite("scale has values that are not finite", self.scale)
        check_finite("shift has values that are not finite", self.shift)

"""Pooling."""

from __future__ import annotations

from dataclasses import dataclass

from fastdigit.compiler.ir import Op, Pool, Shape
from fastdigit.compiler.ops.rules import check_pool, pooled

__all__ = ["Pool2D"]


@dataclass(frozen=True)
class Pool2D(Op):
    """Pooling of a (height, width, channels) value."""

    pool: Pool

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return pooled(self.pool, shape)

    def check_limits(self) -> None:
        check_pool(self.pool)

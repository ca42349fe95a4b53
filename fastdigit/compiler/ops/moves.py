"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastdigit.compiler.ir import Op, Pair, Shape
from fastdigit.compiler.ops.rules import check_small, require

__all__ = ["Concat", "Crop", "Pad", "Reshape", "Transpose"]


@dataclass(frozen=True)
class Concat(Op):
    """The first input, then the second, along an axis."""

    axis: int

    @property
    def arity(self) -> int:
        return 2

    def infer(self, *shapes: Shape) -> Shape:
        first, second = shapes
        require(0 <= self.axis < len(first), f"Concat axis {self.axis} of shape {first}")
        axis = self.axis
        require(
            len(first) == len(second)
            and first[:axis] + first[axis + 1 :] == second[:axis] + second[axis + 1 :],
            f"Concat of shapes {first} and {second} along axis {axis}",
        )
        return (*first[:axis], first[axis] + second[axis], *first[axis + 1 :])


@dataclass(frozen=True)
class Pad(Op):
    """A constant border: ``widths`` is (before, after) for each axis."""

    widths: tuple[Pair, ...]
    value: float = 0.0

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            len(self.widths) == len(shape), f"Pad has {len(self.widths)} axes, the shape is {shape}"
        )
        require(
            all(min(w) >= 0 for w in self.widths), f"Pad widths {self.widths} are negative: a crop"
        )
        require(math.isfinite(self.value), f"Pad value {self.value} is not finite")
        return tuple(size + sum(w) for size, w in zip(shape, self.widths, strict=True))

    def check_limits(self) -> None:
        require(len(self.widths) == 3, "padding of a vector; supported is that of images")
        check_small(*self.widths[0], *self.widths[1])


@dataclass(frozen=True)
class Crop(Op):
    """What is left without a border: ``widths`` is (before, after) for each axis, cut off."""

    widths: tuple[Pair, ...]

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            len(self.widths) == len(shape),
            f"Crop has {len(self.widths)} axes, the shape is {shape}",
        )
        require(
            all(min(w) >= 0 for w in self.widths), f"Crop widths {self.widths} are negative: a pad"
        )
        require(
            all(sum(w) < size for size, w in zip(shape, self.widths, strict=True)),
            f"Crop of {self.widths} leaves nothing of shape {shape}",
        )
        return tuple(size - sum(w) for size, w in zip(shape, self.widths, strict=True))


@dataclass(frozen=True)
class Transpose(Op):
    """Axis ``i`` of the output is axis ``perm[i]`` of the input."""

    perm: tuple[int, ...]

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            sorted(self.perm) == list(range(len(shape))),
            f"permutation {self.perm} of shape {shape}",
        )
        return tuple(shape[axis] for axis in self.perm)


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements, in row-major order, in another shape."""

    shape: Shape

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            math.prod(self.shape) == math.prod(shape) and all(size >= 1 for size in self.shape),
            f"Reshape from {shape} to {self.shape} changes the number of elements",
        )
        return self.shape

"""Operators that work element by element, on one value or on two."""

from __future__ import annotations

from dataclasses import dataclass

from fastdigit.compiler.ir import LINEAR, Activation, Affine, Array, Op, Shape
from fastdigit.compiler.ops.rules import (
    check_activation,
    check_affine,
    check_affine_values,
    check_finite,
    require,
)

__all__ = ["BINARIES", "Binary", "Eltwise"]


#: Every kind of Binary, in the order of their numbers in a model file, from 1.
BINARIES = ("add", "sub", "mul", "div", "max", "min", "prelu")


@dataclass(frozen=True, eq=False)
class Eltwise(Op):
    """Activation, then affine."""

    activation: Activation = LINEAR
    affine: Affine | None = None

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        check_activation(self.activation)
        check_affine(self.affine, shape)
        return shape

    def check_values(self) -> None:
        check_affine_values(self.affine)


@dataclass(frozen=True, eq=False)
class Binary(Op):
    """Two operands, element by element; then activation and affine.

    The second operand is the node's second input, or ``constant``. Its axes are those of the first
    operand, counted from the last, or of length 1, or missing.

    Parameters
    ----------
    kind
        "add", "sub", "mul", "div", "max", "min", or "prelu": the first operand where it is
        positive, and its product with the second elsewhere.
    """

    kind: str
    constant: Array | None = None
    activation: Activation = LINEAR
    affine: Affine | None = None

    @property
    def epilogue(self) -> tuple[str, ...]:
        return ("activation", "affine")

    @property
    def arity(self) -> int:
        return 2 if self.constant is None else 1

    def infer(self, *shapes: Shape) -> Shape:
        shape = shapes[0]
        require(
            self.kind in BINARIES, f"Binary kind {self.kind!r} is not one of {', '.join(BINARIES)}"
        )
        other = shapes[1] if self.constant is None else self.constant.shape
        aligned = (1,) * (len(shape) - len(other)) + other
        require(
            len(aligned) == len(shape)
            and all(b in (1, a) for a, b in zip(shape, aligned, strict=True)),
            f"Binary of shape {shape} with {other}, which does not broadcast to it",
        )
        check_activation(self.activation)
        check_affine(self.affine, shape)
        return shape

    def check_values(self) -> None:
        check_finite("Binary constant is not all finite", self.constant)
        check_affine_values(self.affine)

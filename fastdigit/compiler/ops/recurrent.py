"""Recurrent layers: what depends on the step before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastdigit.compiler.ir import LINEAR, Activation, Array, Op, Shape
from fastdigit.compiler.ops.rules import (
    check_activation,
    check_finite,
    check_matrix,
    check_vector,
    require,
)

__all__ = ["GATES", "Recurrent"]

TANH, SIGMOID = Activation("tanh"), Activation("sigmoid")

#: Every kind of Recurrent, in the order of their numbers in a model file, from 1: its gates.
GATES: Mapping[str, tuple[str, ...]] = {
    "simple": ("candidate",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
    "gru_reset_after": ("update", "reset", "candidate"),
}


@dataclass(frozen=True, eq=False)
class Recurrent(Op):
    """The state at each step of (..., steps, gates * units), as (..., steps, units).

    The input is what the sequence contributes to each gate at each step, all biases but ``bias``
    included: the product with a layer's kernel is an operator before this one. Before the first
    step, the state is 0. The last state is a crop of the result: of its last step, or of its first
    if it goes ``backwards``.

    Parameters
    ----------
    kind
        A key of :data:`GATES`, which says the order of the gates. With x, h and p for the input,
        the state before and ``h @ weights + bias``, cut into gates:

        simple: ``activation(x + p)``.

        lstm: ``c = forget * c + input * activation(candidate)``, ``output * activation(c)``, where
        each gate is ``gates(x + p)``.

        gru: ``update * h + (1 - update) * activation(candidate)``, where the candidate is
        ``x + (reset * h) @ weights + bias``, or, with gru_reset_after, ``x + reset * p``.
    weights
        (units, gates * units).
    bias
        (gates * units,); of gru_reset_after, where only that of the candidate differs from a bias
        of the input.
    activation, gates
        Of the candidate and the cell, and of the gates.
    backwards
        Whether the last step comes first. The result is in the order of the input.
    """

    kind: str
    weights: Array
    bias: Array | None = None
    activation: Activation = TANH
    gates: Activation = SIGMOID
    backwards: bool = False

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(
            self.kind in GATES, f"Recurrent kind {self.kind!r} is not one of {', '.join(GATES)}"
        )
        require(len(shape) >= 2, f"Recurrent needs (steps, channels), got shape {shape}")
        require(
            self.weights.ndim == 2,
            f"Recurrent weights have shape {self.weights.shape}, expected 2 axes",
        )
        units, columns = self.weights.shape
        count = len(GATES[self.kind])
        require(
            units >= 1 and columns == count * units == shape[-1],
            f"Recurrent weights have shape {self.weights.shape} for {count} gates and an input of "
            f"{shape}; expected (units, gates * units) and as many channels",
        )
        check_vector("bias", self.bias, columns)
        check_activation(self.activation)
        check_activation(self.gates)
        require(
            self.kind != "simple" or self.gates == LINEAR,
            "a simple Recurrent has no gates: their activation is linear",
        )
        return (*shape[:-1], units)

    def check_values(self) -> None:
        check_finite("Recurrent weights are not all finite", self.weights)
        check_finite("bias has values that are not finite", self.bias)

    def check_limits(self) -> None:
        check_matrix(self.weights)

    def multiply_adds(self, shape: Shape, output: Shape) -> int:
        return math.prod(output[:-1]) * self.weights.size

"""The intermediate representation: a network as a list of operators on named values.

Everything is immutable: a pass takes a :class:`Graph` and returns another. Values have no batch
dimension; the canonical layout is (height, width, channels), or (features,). Nodes keep their
weights as NumPy arrays, in float64 wherever a pass computed them, and are rounded to float32 once,
by the packer; those that are to be stored with fewer bits are rounded before, by a pass, so that a
graph always computes what its file does.

The operators are in :mod:`fastdigit.compiler.ops`, and what makes a graph valid is in
:mod:`fastdigit.compiler.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LINEAR",
    "Activation",
    "Affine",
    "Array",
    "Graph",
    "Layer",
    "Node",
    "Op",
    "Pair",
    "Pool",
    "Shape",
    "Sides",
]

Array = NDArray[np.floating[Any]]
Shape = tuple[int, ...]
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Activation:
    """An element-wise function.

    Parameters
    ----------
    name
        One of :data:`fastdigit.compiler.activations.ACTIVATIONS`, which says what it computes.
    alpha
        Its parameter; 0 if it has none.
    """

    name: str = "linear"
    alpha: float = 0.0


LINEAR = Activation()


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + shift``, with one pair of numbers for each index of ``axis``.

    ``mean`` is that of a batch normalization: what went into it in training, on average. What
    passes make of one need not have it.
    """

    axis: int
    scale: Array
    shift: Array
    mean: Array | None = None


@dataclass(frozen=True)
class Pool:
    """A pooling window; sizes round down, and padding never counts.

    Parameters
    ----------
    mode
        "max" or "average".
    size, stride
        (vertical, horizontal).
    pad
        (top, left, bottom, right), each less than the window's size in its direction.
    """

    mode: str
    size: Pair
    stride: Pair
    pad: Sides = (0, 0, 0, 0)


class Op:
    """What a node computes: the base of all operators.

    An operator is an immutable dataclass with its attributes, and says what it accepts and returns.
    Those that there are, are in :mod:`fastdigit.compiler.ops`.
    """

    @property
    def arity(self) -> int:
        """How many inputs it has."""
        return 1

    @property
    def epilogue(self) -> tuple[str, ...]:
        """Which of its attributes "activation", "affine" and "pool" it has: what it can do to its
        result, in this order. What follows it and fits is fused into it."""
        return ()

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the output for inputs of ``shapes``.

        It looks at attributes and at the shapes of weights, not at their values.

        Raises
        ------
        ValueError
            With the reason, if the operator does not accept them, or contradicts itself.
        """
        raise NotImplementedError

    def check_values(self) -> None:
        """Check the values of weights, such as that they are finite; ValueError with the reason."""

    def check_limits(self) -> None:
        """Check that a model file can express the operator; ValueError with the reason."""

    def multiply_adds(self, shape: Shape, output: Shape) -> int:
        """Multiply-adds for one image, by definition; the first input and the output have these
        shapes."""
        return 0


class Layer(Op):
    """An operator that is linear in its weights, before its epilogue.

    The last axis of ``weights`` is that of its outputs, as are ``bias`` and the last axis of what
    it returns. A scale and shift behind it can be folded into both.
    """

    weights: Array
    bias: Array | None


@dataclass(frozen=True, eq=False)
class Node:
    """One operator applied to named values.

    ``name`` is that of the layer or operator in the source and appears in error messages.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Parameters
    ----------
    inputs, outputs
        Names of the values that enter and leave, at least one of each. Passes rename values, but
        keep these in order: what people call them is in
        :class:`fastdigit.compiler.frontends.Imported`. Two outputs may be the same value.
    nodes
        In topological order.
    shapes
        Shape of every value, without batch dimension. Build graphs with
        :func:`fastdigit.compiler.ops.make_graph`, which derives them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]

    @property
    def input(self) -> str:
        """The first input."""
        return self.inputs[0]

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

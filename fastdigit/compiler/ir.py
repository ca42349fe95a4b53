"""The intermediate representation: a network as a list of operators on named values.

Everything is immutable: a pass takes a :class:`Graph` and returns another. Values have no batch
dimension; the canonical layout is (height, width, channels), or (features,). Nodes keep their
weights as NumPy arrays, in float64 wherever a pass computed them, and are rounded to float32 once,
by the packer; those that are to be stored with fewer bits are rounded before, by a pass, so that a
graph always computes what its file does.

The dataclasses here only hold data. What each operator accepts and returns is in
:mod:`fastdigit.compiler.ops`, and what makes a graph valid in :mod:`fastdigit.compiler.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Activation",
    "Affine",
    "Array",
    "Binary",
    "Concat",
    "Conv2D",
    "Dense",
    "Eltwise",
    "Graph",
    "LayerNorm",
    "Node",
    "Op",
    "Pad",
    "Pool",
    "Pool2D",
    "Reshape",
    "Shape",
    "Softmax",
    "Transpose",
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
        One of :data:`fastdigit.compiler.ops.ACTIVATIONS`. "hard_sigmoid" is max(0, min(1, alpha x
        + 0.5)), "hard_swish" x times hard_sigmoid with alpha 1/6, "silu" x sigmoid(x), "gelu"
        x Phi(x) and "gelu_tanh" its approximation by tanh.
    alpha
        leaky_relu: slope below zero. elu: scale below zero. clipped_relu: greatest value.
        hard_sigmoid: slope. Otherwise 0.
    """

    name: str = "linear"
    alpha: float = 0.0


LINEAR = Activation()


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + shift``, with one pair of numbers for each index of ``axis``."""

    axis: int
    scale: Array
    shift: Array


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


@dataclass(frozen=True, eq=False)
class Conv2D:
    """Zero padding, cross-correlation, bias; then activation, affine and pooling, in this order.

    ``weights`` is (kernel height, kernel width, input channels / groups, output channels), ``bias``
    (output channels,). With ``groups``, equal shares of the input channels, in order, give equal
    shares of the output channels; only without is there a pooling.
    ``affine`` has one pair for each row, column or channel of the convolution's output before
    pooling.
    """

    weights: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Sides = (0, 0, 0, 0)
    activation: Activation = LINEAR
    affine: Affine | None = None
    pool: Pool | None = None
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Dense:
    """Matrix product with ``weights`` (inputs, outputs), bias, activation.

    An input of rank 3 is read in row-major order, as if flattened.

    ``precision`` is how the file stores the weights: "fp32", "fp16" (IEEE 754 binary16) or "int8".
    ``weights`` holds the values that are used: numbers that binary16 has, or integers -128 to 127
    times the ``scale`` (outputs,) of their column, exact in float64. "int8-dynamic" is int8 without
    -128, and its inputs are quantised too, as csrc/FORMAT.md says. Only these two have a scale.
    """

    weights: Array
    bias: Array | None = None
    activation: Activation = LINEAR
    precision: str = "fp32"
    scale: Array | None = None


@dataclass(frozen=True)
class Pool2D:
    """Pooling of a (height, width, channels) value."""

    pool: Pool


@dataclass(frozen=True, eq=False)
class Eltwise:
    """Activation, then affine."""

    activation: Activation = LINEAR
    affine: Affine | None = None


@dataclass(frozen=True)
class Softmax:
    """Softmax over the last axis, divided by ``temperature`` first."""

    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` over the last axis.

    ``scale`` and ``shift`` are (size of the last axis,).
    """

    epsilon: float
    scale: Array | None = None
    shift: Array | None = None


@dataclass(frozen=True, eq=False)
class Binary:
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


@dataclass(frozen=True)
class Concat:
    """The first input, then the second, along an axis."""

    axis: int


@dataclass(frozen=True)
class Pad:
    """A constant border: ``widths`` is (before, after) for each axis."""

    widths: tuple[Pair, ...]
    value: float = 0.0


@dataclass(frozen=True)
class Transpose:
    """Axis ``i`` of the output is axis ``perm[i]`` of the input."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """The same elements, in row-major order, in another shape."""

    shape: Shape


Op = (
    Conv2D
    | Dense
    | Pool2D
    | Eltwise
    | Softmax
    | LayerNorm
    | Binary
    | Concat
    | Pad
    | Transpose
    | Reshape
)


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
    """A network with one input and one output.

    Parameters
    ----------
    input, output
        Names of the values that enter and leave.
    nodes
        In topological order.
    shapes
        Shape of every value, without batch dimension. Build graphs with
        :func:`fastdigit.compiler.ops.make_graph`, which derives them.
    """

    input: str
    output: str
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]

"""What the front ends share: their result, window arithmetic, batch normalization."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np

from fastdigit.compiler.ir import Activation, Affine, Array, Graph, Node, Op, Pair, Shape, Sides
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Crop,
    Eltwise,
    Reshape,
    Resize,
    check_values,
    infer,
)
from fastdigit.errors import InputError, UnsupportedError

__all__ = [
    "DEFAULTS",
    "GraphBuilder",
    "ImportOptions",
    "Imported",
    "NotImportedError",
    "Port",
    "batchnorm",
    "clip",
    "not_supported",
    "same_padding",
    "taken",
    "uniform",
]


@dataclass(frozen=True)
class Port:
    """An input or an output of a network, as its source has it.

    Parameters
    ----------
    name
        That people know it by: of an ONNX value, of Keras' input or output layer.
    shape
        Of one image in the source, without the batch.
    layout
        "NHWC" or "NCHW": how the source orders an input of rank 3. The compiled model always takes
        NHWC; outputs are in the order of the source.
    dtype
        Of the numbers that the source takes, such as "float16" or "uint8"; the compiled model takes
        float32 whatever it is.
    batch_axis
        Which axis of an output is the batch in the source; it is always the first in what the
        compiled model returns, and in what the front end's runner does.
    """

    name: str
    shape: Shape
    layout: str = "NHWC"
    dtype: str = "float32"
    batch_axis: int = 0


@dataclass(frozen=True, eq=False)
class Imported:
    """A network as a front end read it.

    Parameters
    ----------
    graph
        The network; its inputs are channels-last.
    kind
        Name of the front end.
    name
        Name of the model in the source.
    inputs, outputs
        What the inputs and outputs of the graph are in the source, in the same order. Inputs that
        the outputs do not depend on are in neither.
    classes
        A label for each element of the first output, if the source has them.
    """

    graph: Graph
    kind: str
    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportOptions:
    """What a user asks of a front end.

    Parameters
    ----------
    outputs
        Names of the outputs to read, in order; None: all of them. What only others need is not
        looked at.
    input_shape
        Shape of one image, channels last, for an input whose height and width the source leaves
        free; or shapes by the names of inputs.
    """

    outputs: tuple[str, ...] | None = None
    input_shape: Shape | Mapping[str, Shape] | None = None

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the outputs to read of those that there are.

        Raises
        ------
        InputError
            If one is asked for that there is not, or twice.
        """
        if self.outputs is None:
            return list(names)
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise InputError(f"outputs are {list(self.outputs)}, expected one or more, each once")
        if missing := [name for name in self.outputs if name not in names]:
            raise InputError(
                f"there is no output {missing[0]!r}; the model has {', '.join(map(repr, names))}"
            )
        return list(self.outputs)


#: All outputs, and no say in shapes.
DEFAULTS = ImportOptions()


#: Operators of a network as it is read, before they are simplified.
MAX_NODES = 20_000
#: Numbers that these may hold: so many, and so many times those that the source stores.
MAX_HELD, HELD_BY_STORED = 1 << 26, 4


class NotImportedError(UnsupportedError):
    """What :meth:`GraphBuilder.build` raises: all that is not supported in a network, and what was
    understood of it.

    Parameters
    ----------
    reasons
        As of its base.
    inputs, outputs
        Their shapes by name; None if one is not known.
    nodes
        What could be read, in order.
    """

    def __init__(
        self,
        *reasons: str,
        inputs: Mapping[str, Shape | None] | None = None,
        outputs: Mapping[str, Shape | None] | None = None,
        nodes: Sequence[Node] = (),
    ) -> None:
        super().__init__(*reasons)
        self.inputs, self.outputs, self.nodes = inputs or {}, outputs or {}, tuple(nodes)


class _Shapes(dict[str, Shape]):
    """Shapes of values. To ask for that of a stand-in that has none is an error without a new
    reason: the reason was given where the stand-in was made."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__()
        self.reasons = reasons
        self.unknown: set[str] = set()

    def __missing__(self, value: str) -> Shape:
        if value in self.unknown:
            raise UnsupportedError(*self.reasons)
        raise KeyError(value)


class GraphBuilder:
    """Collects nodes with unique value names, and knows every shape as soon as it is added.

    A front end goes on behind what is not supported, so that people learn of all of it at once::

        try:
            value = convert(layer)
        except UnsupportedError as error:
            value = builder.stand_in(layer.name, error, shape_if_known)

    What reads a stand-in without a shape fails in its turn, for no new reason, and gets a stand-in;
    so look first whether a layer is of a kind that is supported, and then at the shape of its
    input. :meth:`build` raises what was noted.

    Parameters
    ----------
    stored
        How many numbers the source stores, in proportion to which its operators may hold some.
    """

    def __init__(self, stored: int = 0) -> None:
        self.stored = stored
        self._numbers = 0
        self.inputs: list[str] = []
        #: What is not supported, as far as it was seen.
        self.reasons: list[str] = []
        self.shapes = _Shapes(self.reasons)
        self.nodes: list[Node] = []
        #: The node that writes a value.
        self.producers: dict[str, Node] = {}

    def input(self, name: str, shape: Shape) -> str:
        """Add an input, before any operator; return the name of its value, which is ``name``."""
        assert not self.nodes and name not in self.shapes
        if math.prod(shape) > MAX_ELEMENTS:
            raise UnsupportedError(
                f"an input of shape {shape} has more than {MAX_ELEMENTS} elements"
            )
        self.inputs.append(name)
        self.shapes[name] = shape
        return name

    def add(self, name: str, op: Op, *sources: str) -> str:
        """Append ``op`` reading values ``sources``; return the name of the value it writes."""
        value = f"{len(self.nodes)}:{name}"
        while value in self.inputs:
            value += "'"
        shape = infer(name, op, *(self.shapes[source] for source in sources))
        self._charge(name, op, shape)
        check_values(name, op)
        if math.prod(shape) > MAX_ELEMENTS:
            raise UnsupportedError(f"{name}: shape {shape} has more than {MAX_ELEMENTS} elements")
        if math.prod(shape) == 0:
            raise UnsupportedError(f"{name}: its result, of shape {shape}, has no elements")
        self.shapes[value] = shape
        self.producers[value] = node = Node(name, op, sources, value)
        self.nodes.append(node)
        return value

    def _charge(self, name: str, op: Op, shape: Shape) -> None:
        """Refuse what a few bytes of a source could make large: the same weights in many operators,
        or a constant in each that has few numbers in the source and many here."""
        if len(self.nodes) >= MAX_NODES:
            raise UnsupportedError(f"the network has more than {MAX_NODES} operators")
        self._numbers += _numbers_of(op)
        if isinstance(op, Binary):  # one of a single number may become a scale and a shift
            self._numbers += 2 * max(shape, default=0)
        most = MAX_HELD + HELD_BY_STORED * self.stored
        if self._numbers > most:
            raise UnsupportedError(
                f"{name}: with the operators before it, holds {self._numbers} numbers, where the "
                f"source stores {self.stored}; supported are {most}"
            )

    def note(self, error: UnsupportedError) -> None:
        """Remember what is not supported; :meth:`build` raises it."""
        self.reasons += [reason for reason in error.reasons if reason not in self.reasons]

    def stand_in(self, name: str, error: UnsupportedError, shape: Shape | None = None) -> str:
        """Note ``error``; return a value for what could not be read, with its shape if known."""
        self.note(error)
        value = f"{len(self.shapes) + len(self.shapes.unknown)}?{name}"
        if shape is None:
            self.shapes.unknown.add(value)
        else:
            self.shapes[value] = shape
        return value

    def is_unknown(self, value: str) -> bool:
        """Whether a value is a stand-in without a shape."""
        return value in self.shapes.unknown

    def concat(self, name: str, axis: int, sources: Sequence[str]) -> str:
        """Join any number of values: in halves, so that each is copied few times."""
        if len(sources) == 1:
            return sources[0]
        middle = len(sources) // 2
        halves = (self.concat(name, axis, part) for part in (sources[:middle], sources[middle:]))
        return self.add(name, Concat(axis), *halves)

    def combine(self, name: str, kind: str, left: str, right: str) -> str:
        """Combine two values that broadcast; ``kind`` is that of Binary."""
        a, b = self.shapes[left], self.shapes[right]
        if not _fit(a, b):
            raise UnsupportedError(
                f"{name}: combines shapes {a} and {b}; supported are two of the same rank that "
                "broadcast"
            )
        result = np.broadcast_shapes(a, b)
        if result == b != a and kind != "div":
            value = self.add(name, Binary(kind), right, left)
            flipped = Eltwise(affine=uniform(b, -1.0))
            return self.add(name, flipped, value) if kind == "sub" else value
        # Of Binary, only the second operand broadcasts: the first is repeated where it has to be.
        sizes = enumerate(zip(a, result, strict=True))
        for op in taken(a, {axis: [0] * size for axis, (own, size) in sizes if own != size}):
            left = self.add(name, op, left)
        return self.add(name, Binary(kind), left, right)

    def build(self, *outputs: str) -> Graph:
        """Return the graph that computes ``outputs``, of the inputs that they depend on.

        Raises
        ------
        NotImportedError
            If something is not supported.
        """
        if self.reasons:
            raise NotImportedError(
                *self.reasons,
                inputs={value: self.shapes[value] for value in self.inputs},
                outputs={_label(value): self.shapes.get(value) for value in outputs},
                nodes=self.nodes,
            )
        needed = set(outputs)
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in self.nodes if node.output in needed)
        inputs = tuple(value for value in self.inputs if value in needed)
        shapes = {value: self.shapes[value] for value in (*inputs, *(n.output for n in nodes))}
        return Graph(inputs, outputs, nodes, shapes)


def _numbers_of(op: Op | Affine) -> int:
    """Return how many numbers the arrays of an operator are, with those of its affine."""
    total = 0
    for entry in fields(cast(Any, op)):
        given = getattr(op, entry.name)
        if isinstance(given, np.ndarray):
            total += given.size
        elif isinstance(given, Affine):
            total += _numbers_of(given)
    return total


def _label(value: str) -> str:
    """The name of what wrote a value, without the number that keeps values apart."""
    return re.sub(r"^\d+[:?]", "", value)


#: Layers and operators that read a sequence step by step.
_RECURRENT = ("LSTM", "GRU", "RNN", "Bidirectional", "RNNCell", "LSTMCell", "GRUCell")


def not_supported(name: str, kind: str) -> UnsupportedError:
    """Return the error about a layer or operator of a kind that no converter knows.

    Parameters
    ----------
    name
        As messages have it: "layer 'lstm_1' (LSTM)".
    kind
        Its class, or type of operator.
    """
    if any(word in kind for word in _RECURRENT):
        return UnsupportedError(f"{name} is a recurrent layer, which is not supported")
    return UnsupportedError(f"{name} is not supported")


def _fit(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))


def uniform(shape: Shape, scale: float, shift: float = 0.0) -> Affine:
    """Return the affine that does the same to each element of a value."""
    if not shape:
        raise UnsupportedError(
            "arithmetic on a value of shape (N,); supported is one with an axis behind the batch"
        )
    return Affine(len(shape) - 1, np.full(shape[-1], scale), np.full(shape[-1], shift))


def clip(low: float, high: float) -> list[Op]:
    """Return the operators that limit a value to ``low`` to ``high``, each perhaps infinite."""
    if low == 0 and high >= 0:
        if high == math.inf:
            return [Eltwise(Activation("relu"))]
        return [Eltwise(Activation("clipped_relu", high))]
    ops: list[Op] = []
    if low != -math.inf:
        ops.append(Binary("max", np.array([low])))
    if high != math.inf:
        ops.append(Binary("min", np.array([high])))
    return ops


def taken(shape: Shape, indices: Mapping[int, Sequence[int]]) -> list[Op]:
    """Return the operators that take, along some axes of a value of ``shape``, what ``indices``
    says.

    For a slice that is ``range(size)[start:stop:step]``, for a padding by reflection
    ``np.pad(np.arange(size), (before, after), mode="reflect")``. Neighbours in order are a crop;
    anything else is a resize at whole positions, of one axis or of the rows and columns of an
    image together.

    Raises
    ------
    ValueError
        If nothing is taken, or an index is not within its axis.
    """
    ops: list[Op] = []
    size = list(shape)
    widths = [(0, 0)] * len(shape)
    moved: dict[int, list[int]] = {}
    for axis, given in indices.items():
        chosen = [int(index) for index in given]
        if not chosen or min(chosen) < 0 or max(chosen) >= size[axis]:
            raise ValueError(f"takes {chosen or 'nothing'} of axis {axis} of shape {shape}")
        if chosen == list(range(chosen[0], chosen[-1] + 1)):
            widths[axis] = (chosen[0], size[axis] - 1 - chosen[-1])
        else:
            moved[axis] = chosen
    if any(map(any, widths)):
        ops.append(Crop(tuple(widths)))
        size = [full - sum(width) for full, width in zip(size, widths, strict=True)]
    if len(size) == 3 and 2 not in moved and moved:
        rows, columns = (np.array(moved.get(axis, range(size[axis]))) for axis in (0, 1))
        return [*ops, Resize(rows.astype(np.float64), columns.astype(np.float64))]
    for axis, chosen in moved.items():
        before, behind = math.prod(size[:axis]), math.prod(size[axis + 1 :])
        ops.append(Reshape((before, size[axis], behind)))
        ops.append(Resize(np.arange(before) * 1.0, np.array(chosen) * 1.0))
        size[axis] = len(chosen)
        ops.append(Reshape(tuple(size)))
    return ops


def same_padding(size: Shape, extent: Pair, stride: Pair, *, extra_first: bool = False) -> Sides:
    """Return (top, left, bottom, right) such that there are ceil(size / stride) windows.

    An odd total has its extra row or column at the end, as in TensorFlow and ONNX's SAME_UPPER, or,
    with ``extra_first``, at the beginning (SAME_LOWER).
    """
    before, after = [], []
    for axis in (0, 1):
        windows = -(-size[axis] // stride[axis])
        total = max((windows - 1) * stride[axis] + extent[axis] - size[axis], 0)
        small, large = total // 2, total - total // 2
        before.append(large if extra_first else small)
        after.append(small if extra_first else large)
    return before[0], before[1], after[0], after[1]


def batchnorm(
    axis: int,
    mean: Array,
    variance: Array,
    gamma: Array | None,
    beta: Array | None,
    epsilon: float,
) -> Affine:
    """Return inference-time batch normalization as one scale and shift, in float64.

    Ioffe and Szegedy, "Batch Normalization" (2015), algorithm 2, line 11.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is refused later
        scale = 1.0 / np.sqrt(variance.astype(np.float64) + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean.astype(np.float64) * scale
    if beta is not None:
        shift = shift + beta
    return Affine(axis, scale, shift, mean)

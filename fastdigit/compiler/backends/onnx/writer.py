"""Collects the nodes and weights of an ONNX graph, one operator of the IR after the other.

Images lie channels first here, as ONNX defines its operators; what has to have them last stands
between two transposes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.ir import Activation, Affine, Array, Graph, Op, Shape
from fastdigit.compiler.ops import Conv2D, Recurrent, Softmax
from fastdigit.errors import MissingExtraError, UnsupportedError, pip_install

__all__ = ["Writer", "axis_of", "import_onnx_library", "stored", "writes"]

OPSET, IR_VERSION = 18, 9
INPUT = "input"

#: Where the axes (height, width, channels) of an image are when channels come first, and back.
TO_NCHW, TO_NHWC = (2, 0, 1), (1, 2, 0)

Write = Callable[["Writer", Any, list[Shape]], None]

#: What writes each operator.
_WRITERS: dict[type[Op], Write] = {}


def writes(kind: type[Op]) -> Callable[[Write], Write]:
    """Make a function of (writer, operator, shapes of its inputs) that which writes ``kind``."""

    def register(write: Write) -> Write:
        _WRITERS[kind] = write
        return write

    return register


def import_onnx_library() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(f"writing ONNX needs onnx: {pip_install('compile')}") from error
    return onnx


class Writer:
    """A graph that is being written.

    Attributes
    ----------
    value
        Name of the current value, which the next node reads.
    others
        Names of the further inputs of the operator that is being written.
    projection
        The product with each step that a recurrent layer of ONNX has inside, if it came before the
        one that is being written; it is not written by itself.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        channels_last: bool,
        names: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> None:
        self._onnx = import_onnx_library()
        self._graph = graph
        self._channels_last = channels_last
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        inputs, outputs = names or (graph.inputs, graph.outputs)
        self._inputs = list(inputs) if len(graph.inputs) > 1 else [INPUT]
        # Of one alone, what writes it decides.
        self._outputs: list[str] = []
        self._taken = set(self._inputs)
        if len(graph.outputs) > 1:
            self._taken.update(outputs)
            for name in outputs:
                self._outputs.append(self._free(name) if name in self._inputs else name)
                self._taken.add(self._outputs[-1])
        self.value = self._inputs[0]
        self.others: list[str] = []
        self.projection: Conv2D | None = None

    def model(self, name: str) -> Any:
        """Write the whole graph; return it as a ``ModelProto``."""
        graph, helper = self._graph, self._onnx.helper
        for value, shape in graph.shapes.items():
            if len(shape) not in (1, 3):
                raise UnsupportedError(
                    f"value {value!r} has shape {shape}; only images and vectors have a plain form"
                )
        values = {}
        for value, port in zip(graph.inputs, self._inputs, strict=True):
            self.value = port
            if self._channels_last:
                self._enter(graph.shapes[value])
            values[value] = self.value
        projections = _projections(graph)
        for node in graph.nodes:
            if node.output in projections:
                values[node.output] = values[node.inputs[0]]
                continue
            self.projection = projections.get(node.inputs[0])
            self.value, *self.others = (values[source] for source in node.inputs)
            write = _WRITERS.get(type(node.op))
            if write is None:
                raise UnsupportedError(
                    f"{node.name}: a {type(node.op).__name__} can't be written as ONNX yet"
                )
            write(self, node.op, [graph.shapes[source] for source in node.inputs])
            values[node.output] = self.value
        results = []
        for value in graph.outputs:
            self.value = values[value]
            if self._channels_last:
                self.to_channels_last(graph.shapes[value])
            results.append(self.value)
        results = self._name_outputs(results)
        made = helper.make_graph(
            self._nodes,
            name,
            self._infos(self._inputs, graph.inputs),
            self._infos(results, graph.outputs),
            self._weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            made, opset_imports=opset, ir_version=IR_VERSION, producer_name="fastdigit"
        )

    def _enter(self, shape: Shape) -> None:
        """Take an image with its channels last; one with a single channel lies the same way."""
        if len(shape) == 3 and shape[2] == 1:
            self.add("Reshape", self.integers([0, *_channels_first(shape)]))
        else:
            self.to_channels_first(shape)

    def _infos(self, names: Sequence[str], values: Sequence[str]) -> list[Any]:
        """What ONNX says of inputs or outputs."""
        order = (lambda shape: shape) if self._channels_last else _channels_first
        return [
            self._onnx.helper.make_tensor_value_info(
                name, self._onnx.TensorProto.FLOAT, ["N", *order(self._graph.shapes[value])]
            )
            for name, value in zip(names, values, strict=True)
        ]

    def _name_outputs(self, results: list[str]) -> list[str]:
        """Give the outputs their names: one alone says what it is, if a node writes it."""
        if not self._outputs:
            (result,) = results
            if result in self._inputs:
                return results
            last = self._graph.nodes[-1].op if self._graph.nodes else None
            name = self._free("probabilities" if isinstance(last, Softmax) else "output")
            self._rename({result: name})
            return [name]
        # An input, or what another output is too, is an output by a node of its own.
        for index, result in enumerate(results):
            if result in self._inputs or result in results[:index]:
                results[index] = self.emit("Identity", [result], {})
        self._rename({result: name for result, name in zip(results, self._outputs, strict=True)})
        return self._outputs

    def _free(self, name: str) -> str:
        """Return a name that no input or output has."""
        while name in self._taken:
            name += "_"
        return name

    def _rename(self, to: Mapping[str, str]) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [to.get(value, value) for value in names]

    # ---- nodes ----

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """Add a weight; return its name."""
        name = self._free(f"weight{len(self._weights)}")
        stored = np.array(array, dtype, order="C")
        self._weights.append(self._onnx.numpy_helper.from_array(stored, name))
        return name

    def integers(self, numbers: Any) -> str:
        """Add a vector of integers, such as a shape; return its name."""
        return self.constant(numbers, np.int64)

    def add(self, kind: str, *operands: str | Array | float, **attributes: Any) -> None:
        """Append a node that takes the current value, others and weights, and makes the next."""
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        self.value = self.emit(kind, [self.value, *names], attributes)

    def emit(self, kind: str, operands: list[str], attributes: dict[str, Any]) -> str:
        """Append a node of values by name; return the name of what it makes."""
        result = self._free(f"{kind.lower()}{len(self._nodes)}")
        self._nodes.append(self._onnx.helper.make_node(kind, operands, [result], **attributes))
        return result

    # ---- what operators share ----

    def transpose(self, order: list[int]) -> None:
        """Order the axes behind the batch, counted with it; nothing if they are in order."""
        if order != sorted(order):
            self.add("Transpose", perm=[0, *order])

    def to_channels_last(self, shape: Shape) -> None:
        if len(shape) == 3:
            self.transpose([1 + axis for axis in TO_NHWC])

    def to_channels_first(self, shape: Shape) -> None:
        if len(shape) == 3:
            self.transpose([1 + axis for axis in TO_NCHW])

    def activation(self, activation: Activation) -> None:
        given: dict[str, str | float] = {"x": self.value, "alpha": activation.alpha}
        for step in ACTIVATIONS[activation.name].onnx:
            operands = [given[x] if isinstance(x, str) else x for x in step.operands]
            attributes = {} if step.alpha is None else {"alpha": activation.alpha}
            self.add(step.op_type, *operands, **attributes)

    def affine(self, affine: Affine | None, rank: int) -> None:
        if affine is None:
            return
        shape = [1] * (rank + 1)
        shape[axis_of(affine.axis, rank)] = -1
        if (affine.scale != 1).any():
            self.add("Mul", affine.scale.reshape(shape))
        if (affine.shift != 0).any():
            self.add("Add", affine.shift.reshape(shape))


def _projections(graph: Graph) -> dict[str, Conv2D]:
    """Return, by the input of a recurrent layer that alone reads it, the product that makes it."""
    readers = Counter([*graph.outputs, *(value for node in graph.nodes for value in node.inputs)])
    recurrent = {node.inputs[0] for node in graph.nodes if isinstance(node.op, Recurrent)}
    return {
        node.output: node.op
        for node in graph.nodes
        if isinstance(node.op, Conv2D) and node.output in recurrent and readers[node.output] == 1
        if _is_product(node.op)
    }


def _is_product(op: Conv2D) -> bool:
    plain = Conv2D(np.zeros((1, 1, 1, 1)))
    return all(
        getattr(op, name) == getattr(plain, name)
        for name in ("extent", "stride", "pad", "groups", "activation", "affine", "pool")
    )


def stored(rank: int) -> tuple[int, ...]:
    """The axes of a value, which has no batch, in the order in which they are stored here."""
    return TO_NCHW if rank == 3 else (0,)


def axis_of(axis: int, rank: int) -> int:
    """Where an axis of a value is here, counted with the batch."""
    return 1 + stored(rank).index(axis)


def _channels_first(shape: Shape) -> Shape:
    return tuple(shape[axis] for axis in stored(len(shape)))

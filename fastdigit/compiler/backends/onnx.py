"""The network of a model file as a plain ONNX graph with channels first.

Exporters keep what the training framework needed: tf2onnx transposes between layouts, pads in
nodes of its own, and splits normalisations. Other runtimes should not be slow for that. This graph
is what one would write by hand for them: Conv, Relu, MaxPool, Add, Gemm, with padding in the
convolutions, and with normalisations folded as far as fastdigit's own compiler folds them. Where an
operator of the model file wants the channels last, such as a layer normalization of images, it
stands between two transposes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.ir import Activation, Affine, Array, Graph, Node, Pool, Shape
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    infer,
)
from fastdigit.errors import MissingExtraError, UnsupportedError, pip_install

__all__ = ["to_onnx", "write_nchw"]

OPSET, IR_VERSION = 18, 9

#: Those that ONNX has.
ACTIVATIONS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_sigmoid": "HardSigmoid",
    "hard_swish": "HardSwish",
    "softplus": "Softplus",
    "erf": "Erf",
}
WITH_ALPHA = ("leaky_relu", "elu", "hard_sigmoid")
BINARIES = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "prelu": "PRelu",
}
POOLS = {"max": "MaxPool", "average": "AveragePool"}
GLOBAL_POOLS = {"max": "GlobalMaxPool", "average": "GlobalAveragePool"}

#: Where the axes (height, width, channels) of an image are when channels come first, and back.
TO_NCHW, TO_NHWC = (2, 0, 1), (1, 2, 0)


def write_nchw(model: Path, target: Path) -> None:
    """Write the network of a ``.fdm`` file as ONNX; `MissingExtraError` without onnx."""
    onnx = _onnx()
    made = to_onnx(unpack(model.read_bytes()).graph)
    onnx.checker.check_model(made)
    target.write_bytes(made.SerializeToString(deterministic=True))


def to_onnx(graph: Graph) -> Any:
    """Return a network as an ``onnx.ModelProto``; images are (N, channels, height, width).

    Raises
    ------
    UnsupportedError
        A value is neither an image nor a vector, which no model file has.
    """
    return _Writer(graph).model()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(f"writing ONNX needs onnx: {pip_install('compile')}") from error
    return onnx


class _Writer:
    """Appends nodes and weights to a graph, one operator after the other."""

    def __init__(self, graph: Graph) -> None:
        self._onnx = _onnx()
        self._graph = graph
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        #: The current value, and where each one of the network is.
        self._value = "input"
        self._values = {graph.input: self._value}

    def model(self) -> Any:
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        for name, shape in self._graph.shapes.items():
            if len(shape) not in (1, 3):
                raise UnsupportedError(
                    f"value {name!r} has shape {shape}; only images and vectors have a plain form"
                )
        for node in self._graph.nodes:
            self._value = self._values[node.inputs[0]]
            self._node(node)
            self._values[node.output] = self._value
        image, result = (
            self._graph.shapes[name] for name in (self._graph.input, self._graph.output)
        )
        output = self._values[self._graph.output]
        graph = helper.make_graph(
            self._nodes,
            "fastdigit",
            [helper.make_tensor_value_info("input", float32, ["N", *_channels_first(image)])],
            [helper.make_tensor_value_info(output, float32, ["N", *_channels_first(result)])],
            self._weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)

    def _node(self, node: Node) -> None:
        shape = self._graph.shapes[node.inputs[0]]
        rank = len(shape)
        match node.op:
            case Conv2D():
                self._conv2d(node.op, shape)
            case Dense():
                self._dense(node.op, shape)
            case Pool2D(pool):
                self._pool(pool, shape)
            case Eltwise():
                self._activation(node.op.activation)
                self._affine(node.op.affine, rank)
            case Softmax(temperature):
                if temperature != 1:
                    self._add("Div", np.array(temperature))
                self._add("Softmax", axis=1)
            case LayerNorm():
                self._layernorm(node.op, shape)
            case Binary():
                self._binary(node.op, node.inputs[1:], rank)
            case Concat(axis):
                self._add("Concat", self._values[node.inputs[1]], axis=_axis(axis, rank))
            case Pad(widths, value):
                self._pad(widths, value)
            case Transpose(perm):
                self._transpose([_axis(perm[axis], rank) for axis in _stored(rank)])
            case Reshape(target):
                self._reshape(shape, target)
            case other:
                raise UnsupportedError(
                    f"{node.name}: a {type(other).__name__} can't be written as ONNX yet"
                )

    # ---- Nodes ----

    def _constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"weight{len(self._weights)}"
        stored = np.array(array, dtype, order="C")
        self._weights.append(self._onnx.numpy_helper.from_array(stored, name))
        return name

    def _add(self, kind: str, *operands: str | Array, **attributes: Any) -> None:
        """Append a node that takes the current value, others and weights, and makes the next."""
        names = [x if isinstance(x, str) else self._constant(x) for x in operands]
        self._value = self._emit(kind, [self._value, *names], attributes)

    def _emit(self, kind: str, operands: list[str], attributes: dict[str, Any]) -> str:
        result = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, operands, [result], **attributes))
        return result

    def _transpose(self, order: list[int]) -> None:
        """Order the axes behind the batch, counted with it; nothing if they are in order."""
        if order != sorted(order):
            self._add("Transpose", perm=[0, *order])

    # ---- Operators ----

    def _conv2d(self, op: Conv2D, shape: Shape) -> None:
        self._add(
            "Conv",
            op.weights.transpose(3, 2, 0, 1),
            *([] if op.bias is None else [op.bias]),
            kernel_shape=op.weights.shape[:2],
            strides=op.stride,
            dilations=op.dilation,
            pads=op.pad,
            group=op.groups,
        )
        self._activation(op.activation)
        self._affine(op.affine, 3)
        if op.pool is not None:
            self._pool(op.pool, infer("", replace(op, pool=None), shape))

    def _dense(self, op: Dense, shape: Shape) -> None:
        weights = op.weights
        if len(shape) == 3:
            # Its rows are in the order of (height, width, channels).
            weights = weights.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
            self._add("Flatten", axis=1)
        self._add("Gemm", weights, *([] if op.bias is None else [op.bias]))
        self._activation(op.activation)

    def _activation(self, activation: Activation) -> None:
        x, alpha = self._value, activation.alpha
        match activation.name:
            case "linear":
                pass
            case "clipped_relu":
                self._add("Clip", np.array(0.0), np.array(alpha))
            case "silu":
                self._add("Sigmoid")
                self._add("Mul", x)
            # In the pieces, and in the order, in which runtimes look for them.
            case "gelu":
                self._add("Div", np.array(math.sqrt(2)))
                self._add("Erf")
                self._add("Add", np.array(1.0))
                self._add("Mul", x)
                self._add("Mul", np.array(0.5))
            case "gelu_tanh":
                self._add("Pow", np.array(3.0))
                self._add("Mul", np.array(0.044715))
                self._add("Add", x)
                self._add("Mul", np.array(math.sqrt(2 / math.pi)))
                self._add("Tanh")
                self._add("Add", np.array(1.0))
                self._add("Mul", x)
                self._add("Mul", np.array(0.5))
            case name:
                self._add(ACTIVATIONS[name], **({"alpha": alpha} if name in WITH_ALPHA else {}))

    def _affine(self, affine: Affine | None, rank: int) -> None:
        if affine is None:
            return
        shape = [1] * (rank + 1)
        shape[_axis(affine.axis, rank)] = -1
        if (affine.scale != 1).any():
            self._add("Mul", affine.scale.reshape(shape))
        if (affine.shift != 0).any():
            self._add("Add", affine.shift.reshape(shape))

    def _pool(self, pool: Pool, shape: Shape) -> None:
        if pool.size == shape[:2] and not any(pool.pad):
            self._add(GLOBAL_POOLS[pool.mode])
        else:
            # By default, sizes are rounded down and padding is not counted, as in the model file.
            self._add(POOLS[pool.mode], kernel_shape=pool.size, strides=pool.stride, pads=pool.pad)

    def _layernorm(self, op: LayerNorm, shape: Shape) -> None:
        scale = np.ones(shape[-1]) if op.scale is None else op.scale
        self._to_channels_last(shape)
        weights = [scale] if op.shift is None else [scale, op.shift]
        self._add("LayerNormalization", *weights, axis=-1, epsilon=op.epsilon)
        self._to_channels_first(shape)

    def _binary(self, op: Binary, others: tuple[str, ...], rank: int) -> None:
        """The second operand's axes are those of the first, counted from the last."""
        if op.constant is not None:
            shape = (1,) * (rank - op.constant.ndim) + op.constant.shape
            constant = op.constant.reshape(shape)
            self._add(BINARIES[op.kind], constant.transpose(_stored(rank)))
        else:
            second = self._values[others[0]]
            if len(self._graph.shapes[others[0]]) < rank:  # a vector: a value for each channel
                second = self._emit("Unsqueeze", [second, self._constant([2, 3], np.int64)], {})
            self._add(BINARIES[op.kind], second)
        self._activation(op.activation)
        self._affine(op.affine, rank)

    def _pad(self, widths: tuple[tuple[int, int], ...], value: float) -> None:
        stored = [(0, 0), *(widths[axis] for axis in _stored(len(widths)))]
        pads = [before for before, _ in stored] + [after for _, after in stored]
        self._add("Pad", self._constant(pads, np.int64), np.array(value))

    def _reshape(self, shape: Shape, target: Shape) -> None:
        self._to_channels_last(shape)
        # 0 is the size there was: the batch.
        self._add("Reshape", self._constant([0, *target], np.int64))
        self._to_channels_first(target)

    def _to_channels_last(self, shape: Shape) -> None:
        if len(shape) == 3:
            self._transpose([1 + axis for axis in TO_NHWC])

    def _to_channels_first(self, shape: Shape) -> None:
        if len(shape) == 3:
            self._transpose([1 + axis for axis in TO_NCHW])


def _stored(rank: int) -> tuple[int, ...]:
    """The axes of a value, which has no batch, in the order in which they are stored here."""
    return TO_NCHW if rank == 3 else (0,)


def _axis(axis: int, rank: int) -> int:
    """Where an axis of a value is here, counted with the batch."""
    return 1 + _stored(rank).index(axis)


def _channels_first(shape: Shape) -> Shape:
    return tuple(shape[axis] for axis in _stored(len(shape)))

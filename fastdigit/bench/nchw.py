"""The network of a model file as a plain ONNX graph with channels first.

Exporters keep what the training framework needed: tf2onnx transposes between layouts, pads in
nodes of its own, and splits normalisations. Other runtimes should not be slow for that. This graph
is what one would write by hand for them: Conv, Relu, MaxPool, Gemm, with padding in the
convolutions, and with normalisations folded as far as fastdigit's own compiler folds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.bench.runtimes import require
from fastdigit.compiler.ir import (
    Activation,
    Affine,
    Array,
    Conv2D,
    Dense,
    Eltwise,
    Graph,
    Pool,
    Pool2D,
    Shape,
    Softmax,
)
from fastdigit.compiler.unpack import unpack
from fastdigit.errors import UnsupportedError

__all__ = ["to_onnx", "write_nchw"]

OPSET, IR_VERSION = 18, 9

ACTIVATIONS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}
WITH_ALPHA = ("leaky_relu", "elu")
POOLS = {"max": "MaxPool", "average": "AveragePool"}


def write_nchw(model: Path, target: Path) -> None:
    """Write the network of a ``.fdm`` file as ONNX; `MissingExtraError` without onnx."""
    onnx = require("onnx", "bench")
    made = to_onnx(unpack(model.read_bytes()).graph)
    onnx.checker.check_model(made)
    target.write_bytes(made.SerializeToString(deterministic=True))


def to_onnx(graph: Graph) -> Any:
    """Return a network as an ``onnx.ModelProto``; images are (N, channels, height, width).

    Raises
    ------
    UnsupportedError
        The graph has an operator that no model file has.
    """
    return _Writer(graph).model()


class _Writer:
    """Appends nodes and weights to a graph, one operator after the other."""

    def __init__(self, graph: Graph) -> None:
        self._onnx = require("onnx", "bench")
        self._graph = graph
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._value = "input"

    def model(self) -> Any:
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        for node in self._graph.nodes:
            shape = self._graph.shapes[node.inputs[0]]
            match node.op:
                case Conv2D(groups=1):
                    self._conv2d(node.op)
                case Dense():
                    self._dense(node.op, shape)
                case Pool2D():
                    self._pool(node.op.pool)
                case Eltwise():
                    self._activation(node.op.activation)
                    self._affine(node.op.affine, len(shape))
                case Softmax(temperature):
                    if temperature != 1:
                        self._add("Div", np.array(temperature))
                    self._add("Softmax", axis=1)
                case other:
                    raise UnsupportedError(f"{node.name}: {type(other).__name__} has no ONNX form")
        image, result = (
            self._graph.shapes[name] for name in (self._graph.input, self._graph.output)
        )
        graph = helper.make_graph(
            self._nodes,
            "fastdigit",
            [helper.make_tensor_value_info("input", float32, ["N", *_channels_first(image)])],
            [helper.make_tensor_value_info(self._value, float32, ["N", *_channels_first(result)])],
            self._weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)

    def _add(self, kind: str, *weights: Array, **attributes: Any) -> None:
        """Append a node that takes the current value and weights, and makes the next value."""
        names = []
        for weight in weights:
            names.append(f"weight{len(self._weights)}")
            array = np.ascontiguousarray(weight, np.float32)
            self._weights.append(self._onnx.numpy_helper.from_array(array, names[-1]))
        result = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node(kind, [self._value, *names], [result], **attributes)
        )
        self._value = result

    def _conv2d(self, op: Conv2D) -> None:
        self._add(
            "Conv",
            op.weights.transpose(3, 2, 0, 1),
            *([] if op.bias is None else [op.bias]),
            kernel_shape=op.weights.shape[:2],
            strides=op.stride,
            dilations=op.dilation,
            pads=op.pad,
        )
        self._activation(op.activation)
        self._affine(op.affine, 3)
        if op.pool is not None:
            self._pool(op.pool)

    def _dense(self, op: Dense, shape: Shape) -> None:
        weights = op.weights
        if len(shape) == 3:
            # Its rows are in the order of (height, width, channels).
            weights = weights.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
            self._add("Flatten", axis=1)
        self._add("Gemm", weights, *([] if op.bias is None else [op.bias]))
        self._activation(op.activation)

    def _activation(self, activation: Activation) -> None:
        if activation.name != "linear":
            alpha = {"alpha": activation.alpha} if activation.name in WITH_ALPHA else {}
            if activation.name not in ACTIVATIONS:
                raise UnsupportedError(f"activation {activation.name} has no plain ONNX form here")
            self._add(ACTIVATIONS[activation.name], **alpha)

    def _affine(self, affine: Affine | None, rank: int) -> None:
        if affine is None:
            return
        shape = [1] * (rank + 1)
        shape[{1: (1,), 3: (2, 3, 1)}[rank][affine.axis]] = -1
        if (affine.scale != 1).any():
            self._add("Mul", affine.scale.reshape(shape))
        if (affine.shift != 0).any():
            self._add("Add", affine.shift.reshape(shape))

    def _pool(self, pool: Pool) -> None:
        # By default, sizes are rounded down and padding is not counted, as in the model file.
        self._add(POOLS[pool.mode], kernel_shape=pool.size, strides=pool.stride, pads=pool.pad)


def _channels_first(shape: Shape) -> Shape:
    return shape if len(shape) == 1 else (shape[2], *shape[:2])

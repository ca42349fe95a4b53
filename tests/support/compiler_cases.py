"""What the tests of the compiler share: graphs made of chains, ONNX models, an engine that is
the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Pool
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
    make_graph,
)
from tests.support import reference

RELU = Eltwise(Activation("relu"))


def engine(data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a model file: read back from its bytes, computed in float64."""
    return reference.run_outputs(unpack(data).graph, inputs)


def chain(shape: tuple[int, ...], *ops: Op) -> Graph:
    """A graph that applies ``ops`` one after the other."""
    nodes = [Node(f"n{i}", op, (f"v{i}",), f"v{i + 1}") for i, op in enumerate(ops)]
    return make_graph({"v0": shape}, nodes, [f"v{len(ops)}"])


def images(graph: Graph, count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *graph.shapes[graph.input]))


def conv(rng: np.random.Generator, kernel: tuple[int, int], ins: int, outs: int, **kw: Any) -> Op:
    fan_in = kernel[0] * kernel[1] * ins
    weights = rng.normal(size=(*kernel, ins, outs)) / np.sqrt(fan_in)
    return Conv2D(weights, rng.normal(size=outs), **kw)


def dense(rng: np.random.Generator, ins: int, outs: int) -> Dense:
    return Dense(rng.normal(size=(ins, outs)) / np.sqrt(ins), rng.normal(size=outs))


def affine(rng: np.random.Generator, axis: int, size: int) -> Eltwise:
    """A scale and shift, with scales of both signs and one that is zero."""
    scale = rng.normal(size=size)
    scale[-1] = 0.0 if size > 2 else scale[-1]
    return Eltwise(affine=Affine(axis, scale, rng.normal(size=size)))


def max_pool(size: int, stride: int | None = None, pad: Any = (0, 0, 0, 0)) -> Pool:
    return Pool("max", (size, size), (stride or size,) * 2, pad)


def average_pool(size: int, stride: int | None = None, pad: Any = (0, 0, 0, 0)) -> Pool:
    return Pool("average", (size, size), (stride or size,) * 2, pad)


class OnnxNet:
    """Writes ONNX models node by node; each method returns the name of its output."""

    def __init__(self, shape: tuple[Any, ...], opset: int = 18, seed: int = 0) -> None:
        self.shape, self.opset = shape, opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = "input"

    def weight(self, array: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op_type: str, *inputs: Any, **attributes: Any) -> OnnxNet:
        """Append a node; inputs that are arrays become weights, None the output of the last
        node."""
        from onnx import helper

        names = [
            self.last if given is None else given if isinstance(given, str) else self.weight(given)
            for given in (inputs or (None,))
        ]
        output = f"x{len(self.nodes)}"
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, names, [output], name=name, **attributes))
        self.last = output
        return self

    def conv(self, ins: int, outs: int, kernel: tuple[int, int], **attributes: Any) -> OnnxNet:
        scale = np.sqrt(ins * kernel[0] * kernel[1])
        weights = self.rng.normal(size=(outs, ins, *kernel)) / scale
        return self.add("Conv", None, weights, self.rng.normal(size=outs) * 0.1, **attributes)

    def batchnorm(self, channels: int, **attributes: Any) -> OnnxNet:
        gamma, beta, mean = (self.rng.normal(size=channels) for _ in range(3))
        variance = self.rng.uniform(0.5, 2, channels)
        return self.add("BatchNormalization", None, gamma, beta, mean, variance, **attributes)

    def gemm(self, ins: int, outs: int) -> OnnxNet:
        weights = self.rng.normal(size=(outs, ins)) / np.sqrt(ins)
        return self.add("Gemm", None, weights, self.rng.normal(size=outs) * 0.1, transB=1)

    def model(self, name: str = "net", check: bool = True, infer: bool = True) -> Any:
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if any(node.domain == "ai.onnx.ml" for node in self.nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if infer:
            model = onnx.shape_inference.infer_shapes(model)
        if not model.graph.output[0].type.tensor_type.HasField("shape"):
            model.graph.output[0].type.tensor_type.shape.SetInParent()
        if check:
            onnx.checker.check_model(model)
        return model


def run_onnx(model: Any, batch: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": batch.astype(np.float32)})[0]


def everything() -> Graph:
    """A graph that sets every field of the format."""
    rng = np.random.default_rng(0)
    front = chain(
        (5, 6, 2),
        Transpose((1, 2, 0)),
        Pad(((2, 11), (15, 0), (0, 1)), -0.5),
        LayerNorm(1e-3, rng.normal(size=6), rng.normal(size=6)),
        Binary("prelu", rng.normal(size=(19, 17, 6))),
        Reshape((17, 19, 6)),
        Transpose((1, 0, 2)),
        conv(rng, (1, 1), 3, 4, groups=2),
        Softmax(),
    )
    nodes = list(front.nodes)
    nodes.append(Node("join", Concat(2), ("v8", "v8"), "joined"))
    half = conv(rng, (1, 1), 8, 3)
    nodes.append(Node("half", half, ("joined",), "half"))
    binary = Binary("sub", None, Activation("clipped_relu", 6.0), affine(rng, 1, 17).affine)
    nodes.append(Node("binary", binary, ("half", "half"), "v0'"))
    back = _back(rng)
    for node in back.nodes:
        inputs = tuple("v0'" if value == "v0" else f"{value}'" for value in node.inputs)
        nodes.append(Node(node.name, node.op, inputs, f"{node.output}'"))
    return make_graph({"v0": (5, 6, 2)}, nodes, [f"{back.output}'"])


def _back(rng: np.random.Generator) -> Graph:
    return chain(
        (19, 17, 3),
        conv(
            rng,
            (3, 2),
            3,
            5,
            stride=(2, 1),
            dilation=(1, 2),
            pad=(1, 2, 3, 0),
            activation=Activation("leaky_relu", 0.25),
            affine=affine(rng, 1, 17).affine,
            pool=max_pool(3, 2, (2, 1, 0, 1)),
        ),
        Pool2D(average_pool(2, 1, (1, 0, 0, 1))),
        Eltwise(Activation("elu", 0.5), affine(rng, 0, 6).affine),
        conv(rng, (1, 1), 5, 2, activation=Activation("selu"), affine=affine(rng, 2, 2).affine),
        Dense(rng.normal(size=(6 * 9 * 2, 100)), activation=Activation("tanh")),
        Eltwise(Activation("sigmoid"), affine(rng, 0, 100).affine),
        dense(rng, 100, 4),
        Softmax(0.5),
    )

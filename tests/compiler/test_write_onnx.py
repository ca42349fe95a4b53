"""The plain ONNX form of a model file gives what the float64 reference gives."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from benchmarks import zoo
from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.backends.onnx import to_onnx, write
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.ir import Activation, Affine, Op
from fastdigit.compiler.ops import (
    BINARIES,
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Reshape,
    Softmax,
)
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import EXPORTED, need, networks, reference

onnx = need("onnx")
ort = need("onnxruntime")

NETWORKS = {"seed": networks.seed_network(), **networks.small_networks()}


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    """Run on channels-last images; returns channels-last results."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    if images.ndim == 4:
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    (result,) = session.run(None, {"input": images})
    return result.transpose(0, 2, 3, 1) if result.ndim == 4 else result


@pytest.mark.parametrize("name", NETWORKS)
def test_same_results(name: str) -> None:
    graph = unpack(networks.packed(NETWORKS[name])).graph
    images = np.random.default_rng(0).random((3, *graph.shapes[graph.input]), np.float32)
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(
        run(model.SerializeToString(), images), reference.run_graph(graph, images), atol=1e-5
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    alpha = 0.3 if name in ("leaky_relu", "elu", "clipped_relu", "hard_sigmoid") else 0.0
    ops = [Eltwise(Activation(name, alpha)), Eltwise(affine=Affine(0, np.full(9, 2.0), np.ones(9)))]
    images = np.linspace(-3, 3, 9, dtype=np.float32)[None]
    got = run(to_onnx(networks.chain((9,), ops)).SerializeToString(), images)
    want = 2 * reference.activate(images, name, alpha) + 1
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", BINARIES)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("other", [(2, 3, 4), (1, 3, 1), (2, 1, 1), (1, 1, 4), (4,)])
def test_operands(kind: str, other: tuple[int, ...], constant: bool) -> None:
    """Second operands that broadcast along every axis, constants and values of the network."""
    rng = np.random.default_rng(1)
    values = rng.uniform(0.5, 2, other)
    net = networks.Net((2, 3, 4))
    shifted = net.add(Eltwise(affine=Affine(2, np.full(4, 2.0), np.full(4, -1.0))))
    if constant:
        net.add(Binary(kind, values), shifted)
    else:
        size = 24 // math.prod(other)
        # Any value of that shape will do: the image's first ones.
        dense = Dense(np.eye(24, 24 // size), np.full(24 // size, 0.5))
        second = net.add(dense, "v0")
        if len(other) == 3:
            second = net.add(Reshape(other), second)
        net.add(Binary(kind), shifted, second)
    graph = net.graph()
    images = rng.random((3, 2, 3, 4), np.float32)
    got = run(to_onnx(graph).SerializeToString(), images)
    np.testing.assert_allclose(got, reference.run_graph(graph, images), rtol=1e-5, atol=1e-6)


def test_vectors_take_every_operator() -> None:
    rng = np.random.default_rng(2)
    net = networks.Net((6,))
    a = net.add(Pad(((1, 2),), 0.5))
    b = net.add(LayerNorm(1e-3, None, rng.random(9)), a)
    a = net.add(Binary("prelu", rng.random(9)), a)
    c = net.add(Concat(0), a, b)
    d = net.add(Reshape((3, 2, 3)), c)
    e = net.add(Softmax(2.0), d)
    f = net.add(Reshape((18,)), e)
    net.add(Binary("sub"), c, f)
    graph = net.graph()
    images = rng.normal(size=(4, 6)).astype(np.float32)
    got = run(to_onnx(graph).SerializeToString(), images)
    np.testing.assert_allclose(got, reference.run_graph(graph, images), atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", ["their own", "those of nodes", "each other's"])
def test_several_inputs_and_outputs(case: str, channels_last: bool) -> None:
    graph = networks.two_headed()
    # The last output is one that there is already.
    graph = replace(graph, outputs=(*graph.outputs, "mask"))
    names = {
        "their own": (["a photo", "é"], ["digit:0", "flag", "mask", "features", "scores", "again"]),
        "those of nodes": (["weight0", "relu1"], ["gemm4", "conv0", "conv2", "x", "y", "weight1"]),
        "each other's": (["a", "b"], ["b", "a", "a_", "c", "d", "e"]),
    }[case]
    model = networks.packed(graph, names=names)
    session = ort.InferenceSession(
        write(model, channels_last=channels_last), providers=["CPUExecutionProvider"]
    )
    assert [port.name for port in session.get_inputs()] == names[0]
    outputs = [port.name for port in session.get_outputs()]
    assert outputs == (names[1] if case != "each other's" else ["b_", "a__", "a_", "c", "d", "e"])
    rng = np.random.default_rng(0)
    images, vectors = rng.random((3, 8, 8, 1), np.float32), rng.random((3, 4), np.float32)
    want = reference.run_outputs(unpack(model).graph, (images, vectors))
    if not channels_last:
        images = images.transpose(0, 3, 1, 2)
        want = [w.transpose(0, 3, 1, 2) if w.ndim == 4 else w for w in want]
    got = session.run(None, dict(zip(names[0], (images, vectors), strict=True)))
    for result, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_an_input_that_is_an_output_too() -> None:
    graph = networks.chain((4,), [Eltwise(Activation("relu"))])
    graph = replace(graph, outputs=("v1", "v0"))
    session = ort.InferenceSession(
        to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.array([[-1, 0, 1, 2]], np.float32)
    got = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(got, [np.maximum(x, 0), x])


def test_seed_network_is_plain() -> None:
    kinds = [node.op_type for node in to_onnx(NETWORKS["seed"]).graph.node]
    normalised = ["Conv", "Relu", "Mul", "Add", "MaxPool"]
    dense = ["Flatten", "Gemm", "Relu", "Gemm", "Softmax"]
    assert kinds == ["Conv", "Relu", "MaxPool", *normalised, *normalised, *dense]


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_reset_after", "simple"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_recurrent_layer_has_its_product_inside(kind: str, inside: bool) -> None:
    """Unless something else comes between, or reads it too."""
    rng = np.random.default_rng(5)
    gates = {"simple": 1, "lstm": 4}.get(kind, 3)
    bias = rng.normal(size=5 * gates).astype(np.float32)
    between = {} if inside else {"activation": Activation("tanh")}
    net = networks.Net((2, 7, 3))
    product = net.add(networks.conv(rng, (1, 1), 3, 5 * gates, **between))
    net.add(networks.cell(rng, kind, 5, bias=bias))
    net.add(networks.conv(rng, (1, 1), 5, 5 * gates))
    net.add(networks.cell(rng, kind, 5, backwards=True))
    if not inside:
        net.add(Binary("add"), net.add(networks.conv(rng, (1, 1), 5, 5 * gates)), product)
    graph = net.graph()
    model = to_onnx(graph)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] == (0 if inside else 2)
    images = rng.random((3, 2, 7, 3), np.float32)
    got = run(model.SerializeToString(), images)
    np.testing.assert_allclose(got, reference.run_graph(graph, images), atol=1e-5)


def test_scales_of_one_and_shifts_of_zero_are_left_out() -> None:
    nothing = Affine(0, np.ones(4, np.float32), np.zeros(4, np.float32))
    ops = [Eltwise(Activation("relu"), nothing)]
    assert [node.op_type for node in to_onnx(networks.chain((4,), ops)).graph.node] == ["Relu"]


def test_files_are_the_same_every_time() -> None:
    model = networks.packed(NETWORKS["lenet"])
    first = write(model)
    assert first == write(model)
    onnx.load_from_string(first)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last(name: str) -> None:
    """Images as Keras has them; the same results."""
    model = networks.packed(NETWORKS[name])
    graph = unpack(model).graph
    images = np.random.default_rng(0).random((3, *graph.shapes[graph.input]), np.float32)
    session = ort.InferenceSession(
        write(model, channels_last=True), providers=["CPUExecutionProvider"]
    )
    shapes = [given.shape for given in (*session.get_inputs(), *session.get_outputs())]
    assert shapes == [["N", *graph.shapes[value]] for value in (graph.input, graph.output)]
    (got,) = session.run(None, {"input": images})
    np.testing.assert_array_equal(got, run(write(model), images))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", fastdigit.model.SHIPPED_MODELS)
def test_shipped_models_keep_every_bit(name: str, channels_last: bool) -> None:
    """Compiled again, what is written gives the same tensors, program and weights."""
    program = unpack(Path(fastdigit.model.shipped_file(name)).read_bytes())
    *layers, last = program.graph.nodes
    # The compiler would divide the weights of the layer before by another temperature than 1.
    nodes = (*layers, replace(last, op=Softmax()))
    graph = replace(program.graph, nodes=nodes)
    model = pack(graph, program.meta)
    written = onnx.load_from_string(write(model, channels_last=channels_last))
    assert written.graph.name == name
    assert pack(optimize(import_model(written).graph), program.meta) == model


@pytest.mark.parametrize(("name", "exported"), [("seed", "seed"), ("digits", "digits-compact")])
def test_shipped_models_have_the_weights_of_their_exports(name: str, exported: str) -> None:
    """Bit for bit, in convolutions and dense layers: what tf2onnx wrote needs not be shipped."""
    theirs = {
        onnx.numpy_helper.to_array(tensor).tobytes()
        for tensor in onnx.load(EXPORTED / f"{exported}.onnx").graph.initializer
    }
    layers = [
        node.op
        for node in unpack(Path(fastdigit.model.shipped_file(name)).read_bytes()).graph.nodes
        if isinstance(node.op, Conv2D | Dense)
    ]
    for op in layers:
        weights = op.weights.transpose(3, 2, 0, 1) if isinstance(op, Conv2D) else op.weights
        assert weights.tobytes() in theirs
    assert len(layers) == 5


def test_an_operator_that_cannot_be_written_is_named() -> None:
    @dataclass(frozen=True)
    class Unheard(Op):
        def infer(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
            return shapes[0]

    with pytest.raises(UnsupportedError, match="op0: a Unheard can't be written as ONNX yet"):
        to_onnx(networks.chain((4,), [Unheard()]))


def test_values_that_no_file_has_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"has shape \(4, 5\); only images and vectors"):
        to_onnx(networks.chain((4, 5), [Eltwise(Activation("relu"))]))


#: Operators of the plain form of each network of the zoo: nothing but these.
PLAIN = {
    "lenet5": [
        *("Conv Tanh AveragePool", "Conv Tanh AveragePool"),
        "Flatten Gemm Tanh Gemm Tanh Gemm Softmax",
    ],
    "simple_convnet": ["Conv Relu MaxPool"] * 2 + ["Flatten Gemm Softmax"],
    "fashion": ["Conv Relu Conv Relu MaxPool"] * 2 + ["Flatten Gemm Relu Gemm Softmax"],
    "resnet": [
        *("Conv Relu", "Conv Relu Conv Add Relu", "Conv Relu Conv Add Relu"),
        *("Conv Conv Relu Conv Add Relu", "Conv Relu Conv Add Relu"),
        *("Conv Conv Relu Conv Add Relu", "GlobalAveragePool Flatten Gemm Softmax"),
    ],
    "mobilenet": ["Conv Clip"] * 11 + ["GlobalAveragePool Flatten Gemm Softmax"],
    "letters": ["Conv Relu MaxPool"] * 2 + ["Flatten Gemm Relu Gemm Softmax"],
    "mlp": ["Flatten Gemm Relu Gemm Relu Gemm Softmax"],
    "mini_xception": [
        *["Conv Relu"] * 2,
        *["Conv Conv Conv Relu Conv Conv MaxPool Add"] * 4,
        "Conv GlobalAveragePool Transpose Reshape Softmax",
    ],
    "traffic_signs": ["Conv Relu Conv Relu MaxPool"] * 2 + ["Flatten Gemm Relu Gemm Softmax"],
    "cifar": ["Conv Relu Conv Relu MaxPool"] * 2 + ["Flatten Gemm Relu Gemm Softmax"],
    "pfld": [
        *["Conv Relu"] * 2,
        *["Conv Relu Conv Relu Conv"] * 13,
        *["Add"] * 10,
        *["Conv Relu"] * 2,
        *["GlobalAveragePool"] * 2,
        *["Transpose Reshape"] * 3,
        "Concat Concat Gemm",
    ],
    "mobilenet_96": ["Conv Relu"] * 27 + ["GlobalAveragePool Flatten Gemm Softmax"],
    "ds_cnn": ["Conv Relu"] * 9 + ["GlobalAveragePool Flatten Gemm Softmax"],
    "resnet8": [
        *("Conv Relu", "Conv Relu Conv Add Relu"),
        *["Conv Relu Conv Conv Add Relu"] * 2,
        "GlobalAveragePool Flatten Gemm Softmax",
    ],
    "mnist_pytorch": ["Conv Relu", "Conv Relu MaxPool", "Flatten Gemm Relu Gemm Softmax"],
    "quickstart": ["Conv Relu", "Flatten Gemm Relu Gemm Softmax"],
    "captcha": [
        *["Conv Relu MaxPool"] * 2,
        *["Conv"] * 2,
        "Relu",
        *["LSTM"] * 4,
        *["Transpose"] * 11,
        *["Reshape"] * 10,
        *["Concat"] * 2,
        "Softmax",
    ],
    "meter": ["Mul Add", *["Conv Relu MaxPool"] * 3, "Flatten Gemm Relu Gemm Softmax"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_zoo(name: str, tmp_path: Path) -> None:
    """Each network of the benchmark: held against what tf2onnx made of it, in ONNX Runtime."""
    need("keras", "tensorflow", "tf2onnx")
    files = zoo.build(name, tmp_path)
    made = onnx.load_from_string(write(Path(files["fdm"]).read_bytes()))
    onnx.checker.check_model(made, full_check=True)
    session = ort.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    images = np.random.default_rng(0).random((5, *entry.shape[1:]), np.float32)
    (want,) = session.run(None, {entry.name: images})
    shape = fastdigit.load(files["fdm"]).input_shape  # of the perceptron, a vector
    got = run(made.SerializeToString(), images.reshape(-1, *shape))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    kinds = Counter(node.op_type for node in made.graph.node)
    assert kinds == Counter(" ".join(PLAIN[name]).split())

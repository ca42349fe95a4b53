"""Transposed convolutions: from Keras and ONNX through the passes to every ISA."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit import Model, _core
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.ir import Activation, Affine, Graph
from fastdigit.compiler.ops import ConvTranspose2D, Eltwise
from fastdigit.compiler.passes import optimize
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, run_onnx
from tests.support.model_files import of_op, of_tensor
from tests.support.networks import RELU, affine, chain, conv, operator_networks, packed, transpose

USABLE = [name for name, usable in _core.isas() if usable]
NONE = 0xFFFFFFFF


@pytest.fixture(params=USABLE)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FASTDIGIT_ISA", request.param)
    return request.param


def held(graph: Graph, images: int = 2) -> None:
    """The engine against the reference, and each image against itself alone."""
    shape = graph.shapes[graph.input]
    x = np.random.default_rng(0).random((images, *shape), np.float32)
    want = reference.run_graph(graph, x)
    model = Model(packed(graph))
    got = model.run(x)
    assert got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)
    for i in range(images):
        assert model.run(x[i : i + 1]).tobytes() == got[i : i + 1].tobytes()


# ---- The engine ----


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 3), (1, 3), (3, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 5)])
def test_kernels_and_strides(isa: str, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for dilation, pad, more in (
        ((1, 1), (0, 0, 0, 0), (0, 0)),
        ((1, 1), (1, 0, 0, 1), (2, 1)),
        ((2, 3), (0, 1, 1, 0), (0, 1)),
        ((3, 2), (0, 0, 0, 0), (1, 0)),
    ):
        try:
            op = transpose(
                *(rng, kernel, 3, 5), stride=stride, dilation=dilation, pad=pad, output_padding=more
            )
            graph = chain((4, 3, 3), [op])
        except UnsupportedError:
            assert kernel == (1, 1), "a padding that leaves nothing"
            continue
        held(graph)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"),
    [
        *((1, 1, 1), (1, 16, 1), (17, 1, 1), (33, 95, 1), (8, 97, 1), (5, 200, 1)),
        *((6, 4, 2), (4, 4, 4), (3, 9, 3), (4, 196, 2), (2, 250, 2)),
    ],
)
def test_channels_and_groups(isa: str, inputs: int, outputs: int, groups: int) -> None:
    rng = np.random.default_rng(1)
    held(
        chain(
            (5, 4, inputs),
            [
                transpose(
                    rng, (3, 3), inputs, outputs, stride=(2, 2), pad=(1, 1, 0, 0), groups=groups
                )
            ],
        )
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("name", ["linear", "relu", "clipped_relu", "sigmoid", "leaky_relu"])
def test_epilogues(isa: str, name: str, axis: int | None, groups: int) -> None:
    """Rows and columns are those of the whole image, not of a phase."""
    rng = np.random.default_rng(2)
    alpha = {"clipped_relu": 0.4, "leaky_relu": 0.2}.get(name, 0.0)
    by = None if axis is None else affine(rng, axis, (7, 8, 6)[axis])
    held(
        chain(
            (3, 4, 4),
            [
                transpose(
                    *(rng, (3, 2), 4, 6),
                    stride=(2, 2),
                    activation=Activation(name, alpha),
                    affine=by,
                    groups=groups,
                )
            ],
        )
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_transposed_convolution(data: st.DataObject) -> None:
    def numbers(low: int, high: int, count: int = 2) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(count))

    groups, per_input, per_output = data.draw(st.sampled_from([1, 1, 2, 3])), *numbers(1, 5)
    size, kernel, stride, dilation = numbers(1, 6), numbers(1, 5), numbers(1, 4), numbers(1, 3)
    pad, more = numbers(0, 4, 4), numbers(0, 3)
    for d in (0, 1):
        full = (size[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1
        if pad[d] + pad[d + 2] >= full + more[d]:
            pad = (0, 0, 0, 0)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    inputs, outputs = groups * per_input, groups * per_output
    op = transpose(
        *(rng, kernel, inputs, outputs),
        stride=stride,
        dilation=dilation,
        pad=pad,
        output_padding=more,
        groups=groups,
        activation=data.draw(st.sampled_from([Activation(), RELU, Activation("tanh")])),
    )
    graph = chain((*size, inputs), [conv(rng, (1, 1), inputs, inputs), op])
    held(graph)
    (_, read) = unpack(packed(graph)).graph.nodes
    assert isinstance(read.op, ConvTranspose2D)
    fields = ("stride", "dilation", "pad", "output_padding", "groups", "activation")
    assert all(getattr(read.op, field) == getattr(op, field) for field in fields)
    np.testing.assert_array_equal(read.op.weights, op.weights)


def test_a_plan_says_what_it_multiplies() -> None:
    """Each output with its taps: of a 4x4 kernel with stride 2, four."""
    rng = np.random.default_rng(0)
    graph = chain((7, 7, 8), [transpose(rng, (4, 4), 8, 3, stride=(2, 2), pad=(1, 1, 1, 1))])
    _, op = Model(packed(graph)).plan()
    assert (op["op"], op["label"]) == ("CONVTRANSPOSE2D", "conv transpose 4x4")
    assert op["multiply_adds"] == op["executed"] == 14 * 14 * 2 * 2 * 8 * 3
    assert graph.nodes[0].op.multiply_adds((7, 7, 8), (14, 14, 3)) == op["executed"]


# ---- What is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (0, 1)}, "less than 1"),
        ({"dilation": (1, 0)}, "less than 1"),
        ({"pad": (0, -1, 0, 0)}, "negative"),
        ({"output_padding": (-1, 0)}, "negative"),
        ({"pad": (3, 0, 3, 0)}, "leaves an output of -1x5"),
        ({"groups": 0}, "weights take 0 channels, the input has 4"),
        ({"activation": Activation("nothing")}, "activation 'nothing'"),
        ({"affine": Affine(0, np.ones(4), np.ones(4))}, "scale has shape"),
    ],
)
def test_attributes_that_contradict(options: dict[str, object], message: str) -> None:
    op = ConvTranspose2D(np.ones((3, 3, 4, 2)), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        op.infer((3, 3, 4))


def test_groups_of_the_outputs() -> None:
    with pytest.raises(ValueError, match="2 groups for 3 outputs"):
        ConvTranspose2D(np.ones((1, 1, 2, 3)), groups=2).infer((3, 3, 4))


def test_limits_of_the_file() -> None:
    for options in ({"stride": (256, 1)}, {"pad": (0, 256, 0, 0)}, {"output_padding": (0, 256)}):
        with pytest.raises(ValueError, match="go up to 255, got 256"):
            ConvTranspose2D(np.ones((1, 1, 1, 1)), **options).check_limits()  # type: ignore[arg-type]


GOOD = packed(
    chain((3, 3, 4), [
        transpose(
            np.random.default_rng(0),
            (3, 2),
            4,
            6,
            stride=(2, 2),
            pad=(1, 0, 0, 1),
            output_padding=(1, 0),
            activation=Activation("elu", 0.5),
            affine=affine(np.random.default_rng(0), 2, 6),
            groups=2,
        )
    ])
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (of_tensor(GOOD, 0, 12, 1, 36, 0, 0), "op 1 is a CONVTRANSPOSE2D of a rank-1 tensor"),
        (of_op(GOOD, 1, 8, "I", 0), "does not use|second input"),
        (of_op(GOOD, 1, 16, "I", NONE), "weights of op 1 are not panels of 12 rows"),
        (of_op(GOOD, 1, 20, "I", 0), "bias of op 1"),
        (of_op(GOOD, 1, 24, "I", NONE), "scale of op 1"),
        (of_op(GOOD, 1, 28, "I", NONE), "shift of op 1"),
        (of_op(GOOD, 1, 32, "I", 0), "kernel of op 1 is 0"),
        (of_op(GOOD, 1, 36, "I", 256), "kernel of op 1 is 256"),
        (of_op(GOOD, 1, 36, "I", 1), "weights of op 1 are not panels of 6 rows"),
        (of_op(GOOD, 1, 40, "I", 0), "stride of op 1 is 0"),
        (of_op(GOOD, 1, 44, "I", 256), "stride of op 1 is 256"),
        (of_op(GOOD, 1, 44, "I", 3), r"is \(7, 7, 6\) by its fields, \(7, 5, 6\) in TENSORS"),
        (of_op(GOOD, 1, 48, "I", 0), "dilation of op 1 is 0"),
        (of_op(GOOD, 1, 52, "I", 2**31), "dilation of op 1"),
        (of_op(GOOD, 1, 48, "I", 3), r"is \(10, 5, 6\) by its fields"),
        *((of_op(GOOD, 1, 56 + 4 * i, "I", 256), "pad of op 1 is 256") for i in range(4)),
        (of_op(GOOD, 1, 56, "4I", 255, 0, 255, 1), "pads of op 1 cut off 510 of 7 and up to 255"),
        (of_tensor(GOOD, 1, 16, 400), r"is \(261, 5, 6\) by its fields, \(400, 5, 6\)"),
        (of_tensor(GOOD, 1, 16, 1), r"is \(6, 5, 6\) by its fields, \(1, 5, 6\)"),
        (of_op(GOOD, 1, 72, "I", 0), "0 groups"),
        (of_op(GOOD, 1, 72, "I", 3), "3 groups of 4 channels"),
        (of_op(GOOD, 1, 72, "I", 4), "weights of op 1"),
        (of_op(GOOD, 1, 76, "I", 99), "unknown activation 99"),
        (of_op(GOOD, 1, 80, "f", float("nan")), "alpha of op 1"),
        (of_op(GOOD, 1, 84, "I", 4), "unknown affine_axis 4"),
        (of_op(GOOD, 1, 84, "I", 1), "scale of op 1"),
        *(
            (of_op(GOOD, 1, field, "B", 1), "does not use")
            for field in (88, 92, 100, 108, 124, 132, 136, 140, 144, 148, 156)
        ),
    ],
)
def test_malformed_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        Model(data)


def test_a_file_says_the_version_that_reads_it() -> None:
    assert Model(GOOD).output_shape == (7, 5, 6)
    assert struct.unpack_from("<HH", GOOD, 8) == (1, 2)
    old = packed(chain((3, 3, 4), [conv(np.random.default_rng(0), (1, 1), 4, 2)]))
    assert struct.unpack_from("<HH", old, 8) == (1, 1)


def test_a_small_file_cannot_ask_for_much() -> None:
    """A pixel that becomes an image of 65025 phases, again and again; a kernel on a margin."""
    rng = np.random.default_rng(0)
    spread = transpose(rng, (1, 1), 1, 1, stride=(255, 255), output_padding=(254, 254))
    gather = conv(rng, (1, 1), 1, 1, stride=(255, 255))
    with pytest.raises(UnsupportedError, match="limit plan_bytes"):
        Model(packed(chain((1, 1, 1), [spread, gather] * 400)))
    wide = transpose(rng, (255, 255), 1, 64)
    with pytest.raises(UnsupportedError, match="operations an image"):
        Model(packed(chain((1, 1, 1), [wide])))


# ---- Front ends and passes ----


def same(net: OnnxNet) -> Graph:
    """Compile and run a network, hold it to ONNX Runtime, return the optimized graph."""
    model = net.model()
    shape = net.shape[1:]
    x = np.random.default_rng(3).random((3, *shape), np.float32)
    want = run_onnx(model, x)
    imported = import_model(model)
    graph = optimize(imported.graph)
    np.testing.assert_allclose(
        reference.run_graph(imported.graph, x.transpose(0, 2, 3, 1) if len(shape) == 3 else x),
        want,
        rtol=0,
        atol=1e-5,
    )
    given = x.transpose(0, 2, 3, 1) if len(shape) == 3 else x
    given = given.reshape(3, *graph.shapes[graph.input])
    got = Model(packed(graph)).run(given)
    np.testing.assert_allclose(got, reference.run_graph(graph, given), rtol=0, atol=1e-5)
    if len(shape) == 3:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    return graph


def weights(net: OnnxNet, *shape: int) -> np.ndarray:
    return net.rng.normal(size=shape) / np.sqrt(np.prod(shape[2:]) * shape[0])


ONNX = [
    {},
    {"strides": [2, 2]},
    {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
    {"dilations": [2, 3], "strides": [3, 1], "kernel_shape": [3, 4]},
    {"strides": [2, 2], "auto_pad": "VALID"},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "output_shape": [9, 12]},
    {"strides": [2, 2], "output_shape": [10, 13], "output_padding": [1, 1]},
    {"strides": [2, 2], "output_shape": [10, 11], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 4], "output_shape": [17, 25]},
    {"strides": [2, 2], "group": 2},
    {"group": 6, "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("attributes", ONNX, ids=str)
def test_onnx(attributes: dict[str, object]) -> None:
    net = OnnxNet(("N", 6, 5, 6))
    groups = int(attributes.get("group", 1))  # type: ignore[call-overload]
    kernel = weights(net, 6, 8 // groups if groups < 6 else 1, 3, 4)
    bias = net.rng.normal(size=kernel.shape[1] * groups)
    same(net.add("ConvTranspose", None, kernel, bias, **attributes))


def test_onnx_of_one_dimension() -> None:
    net = OnnxNet(("N", 4, 7))
    net.add("ConvTranspose", None, weights(net, 4, 3, 5), strides=[2], output_padding=[1])
    net.add("ConvTranspose", None, weights(net, 3, 2, 4), strides=[2], output_shape=[32])
    same(net.add("Relu"))


def test_onnx_as_pytorch_exports_a_segmentation_network() -> None:
    """Down, up twice with batch normalization, a skip; the logits of each pixel."""
    net = OnnxNet(("N", 3, 16, 12))
    net.conv(3, 8, (3, 3), pads=[1, 1, 1, 1]).add("Relu")
    skip = net.last
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).conv(8, 16, (3, 3), pads=[1] * 4)
    net.add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    for inputs, outputs in ((16, 12), (12, 8)):
        kernel, bias = weights(net, inputs, outputs, 2, 2), net.rng.normal(size=outputs) * 0.1
        net.add("ConvTranspose", None, kernel, bias, strides=[2, 2], group=1)
        net.batchnorm(outputs).add("Relu")
    net.add("Concat", net.last, skip, axis=1).conv(16, 2, (1, 1))
    graph = same(net)
    ups = [node.op for node in graph.nodes if isinstance(node.op, ConvTranspose2D)]
    assert [op.activation for op in ups] == [RELU, RELU] and [op.affine for op in ups] == [None] * 2
    assert not any(isinstance(node.op, Eltwise) for node in graph.nodes)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"auto_pad": "SAME_UPPER", "strides": [4, 4]},
            "shorter than the stride; supported is output_shape or",
        ),
        ({"output_shape": [5]}, "output_shape .5.; supported is 2 numbers"),
        ({"auto_pad": "SAME"}, "auto_pad SAME"),
        ({"pads": [0, 0, 0]}, "supported is 4 pads >= 0"),
        ({"strides": [1]}, "strides .1.; supported is 2 numbers"),
        ({"pads": [3, 0, 3, 0]}, "leaves an output of -1x5"),
    ],
)
def test_onnx_refuses_by_name(attributes: dict[str, object], message: str) -> None:
    net = OnnxNet(("N", 2, 3, 3))
    net.add("ConvTranspose", None, weights(net, 2, 2, 3, 3), **attributes)
    with pytest.raises(UnsupportedError, match="convtranspose0.*" + message):
        import_model(net.model(check=False, infer=False))


def test_onnx_that_contradicts_itself() -> None:
    net = OnnxNet(("N", 2, 3, 3))
    net.add("ConvTranspose", None, weights(net, 2, 2, 3, 3), kernel_shape=[2, 2])
    with pytest.raises(ModelFormatError, match="kernel_shape contradicts the weights"):
        import_model(net.model(check=False, infer=False))
    net = OnnxNet(("N", 2, 3, 3)).add("ConvTranspose", None, np.ones((3, 2, 3, 3)))
    with pytest.raises(ModelFormatError, match="weights for 3 channels in 1 groups, the input has"):
        import_model(net.model(check=False, infer=False))


def test_passes_keep_what_it_computes() -> None:
    graph = operator_networks()["transposed convolutions"]
    x = np.random.default_rng(0).random((2, 3, 4, 5))
    want = reference.run_graph(graph, x)
    np.testing.assert_allclose(reference.run_graph(optimize(graph), x), want, atol=1e-9)


@pytest.mark.slow
def test_keras() -> None:
    keras = need("keras")
    rng = np.random.default_rng(5)
    sizes, strides, more = (1, 2, 3, 4, 5), ((1, 1), (2, 2), (3, 2)), (None, (0, 1))
    for size, stride, padding, added in itertools.product(sizes, strides, ("valid", "same"), more):
        if added is not None and (stride == (1, 1) or (padding == "same" and size % 2 == 0)):
            continue  # which Keras refuses, or TensorFlow does not run
        options = {"padding": padding, "output_padding": added, "use_bias": size % 2 == 0}
        layer = keras.layers.Conv2DTranspose(3, size, stride, activation="relu", **options)
        model = keras.Sequential([keras.Input((4, 5, 2)), layer])
        x = rng.random((2, 4, 5, 2), np.float32)
        graph = import_model(model).graph
        got = Model(packed(optimize(graph))).run(x)
        np.testing.assert_allclose(got, model(x), rtol=0, atol=1e-5, err_msg=str(options))


@pytest.mark.slow
def test_keras_autoencoder(tmp_path) -> None:
    keras = need("keras")
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(12, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(12, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(8, 4, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid"),
    ])  # fmt: skip
    model.layers[3].set_weights([np.random.default_rng(0).random(12) + 0.5 for _ in range(4)])
    path = tmp_path / "autoencoder.fdm"
    report = fastdigit.compile(model, path)
    assert report is not None
    x = np.random.default_rng(6).random((5, 28, 28, 1), np.float32)
    got = fastdigit.load(path).run(x)
    np.testing.assert_allclose(got, model(x), rtol=0, atol=1e-5)
    ops = [record.opcode for record in unpack(path.read_bytes()).records]
    assert ops == ["INPUT", "CONV2D", "CONV2D"] + ["CONVTRANSPOSE2D"] * 3


@pytest.mark.slow
def test_keras_where_tf2onnx_writes_negative_padding(tmp_path) -> None:
    """What no runtime takes is not to be the judge: Keras is."""
    keras = need("keras")
    layers = keras.layers
    for size, stride, padding in (((1, 2), (1, 3), "same"), ((1, 2), (4, 3), "valid")):
        layer = layers.Conv2DTranspose(3, size, stride, padding)
        report = fastdigit.compile(
            keras.Sequential([keras.Input((3, 2, 5)), layer]), tmp_path / "net.fdm"
        )
        assert report.verification is not None
        assert "keras" in report.verification.reference


@pytest.mark.slow
def test_keras_of_one_dimension_and_dilated() -> None:
    keras = need("keras")
    layers = keras.layers
    x = np.random.default_rng(7).random((2, 6, 3), np.float32)
    model = keras.Sequential([keras.Input((6, 3)), layers.Conv1DTranspose(4, 3, 2, "same")])
    graph = optimize(import_model(model).graph)
    got = reference.run_graph(graph, x.reshape(2, *graph.shapes[graph.input]))
    np.testing.assert_allclose(got.reshape(2, 12, 4), model(x), rtol=0, atol=1e-5)

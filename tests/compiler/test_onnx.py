"""The ONNX front end, held against ONNX Runtime."""

import contextlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.frontends.common import ImportOptions
from fastdigit.compiler.frontends.onnx import SUPPORTED_OPERATORS
from fastdigit.compiler.passes import optimize
from fastdigit.errors import InputError, ModelFormatError, UnsupportedError, VerificationError
from tests.support import ROOT, need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

onnx = need("onnx")
need("onnxruntime")


def compiled(net_or_model, **options):
    """Compile and verify; return the program."""
    model = net_or_model.model() if isinstance(net_or_model, OnnxNet) else net_or_model
    return unpack(compile_model(model, None, engine=engine, **options).data)


def ops(program):
    return [record.opcode for record in program.records[1:]]


def seed(opset=18):
    """The seed network, as a clean NCHW export: rows are normalised by Mul and Add."""
    net = OnnxNet(("N", 1, 28, 28), opset)
    rows = (1, 1, 13, 1), (1, 1, 7, 1)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    net.conv(1, 32, (3, 3)).add("Relu").add("MaxPool", **pool)
    net.conv(32, 48, (3, 3), pads=[1, 1, 1, 1]).add("Relu")
    net.add("Mul", None, net.rng.normal(size=rows[0])).add(
        "Add", None, net.rng.normal(size=rows[0])
    )
    net.add("MaxPool", **pool).conv(48, 64, (2, 2), pads=[1, 1, 1, 1]).add("Relu")
    net.add("Mul", None, net.rng.normal(size=rows[1])).add(
        "Add", None, net.rng.normal(size=rows[1])
    )
    net.add("MaxPool", **pool).add("Dropout").add("Flatten")
    return net.gemm(576, 3168).add("Relu").gemm(3168, 10).add("Softmax")


def test_seed_network():
    program = compiled(seed())
    assert ops(program) == ["CONV2D"] * 3 + ["DENSE"] * 2 + ["SOFTMAX"]
    assert [record.affine_axis for record in program.records[1:4]] == ["none", "height", "height"]
    assert program.records[0].output_shape == (28, 28, 1)
    assert program.meta["source"] == {"kind": "onnx", "layout": "NCHW", "shape": [1, 28, 28]}


def same(net, expect, shape=None, **options):
    """Compile, compare with ONNX Runtime (as compiling does), and expect these operators."""
    program = compiled(net, **options)
    assert ops(program) == expect.split()
    if shape is not None:
        assert program.records[0].output_shape == shape
    return program


def test_a_sequence_of_convolutions_is_one_op_a_layer():
    net = OnnxNet(("N", 3, 20))
    net.add("Conv", None, net.rng.normal(size=(8, 3, 5)), net.rng.normal(size=8), pads=[2, 1])
    net.batchnorm(8).add("Relu").add("MaxPool", kernel_shape=[2], strides=[2], pads=[1, 0])
    net.add("Conv", None, net.rng.normal(size=(8, 4, 3)), group=2, dilations=[2], strides=[2])
    net.add("GlobalAveragePool").add("Flatten").gemm(8, 3).add("Softmax")
    program = same(net, "TRANSPOSE CONV2D CONV2D POOL2D DENSE SOFTMAX", (1, 3, 20))
    assert program.meta["source"] == {"kind": "onnx", "layout": "NHWC", "shape": [3, 20]}


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2]},
        {"auto_pad": "SAME_LOWER", "strides": [2]},
        {"auto_pad": "VALID"},
        {"pads": [2, 0], "dilations": [2]},
    ],
    ids=str,
)
def test_windows_of_sequences(attributes):
    net = OnnxNet(("N", 3, 11))
    net.add("Conv", None, net.rng.normal(size=(4, 3, 4)), **attributes).add("Sigmoid")
    program = same(net, "TRANSPOSE CONV2D TRANSPOSE")
    assert program.meta["output"]["shape"][0] == 4


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("extra", [{}, {"ceil_mode": 1}, {"count_include_pad": 1}], ids=str)
def test_pooling_of_sequences(kind, extra):
    if kind == "MaxPool" and "count_include_pad" in extra:
        return
    window = {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}
    net = OnnxNet(("N", 3, 12)).add("Relu").add(kind, **window, **extra)
    program = compiled(net)
    assert program.meta["output"]["shape"] == [3, 7 if "ceil_mode" in extra else 6]


@pytest.mark.parametrize("layout", ["unsqueezed", "reshaped"])
def test_pooling_of_sequences_as_images(layout):
    """As exporters write it for runtimes that have two dimensions only."""
    net = OnnxNet(("N", 3, 12)).add("Relu")
    if layout == "unsqueezed":
        net.add("Unsqueeze", None, np.array([2]))
    else:
        net.add("Reshape", None, np.array([0, 3, 1, 12]))
    net.add("AveragePool", kernel_shape=[1, 2], strides=[1, 2]).add("Squeeze", None, np.array([2]))
    assert ops(compiled(net)).count("POOL2D") == 1


def test_a_mixer_of_tokens():
    """Layer normalization, products along both axes, and sums, on (tokens, channels)."""
    net = OnnxNet(("N", 6, 8))
    for _ in range(2):
        x = net.last
        net.add("LayerNormalization", None, net.rng.normal(size=8), net.rng.normal(size=8))
        net.add("Transpose", perm=[0, 2, 1]).add("MatMul", None, net.rng.normal(size=(6, 6)) / 3)
        net.add("Gelu" if net.opset >= 20 else "Tanh").add("Transpose", perm=[0, 2, 1])
        net.add("Add", x, net.last)
        x = net.last
        net.add("MatMul", None, net.rng.normal(size=(8, 16)) / 4).add("Add", None, np.ones(16))
        net.add("Relu").add("MatMul", None, net.rng.normal(size=(16, 8)) / 4).add("Add", x, None)
    net.add("ReduceMean", None, np.array([1]), keepdims=0).gemm(8, 3).add("Softmax")
    program = compiled(net)
    assert program.records[0].output_shape == (1, 6, 8)
    assert ops(program).count("TRANSPOSE") == 4 and ops(program).count("CONV2D") == 6


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)], ids=str)
def test_a_product_of_rows_joined_with_the_batch(batch, shape):
    """As exporters write a dense layer of each step or pixel."""
    net = OnnxNet((batch, *shape)).add("Shape", "input")
    dims = net.last
    net.add("Reshape", "input", np.array([-1, 4])).gemm(4, 5).add("Relu")
    net.add("MatMul", None, net.rng.normal(size=(5, 7))).add("Add", None, net.rng.normal(size=7))
    rows = net.last
    net.add("Slice", dims, np.array([0]), np.array([-1]))
    net.add("Concat", None, np.array([7]), axis=0).add("Reshape", rows, None)
    program = same(net, "CONV2D CONV2D")
    assert program.graph.shapes[program.graph.output][-1] == 7


def test_rows_joined_with_the_batch_are_rows_to_the_end():
    net = OnnxNet(("N", 6, 4)).add("Reshape", None, np.array([-1, 4]))
    with pytest.raises(UnsupportedError, match="output 'x0' has several rows for an image"):
        import_model(net.model())
    net.add("Softmax", axis=0)
    with pytest.raises(UnsupportedError, match=r"\(Softmax\): axis=0 of the rows of an image"):
        import_model(net.model())
    net = OnnxNet(("N", 4, 4)).add("Reshape", None, np.array([-1, 4]))
    with pytest.raises(UnsupportedError, match=r"\(Add\): input 1 with the rows of an image"):
        import_model(net.add("Add", None, "input").model(check=False))


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize(
    ("keep", "axes"),
    [
        *product([0, 1], [[1], [2], [3], [1, 2], [2, 3], [1, 3]]),
        (1, [1, 2, 3]),  # to a single number, without its axes, it is refused
    ],
    ids=str,
)
def test_reductions(op, keep, axes):
    given = [np.array(axes)] if op == "ReduceMean" else []
    attributes = {} if given else {"axes": axes}
    net = OnnxNet(("N", 4, 5, 6), 18 if given else 17).add("Tanh")
    program = compiled(net.add(op, None, *given, keepdims=keep, **attributes).add("Sigmoid"))
    if axes[-1] < 3 and len(axes) == axes[-1] - axes[0] + 1:  # where it lies, without a move
        before = ops(program)[: ops(program).index("POOL2D")]
        assert set(before) <= {"ELTWISE", "RESHAPE"}


@pytest.mark.parametrize("axes", [[1], [2], [1, 2]], ids=str)
def test_reductions_of_sequences(axes):
    net = OnnxNet(("N", 4, 5)).add("Tanh").add("ReduceMean", None, np.array(axes), keepdims=1)
    program = compiled(net.add("Relu"))
    if axes == [1]:
        assert "POOL2D" in ops(program)


def test_a_mean_over_more_than_a_window_may_have():
    net = OnnxNet(("N", 300, 5)).add("Tanh").add("ReduceMean", None, np.array([1]), keepdims=1)
    compiled(net.add("Relu"))


@pytest.mark.parametrize(
    "net",
    [
        OnnxNet(("N", 4, 6)).add("Softmax", axis=1),
        OnnxNet(("N", 4, 6)).add("Pad", None, np.array([0, 1, 0, 0, 0, 2]), np.float32(0.5)),
        OnnxNet(("N", 4, 6)).batchnorm(4).add("Relu"),
        OnnxNet(("N", 4, 6)).add("PRelu", None, np.array([[0.5], [-1], [2], [0]])),
        OnnxNet(("N", 4, 6)).add("Concat", "input", "input", axis=1).add("Tanh"),
        OnnxNet(("N", 4, 6)).add("Concat", "input", "input", axis=-1).add("Tanh"),
        OnnxNet(("N", 4, 6)).add("LayerNormalization", None, np.ones((4, 6)), axis=1),
        OnnxNet(("N", 4, 6)).add("Reshape", None, np.array([0, 6, 4])).add("Tanh"),
        OnnxNet(("N", 24)).add("Reshape", None, np.array([0, 6, 4])).add("Softmax"),
        OnnxNet(("N", 6, 4, 5)).add("MatMul", None, np.ones((5, 3))),
        OnnxNet(("N", 6, 1)).add("Tanh").add("Squeeze", None, np.array([2])),
        OnnxNet(("N", 8, 3, 3))  # a shuffle of channels
        .add("Reshape", None, np.array([0, 2, 4, 3, 3]))
        .add("Transpose", perm=[0, 2, 1, 3, 4])
        .add("Reshape", None, np.array([0, 8, 3, 3]))
        .conv(8, 2, (1, 1)),
        OnnxNet(("N", 8, 3, 3))  # pixels from channels
        .add("Reshape", None, np.array([0, 2, 2, 2, 3, 3]))
        .add("Transpose", perm=[0, 1, 4, 2, 5, 3])
        .add("Reshape", None, np.array([0, 2, 6, 6]))
        .conv(2, 2, (1, 1)),
    ],
    ids=lambda net: "-".join(node.op_type for node in net.nodes),
)
def test_values_of_any_rank(net):
    compiled(net)


@pytest.mark.parametrize("opset", [13, 14, 15, 16, 17, 19, 20, 21, 22])
def test_opsets(opset):
    net = OnnxNet(("N", 1, 8, 8), opset)
    net.add("Pad", None, np.array([0, 0, 1, 1, 0, 0, 1, 1])).conv(1, 2, (3, 3)).batchnorm(2)
    net.add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    net.gemm(32, 4).add("Softmax")
    assert ops(compiled(net)) == ["CONV2D", "DENSE", "SOFTMAX"]


def test_three_channels_nchw():
    net = OnnxNet(("N", 3, 9, 7))
    net.conv(3, 4, (3, 3)).batchnorm(4).add("Relu").add("Flatten").gemm(4 * 7 * 5, 5)
    program = compiled(net)
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[0].output_shape == (9, 7, 3)
    assert program.meta["source"]["layout"] == "NCHW"


def test_three_channels_nhwc():
    net = OnnxNet(("N", 9, 7, 3)).add("Transpose", perm=[0, 3, 1, 2]).conv(3, 4, (3, 3))
    net.add("Relu").add("Transpose", perm=[0, 2, 3, 1]).add("Reshape", None, np.array([-1, 140]))
    program = compiled(net.add("MatMul", None, net.rng.normal(size=(140, 5))))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[0].output_shape == (9, 7, 3)
    assert program.meta["source"]["layout"] == "NHWC"


def test_normalisation_of_an_nchw_input():
    net = OnnxNet(("N", 3, 8, 8))
    net.add("Sub", None, net.rng.normal(size=(3, 1, 1))).add(
        "Div", None, np.array([0.2, 0.3, 0.4]).reshape(3, 1, 1)
    )
    program = compiled(net.conv(3, 4, (3, 3)).add("Flatten").gemm(144, 2))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.meta["source"]["layout"] == "NCHW"


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_normalisation_folds_only_without_padding(pads):
    net = OnnxNet(("N", 1, 8, 8)).add("Sub", None, np.float32(0.5)).conv(1, 2, (3, 3), pads=pads)
    side = 6 + 2 * pads[0]
    program = compiled(net.add("Flatten").gemm(2 * side * side, 3))
    assert ops(program) == (["ELTWISE"] if any(pads) else []) + ["CONV2D", "DENSE"]


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Relu", {}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("LeakyRelu", {"alpha": 0.0}),
        ("Elu", {}),
        ("Elu", {"alpha": 0.5}),
        ("Selu", {}),
        ("Selu", {"alpha": 1.5, "gamma": 0.75}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Identity", {}),
        ("Neg", {}),
    ],
)
def test_activations(op_type, attributes):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3)).add(op_type, **attributes)
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    assert ops(compiled(net.gemm(12, 4))) == ["CONV2D", "DENSE"]


def test_mlp_of_vectors():
    net = OnnxNet(("N", 20)).gemm(20, 8).batchnorm(8).add("Relu").add("Dropout").gemm(8, 3)
    program = compiled(net.add("Sigmoid"))
    assert ops(program) == ["DENSE", "DENSE"]
    assert program.meta["input"] == {"shape": [20], "layout": "features", "because": "assumed"}


def test_mlp_of_matrices():
    program = compiled(OnnxNet(("N", 6, 5)).add("Flatten").gemm(30, 3))
    assert ops(program) == ["DENSE"]
    assert program.records[0].output_shape == (6, 5, 1)


def test_gemm_with_all_its_attributes():
    net = OnnxNet(("N", 6))
    net.add(
        "Gemm", None, net.rng.normal(size=(6, 4)), net.rng.normal(size=(1, 4)), alpha=0.5, beta=-2.0
    )
    net.add("Gemm", None, net.rng.normal(size=(4, 3)), np.float32(2.0), alpha=2.0)
    net.add("Gemm", None, net.rng.normal(size=(2, 3)), transB=1)
    assert ops(compiled(net)) == ["DENSE"] * 3


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1), ()])
def test_arithmetic_with_constants(shape):
    net = OnnxNet(("N", 6)).gemm(6, 4)
    constants = [net.rng.uniform(0.5, 2, size=shape).astype(np.float32) for _ in range(5)]
    net.add("Mul", constants[0], net.last).add("Sub", None, constants[1])
    net.add("Sub", constants[2], net.last).add("Div", None, constants[3])
    assert ops(compiled(net.add("Add", constants[4], net.last))) == ["DENSE"]


@pytest.mark.parametrize(("axis", "size"), [(1, 4), (2, 5), (3, 6)])
def test_constants_along_an_axis_of_an_image(axis, size):
    shape = [1, 1, 1, 1]
    shape[axis] = size
    net = OnnxNet(("N", 4, 5, 6)).add("Relu")
    net.add("Mul", None, net.rng.normal(size=shape)).add("Add", None, net.rng.normal(size=shape))
    program = compiled(net.conv(4, 2, (5, 6)).add("Flatten"))
    # Channels fold into the convolution; its output is a vector only once flattened.
    assert ops(program) == ["ELTWISE", "CONV2D", "RESHAPE"]
    assert program.records[1].affine_axis == ("none", "height", "width")[axis - 1]


def test_global_pooling_and_squeeze():
    for op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        net = OnnxNet(("N", 3, 6, 5)).conv(3, 4, (3, 3)).add(op_type)
        program = compiled(net.add("Squeeze", None, np.array([2, 3])).gemm(4, 2))
        assert ops(program) == ["CONV2D", "DENSE"]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
def test_reductions_over_an_image(opset, keepdims, op_type):
    axes = {"axes": [2, 3]} if opset < 18 else {}
    inputs = (None,) if opset < 18 else (None, np.array([-1, -2]))
    net = OnnxNet(("N", 3, 6, 5), opset).conv(3, 4, (3, 3))
    net.add(op_type, *inputs, keepdims=keepdims, **axes).add("Flatten").gemm(4, 2)
    assert ops(compiled(net)) == ["CONV2D", "DENSE"]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax", "ReduceSum"])
def test_reductions_over_any_axes(op_type, axes, opset):
    """The mean is also used beside its value, as in attention to positions."""
    old = opset < (13 if op_type == "ReduceSum" else 18)
    net = OnnxNet(("N", 3, 6, 5), opset).conv(3, 4, (3, 3))
    x, inputs = net.last, (None,) if old else (None, np.array(axes))
    net.add(op_type, *inputs, **({"axes": axes} if old else {})).add("Sigmoid")
    compiled(net.add("Mul", x, net.last).add("Flatten").gemm(48, 2))
    if axes != [1, 2, 3]:
        net.add(op_type, x, *inputs[1:], keepdims=0, **({"axes": axes} if old else {}))
        shape = [size for axis, size in enumerate((4, 4, 3), start=1) if axis not in axes]
        compiled(net.add("Flatten").gemm(int(np.prod(shape)), 2))


def test_means_in_arithmetic():
    """Of formulas that are no normalization, each value is computed as it stands."""
    net = OnnxNet(("N", 3, 6, 5), 13).conv(3, 4, (3, 3))
    x = net.last
    mean = net.add("ReduceMean", x, axes=[1]).last
    deviation = net.add("Sub", x, mean).last
    variance = net.add("Mul", net.last, net.last).add("ReduceMean", None, axes=[1]).last
    net.add("Add", variance, np.float32(0.5)).add("Mul", None, x).add("Add", None, deviation)
    net.add("Neg").add("Sub", np.float32(2), net.last)
    half = net.add("Mul", mean, np.float32(0.5)).add("Sub", net.last, np.float32(1)).last
    net.add("Add", half, x).add("Div", None, np.float32(4)).add("Mul", None, deviation)
    program = compiled(net.add("Flatten").gemm(48, 2))
    assert "LAYERNORM" not in ops(program)


def test_a_head_without_a_dense_layer():
    net = OnnxNet(("N", 1, 9, 9)).conv(1, 4, (3, 3)).add("Relu").conv(4, 3, (3, 3))
    program = compiled(net.add("GlobalAveragePool").add("Flatten").add("Softmax"))
    assert program.records[-1].opcode == "SOFTMAX"


def test_batchnorm_of_flattened_features_before_an_activation():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (3, 3)).add("Relu").add("Flatten").batchnorm(27)
    program = compiled(net.add("Relu").gemm(27, 4))
    assert ops(program) == ["CONV2D", "TRANSPOSE", "RESHAPE", "ELTWISE", "ELTWISE", "DENSE"]


def test_padding_before_a_pooling():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (2, 2))
    net.add("Pad", None, np.array([0, 0, 1, 1, 0, 0, 0, 1]))
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    assert ops(compiled(net.gemm(18, 4))) == ["CONV2D", "PAD", "POOL2D", "DENSE"]


def test_shapes_computed_on_the_way():
    """Shape, Gather, Unsqueeze, Concat, Reshape: what a flatten becomes in many exporters."""
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (3, 3)).add("Relu")
    image = net.last
    net.add("Shape").add("Gather", None, np.array(0), axis=0).add("Unsqueeze", None, np.array([0]))
    net.add("Cast", to=6).add("Cast", to=7).add("Concat", None, np.array([-1]), axis=0)
    net.add("Reshape", image, net.last).gemm(27, 4)
    assert ops(compiled(net)) == ["CONV2D", "DENSE"]


def test_shapes_sliced_and_multiplied():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (3, 3))
    image = net.last
    net.add("Shape").add("Slice", None, np.array([0]), np.array([1]))
    batch = net.last
    net.add("Shape", image, start=1).add("ReduceProd", None, keepdims=1)
    net.add("Concat", batch, net.last, axis=0).add("Reshape", image, net.last).gemm(27, 4)
    assert ops(compiled(net)) == ["CONV2D", "DENSE"]


def test_zero_in_a_reshape_copies_the_batch():
    net = OnnxNet(("N", 2, 3, 3)).add("Relu").add("Reshape", None, np.array([0, -1])).gemm(18, 4)
    assert ops(compiled(net))[-1] == "DENSE"


def test_constant_nodes_and_computed_weights():
    net = OnnxNet(("N", 6))
    weights = net.rng.normal(size=(4, 6)).astype(np.float32)
    value = onnx.numpy_helper.from_array(weights)
    net.nodes.append(onnx.helper.make_node("Constant", [], ["w"], value=value))
    net.nodes.append(onnx.helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]))
    net.nodes.append(onnx.helper.make_node("Constant", [], ["two"], value_float=2.0))
    net.nodes.append(onnx.helper.make_node("Mul", ["wt", "two"], ["w2"]))
    net.nodes.append(onnx.helper.make_node("Sqrt", ["two"], ["root"]))
    net.nodes.append(onnx.helper.make_node("Reciprocal", ["root"], ["inverse"]))
    net.add("MatMul", None, "w2").add("Mul", None, "inverse")
    assert ops(compiled(net)) == ["DENSE"]


def test_unused_nodes_are_ignored():
    net = OnnxNet(("N", 6)).gemm(6, 4)
    net.nodes.append(onnx.helper.make_node("Sin", ["input"], ["unused"]))
    assert ops(compiled(net)) == ["DENSE"]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_fixed_batch(batch):
    net = OnnxNet((batch, 2, 3, 3)).conv(2, 3, (2, 2)).add("Reshape", None, np.array([batch, 12]))
    assert ops(compiled(net.gemm(12, 4))) == ["CONV2D", "DENSE"]


@pytest.mark.parametrize("target", [[-1, 1, 6, 5], [0, 1, 6, 5]])
@pytest.mark.parametrize("scaled", [False, True])
def test_vectors_made_an_nchw_image(target, scaled):
    net = OnnxNet(("N", 30))
    if scaled:
        net.add("Mul", None, np.float32(0.5)).add("Sub", None, np.float32(0.25))
    net.add("Reshape", None, np.array(target)).conv(1, 2, (3, 3), pads=[1, 1, 1, 1])
    program = compiled(net.add("Flatten").gemm(60, 3))
    assert ops(program) == ["ELTWISE"] * scaled + ["CONV2D", "DENSE"]
    assert program.records[0].output_shape == (6, 5, 1)


def test_rows_read_as_channels():
    net = OnnxNet(("N", 1, 6, 5)).add("Transpose", perm=[0, 3, 1, 2]).conv(5, 2, (1, 2))
    program = compiled(net.add("Flatten").gemm(10, 3))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[0].output_shape == (1, 6, 5)


# ---- branches, and operators that need them ----------------------------------------------------


def residual_net(opset=18, squeeze="conv"):
    """A residual block with squeeze and excitation, as PyTorch exports it."""
    net = OnnxNet(("N", 3, 8, 8), opset).conv(3, 6, (3, 3), pads=[1, 1, 1, 1]).batchnorm(6)
    first = net.add("Relu").last
    net.conv(1, 6, (3, 3), pads=[1, 1, 1, 1], group=6).batchnorm(6).add("Clip", None, *ZERO_SIX)
    middle = net.conv(6, 6, (1, 1)).batchnorm(6).last
    net.add("GlobalAveragePool")
    if squeeze == "conv":
        net.conv(6, 2, (1, 1)).add("Relu").conv(2, 6, (1, 1)).add("Sigmoid")
    else:
        net.add("Flatten").gemm(6, 2).add("Relu").gemm(2, 6).add("HardSigmoid", alpha=1 / 6)
        net.add("Reshape", None, np.array([-1, 6, 1, 1]))
    gated = net.add("Mul", middle, net.last).last
    net.add("Add", gated, first).add("Relu")
    return net.add("GlobalAveragePool").add("Flatten").gemm(6, 4).add("Softmax")


ZERO_SIX = (np.float32(0), np.float32(6))


@pytest.mark.parametrize("squeeze", ["conv", "gemm"])
def test_residual_block(squeeze):
    program = compiled(residual_net(squeeze=squeeze))
    names = ops(program)
    assert names[:3] == ["CONV2D"] * 3
    assert "TRANSPOSE" not in names
    assert (names.count("BINARY"), names.count("ELTWISE")) == (2, 0)
    assert names[-2:] == ["DENSE", "SOFTMAX"]


def test_branches_are_concatenated():
    net = OnnxNet(("N", 2, 6, 6))
    branches = []
    for kernel in (1, 3, 5):
        pads = [kernel // 2] * 4
        branches.append(net.conv(2, 3, (kernel, kernel), pads=pads).add("Relu").last)
        net.last = "input"
    net.add("MaxPool", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    net.add("Concat", *branches, net.last, axis=1).batchnorm(11).add("Relu").conv(11, 2, (1, 1))
    program = compiled(net.add("Concat", None, net.last, axis=-1).add("Flatten").gemm(144, 3))
    names = ops(program)
    assert "TRANSPOSE" not in names
    assert (names.count("CONV2D"), names.count("CONCAT"), names.count("POOL2D")) == (4, 4, 1)


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"])
def test_two_branches(op_type):
    net = OnnxNet(("N", 2, 6, 6))
    left = net.conv(2, 3, (3, 3)).add("Tanh").last
    net.last = "input"
    net.conv(2, 3, (3, 3)).add("Sigmoid").add(op_type, left, net.last)
    assert "TRANSPOSE" not in ops(compiled(net.add("Flatten").gemm(48, 3)))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Max", "Min"])
def test_the_smaller_operand_may_come_first(op_type):
    net = OnnxNet(("N", 2, 6, 6))
    image = net.conv(2, 3, (3, 3)).add("Tanh").last
    net.add("ReduceMean", None, np.array([2, 3]), keepdims=1).add(op_type, net.last, image)
    compiled(net.add("Flatten").gemm(48, 3))


def test_a_dividend_that_broadcasts_is_refused():
    net = OnnxNet(("N", 2, 6, 6)).add("GlobalMaxPool").add("Div", None, "input")
    with pytest.raises(UnsupportedError, match="the divisor to the dividend"):
        import_model(net.model())


@pytest.mark.parametrize(
    ("op_type", "attributes", "opset"),
    [
        ("HardSigmoid", {}, 18),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.25}, 18),
        ("HardSwish", {}, 18),
        ("Softplus", {}, 18),
        ("Erf", {}, 18),
        ("Gelu", {}, 20),
        ("Gelu", {"approximate": "tanh"}, 20),
    ],
)
def test_more_activations(op_type, attributes, opset):
    net = OnnxNet(("N", 2, 6, 6), opset).conv(2, 3, (3, 3)).add(op_type, **attributes)
    compiled(net.add("Flatten").gemm(48, 4))


def test_swish():
    """ONNX Runtime may not have it yet: held against its definition."""
    for alpha in (1.0, 1.5):
        net = OnnxNet(("N", 6), opset=24).add("Swish", alpha=alpha)
        graph = optimize(import_model(net.model(check=False)).graph)
        x = np.random.default_rng(0).normal(size=(3, 6)) * 5
        want = x / (1 + np.exp(-alpha * x))
        np.testing.assert_allclose(reference.run_graph(graph, x), want, atol=1e-12)


@pytest.mark.parametrize(
    "bounds",
    [(0, 6), (0, None), (None, 1), (-1, 1), (-0.5, None), (None, None), (2, 1), (-3.4e38, 3.4e38)],
)
def test_clip(bounds):
    given = ["" if bound is None else np.float32(bound) for bound in bounds]
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3)).add("Clip", None, *given)
    compiled(net.add("Flatten").gemm(48, 4))


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (4, 4), (3, 4, 4)])
def test_prelu(shape):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3))
    net.add("PRelu", None, net.rng.normal(size=shape))
    assert ops(compiled(net.add("Flatten").gemm(48, 4))) == ["CONV2D", "BINARY", "DENSE"]


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 1, 4), (4, 4)])
def test_constants_with_several_axes(op_type, shape):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3))
    net.add(op_type, None, net.rng.uniform(0.5, 2, size=shape))
    if op_type != "Div":
        net.add(op_type, net.rng.uniform(0.5, 2, size=shape), net.last)
    assert "TRANSPOSE" not in ops(compiled(net.add("Flatten").gemm(48, 4)))


def test_decomposed_activations_are_recognised():
    """x sigmoid(x), x hard_sigmoid(x), and the three ways that exporters write gelu."""
    root, half, one = np.float32(np.sqrt(2)), np.float32(0.5), np.float32(1)
    for form in range(5):
        net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3))
        x = net.last
        if form == 0:
            net.add("Sigmoid").add("Mul", x, net.last)
        elif form == 1:
            net.add("HardSigmoid", alpha=1 / 6).add("Mul", net.last, x)
        else:
            net.add("Div", x, root) if form < 4 else net.add("Mul", x, np.float32(np.sqrt(0.5)))
            gate = net.add("Erf").add("Add", None, one).last
            if form == 2:
                net.add("Mul", x, gate).add("Mul", None, half)
            elif form == 3:
                net.add("Mul", x, half).add("Mul", None, gate)
            else:
                net.add("Mul", half, gate).add("Mul", x, net.last)
        program = compiled(net.add("Flatten").gemm(48, 4))
        assert ops(program) == ["CONV2D", "DENSE"]
        assert program.records[1].activation == ("silu", "hard_swish", "gelu", "gelu", "gelu")[form]


@pytest.mark.parametrize("form", range(4))
@pytest.mark.parametrize("constant", [0.044715, 0.05])
def test_gelu_by_tanh_taken_apart(form, constant):
    """The cube as a power and as products, the half in front and behind; another constant."""
    net = OnnxNet(("N", 6)).gemm(6, 5)
    x, c, root = net.last, np.float32(constant), np.float32(0.7978845608)
    if form == 0:
        net.add("Pow", x, np.float32(3)).add("Mul", None, c).add("Add", x, net.last)
    elif form == 1:
        net.add("Mul", x, x).add("Mul", None, x).add("Mul", c, net.last).add("Add", net.last, x)
    else:  # x (1 + c x x)
        net.add("Mul", x, x).add("Mul", None, c).add("Add", None, np.float32(1))
        net.add("Mul", x, net.last)
    gate = net.add("Mul", None, root).add("Tanh").add("Add", None, np.float32(1)).last
    if form == 3:
        net.add("Mul", x, np.float32(0.5)).add("Mul", None, gate)
    else:
        net.add("Mul", x, gate).add("Mul", None, np.float32(0.5))
    program = compiled(net.gemm(5, 3))
    if constant == 0.044715:
        assert ops(program) == ["DENSE", "DENSE"]
        assert program.records[1].activation == "gelu_tanh"
    else:
        assert "BINARY" in ops(program)


def test_other_products_are_no_activations():
    net = OnnxNet(("N", 6)).gemm(6, 5)
    x = net.last
    gate = net.add("Sigmoid", x).last
    net.add("Tanh", x).add("Mul", None, gate)
    assert ops(compiled(net.gemm(5, 3))) == ["DENSE", "ELTWISE", "ELTWISE", "BINARY", "DENSE"]


@pytest.mark.parametrize("axis", [-1, 1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis, bias):
    shape = (4, 5, 6)
    net = OnnxNet(("N", *shape)).add("Relu")
    behind = shape[axis - 1 :] if axis > 0 else shape[-1:]
    weights = [net.rng.normal(size=behind) for _ in range(1 + bias)]
    net.add("LayerNormalization", None, *weights, axis=axis, epsilon=1e-3)
    program = compiled(net.conv(4, 2, (5, 6)).add("Flatten"))
    assert "LAYERNORM" in ops(program)


def pieces_of_torch(net, axes, gamma, beta):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta"""
    x = net.last
    centred = net.add("ReduceMean", x, axes=axes).add("Sub", x, net.last).last
    net.add("Pow", centred, np.float32(2)).add("ReduceMean", None, axes=axes)
    deviation = net.add("Add", None, np.float32(1e-3)).add("Sqrt").last
    return net.add("Div", centred, deviation).add("Mul", None, gamma).add("Add", None, beta)


def pieces_of_keras(net, axes, gamma, beta):
    """x * r + (beta - mean * r), where r = gamma / sqrt(variance + epsilon)"""
    x = net.last
    mean = net.add("ReduceMean", x, axes=axes).last
    net.add("Sub", x, mean).add("Mul", net.last, net.last).add("ReduceMean", None, axes=axes)
    net.add("Add", None, np.float32(1e-3)).add("Sqrt").add("Reciprocal")
    r = net.add("Mul", None, gamma).last
    scaled = net.add("Mul", x, r).last
    net.add("Neg", mean).add("Mul", None, r).add("Add", None, beta)
    return net.add("Add", scaled, net.last)


def pieces_by_power(net, axes, gamma, beta):
    """beta - (mean - x) * gamma * (variance + epsilon) ** -0.5"""
    x = net.last
    negated = net.add("ReduceMean", x, axes=axes).add("Sub", net.last, x).last
    net.add("Neg", negated).add("Identity").add("Mul", net.last, net.last)
    net.add("ReduceMean", None, axes=axes).add("Add", None, np.float32(1e-3))
    inverse = net.add("Pow", None, np.float32(-0.5)).last
    net.add("Mul", inverse, negated).add("Mul", gamma, net.last)
    return net.add("Sub", beta, net.last)


@pytest.mark.parametrize("axes", [[1], [2], [-1], [1, 2], [3, 1], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("pieces", [pieces_of_torch, pieces_of_keras, pieces_by_power])
@pytest.mark.parametrize("per", ["mean", "channel", "nothing"])
def test_layer_normalization_in_pieces(pieces, axes, per):
    shape = (4, 5, 3)
    net = OnnxNet(("N", *shape), 13).add("Relu")
    own = [size if axis + 1 in [a % 4 for a in axes] else 1 for axis, size in enumerate(shape)]
    dims = {"mean": [1, *own], "channel": [4, 1, 1], "nothing": []}[per]
    pieces(net, axes, *(net.rng.normal(size=dims).astype(np.float32) for _ in range(2)))
    program = compiled(net.add("Flatten").gemm(60, 2))
    assert ops(program).count("LAYERNORM") == 1
    assert "POOL2D" not in ops(program)


def test_layer_normalization_in_pieces_across_transposes():
    """Means are moved to the other layout by a Transpose or a Reshape, as tf2onnx does."""
    net = OnnxNet(("N", 3, 5, 4), 13).conv(3, 4, (2, 2))
    x = net.last
    mean = net.add("ReduceMean", x, axes=[1]).last
    net.add("Sub", x, mean).add("Mul", net.last, net.last).add("ReduceMean", None, axes=[1])
    net.add("Add", None, np.float32(1e-3)).add("Sqrt").add("Reciprocal")
    net.add("Reshape", None, np.array([-1, 4, 3, 1])).add("Mul", None, net.rng.normal(size=4))
    r = net.last
    moved = net.add("Transpose", x, perm=[0, 2, 3, 1]).add("Mul", None, r).last
    net.add("Neg", mean).add("Transpose", None, perm=[0, 2, 3, 1]).add("Mul", None, r)
    program = compiled(net.add("Add", moved, net.last).add("Flatten").gemm(48, 2))
    assert ops(program) == ["CONV2D", "LAYERNORM", "DENSE"]


def test_refuses_to_divide_by_a_deviation_alone():
    net = OnnxNet(("N", 4, 3, 3), 13)
    net.add("ReduceMean", "input", axes=[1]).add("Sub", "input", net.last)
    net.add("Pow", None, np.float32(2)).add("ReduceMean", None, axes=[1]).add("Sqrt")
    net.add("Div", "input", net.last).add("Flatten")
    with pytest.raises(UnsupportedError, match="square root of a variance; supported is layer"):
        import_model(net.model())


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 6)])
def test_instance_normalization(shape):
    net = OnnxNet(("N", *shape)).add("Relu")
    net.add("InstanceNormalization", None, *net.rng.normal(size=(2, 4)), epsilon=1e-3)
    assert "LAYERNORM" in ops(compiled(net.add("Flatten").gemm(int(np.prod(shape)), 3)))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_normalization(groups):
    net = OnnxNet(("N", 4, 5, 3), 21).add("Relu")
    net.add(
        "GroupNormalization", None, *net.rng.normal(size=(2, 4)), num_groups=groups, epsilon=1e-3
    )
    assert ops(compiled(net.add("Flatten").gemm(60, 3))).count("LAYERNORM") == 1


@pytest.mark.parametrize("rows", [-1, "computed"])
def test_a_dense_layer_of_pixels_as_rows(rows):
    """As tf2onnx has it: (N, h, w, c) becomes (N h w, c), is multiplied, and becomes an image."""
    net = OnnxNet(("N", 5, 6, 3), 13)
    target = np.array([-1, 3])
    if rows == "computed":
        net.add("Shape", "input").add("Slice", None, *map(np.array, ([0], [3])))
        net.add("ReduceProd", None, axes=[0]).add("Concat", None, np.array([3]), axis=0)
        target = net.last
    net.add("Reshape", "input", target).add("MatMul", None, net.rng.normal(size=(3, 4)))
    net.add("Add", None, net.rng.normal(size=4)).add("Relu").gemm(4, 2)
    net.add("Reshape", None, np.array([-1, 5, 6, 2])).add("Flatten")
    assert ops(compiled(net.gemm(60, 2))) == ["CONV2D", "CONV2D", "DENSE"]


def test_refuses_other_work_on_rows():
    net = OnnxNet(("N", 5, 6, 3), 13).add("Reshape", None, np.array([-1, 3]))
    with pytest.raises(UnsupportedError, match="output 'x0' has several rows for an image"):
        import_model(net.model())
    with pytest.raises(UnsupportedError, match="axis=0 of the rows of an image; supported is 1"):
        import_model(net.add("Softmax", axis=0).model())
    net = OnnxNet(("N", 5, 6, 3), 13).add("Reshape", None, np.array([-1, 3])).add("GlobalMaxPool")
    with pytest.raises(UnsupportedError, match="with the rows of an image"):
        import_model(net.model(check=False, infer=False))


def test_refuses_operators_that_the_exporter_left():
    net = OnnxNet(("N", 5)).add("Erfc")
    with pytest.raises(UnsupportedError, match=r"'erfc0' \(Erfc\): ONNX has no such operator"):
        import_model(net.model(check=False))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_along_any_axis(axis):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3)).add("Softmax", axis=axis)
    compiled(net.add("Flatten").gemm(48, 4))


@pytest.mark.parametrize(("group", "outs"), [(2, 6), (4, 4), (4, 12), (1, 3)])
def test_groups(group, outs):
    net = OnnxNet(("N", 4, 7, 6))
    net.conv(4 // group, outs, (3, 2), group=group, strides=[2, 1], pads=[1, 0, 2, 1])
    program = compiled(net.batchnorm(outs).add("Relu").add("Flatten").gemm(outs * 4 * 6, 3))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[1].groups == group


def test_padding_with_a_number_and_of_channels():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (2, 2))
    net.add("Pad", None, np.array([0, 1, 1, 1, 0, 2, 0, 1]), np.float32(0.5)).conv(6, 2, (2, 2))
    assert ops(compiled(net.add("Flatten").gemm(40, 4))) == ["CONV2D", "PAD", "CONV2D", "DENSE"]


def test_a_matrix_product_for_each_pixel():
    net = OnnxNet(("N", 5, 6, 3))
    net.add("MatMul", None, net.rng.normal(size=(3, 4))).add("Relu").add("Flatten")
    assert ops(compiled(net.gemm(120, 2))) == ["CONV2D", "DENSE"]


# ---- windows -----------------------------------------------------------------------------------

SIZE = st.integers(1, 3)
PADS = st.lists(st.integers(0, 2), min_size=4, max_size=4)


@st.composite
def windows(draw):
    """(height, width, attributes) of a convolution or pooling."""
    attributes = {
        "kernel_shape": [draw(SIZE), draw(SIZE)],
        "strides": [draw(SIZE), draw(SIZE)],
    }
    auto = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    else:
        attributes["pads"] = draw(PADS)
    return draw(st.integers(5, 9)), draw(st.integers(5, 9)), attributes


def imported_agrees(net):
    model = net.model()
    graph = optimize(import_model(model).graph)
    batch = np.random.default_rng(0).normal(size=(2, *net.shape[1:])).astype(np.float32)
    got = reference.run_graph(graph, batch.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(got, run_onnx(model, batch), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(windows(), st.lists(st.integers(1, 2), min_size=2, max_size=2))
def test_convolution_windows(window, dilations):
    height, width, attributes = window
    net = OnnxNet(("N", 2, height, width))
    if "auto_pad" in attributes:
        dilations = [1, 1]  # ONNX Runtime ignores the dilation in SAME padding
    kernel = tuple(attributes["kernel_shape"])
    imported_agrees(net.conv(2, 3, kernel, dilations=dilations, **attributes).add("Flatten"))


@settings(max_examples=100, deadline=None)
@given(windows(), st.sampled_from(["MaxPool", "AveragePool"]), st.booleans(), st.booleans())
def test_pooling_windows(window, op_type, ceil, include):
    height, width, attributes = window
    if "pads" in attributes:  # ONNX Runtime wants pads that are less than the kernel
        size = attributes["kernel_shape"] * 2
        attributes["pads"] = [min(p, k - 1) for p, k in zip(attributes["pads"], size, strict=True)]
        strides = zip(attributes["strides"], attributes["kernel_shape"], strict=True)
        if ceil and (not include or all(stride <= size for stride, size in strides)):
            attributes["ceil_mode"] = 1
    elif attributes["auto_pad"] != "VALID":  # ONNX Runtime fails where a stride exceeds the kernel
        kernel = attributes["kernel_shape"]
        strides = zip(attributes["strides"], kernel, strict=True)
        attributes["strides"] = [min(stride, size) for stride, size in strides]
    if op_type == "AveragePool" and include:
        attributes["count_include_pad"] = 1
    net = OnnxNet(("N", 2, height, width)).add(op_type, **attributes)
    imported_agrees(net.add("Flatten"))


# ---- refusals ----------------------------------------------------------------------------------


def image_net(channels=2):
    return OnnxNet(("N", channels, 6, 6))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (image_net().add("Sin"), r"node 'sin0' \(Sin\) is not supported$"),
        (image_net().conv(1, 3, (3, 3), group=2), "2 groups for 3 outputs"),
        (image_net().add("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "dilations=.2, 2."),
        (image_net().add("Softmax", axis=0), "axis=0; supported is an axis behind the batch"),
        (image_net().add("Concat", None, "input", axis=0), "axis=0 of rank 4"),
        (image_net().add("LayerNormalization", None, np.ones(6), axis=0), "axis=0; supported"),
        (image_net().add("Clip", None, np.float32(np.nan)), "'clip0'"),
        (image_net().add("Pow", None, np.float32(5)), "exponent 5.0; supported is 1, 2, 3, 4 or"),
        (image_net().add("Celu", alpha=0.0), "alpha=0.0; supported is finite and > 0"),
        (image_net().add("LRN", size=0), "a size of at least 1"),
        (image_net().add("LRN", size=3, bias=0.0), "bias > 0"),
        (image_net().add("PRelu", None, np.ones((3, 1, 1))), "enlarges an image"),
        (OnnxNet(("N", 6), opset=24).add("Swish", alpha=0.0), "alpha=0.0"),
        (image_net().add("HardSigmoid", beta=float("inf")), "beta=inf"),
        (OnnxNet(("N", 6), opset=20).add("Gelu", approximate="sine"), "approximate=sine"),
        (image_net().add("Flatten", axis=2), "axis=2; supported is 1"),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Softmax", axis=1),
            "an axis behind the batch",
        ),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Flatten"),
            "a value with its batch as axis 1; supported is one with its batch first",
        ),
        (
            image_net().add("Transpose", perm=[1, 0, 2, 3]).add("Add", None, "input"),
            r"values with their batches as axes \[0, 1\]; supported is one axis for all",
        ),
        (image_net().add("Reshape", None, np.array([3, -1])), "keeps the batch an axis"),
        (
            image_net().add("Reshape", None, np.array([-1, 36])),
            "has several rows for an image",
        ),
        (image_net().add("Pad", None, np.array([0, 0, -6, 0] + [0] * 4)), "that leave something"),
        (image_net().add("Mul", None, np.ones((2, 2, 6, 6))), "the same for each image"),
        (image_net().add("Mul", None, np.ones((1, 1, 1, 1, 1))), "of at most its rank"),
        (image_net(1).add("Mul", None, np.ones((3, 1, 1))), "enlarges an image"),
        (image_net().add("Div", None, np.float32(0)), "a division by zero"),
        (image_net().add("LeakyRelu", alpha=-0.5), "alpha=-0.5"),
        (image_net().add("Mul", None, np.float32(np.nan)), "not finite"),
        (image_net().add("ReduceMean", None, np.array([0, 1])), r"axes \[0, 1\] of rank 4"),
        (
            image_net().add("ReduceMean", None, np.array([1, 2, 3]), keepdims=0),
            "a single number as the result",
        ),
        (
            OnnxNet(("N", 2, 6, 6), 21).add(
                "GroupNormalization", None, np.ones(2), np.ones(2), num_groups=3
            ),
            "3 groups of 2 channels",
        ),
        (OnnxNet(("N", 6)).add("GlobalMaxPool"), "an input of 0 spatial dimensions"),
        (OnnxNet(("N", 2, 1)).add("Reshape", None, np.array([0])).add("Neg"), "shape"),
        (OnnxNet(("N", 6)).add("Gemm", None, np.ones((6, 2)), transA=1), "transA=1"),
        (OnnxNet(("N", 6)).add("MatMul", np.ones((6, 6)), "input"), "input 0 is a constant"),
        (OnnxNet(("N", 6)).add("MatMul", "input", "input"), "input 1 depends on the image"),
        (OnnxNet(("N", "M")).add("Relu"), r"has shape \['\?', '\?'\]"),
        (OnnxNet(("N", 1, 1, 1, 1)).add("Relu"), "1 to 3 dimensions behind it"),
        (OnnxNet(("N", 1 << 13, 1 << 13)).add("Relu"), "more than 16777216 elements"),
        (image_net().add("Relu").add("Shape"), "does not depend on the input"),
        (image_net().add("Dropout", None, None, np.array(True)), "training_mode is true"),
        (
            image_net().add("BatchNormalization", None, *[np.ones(2)] * 4, training_mode=1),
            "training_mode=1",
        ),
        (
            OnnxNet(("N", 4)).add("QuantizeLinear", None, np.float32(1), np.uint8(0)),
            r"node 'quantizelinear0' \(QuantizeLinear\) is not supported: the model is quantized",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.nodes[-1].op_type,
)
def test_refuses(net, message):
    with pytest.raises(UnsupportedError, match=message):
        optimize(import_model(net.model(check=False)).graph)


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_refuses_quantized_models(form, tmp_path):
    """As ONNX Runtime's own tools quantize them."""
    from onnxruntime import quantization

    net = OnnxNet(("N", 1, 8, 8)).conv(1, 8, (3, 3)).add("Relu").add("MaxPool", kernel_shape=[2, 2])
    source, path = tmp_path / "source.onnx", tmp_path / "quantized.onnx"
    onnx.save(net.add("Flatten").gemm(200, 8).add("Relu").gemm(8, 3).model(), source)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter([{"input": np.random.default_rng(0).random((4, 1, 8, 8), np.float32)}])

        def get_next(self):
            return next(self.left, None)

    if form == "dynamic":
        quantization.quantize_dynamic(source, path)
    else:
        kind = quantization.QuantFormat[form]
        quantization.quantize_static(source, path, Reader(), quant_format=kind)
    with pytest.raises(
        UnsupportedError, match="the model is quantized; compile the model in float32"
    ):
        import_model(open_source(path))


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [
        *[(op, "") for op in ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger")],
        *[(op, "") for op in ("DynamicQuantizeLinear", "MatMulInteger", "QuantizeLinear")],
        *[(op, "com.microsoft") for op in ("QLinearAdd", "QGemm", "DynamicQuantizeMatMul")],
    ],
)
def test_refuses_each_quantized_operator_by_name(op_type, domain):
    net = OnnxNet(("N", 4))
    net.nodes.append(onnx.helper.make_node("Relu", ["input"], ["x"]))
    net.nodes.append(onnx.helper.make_node(op_type, ["x"], ["y"], "q", domain=domain))
    net.last = "y"
    model = net.model(check=False, infer=False)
    with pytest.raises(
        UnsupportedError, match=rf"'q' \({op_type}\) is not supported: the model is q"
    ):
        import_model(model)


def test_refuses_another_domain():
    net = OnnxNet(("N", 4))
    net.nodes.append(onnx.helper.make_node("Gelu", ["input"], ["y"], "g"))
    net.last = "y"
    model = net.model(check=False)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"'g' \(Gelu\): domain 'com.microsoft'"):
        import_model(model)


@pytest.mark.parametrize("size", [1, 4])
def test_scaler(size):
    """Of the domain ai.onnx.ml, which scikit-learn's StandardScaler becomes."""

    def model(shape):
        net = OnnxNet(shape)
        offset, scale = ([float(x) for x in row] for row in net.rng.normal(size=(2, size)))
        net.add("Scaler", None, domain="ai.onnx.ml", offset=offset, scale=scale)
        return net.add("Flatten").gemm(4, 3).model()

    assert ops(compiled(model(("N", 4)))) == ["DENSE"]
    with pytest.raises(UnsupportedError, match="offsets for shape"):
        import_model(model(("N", 2, 2)))


def test_the_numbers_beside_labels_are_the_output():
    net = OnnxNet(("N", 4)).gemm(4, 3).add("Softmax")
    scores = net.last
    model = net.add("ArgMax", None, axis=1).model()
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, 1, ("N", 3)))
    assert ops(compiled(model)) == ["DENSE", "SOFTMAX"]


def test_refuses_a_second_output_of_a_node():
    net = image_net().add("MaxPool", kernel_shape=[2, 2])
    net.nodes[-1].output.append("indices")
    net.add("Cast", "indices", to=1)
    with pytest.raises(UnsupportedError, match="output 'indices' is used"):
        import_model(net.model())


def test_an_input_that_no_output_needs():
    model = image_net().add("Relu").model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", 7, ("M", "K")))
    assert ops(compiled(model)) == ["ELTWISE"]


def test_one_of_several_outputs():
    net = image_net().conv(2, 3, (3, 3)).add("Relu")
    image = net.last
    model = net.add("GlobalMaxPool").add("Flatten").model()
    model.graph.output.append(onnx.helper.make_tensor_value_info(image, 1, ("N", 3, 4, 4)))
    for name in (net.last, image):
        imported = import_model(model, ImportOptions(outputs=(name,)))
        assert [port.name for port in imported.outputs] == [name]
    with pytest.raises(InputError, match="there is no output 'other'; the model has 'x3', 'x1'"):
        import_model(model, ImportOptions(outputs=("other",)))


@pytest.mark.parametrize(
    ("dims", "asked", "want"),
    [
        ((1, "H", "W"), (10, 12, 1), (1, 10, 12)),
        ((1, "H", 12), (10, 12, 1), (1, 10, 12)),
        (("C", "H", "W"), (10, 12, 1), (1, 10, 12)),
        ((1, 10, 12), (10, 12, 1), (1, 10, 12)),
        (("H", "W", 1), (10, 12, 1), (10, 12, 1)),
        (("H", "W", "C"), (10, 12, 1), (10, 12, 1)),
    ],
)
def test_shapes_that_the_source_leaves_free(dims, asked, want):
    net = OnnxNet(("N", *dims))
    if dims[-1] in (1, "C"):
        net.add("Transpose", perm=[0, 3, 1, 2])
    model = net.conv(1, 3, (3, 3)).add("GlobalAveragePool").add("Flatten").gemm(3, 2).model()
    (port,) = import_model(model, ImportOptions(input_shape=asked)).inputs
    assert (port.shape, port.layout) == (want, "NHWC" if want == asked else "NCHW")
    named = ImportOptions(input_shape={"input": asked})
    assert import_model(model, named).inputs == (port,)
    with pytest.raises(InputError, match=r"input_shape is \(9, 9, 9, 9\), and the input 'input'"):
        import_model(model, ImportOptions(input_shape=(9, 9, 9, 9)))
    if "H" in dims:
        with pytest.raises(UnsupportedError, match="give the shape of an image, channels last"):
            import_model(model)


def test_refuses_an_input_of_other_integers():
    model = OnnxNet(("N", 4)).add("Cast", to=1).model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedError, match="has type INT64; supported are FLOAT, FLOAT16"):
        import_model(model)


def test_refuses_weights_in_another_file():
    model = OnnxNet(("N", 4)).gemm(4, 2).model()
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(UnsupportedError, match="are in another file, and a model in memory"):
        import_model(model)


def test_an_image_as_output():
    program = compiled(image_net().conv(2, 3, (3, 3)).add("Relu"))
    assert ops(program) == ["CONV2D", "TRANSPOSE"]
    assert program.meta["classes"] == []


def test_refuses_weights_of_wrong_length():
    model = OnnxNet(("N", 4)).gemm(4, 2).model()
    model.graph.initializer[0].raw_data = b"\0" * 12
    with pytest.raises(ModelFormatError):
        import_model(model)


def test_refuses_invalid_models(tmp_path):
    model = image_net().add("Relu").model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelFormatError, match="not a valid ONNX model"):
        import_model(model)
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelFormatError, match=r"noise\.onnx: not an ONNX model"):
        open_source(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(data):
    """Flip bytes of a valid file: it compiles, or one of the two errors says why not."""
    original = image_net().conv(2, 3, (3, 3)).add("Relu").add("Flatten").gemm(48, 3).model()
    damaged = bytearray(original.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        # The structure is at the beginning and the end; the middle is weights.
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        model = onnx.load_model_from_string(bytes(damaged))
    except Exception:
        return
    with np.errstate(all="ignore"), contextlib.suppress(UnsupportedError, ModelFormatError):
        optimize(import_model(model).graph)


def test_every_operator_is_tested():
    """Tests that write ONNX mention each operator that the front end claims."""
    files = [*(ROOT / "tests").rglob("test_*.py"), ROOT / "tests/support/compiler_cases.py"]
    text = "".join(text for text in (file.read_text() for file in files) if "OnnxNet" in text)
    missing = [name for name in SUPPORTED_OPERATORS if f'"{name}"' not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("batch", "message"),
    [(0, "takes exactly 0 images at once"), (10**9, "takes exactly 1,000,000,000 images at once")],
)
def test_a_batch_that_cannot_be_run(batch, message):
    net = OnnxNet((batch, 2, 6, 6)).add("Relu")
    with pytest.raises(VerificationError, match=message):
        compile_model(net.model(check=False), None, engine=engine)


def test_weights_without_elements():
    net = OnnxNet(("N", 4)).add("MatMul", None, np.zeros((4, 0), np.float32))
    with pytest.raises(UnsupportedError, match=r"'matmul0' .*has no elements"):
        import_model(net.model(check=False))


# ---- the batch elsewhere -----------------------------------------------------------------------


def steps_first(net, steps, features):
    """A sequence (N, features, steps), as (steps, N, features)."""
    return net.add("Tanh").add("Transpose", perm=[2, 0, 1])


@pytest.mark.parametrize(
    "behind",
    [
        lambda net: net.add("Relu"),
        lambda net: net.add("Add", None, net.rng.normal(size=4)),
        lambda net: net.add("Mul", None, net.rng.normal(size=(5, 1, 4))),
        lambda net: net.add("Sub", net.rng.normal(size=(5, 1, 1)), net.last),
        lambda net: net.add("PRelu", None, net.rng.normal(size=(1, 4))),
        lambda net: net.add("Clip", None, np.float32(-0.5), np.float32(0.5)),
        lambda net: net.add("Softmax", axis=2),
        lambda net: net.add("Softmax", axis=0),
        lambda net: net.add("MatMul", None, net.rng.normal(size=(4, 3))),
        lambda net: net.add("Concat", None, net.last, axis=0),
        lambda net: net.add("Concat", net.last, net.last, axis=-1),
        lambda net: net.add("ReduceMean", None, np.array([0]), keepdims=0).gemm(4, 3),
        lambda net: net.add("ReduceMax", None, np.array([2]), keepdims=1),
        lambda net: net.add("ReduceSum", None, np.array([2, 0]), keepdims=1),
        lambda net: net.add("Unsqueeze", None, np.array([0, 3])).add("Neg"),
        lambda net: net.add("Unsqueeze", None, np.array([1])).add("Squeeze", None, np.array([1])),
        lambda net: net.add("Transpose", perm=[1, 0, 2]).add("Flatten").gemm(20, 3),
        lambda net: net.add("Transpose", perm=[1, 2, 0]).add("Flatten").gemm(20, 3),
        lambda net: net.add("Transpose", perm=[2, 0, 1]).add("Sigmoid"),
        lambda net: net.add("Reshape", None, np.array([5, -1, 2, 2])).add("Neg"),
        lambda net: net.add("Reshape", None, np.array([0, 0, 2, -1])).add("Neg"),
        lambda net: (
            net.add("Reshape", None, np.array([-1, 4]))
            .gemm(4, 6)
            .add("Reshape", None, np.array([5, -1, 6]))
        ),
        lambda net: net.add("Add", None, net.last).add("Max", None, net.last).add("Neg"),
    ],
)
@pytest.mark.parametrize("batch", ["N", 1])
def test_values_with_their_batch_elsewhere(behind, batch):
    """What PyTorch writes of recurrent networks has the steps first."""
    net = behind(steps_first(OnnxNet((batch, 4, 5)), 5, 4))
    compiled(net)


def test_the_shape_of_a_value_with_its_batch_elsewhere():
    net = steps_first(OnnxNet(("N", 4, 5)), 5, 4)
    steps = net.last
    net.add("Shape").add("Gather", None, np.array([0, 1]), axis=0)
    net.add("Concat", None, np.array([2, 2]), axis=0).add("Reshape", steps, None)
    compiled(net.add("Neg"))


def test_several_heads_in_a_stack():
    """Of one image, each head has an axis in front, along which they are joined."""
    net = OnnxNet((1, 6)).add("Tanh")
    hidden, heads = net.last, []
    for _ in range(3):
        net.last = hidden
        heads.append(net.gemm(6, 4).add("Unsqueeze", None, np.array([0])).last)
    program = compiled(net.add("Concat", *heads, axis=0))
    assert program.meta["output"]["shape"] == [3, 4]


# ---- what is written with other operators ------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_log_softmax(axis, opset):
    net = OnnxNet(("N", 3, 4, 5), opset).add("Tanh").add("LogSoftmax", axis=axis)
    assert "LOGSOFTMAX" in ops(compiled(net))


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1}, {"axis": -1}], ids=str)
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_of_rows(op_type, attributes, opset):
    net = OnnxNet(("N", 6, 4), opset).add("Reshape", None, np.array([-1, 4])).gemm(4, 5)
    net.add(op_type, **attributes).add("Reshape", None, np.array([-1, 6, 5]))
    compiled(net)


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_local_response_normalization(size):
    net = OnnxNet(("N", 7, 4, 5)).add("Tanh")
    net.add("LRN", size=size, alpha=0.5, beta=0.6, bias=1.5)
    compiled(net)
    compiled(OnnxNet(("N", 3, 8, 8)).conv(3, 7, (3, 3)).add("Relu").add("LRN", size=5))


@pytest.mark.parametrize("op_type", ["ReduceL1", "ReduceL2", "ReduceMin", "ReduceSumSquare"])
@pytest.mark.parametrize("axes", [[1], [2, 3], [1, 2, 3], [-1]], ids=str)
@pytest.mark.parametrize("opset", [11, 18])
def test_more_reductions(op_type, axes, opset):
    net = OnnxNet(("N", 3, 4, 5), opset).add("Tanh")
    if opset < 18:
        net.add(op_type, axes=axes)
    else:
        net.add(op_type, None, np.array(axes))
    compiled(net)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("axes", [[1, 2, 3], [2, 3]], ids=str)
def test_mean_variance_normalization(axes, opset):
    net = OnnxNet(("N", 3, 4, 5), opset).add("Sigmoid")
    model = net.add("MeanVarianceNormalization", axes=axes).model()
    graph = optimize(import_model(model).graph)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    got = reference.run_graph(graph, x.reshape(2, *graph.shapes[graph.input]))
    np.testing.assert_allclose(got.reshape(x.shape), run_onnx(model, x), atol=1e-5)


def test_division_by_a_value():
    shapes = (), (3, 1, 1), (1, 4, 5)
    for shape in shapes:
        net = OnnxNet(("N", 3, 4, 5)).add("Sigmoid")
        compiled(net.add("Div", np.ones(shape, np.float32) * 1.5, net.last))
    compiled(OnnxNet(("N", 3, 4, 5)).add("Sigmoid").add("Reciprocal"))


@pytest.mark.parametrize("op_type", ["Exp", "Log", "Sqrt", "Abs", "Softsign", "Mish", "Celu"])
def test_functions_of_one_element(op_type):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3))
    if op_type in ("Log", "Sqrt"):
        net.add("Sigmoid")
    compiled(net.add(op_type).add("Flatten").gemm(48, 4))
    if op_type == "Celu":
        compiled(OnnxNet(("N", 6)).gemm(6, 4).add("Celu", alpha=0.5))


def test_powers():
    for exponent in (1, 2, 3, 4, 0.5):
        net = OnnxNet(("N", 6)).gemm(6, 4).add("Sigmoid").add("Pow", None, np.float32(exponent))
        compiled(net)


def test_several_outputs():
    net = OnnxNet(("N", 1, 8, 8)).conv(1, 3, (3, 3)).add("GlobalMaxPool").add("Flatten")
    scores = net.last
    model = net.add("Sigmoid").model()
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, 1, ("N", 3)))
    assert [port.name for port in import_model(model).outputs] == [net.last, scores]

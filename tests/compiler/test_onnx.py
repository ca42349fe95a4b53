"""Whole networks of ONNX, and what the importer makes of their inputs and outputs, held against
ONNX Runtime."""

import numpy as np
import pytest

from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.frontends.common import ImportOptions
from fastdigit.compiler.frontends.onnx import SUPPORTED_OPERATORS
from fastdigit.errors import InputError, UnsupportedError
from tests.support import ROOT, need
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import compiled, image_net, ops

onnx = need("onnx")
need("onnxruntime")


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


def test_a_head_without_a_dense_layer():
    net = OnnxNet(("N", 1, 9, 9)).conv(1, 4, (3, 3)).add("Relu").conv(4, 3, (3, 3))
    program = compiled(net.add("GlobalAveragePool").add("Flatten").add("Softmax"))
    assert program.records[-1].opcode == "SOFTMAX"


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


def test_padding_with_a_number_and_of_channels():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (2, 2))
    net.add("Pad", None, np.array([0, 1, 1, 1, 0, 2, 0, 1]), np.float32(0.5)).conv(6, 2, (2, 2))
    assert ops(compiled(net.add("Flatten").gemm(40, 4))) == ["CONV2D", "PAD", "CONV2D", "DENSE"]


def test_a_matrix_product_for_each_pixel():
    net = OnnxNet(("N", 5, 6, 3))
    net.add("MatMul", None, net.rng.normal(size=(3, 4))).add("Relu").add("Flatten")
    assert ops(compiled(net.gemm(120, 2))) == ["CONV2D", "DENSE"]


def test_the_numbers_beside_labels_are_the_output():
    net = OnnxNet(("N", 4)).gemm(4, 3).add("Softmax")
    scores = net.last
    model = net.add("ArgMax", None, axis=1).model()
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, 1, ("N", 3)))
    assert ops(compiled(model)) == ["DENSE", "SOFTMAX"]


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


def test_an_image_as_output():
    program = compiled(image_net().conv(2, 3, (3, 3)).add("Relu"))
    assert ops(program) == ["CONV2D", "TRANSPOSE"]
    assert program.meta["classes"] == []


def test_every_operator_is_tested():
    """Tests that write ONNX mention each operator that the front end claims."""
    files = [*(ROOT / "tests").rglob("test_*.py"), ROOT / "tests/support/compiler_cases.py"]
    text = "".join(text for text in (file.read_text() for file in files) if "OnnxNet" in text)
    missing = [name for name in SUPPORTED_OPERATORS if f'"{name}"' not in text]
    assert missing == []


def test_several_outputs():
    net = OnnxNet(("N", 1, 8, 8)).conv(1, 3, (3, 3)).add("GlobalMaxPool").add("Flatten")
    scores = net.last
    model = net.add("Sigmoid").model()
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, 1, ("N", 3)))
    assert [port.name for port in import_model(model).outputs] == [net.last, scores]

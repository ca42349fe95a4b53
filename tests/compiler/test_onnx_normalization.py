"""Normalizations and softmax of ONNX, held against ONNX Runtime."""

import numpy as np
import pytest

from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, run_onnx
from tests.support.onnx_nets import compiled, ops

need("onnx")
need("onnxruntime")


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


def test_batchnorm_of_flattened_features_before_an_activation():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (3, 3)).add("Relu").add("Flatten").batchnorm(27)
    program = compiled(net.add("Relu").gemm(27, 4))
    assert ops(program) == ["CONV2D", "TRANSPOSE", "RESHAPE", "ELTWISE", "ELTWISE", "DENSE"]


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


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_along_any_axis(axis):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3)).add("Softmax", axis=axis)
    compiled(net.add("Flatten").gemm(48, 4))


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


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("axes", [[1, 2, 3], [2, 3]], ids=str)
def test_mean_variance_normalization(axes, opset):
    net = OnnxNet(("N", 3, 4, 5), opset).add("Sigmoid")
    model = net.add("MeanVarianceNormalization", axes=axes).model()
    graph = optimize(import_model(model).graph)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    got = reference.run_graph(graph, x.reshape(2, *graph.shapes[graph.input]))
    np.testing.assert_allclose(got.reshape(x.shape), run_onnx(model, x), atol=1e-5)

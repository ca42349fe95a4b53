"""Activations of ONNX, whole and in pieces, held against ONNX Runtime."""

import numpy as np
import pytest

from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import compiled, ops

need("onnx")
need("onnxruntime")


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


@pytest.mark.parametrize("op_type", ["Exp", "Log", "Sqrt", "Abs", "Softsign", "Mish", "Celu"])
def test_functions_of_one_element(op_type):
    net = OnnxNet(("N", 2, 6, 6)).conv(2, 3, (3, 3))
    if op_type in ("Log", "Sqrt"):
        net.add("Sigmoid")
    compiled(net.add(op_type).add("Flatten").gemm(48, 4))
    if op_type == "Celu":
        compiled(OnnxNet(("N", 6)).gemm(6, 4).add("Celu", alpha=0.5))

"""Arithmetic of ONNX, of two values or with constants, held against ONNX Runtime."""

import numpy as np
import pytest

from fastdigit.compiler.frontends import import_model
from fastdigit.errors import UnsupportedError
from tests.support import need
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import compiled, ops

need("onnx")
need("onnxruntime")


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


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("axes", [([2], [3]), ([1], [2, 3]), ([1, 2, 3], []), ([2, 3], [1, 2])])
def test_operands_that_broadcast_to_each_other(op_type, axes):
    """Rows by columns, channels by pixels, and a dividend that is smaller than its divisor."""
    net = OnnxNet(("N", 2, 4, 5))
    image = net.conv(2, 3, (3, 3)).add("Sigmoid").last
    first, second = (
        net.add("ReduceMax", image, np.array(given), keepdims=1).last if given else image
        for given in axes
    )
    net.add(op_type, first, second).add("Flatten")
    compiled(net)


def test_operands_that_do_not_broadcast_are_refused():
    net = OnnxNet(("N", 2, 6, 6)).add("Flatten").add("Mul", None, "input")
    with pytest.raises(UnsupportedError, match="two of the same rank that broadcast"):
        import_model(net.model())


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


def test_division_by_a_value():
    shapes = (), (3, 1, 1), (1, 4, 5)
    for shape in shapes:
        net = OnnxNet(("N", 3, 4, 5)).add("Sigmoid")
        compiled(net.add("Div", np.ones(shape, np.float32) * 1.5, net.last))
    compiled(OnnxNet(("N", 3, 4, 5)).add("Sigmoid").add("Reciprocal"))


def test_powers():
    for exponent in (1, 2, 3, 4, 0.5):
        net = OnnxNet(("N", 6)).gemm(6, 4).add("Sigmoid").add("Pow", None, np.float32(exponent))
        compiled(net)

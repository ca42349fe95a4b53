"""Pooling and reductions of ONNX, held against ONNX Runtime."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import need
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import compiled, imported_agrees, ops, windows

need("onnx")
need("onnxruntime")


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


def test_padding_before_a_pooling():
    net = OnnxNet(("N", 2, 5, 5)).conv(2, 3, (2, 2))
    net.add("Pad", None, np.array([0, 0, 1, 1, 0, 0, 0, 1]))
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    assert ops(compiled(net.gemm(18, 4))) == ["CONV2D", "PAD", "POOL2D", "DENSE"]


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

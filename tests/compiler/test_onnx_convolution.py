"""Convolutions of ONNX, held against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import need
from tests.support.compiler_cases import OnnxNet
from tests.support.onnx_nets import compiled, imported_agrees, ops, same, windows

need("onnx")
need("onnxruntime")


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


@pytest.mark.parametrize(("group", "outs"), [(2, 6), (4, 4), (4, 12), (1, 3)])
def test_groups(group, outs):
    net = OnnxNet(("N", 4, 7, 6))
    net.conv(4 // group, outs, (3, 2), group=group, strides=[2, 1], pads=[1, 0, 2, 1])
    program = compiled(net.batchnorm(outs).add("Relu").add("Flatten").gemm(outs * 4 * 6, 3))
    assert ops(program) == ["CONV2D", "DENSE"]
    assert program.records[1].groups == group


@settings(max_examples=60, deadline=None)
@given(windows(), st.lists(st.integers(1, 2), min_size=2, max_size=2))
def test_convolution_windows(window, dilations):
    height, width, attributes = window
    net = OnnxNet(("N", 2, height, width))
    if "auto_pad" in attributes:
        dilations = [1, 1]  # ONNX Runtime ignores the dilation in SAME padding
    kernel = tuple(attributes["kernel_shape"])
    imported_agrees(net.conv(2, 3, kernel, dilations=dilations, **attributes).add("Flatten"))

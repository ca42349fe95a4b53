"""LSTM, GRU and RNN of ONNX, held against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.errors import UnsupportedError
from tests.support import need
from tests.support.compiler_cases import OnnxNet, engine

need("onnx", "onnxruntime")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(
    net: OnnxNet, op_type: str, inputs: int, units: int, bias: bool = True, **attributes: Any
) -> OnnxNet:
    """Append a layer; its outputs are Y, Y_h."""
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op_type] * units
    kernel, weights = (net.rng.normal(size=(count, rows, n)) / np.sqrt(n) for n in (inputs, units))
    given: list[Any] = [None, kernel, weights]
    if bias:
        given.append(net.rng.normal(size=(count, 2 * rows)) * 0.3)
    net.add(op_type, *given, hidden_size=units, **attributes)
    net.nodes[-1].output.append(f"{net.last}_h")
    return net


def opcodes(net: OnnxNet) -> list[str]:
    data = compile_model(net.model(), None, engine=engine).data
    return [record.opcode for record in unpack(data).records[1:]]


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("opset", [7, 14])
def test_all_states(op_type: str, direction: str, bias: bool, opset: int) -> None:
    """As PyTorch writes them with batch_first."""
    net = OnnxNet(("N", 7, 5), opset).add("Transpose", perm=[1, 0, 2])
    layer(net, op_type, 5, 4, bias, direction=direction).add("Transpose", perm=[0, 2, 1, 3])
    net.add("Reshape", None, np.array([0, 0, -1])).add("Transpose", perm=[1, 0, 2])
    count = 2 if direction == "bidirectional" else 1
    net.add("MatMul", None, net.rng.normal(size=(4 * count, 3)))
    assert "RECURRENT" in opcodes(net)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_the_last_state(op_type: str, direction: str) -> None:
    net = OnnxNet(("N", 7, 5)).add("Transpose", perm=[1, 0, 2])
    layer(net, op_type, 5, 4, direction=direction)
    net.last = f"{net.last}_h"
    net.add("Transpose", perm=[1, 0, 2]).add("Flatten")
    opcodes(net.gemm(8 if direction == "bidirectional" else 4, 3))


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_gru_with_its_reset_before_or_after(after: int, bias: bool) -> None:
    net = OnnxNet((1, 7, 5)).add("Transpose", perm=[1, 0, 2])
    layer(net, "GRU", 5, 4, bias, linear_before_reset=after, direction="bidirectional")
    opcodes(net.add("Transpose", perm=[2, 0, 1, 3]).add("Flatten").gemm(56, 3))


def test_activations() -> None:
    for op_type, names in (
        ("LSTM", ["HardSigmoid", "Relu", "Relu"]),
        ("GRU", ["HardSigmoid", "Relu"]),
        ("RNN", ["Relu"]),
    ):
        net = OnnxNet(("N", 7, 5)).add("Transpose", perm=[1, 0, 2])
        layer(net, op_type, 5, 4, activations=names)
        opcodes(net.add("Squeeze", None, np.array([1])).add("Transpose", perm=[1, 0, 2]))


def test_a_network_that_reads_text_in_images() -> None:
    """Convolutions, columns as steps, two bidirectional layers, steps first to the end."""
    net = OnnxNet(("N", 1, 8, 20)).conv(1, 6, (3, 3), pads=[1, 1, 1, 1]).add("Relu")
    net.add("MaxPool", kernel_shape=[8, 2], strides=[8, 2]).add("Squeeze", None, np.array([2]))
    net.add("Transpose", perm=[2, 0, 1])
    for inputs in (6, 8):
        layer(net, "LSTM", inputs, 4, direction="bidirectional")
        net.add("Transpose", perm=[0, 2, 1, 3]).add("Reshape", None, np.array([0, 0, -1]))
    net.add("Reshape", None, np.array([-1, 8])).gemm(8, 5)
    net.add("Reshape", None, np.array([10, -1, 5])).add("Softmax", axis=2)
    result = compile_model(net.model(), None, engine=engine)
    assert result.meta["output"]["shape"] == [10, 5]


def test_first_states_of_zeros_for_a_batch_of_any_size() -> None:
    """What PyTorch writes for a batch that is free."""
    net = OnnxNet(("N", 7, 5)).add("Shape").add("Gather", None, np.array([0]), axis=0)
    net.add("Concat", np.array([1]), net.last, np.array([4]), axis=0)
    zeros = net.add("ConstantOfShape").last
    net.add("Transpose", "input", perm=[1, 0, 2])
    layer(net, "LSTM", 5, 4)
    net.nodes[-1].input.extend(["", zeros, zeros])
    opcodes(net.add("Squeeze", None, np.array([1])).add("Transpose", perm=[1, 0, 2]))


def refused(message: str, *more: Any, first: bool = False, **attributes: Any) -> None:
    net = OnnxNet(("N", 7, 5))
    if not first:
        net.add("Transpose", perm=[1, 0, 2])
    layer(net, "LSTM", 5, 4, **attributes)
    names = [given if isinstance(given, str) else net.weight(given) for given in more]
    net.nodes[-1].input.extend(names)
    net.add("Squeeze", None, np.array([1])).add("Neg")
    with pytest.raises(UnsupportedError, match=message):
        import_model(net.model(check=False, infer=False))


def test_refuses() -> None:
    refused("with the batch as axis 0", first=True)
    refused("clip=", clip=1.0)
    refused("input_forget=1", input_forget=1)
    refused("activations .*; supported is Tanh", activations=["Sigmoid", "Elu", "Tanh"])
    refused("the same for candidate and cell", activations=["Sigmoid", "Relu", "Tanh"])
    refused("the defaults", activation_alpha=[0.1, 0.1, 0.1])
    refused("sequence_lens", np.array([3], np.int32))
    refused("initial_h that is not 0", "", np.ones((1, 1, 4)))
    refused("P that is not 0", "", "", "", np.ones((1, 12)))


def test_states_of_the_cell_are_refused() -> None:
    net = layer(OnnxNet(("N", 7, 5)).add("Transpose", perm=[1, 0, 2]), "LSTM", 5, 4)
    net.nodes[-1].output.append("cell")
    net.last = "cell"
    with pytest.raises(UnsupportedError, match="output 'cell' is used, which is not supported"):
        import_model(net.add("Neg").model())

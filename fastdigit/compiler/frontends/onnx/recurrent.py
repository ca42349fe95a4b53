"""Recurrent layers, which ONNX has with the steps first unless it says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import taken
from fastdigit.compiler.frontends.onnx.batch import BatchAt, placed_at
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.matrices import product
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.ir import LINEAR, Activation, Array
from fastdigit.compiler.ops import Recurrent, Reshape
from fastdigit.errors import ModelFormatError

#: How many gates each has, and their order here among those of ONNX.
_GATES = {"LSTM": [0, 2, 3, 1], "GRU": [0, 1, 2], "RNN": [0]}
#: Activations of one direction, by default.
_DEFAULTS = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}
_ACTIVATIONS = {
    "hardsigmoid": Activation("hard_sigmoid", 0.2),
    "relu": Activation("relu"),
    "sigmoid": Activation("sigmoid"),
    "tanh": Activation("tanh"),
}


@dataclass(frozen=True)
class _Layer:
    """A direction: kernel (inputs, gates * units), its bias, and what runs over the steps."""

    kernel: Array
    bias: Array
    op: Recurrent


@converts("GRU", "LSTM", "RNN", anywhere=True)
def convert_recurrent(
    importer: Importer, operator: Operator
) -> tuple[str | BatchAt, str | BatchAt]:
    """Return the states of all steps, and the last ones."""
    shape = importer.shape(operator.value())
    layout = int(operator.attributes.get("layout", 0))
    if len(shape) != 2 or layout not in (0, 1) or operator.batch != 1 - layout:
        raise operator.refuse(
            f"an input of shape {shape} with the batch as axis {operator.batch}",
            f"a sequence of vectors with the batch as axis {1 - layout}",
        )
    steps = shape[0]
    _refuse_the_rest(operator, steps)
    sequences, last = [], []
    for layer in _layers(operator):
        units = layer.op.weights.shape[0]
        states = product(importer, operator, layer.kernel, layer.bias)
        states = importer.emit(operator, layer.op, source=states)
        sequences.append(states)
        final = 0 if layer.op.backwards else steps - 1
        ops = taken((steps, units), {0: [final]})
        last.append(importer.emit(operator, *ops, source=states))
    count = len(sequences)
    every = importer.builder.concat(operator.name, 1, sequences)
    units = importer.shape(sequences[0])[1]
    every = importer.emit(operator, Reshape((steps, count, units)), source=every)
    final_states = importer.builder.concat(operator.name, 0, last)
    return placed_at(every, 0 if layout else 2), placed_at(final_states, 0 if layout else 1)


def _refuse_the_rest(operator: Operator, steps: int) -> None:
    attributes = operator.attributes
    if attributes.get("clip", 0.0):
        raise operator.refuse(f"clip={attributes['clip']}", "none")
    if attributes.get("input_forget", 0):
        raise operator.refuse("input_forget=1", "0")
    if attributes.get("activation_alpha") or attributes.get("activation_beta"):
        raise operator.refuse("activation_alpha or activation_beta", "the defaults")
    lengths = operator.ints(4)
    if lengths is not None and set(lengths) != {steps}:
        raise operator.refuse(f"sequence_lens {lengths}", f"{steps}, all steps")
    for index, what in ((5, "initial_h"), (6, "initial_c"), (7, "P")):
        given = operator.weights(index)
        if given is not None and given.any():
            raise operator.refuse(f"{what} that is not 0", "0")


def _layers(operator: Operator) -> list[_Layer]:
    kind = operator.op_type
    order = _GATES[kind]
    kernels, weights, biases = (operator.weights(index) for index in (1, 2, 3))
    if kernels is None or weights is None or kernels.ndim != 3 or weights.ndim != 3:
        raise operator.refuse("weights that are missing or not of rank 3", "constant W and R")
    count, units = len(weights), weights.shape[2]
    direction = operator.text("direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction not in backwards:
        raise operator.refuse(f"direction={direction}", ", ".join(backwards))
    rows = len(order) * units
    if biases is None:
        biases = np.zeros((count, 2 * rows), np.float32)
    if (
        count != len(backwards[direction])
        or kernels.shape[:2] != (count, rows)
        or weights.shape[1] != rows
        or biases.shape != (count, 2 * rows)
        or operator.attributes.get("hidden_size", units) != units
    ):
        raise ModelFormatError(
            f"{operator.name}: W {kernels.shape}, R {weights.shape} and B {biases.shape} for "
            f"direction={direction}"
        )
    named = _activations(operator, count)
    after = kind == "GRU" and bool(operator.attributes.get("linear_before_reset", 0))
    names = {"LSTM": "lstm", "GRU": "gru_reset_after" if after else "gru", "RNN": "simple"}

    def ordered(given: Array) -> Array:
        """Rows gate by gate, as columns in the order of the graph."""
        gates = given.reshape(len(order), units, -1)[order]
        return gates.reshape(rows, -1).T

    layers = []
    for index, reverse in enumerate(backwards[direction]):
        inner, outer = (ordered(part)[0] for part in np.split(biases[index], 2))
        gates, activation = named[index]
        recurrent = Recurrent(
            names[kind],
            ordered(weights[index]),
            outer if after else None,
            activation,
            gates,
            reverse,
        )
        bias = inner if after else inner.astype(np.float64) + outer
        layers.append(_Layer(ordered(kernels[index]), bias, recurrent))
    return layers


def _activations(operator: Operator, count: int) -> list[tuple[Activation, Activation]]:
    """Return the activations of gates, and of candidate and cell, of each direction."""
    defaults = _DEFAULTS[operator.op_type]
    given: Sequence[Any] = operator.attributes.get("activations") or defaults * count
    names = [name.decode(errors="replace") if isinstance(name, bytes) else name for name in given]
    if len(names) != len(defaults) * count or any(n.lower() not in _ACTIVATIONS for n in names):
        raise operator.refuse(f"activations {names}", "Tanh, Sigmoid, Relu and HardSigmoid")
    found = []
    for index in range(count):
        part = names[index * len(defaults) : (index + 1) * len(defaults)]
        *gates, activation = (_ACTIVATIONS[name.lower()] for name in part)
        if operator.op_type == "LSTM" and gates.pop() != activation:
            raise operator.refuse(f"activations {names}", "the same for candidate and cell")
        found.append((gates[0] if gates else LINEAR, activation))
    return found

"""Recurrent layers, one step after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastdigit.compiler.frontends.keras.evaluate.run import apply
from fastdigit.compiler.frontends.keras.evaluate.table import (
    EVALUATORS,
    F64,
    evaluates,
    weight,
)
from fastdigit.compiler.frontends.keras.network import Layer


def _of_state(layer: Layer, option: str) -> Callable[[F64], F64]:
    activation = layer.options.get(option)
    if activation is None:
        return lambda x: x
    return lambda x: EVALUATORS[activation.kind](activation, [x])


@evaluates("SimpleRNN", "LSTM", "GRU")
def _recurrent(layer: Layer, operands: list[F64]) -> F64:
    """One step after the other; the states in the order in which they were computed."""
    x, options = operands[0], layer.options
    kernel, inner = weight(layer, "kernel"), weight(layer, "recurrent_kernel")
    units = inner.shape[0]
    bias = layer.weights.get("bias")
    both = np.zeros((2, kernel.shape[1]))
    if bias is not None:
        both[: bias.ndim] = bias
    function, gate = (_of_state(layer, key) for key in ("activation", "recurrent_activation"))
    state = cell = np.zeros((len(x), units))
    states = []
    shares = x @ kernel + both[0]
    for share in shares.transpose(1, 0, 2)[:: -1 if options["go_backwards"] else 1]:
        given = np.split(share, kernel.shape[1] // units, -1)
        if layer.kind == "SimpleRNN":
            state = function(given[0] + state @ inner)
        elif layer.kind == "LSTM":
            into, forget, new, out = (
                a + b for a, b in zip(given, np.split(state @ inner, 4, -1), strict=True)
            )
            cell = gate(forget) * cell + gate(into) * function(new)
            state = gate(out) * function(cell)
        else:
            parts = np.split(state @ inner + both[1], 3, -1)
            update, reset = gate(given[0] + parts[0]), gate(given[1] + parts[1])
            if options["reset_after"]:
                new = given[2] + reset * parts[2]
            else:
                new = given[2] + (reset * state) @ inner[:, 2 * units :]
            state = update * state + (1 - update) * function(new)
        states.append(state)
    return np.stack(states, 1) if options["return_sequences"] else state


@evaluates("Bidirectional")
def _bidirectional(layer: Layer, operands: list[F64]) -> F64:
    forward, backward = (apply(inner, operands)[0] for inner in layer.layers)
    if layer.layers[0].options["return_sequences"]:
        backward = backward[:, ::-1]
    mode = layer.options["merge_mode"]
    if mode == "concat":
        return np.concatenate([forward, backward], -1)
    return forward * backward if mode == "mul" else (forward + backward) / (1 + (mode == "ave"))


@evaluates("TimeDistributed")
def _time_distributed(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    joined = apply(layer.layers[0], [x.reshape(-1, *x.shape[2:])])[0]
    return joined.reshape(*x.shape[:2], *joined.shape[1:])

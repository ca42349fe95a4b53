"""Runs a network, layer by layer, by what the table has for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.keras.evaluate.table import (
    EVALUATORS,
    F64,
)
from fastdigit.compiler.frontends.keras.network import Layer, Network, describe
from fastdigit.errors import UnsupportedError

#: Values of a chunk of images in one array, about; bounds the memory, and keeps it within a cache.
CHUNK = 1 << 22


def evaluate(network: Network, inputs: Sequence[NDArray[Any]]) -> list[F64]:
    """Return the outputs of a network for batches of its inputs."""
    count = len(inputs[0])
    size = max(int(np.prod(given.shape[1:])) for given in inputs)
    step = max(1, min(count, CHUNK // max(64 * size, 1)))
    parts = [
        run(network, [given[start : start + step].astype(np.float64) for given in inputs])
        for start in range(0, count, step)
    ]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def run(network: Network, inputs: Sequence[F64]) -> list[F64]:
    values = {source.value: given for source, given in zip(network.inputs, inputs, strict=True)}
    for call in network.calls:
        operands = [
            np.asarray(operand, np.float64) if isinstance(operand, np.ndarray) else values[operand]
            for operand in call.operands
        ]
        results = apply(call.layer, operands)
        for index, result in enumerate(results):
            values[call.layer.name, call.index, index] = result
    return [values[value] for value in network.outputs]


def apply(layer: Layer, operands: list[F64]) -> list[F64]:
    if layer.network is not None:
        return run(layer.network, operands)
    evaluator = EVALUATORS.get(layer.kind)
    if evaluator is None:
        raise UnsupportedError(f"layer {describe(layer)} cannot be evaluated")
    first = layer.options.get("data_format") == "channels_first" and operands[0].ndim > 2
    if first:
        operands = [np.moveaxis(operand, 1, -1) for operand in operands]
    found = evaluator(layer, operands)
    if first and found.ndim == operands[0].ndim:
        found = np.moveaxis(found, -1, 1)
    return [_activated(layer, found)]


def _activated(layer: Layer, x: F64) -> F64:
    activation = layer.options.get("activation")
    if activation is None or layer.kind in ("SimpleRNN", "LSTM", "GRU"):
        return x
    return EVALUATORS[activation.kind](activation, [x])

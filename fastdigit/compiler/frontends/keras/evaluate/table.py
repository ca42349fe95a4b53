"""What computes each kind of layer, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.keras.network import Layer

F64: TypeAlias = NDArray[np.float64]
Evaluator: TypeAlias = Callable[[Layer, list[F64]], F64]

#: By kind.
EVALUATORS: dict[str, Evaluator] = {}


def evaluates(*kinds: str) -> Callable[[Evaluator], Evaluator]:
    def register(evaluator: Evaluator) -> Evaluator:
        for kind in kinds:
            assert kind not in EVALUATORS, f"{kind} has two evaluators"
            EVALUATORS[kind] = evaluator
        return evaluator

    return register


def integers(value: Any, count: int) -> list[int]:
    return (
        [int(each) for each in value] * (count if len(value) == 1 else 1)
        if isinstance(value, list | tuple)
        else [int(value)] * count
    )


def biased(layer: Layer, x: F64) -> F64:
    bias = layer.weights.get("bias")
    return x if bias is None else x + bias.astype(np.float64)


def weight(layer: Layer, name: str) -> F64:
    return layer.weights[name].astype(np.float64)


def over(x: F64, axes: tuple[int, ...], keepdims: bool, *, greatest: bool) -> F64:
    reduced = np.max(x, axis=axes, keepdims=True) if greatest else np.mean(x, axes, keepdims=True)
    return np.asarray(reduced if keepdims else np.squeeze(reduced, axes))


def along(array: F64, axis: int, rank: int) -> F64:
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)

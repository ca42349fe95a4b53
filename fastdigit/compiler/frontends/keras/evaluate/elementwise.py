"""Joins, arithmetic and activations, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastdigit.compiler.frontends.keras.evaluate.table import (
    EVALUATORS,
    F64,
    Evaluator,
    evaluates,
    integers,
    over,
    weight,
)
from fastdigit.compiler.frontends.keras.kinds import IN_TRAINING
from fastdigit.compiler.frontends.keras.network import Layer


def _merged(operands: list[F64]) -> list[F64]:
    """Give all one rank: axes of length 1 behind the batch."""
    rank = max(operand.ndim for operand in operands)
    return [
        operand.reshape(len(operand), *[1] * (rank - operand.ndim), *operand.shape[1:])
        for operand in operands
    ]


def _folded(function: Callable[[F64, F64], F64]) -> Evaluator:
    def evaluator(_layer: Layer, operands: list[F64]) -> F64:
        first, *others = _merged(operands)
        for other in others:
            first = function(first, other)
        return first

    return evaluator


def _elementwise(function: Callable[..., F64]) -> Evaluator:
    return lambda _layer, operands: np.asarray(function(*operands))


for _name, _function in {
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
}.items():
    EVALUATORS[_name] = _folded(_function)
    EVALUATORS[f"ops.{_name}"] = _elementwise(_function)
EVALUATORS["ops.Divide"] = _elementwise(np.divide)
EVALUATORS["ops.Negative"] = _elementwise(np.negative)
EVALUATORS["ops.Square"] = _elementwise(np.square)
EVALUATORS["ops.Absolute"] = _elementwise(np.abs)
EVALUATORS["ops.Sqrt"] = _elementwise(np.sqrt)
EVALUATORS["ops.Log"] = _elementwise(np.log)


@evaluates("Average")
def _average(_layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(sum(_merged(operands)) / len(operands))


@evaluates("Concatenate", "ops.Concatenate")
def _concatenate(layer: Layer, operands: list[F64]) -> F64:
    return np.concatenate(operands, integers(layer.options["axis"], 1)[0])


@evaluates("ops.Clip")
def _clip(layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(np.clip(operands[0], layer.options["x_min"], layer.options["x_max"]))


@evaluates("ops.Mean", "ops.Max")
def _reduced(layer: Layer, operands: list[F64]) -> F64:
    axes, keepdims = tuple(integers(layer.options["axis"], 1)), bool(layer.options["keepdims"])
    return over(operands[0], axes, keepdims, greatest=layer.kind == "ops.Max")


# ---- activations ----


def _sigmoid(x: F64) -> F64:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small / (1 + small), 1 / (1 + small))


def _soft(x: F64, axis: int | tuple[int, ...]) -> F64:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _erf(x: F64) -> F64:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _selu(x: F64) -> F64:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x: F64) -> F64:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _no_change(_layer: Layer, operands: list[F64]) -> F64:
    return operands[0]


_UNARY: dict[str, Callable[[F64], F64]] = {
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "selu": _selu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "hard_silu": lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "mish": lambda x: x * np.tanh(_softplus(x)),
}
for _name, _unary in _UNARY.items():
    EVALUATORS[f"activations.{_name}"] = _elementwise(_unary)
for _name in ("Activation", "activations.linear", "ops.Identity", *IN_TRAINING):
    EVALUATORS[_name] = _no_change


@evaluates("ReLU", "activations.relu")
def _relu(layer: Layer, operands: list[F64]) -> F64:
    x, options = operands[0], layer.options
    threshold, slope = float(options["threshold"]), float(options["negative_slope"])
    high = math.inf if options["max_value"] is None else float(options["max_value"])
    if threshold == slope == 0:
        return np.clip(x, 0, high)
    return np.where(x >= threshold, np.minimum(x, high), slope * (x - threshold))


@evaluates("LeakyReLU", "activations.leaky_relu")
def _leaky_relu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, float(layer.options["negative_slope"]) * x)


@evaluates("ELU", "activations.elu")
def _elu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, float(layer.options["alpha"]) * np.expm1(np.minimum(x, 0)))


@evaluates("PReLU")
def _prelu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, weight(layer, "alpha") * x)


@evaluates("activations.hard_sigmoid")
def _hard_sigmoid(layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(np.clip(float(layer.options["slope"]) * operands[0] + 0.5, 0, 1))


@evaluates("activations.gelu")
def _gelu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    if layer.options["approximate"]:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@evaluates("activations.log_softmax")
def _log_softmax(layer: Layer, operands: list[F64]) -> F64:
    axis = integers(layer.options["axis"], 1)[0]
    shifted = operands[0] - operands[0].max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


@evaluates("Softmax", "activations.softmax")
def _softmax(layer: Layer, operands: list[F64]) -> F64:
    return _soft(operands[0], tuple(integers(layer.options["axis"], 1)))

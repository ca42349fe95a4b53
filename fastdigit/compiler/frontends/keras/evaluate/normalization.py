"""Normalization, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastdigit.compiler.frontends.keras.evaluate.table import (
    F64,
    along,
    evaluates,
    integers,
    weight,
)
from fastdigit.compiler.frontends.keras.network import Layer


def _scaled(layer: Layer, x: F64, arrange: Callable[[F64], F64]) -> F64:
    if "gamma" in layer.weights:
        x = x * arrange(weight(layer, "gamma"))
    return x + arrange(weight(layer, "beta")) if "beta" in layer.weights else x


@evaluates("BatchNormalization")
def _batch_normalization(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    (axis,) = integers(layer.options["axis"], 1)

    def arrange(array: F64) -> F64:
        return along(array, axis, x.ndim)

    variance = arrange(weight(layer, "moving_variance")) + float(layer.options["epsilon"])
    normal = (x - arrange(weight(layer, "moving_mean"))) / np.sqrt(variance)
    return _scaled(layer, normal, arrange)


@evaluates("LayerNormalization")
def _layer_normalization(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    given = layer.options["axis"]
    given = [given] if isinstance(given, int) else given
    axes = tuple(sorted(int(axis) % x.ndim for axis in given))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    normal = (x - mean) / np.sqrt(variance + float(layer.options["epsilon"]))
    return _scaled(layer, normal, lambda array: array.reshape(shape))


@evaluates("GroupNormalization")
def _group_normalization(layer: Layer, operands: list[F64]) -> F64:
    (axis,) = integers(layer.options["axis"], 1)
    x = np.moveaxis(operands[0], axis, -1)
    groups = int(layer.options["groups"])
    groups = x.shape[-1] if groups == -1 else groups
    split = x.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = split.mean(axes, keepdims=True), split.var(axes, keepdims=True)
    normal = ((split - mean) / np.sqrt(variance + float(layer.options["epsilon"]))).reshape(x.shape)
    return np.moveaxis(_scaled(layer, normal, lambda array: array), -1, axis)


@evaluates("Rescaling")
def _rescaling(layer: Layer, operands: list[F64]) -> F64:
    scale, offset = (np.asarray(layer.options[key], np.float64) for key in ("scale", "offset"))
    return operands[0] * scale + offset


@evaluates("Normalization")
def _normalization(layer: Layer, operands: list[F64]) -> F64:
    x, given = operands[0], layer.options["axis"]
    given = [] if given is None else [given] if isinstance(given, int) else given
    axes = {int(axis) % x.ndim for axis in given}
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    mean, variance = (
        np.broadcast_to(
            np.asarray(layer.weights.get(name, layer.options[name]), np.float64).ravel(),
            int(np.prod(shape)),
        ).reshape(shape)
        for name in ("mean", "variance")
    )
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return np.asarray(x * deviation + mean if layer.options["invert"] else (x - mean) / deviation)

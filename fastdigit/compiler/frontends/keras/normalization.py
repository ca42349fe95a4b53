"""Normalization and rescaling."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.common import batchnorm
from fastdigit.compiler.frontends.keras.layers import axis_of, weight
from fastdigit.compiler.frontends.keras.network import Layer, describe
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Affine, Array, Shape
from fastdigit.compiler.ops import Binary, Eltwise, LayerNorm, Reshape, Transpose
from fastdigit.errors import ModelFormatError


@converts("LayerNormalization")
def convert_layernorm(layer: Layer, shape: Shape) -> Ops:
    axes = sorted(axis_of(layer, axis, shape) for axis in layer.integers("axis"))
    if axes != list(range(axes[0], len(shape))):
        raise layer.refuse(f"axis={layer.options['axis']}", "the last ones")
    lead, size = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] :])
    scale, shift = (_raveled(layer, name, shape[axes[0] :]) for name in ("gamma", "beta"))
    norm = LayerNorm(layer.number("epsilon"), scale, shift)
    if len(axes) == 1:
        return [norm]
    flat = (size,) if axes[0] == 0 else (lead, 1, size)
    return [Reshape(flat), norm, Reshape(shape)]


def _raveled(layer: Layer, name: str, shape: Shape) -> Array | None:
    return weight(layer, name, *shape).ravel() if name in layer.weights else None


@converts("GroupNormalization")
def convert_groupnorm(layer: Layer, shape: Shape) -> Ops:
    """Normalize each group of channels as a layer, and scale the channels behind it."""
    axis, groups = axis_of(layer, layer.single("axis"), shape), layer.integer("groups")
    channels = shape[axis]
    groups = channels if groups == -1 else groups
    if axis != len(shape) - 1 or groups < 1 or channels % groups:
        raise layer.refuse(f"{groups} groups of axis {axis} of {shape}", "equal ones of the last")
    lead, size = math.prod(shape[:-1]), channels // groups
    scale, shift = _raveled(layer, "gamma", (channels,)), _raveled(layer, "beta", (channels,))
    scale = np.ones(channels) if scale is None else scale
    shift = np.zeros(channels) if shift is None else shift
    return [
        Reshape((lead, groups, size)),
        Transpose((1, 0, 2)),
        Reshape((groups, 1, lead * size)),
        LayerNorm(layer.number("epsilon")),
        Reshape((groups, lead, size)),
        Transpose((1, 0, 2)),
        Reshape(shape),
        Eltwise(affine=Affine(len(shape) - 1, scale, shift)),
    ]


@converts("BatchNormalization")
def convert_batchnorm(layer: Layer, shape: Shape) -> Ops:
    axis = axis_of(layer, layer.single("axis"), shape)
    mean, variance = (weight(layer, f"moving_{name}", shape[axis]) for name in ("mean", "variance"))
    gamma, beta = (
        weight(layer, name, shape[axis]) if name in layer.weights else None
        for name in ("gamma", "beta")
    )
    return [Eltwise(affine=batchnorm(axis, mean, variance, gamma, beta, layer.number("epsilon")))]


@converts("Rescaling")
def convert_rescaling(layer: Layer, shape: Shape) -> Ops:
    scale, shift = numbers(layer, "scale"), numbers(layer, "offset")
    for given in (scale, shift):
        if given.size not in (1, shape[-1]):
            raise layer.refuse(f"numbers of shape {given.shape}", "one, or one for each channel")
    scale, shift = (np.broadcast_to(given.ravel(), shape[-1:]) for given in (scale, shift))
    return [Eltwise(affine=Affine(len(shape) - 1, scale, shift))]


def numbers(layer: Layer, option: str) -> Array:
    """Return a number, or nested lists of them."""
    try:
        return np.asarray(layer.options[option], dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelFormatError(
            f"layer {describe(layer)}: {option} is {layer.options[option]!r:.80}, expected numbers"
        ) from None


@converts("Normalization")
def convert_normalization(layer: Layer, shape: Shape) -> Ops:
    mean, deviation = statistics(layer, shape)
    if layer.flag("invert"):
        return [Binary("mul", deviation), Binary("add", mean)]
    return [Binary("add", -mean), Binary("mul", 1.0 / deviation)]


def statistics(layer: Layer, shape: Shape) -> tuple[Array, Array]:
    """Return mean and standard deviation, that broadcast to a value of ``shape``."""
    axis = layer.options["axis"]
    axes = [] if axis is None else [axis_of(layer, each, shape) for each in layer.integers("axis")]
    kept = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    found = []
    for name in ("mean", "variance"):
        given = layer.weights.get(name)
        array = numbers(layer, name) if given is None else given.astype(np.float64)
        if array.size not in (1, math.prod(kept)):
            raise ModelFormatError(
                f"layer {describe(layer)}: its {name} has shape {array.shape}, expected {kept}"
            )
        found.append(np.broadcast_to(array.ravel(), math.prod(kept)).reshape(kept))
    mean, variance = found
    return mean, np.maximum(np.sqrt(variance), 1e-7)  # the smallest that Keras divides by

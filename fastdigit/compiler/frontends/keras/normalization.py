"""Normalization and rescaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import batchnorm
from fastdigit.compiler.frontends.keras.layers import array, describe
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Affine, Shape
from fastdigit.compiler.ops import Binary, Eltwise, LayerNorm, Reshape
from fastdigit.errors import UnsupportedError


@converts("LayerNormalization")
def convert_layernorm(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    axes = sorted(axis - 1 if axis > 0 else axis + len(shape) for axis in axes)
    if getattr(layer, "rms_scaling", False) or axes != list(range(axes[0], len(shape))):
        raise UnsupportedError(
            f"layer {describe(layer)}: axis={layer.axis}; supported are the last ones, without "
            "rms_scaling"
        )
    lead, size = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] :])
    scale = array(layer.gamma).ravel() if layer.scale else None
    shift = array(layer.beta).ravel() if layer.center else None
    norm = LayerNorm(float(layer.epsilon), scale, shift)
    if len(axes) == 1:
        return [norm]
    flat = (size,) if axes[0] == 0 else (lead, 1, size)
    return [Reshape(flat), norm, Reshape(shape)]


@converts("BatchNormalization")
def convert_batchnorm(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    axis = axis - 1 if axis > 0 else axis + len(shape)
    gamma = array(layer.gamma) if layer.scale else None
    beta = array(layer.beta) if layer.center else None
    mean, variance = array(layer.moving_mean), array(layer.moving_variance)
    return [Eltwise(affine=batchnorm(axis, mean, variance, gamma, beta, float(layer.epsilon)))]


@converts("Rescaling")
def convert_rescaling(layer: Any, shape: Shape, _out: Shape) -> Ops:
    size = shape[-1]
    scale = np.broadcast_to(np.asarray(layer.scale, dtype=np.float64), (size,))
    shift = np.broadcast_to(np.asarray(layer.offset, dtype=np.float64), (size,))
    return [Eltwise(affine=Affine(len(shape) - 1, scale, shift))]


@converts("Normalization")
def convert_normalization(layer: Any, shape: Shape, _out: Shape) -> Ops:
    mean, variance = (np.asarray(given, np.float64) for given in (layer.mean, layer.variance))
    mean, variance = (given[0] if given.ndim > len(shape) else given for given in (mean, variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # the smallest that Keras divides by
    if layer.invert:
        return [Binary("mul", deviation), Binary("add", mean)]
    return [Binary("add", -mean), Binary("mul", 1.0 / deviation)]

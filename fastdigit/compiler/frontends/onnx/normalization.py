"""Normalization and softmax."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.axes import inverse
from fastdigit.compiler.frontends.common import batchnorm, uniform
from fastdigit.compiler.frontends.layout import TO_NCHW, TO_NHWC
from fastdigit.compiler.frontends.moments import Moments, normalized, placed
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.ir import Activation, Array
from fastdigit.compiler.ops import (
    Binary,
    Conv2D,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Reshape,
    Softmax,
    Transpose,
)
from fastdigit.errors import ModelFormatError


@converts("BatchNormalization")
def convert_batchnorm(importer: Importer, operator: Operator) -> str:
    if operator.attributes.get("training_mode", 0):
        raise operator.refuse("training_mode=1", "0")
    gamma, beta, mean, variance = (operator.weights(index) for index in (1, 2, 3, 4))
    if mean is None or variance is None:
        raise ModelFormatError(f"{operator.name}: mean or variance is missing")
    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    affine = batchnorm(0, mean, variance, gamma, beta, epsilon)
    return importer.emit(operator, Eltwise(affine=affine))


@converts("LayerNormalization")
def convert_layernorm(importer: Importer, operator: Operator) -> str:
    shape = importer.shape(operator.value())
    axis = int(operator.attributes.get("axis", -1))
    axis = (axis + len(shape) + 1 if axis < 0 else axis) - 1
    if not 0 <= axis < len(shape):
        raise operator.refuse(f"axis={axis + 1}", "an axis behind the batch")
    size, lead = math.prod(shape[axis:]), math.prod(shape[:axis])
    scale, shift = operator.weights(1), operator.weights(2)

    def vector(given: Array | None) -> Array | None:
        if given is None:
            return None
        try:
            return np.broadcast_to(given, shape[axis:]).ravel()
        except ValueError as error:
            raise ModelFormatError(f"{operator.name}: {error}") from error

    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    norm = LayerNorm(epsilon, vector(scale), vector(shift))
    if axis == len(shape) - 1:
        return importer.emit(operator, norm)
    flat = (size,) if axis == 0 else (lead, 1, size)
    return importer.emit(operator, Reshape(flat), norm, Reshape(shape))


@converts("GroupNormalization", "InstanceNormalization")
def convert_group_norm(importer: Importer, operator: Operator) -> str:
    """InstanceNormalization is GroupNormalization with a group for each channel."""
    shape = importer.shape(operator.value())
    scale, shift = operator.weights(1), operator.weights(2)
    if len(shape) < 2 or scale is None or shift is None:
        raise operator.refuse(f"shape {shape}", "channels and at least one axis, scale and bias")
    channels, rest = shape[0], shape[1:]
    alone = operator.op_type == "InstanceNormalization"
    groups = channels if alone else int(operator.attributes.get("num_groups", 0))
    if groups < 1 or channels % groups:
        raise operator.refuse(f"{groups} groups of {channels} channels", "a divisor")
    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    if scale.shape != (channels,) or shift.shape != (channels,):
        raise ModelFormatError(
            f"{operator.name}: scale of shape {scale.shape} and bias of shape {shift.shape} for "
            f"{channels} channels"
        )
    scale, shift = (given.reshape(channels, *(1 for _ in rest)) for given in (scale, shift))
    flat = importer.emit(operator, Reshape((groups, math.prod(shape) // groups)))
    norm = placed(importer.builder, normalized(importer.builder, operator.name, flat, [1], epsilon))
    ops = (Reshape(shape), Binary("mul", scale), Binary("add", shift))
    return importer.emit(operator, *ops, source=norm)


@converts("MeanVarianceNormalization")
def convert_mean_variance_norm(importer: Importer, operator: Operator) -> Moments:
    """``(x - mean) / (deviation + 1e-9)``; the small number is for a deviation of zero."""
    rank = len(importer.shape(operator.value())) + 1
    axes = [int(axis) % rank for axis in operator.attributes.get("axes", [0, 2, 3])]
    if 0 in axes or not axes:
        raise operator.refuse(f"axes {axes}", "axes behind the batch")
    behind = [axis - 1 for axis in axes]
    return normalized(importer.builder, operator.name, operator.value(), behind, 1e-18)


@converts("Softmax", "LogSoftmax", by_row=True)
def convert_softmax(importer: Importer, operator: Operator) -> str:
    rank = len(importer.shape(operator.value())) + 1
    axis = int(operator.attributes.get("axis", -1)) % rank
    op = Softmax() if operator.op_type == "Softmax" else LogSoftmax()
    if axis == 0:
        raise operator.refuse("axis=0", "an axis behind the batch")
    if axis == rank - 1:
        return importer.emit(operator, op)
    perm = [other for other in range(rank - 1) if other != axis - 1] + [axis - 1]
    back = inverse(tuple(perm))
    return importer.emit(operator, Transpose(tuple(perm)), op, Transpose(back))


@converts("LRN")
def convert_lrn(importer: Importer, operator: Operator) -> str:
    """``x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta``, of which the
    power is a logarithm, a product and an exponential."""
    shape = importer.shape(operator.value())
    size = int(operator.attributes.get("size", 0))
    alpha, beta, bias = (
        float(operator.attributes.get(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    if len(shape) != 3 or size < 1:
        raise operator.refuse(f"shape {shape}, size {size}", "an image, a size of at least 1")
    if not (bias > 0 and alpha >= 0 and math.isfinite(alpha + beta + bias)):
        raise operator.refuse(f"alpha={alpha}, bias={bias}", "alpha >= 0 and bias > 0")
    channels = shape[0]
    before = (size - 1) // 2
    source, target = np.indices((channels, channels))
    near = (source >= target - before) & (source <= target + size - 1 - before)
    weights = np.where(near, alpha / size, 0.0)[np.newaxis, np.newaxis]
    value = operator.value()
    square = importer.builder.combine(operator.name, "mul", value, value)
    ops = (
        TO_NHWC,
        Conv2D(weights, np.full(channels, bias)),
        Eltwise(Activation("log"), uniform((1, 1, channels), -beta)),
        Eltwise(Activation("exponential")),
        TO_NCHW,
    )
    factor = importer.emit(operator, *ops, source=square)
    return importer.builder.combine(operator.name, "mul", value, factor)

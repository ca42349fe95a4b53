"""Convolutions, of images and of sequences (steps, channels): images of one row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.keras.activations import activation_of
from fastdigit.compiler.frontends.keras.layers import (
    array,
    bias_of,
    on_image,
    pair,
    require_channels_last,
    single,
)
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Array, Pair, Shape
from fastdigit.compiler.ops import Conv2D, ConvTranspose2D


def _window(layer: Any, shape: Shape, kernel: Shape) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution."""
    require_channels_last(layer)
    stride, dilation = pair(layer.strides), pair(layer.dilation_rate)
    pad = (0, 0, 0, 0)
    if layer.padding == "same":
        extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        pad = same_padding(shape, extent, stride)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _sequence_window(layer: Any, shape: Shape, size: int) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution."""
    require_channels_last(layer)
    stride, dilation = (1, single(layer.strides)), (1, single(layer.dilation_rate))
    extent = dilation[1] * (size - 1) + 1
    pad = (0, 0, 0, 0)
    if layer.padding == "same":
        pad = same_padding((1, shape[0]), (1, extent), stride)
    elif layer.padding == "causal":
        pad = (0, extent - 1, 0, 0)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _depthwise(kernel: Array) -> tuple[Array, int]:
    """Return weights (height, width, 1, outputs) and groups, from (..., inputs, multiplier)."""
    height, width, inputs, multiplier = kernel.shape
    return kernel.reshape(height, width, 1, inputs * multiplier), inputs


@converts("Conv2D")
def convert_conv2d(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights = array(layer.kernel)
    window = _window(layer, shape, weights.shape[:2])
    return [Conv2D(weights, bias_of(layer), groups=layer.groups, **window), *activation_of(layer)]


@converts("Conv2DTranspose")
def convert_conv2d_transpose(layer: Any, shape: Shape, out: Shape) -> Ops:
    stride, dilation = pair(layer.strides), pair(layer.dilation_rate)
    conv = _transposed(layer, array(layer.kernel), stride, dilation, shape, out)
    return [conv, *activation_of(layer)]


@converts("Conv1DTranspose")
def convert_conv1d_transpose(layer: Any, shape: Shape, out: Shape) -> Ops:
    kernel, image = array(layer.kernel)[np.newaxis], (1, *shape)
    stride, dilation = (1, single(layer.strides)), (1, single(layer.dilation_rate))
    conv = _transposed(layer, kernel, stride, dilation, image, (1, *out))
    return [*on_image(image, shape, [conv], out), *activation_of(layer)]


def _transposed(
    layer: Any, kernel: Array, stride: Pair, dilation: Pair, shape: Shape, out: Shape
) -> ConvTranspose2D:
    """Return the transpose of the convolution that makes ``shape`` of ``out``, which Keras knows.

    ``kernel`` is (height, width, outputs, inputs). With padding "same", what all taps reach beyond
    ``out`` is cut off at both ends, an odd pixel more at the end.
    """
    require_channels_last(layer)
    conv = ConvTranspose2D(kernel.transpose(0, 1, 3, 2), bias_of(layer), stride, dilation)
    full = conv.infer(shape)
    cut = [max(full[d] - out[d], 0) for d in (0, 1)]
    top, left = (total // 2 if layer.padding == "same" else 0 for total in cut)
    return replace(
        conv,
        pad=(top, left, cut[0] - top, cut[1] - left),
        output_padding=(max(out[0] - full[0], 0), max(out[1] - full[1], 0)),
    )


@converts("DepthwiseConv2D")
def convert_depthwise(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights, groups = _depthwise(array(layer.kernel))
    window = _window(layer, shape, weights.shape[:2])
    return [Conv2D(weights, bias_of(layer), groups=groups, **window), *activation_of(layer)]


@converts("SeparableConv2D")
def convert_separable(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights, groups = _depthwise(array(layer.depthwise_kernel))
    window = _window(layer, shape, weights.shape[:2])
    pointwise = Conv2D(array(layer.pointwise_kernel), bias_of(layer))
    return [Conv2D(weights, groups=groups, **window), pointwise, *activation_of(layer)]


@converts("Conv1D")
def convert_conv1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights = array(layer.kernel)[np.newaxis]
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, bias_of(layer), groups=layer.groups, **window)
    return [*on_image((1, *shape), shape, [conv], out), *activation_of(layer)]


@converts("DepthwiseConv1D")
def convert_depthwise1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, groups = _depthwise(array(layer.kernel)[np.newaxis])
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, bias_of(layer), groups=groups, **window)
    return [*on_image((1, *shape), shape, [conv], out), *activation_of(layer)]


@converts("SeparableConv1D")
def convert_separable1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, groups = _depthwise(array(layer.depthwise_kernel)[np.newaxis])
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, groups=groups, **window)
    pointwise = Conv2D(array(layer.pointwise_kernel)[np.newaxis], bias_of(layer))
    return [*on_image((1, *shape), shape, [conv, pointwise], out), *activation_of(layer)]

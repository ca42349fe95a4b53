"""Convolutions, of images and of sequences (steps, channels): images of one row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.keras.layers import activated, in_one_row, result, weight
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Array, Pair, Shape
from fastdigit.compiler.ops import Conv2D, ConvTranspose2D


def _bias(layer: Layer, outputs: int) -> Array | None:
    return weight(layer, "bias", outputs) if layer.flag("use_bias") else None


def _window(layer: Layer, shape: Shape, kernel: Pair) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution."""
    stride, dilation = layer.steps("strides"), layer.steps("dilation_rate")
    pad = (0, 0, 0, 0)
    if layer.word("padding", "valid", "same") == "same":
        extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        pad = same_padding(shape, extent, stride)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _sequence_window(layer: Layer, shape: Shape, size: int) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution of a sequence."""
    stride, dilation = _step(layer, "strides"), _step(layer, "dilation_rate")
    extent = dilation[1] * (size - 1) + 1
    pad = (0, 0, 0, 0)
    match layer.word("padding", "valid", "same", "causal"):
        case "same":
            pad = same_padding((1, shape[0]), (1, extent), stride)
        case "causal":
            pad = (0, extent - 1, 0, 0)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _depthwise(kernel: Array) -> tuple[Array, int]:
    """Return weights (height, width, 1, outputs) and groups, from (..., inputs, multiplier)."""
    height, width, inputs, multiplier = kernel.shape
    return kernel.reshape(height, width, 1, inputs * multiplier), inputs


def _step(layer: Layer, option: str) -> Pair:
    """A stride or dilation of steps: they are columns."""
    layer.single(option)
    return 1, layer.steps(option)[1]


@converts("Conv2D")
def convert_conv2d(layer: Layer, shape: Shape) -> Ops:
    size, filters = layer.pair("kernel_size"), layer.integer("filters")
    groups = layer.integer("groups")
    weights = weight(layer, "kernel", *size, shape[-1] // max(groups, 1), filters)
    window = _window(layer, shape, size)
    return activated(
        layer, [Conv2D(weights, _bias(layer, filters), groups=groups, **window)], shape
    )


@converts("Conv1D")
def convert_conv1d(layer: Layer, shape: Shape) -> Ops:
    size, filters = layer.single("kernel_size"), layer.integer("filters")
    groups = layer.integer("groups")
    weights = weight(layer, "kernel", size, shape[-1] // max(groups, 1), filters)[np.newaxis]
    window = _sequence_window(layer, shape, size)
    conv = Conv2D(weights, _bias(layer, filters), groups=groups, **window)
    return activated(layer, in_one_row(layer, [conv], shape), shape)


@converts("DepthwiseConv2D")
def convert_depthwise(layer: Layer, shape: Shape) -> Ops:
    size, multiplier = layer.pair("kernel_size"), layer.integer("depth_multiplier")
    weights, groups = _depthwise(weight(layer, "kernel", *size, shape[-1], multiplier))
    window = _window(layer, shape, size)
    bias = _bias(layer, groups * multiplier)
    return activated(layer, [Conv2D(weights, bias, groups=groups, **window)], shape)


@converts("DepthwiseConv1D")
def convert_depthwise1d(layer: Layer, shape: Shape) -> Ops:
    size, multiplier = layer.single("kernel_size"), layer.integer("depth_multiplier")
    kernel = weight(layer, "kernel", size, shape[-1], multiplier)
    weights, groups = _depthwise(kernel[np.newaxis])
    window = _sequence_window(layer, shape, size)
    conv = Conv2D(weights, _bias(layer, groups * multiplier), groups=groups, **window)
    return activated(layer, in_one_row(layer, [conv], shape), shape)


@converts("SeparableConv2D")
def convert_separable(layer: Layer, shape: Shape) -> Ops:
    size, multiplier = layer.pair("kernel_size"), layer.integer("depth_multiplier")
    filters = layer.integer("filters")
    weights, groups = _depthwise(weight(layer, "depthwise_kernel", *size, shape[-1], multiplier))
    pointwise = weight(layer, "pointwise_kernel", 1, 1, groups * multiplier, filters)
    depthwise = Conv2D(weights, groups=groups, **_window(layer, shape, size))
    return activated(layer, [depthwise, Conv2D(pointwise, _bias(layer, filters))], shape)


@converts("SeparableConv1D")
def convert_separable1d(layer: Layer, shape: Shape) -> Ops:
    size, multiplier = layer.single("kernel_size"), layer.integer("depth_multiplier")
    filters = layer.integer("filters")
    kernel = weight(layer, "depthwise_kernel", size, shape[-1], multiplier)
    weights, groups = _depthwise(kernel[np.newaxis])
    pointwise = weight(layer, "pointwise_kernel", 1, groups * multiplier, filters)[np.newaxis]
    depthwise = Conv2D(weights, groups=groups, **_sequence_window(layer, shape, size))
    ops: Ops = [depthwise, Conv2D(pointwise, _bias(layer, filters))]
    return activated(layer, in_one_row(layer, ops, shape), shape)


@converts("Conv2DTranspose")
def convert_conv2d_transpose(layer: Layer, shape: Shape) -> Ops:
    size, filters = layer.pair("kernel_size"), layer.integer("filters")
    kernel = weight(layer, "kernel", *size, filters, shape[-1])
    stride, dilation = layer.steps("strides"), layer.steps("dilation_rate")
    given = None if layer.options["output_padding"] is None else layer.pair("output_padding")
    return activated(layer, [_transposed(layer, kernel, stride, dilation, given, shape)], shape)


@converts("Conv1DTranspose")
def convert_conv1d_transpose(layer: Layer, shape: Shape) -> Ops:
    size, filters = layer.single("kernel_size"), layer.integer("filters")
    kernel = weight(layer, "kernel", size, filters, shape[-1])[np.newaxis]
    stride, dilation = _step(layer, "strides"), _step(layer, "dilation_rate")
    given = None
    if layer.options["output_padding"] is not None:
        given = (0, layer.single("output_padding"))
    conv = _transposed(layer, kernel, stride, dilation, given, (1, *shape))
    return activated(layer, in_one_row(layer, [conv], shape), shape)


def _transposed(
    layer: Layer, kernel: Array, stride: Pair, dilation: Pair, given: Pair | None, shape: Shape
) -> ConvTranspose2D:
    """Return a transposed convolution whose output has the size that Keras gives it.

    ``kernel`` is (height, width, outputs, inputs), ``given`` the output padding if there is one.
    With padding "same", what all taps reach beyond the output is cut off at both ends, an odd pixel
    more at the end.
    """
    bias = _bias(layer, kernel.shape[2])
    conv = ConvTranspose2D(kernel.transpose(0, 1, 3, 2), bias, stride, dilation)
    same = layer.word("padding", "valid", "same") == "same"
    full = result(layer, [conv], shape)
    cut, added = [0, 0], [0, 0]
    for d in (0, 1):
        extent = dilation[d] * (kernel.shape[d] - 1) + 1
        if given is not None:
            out = (shape[d] - 1) * stride[d] + extent - (2 * (extent // 2) if same else 0)
            out += given[d]
        elif same:
            out = shape[d] * stride[d]
        else:
            out = shape[d] * stride[d] + max(extent - stride[d], 0)
        cut[d], added[d] = max(full[d] - out, 0), max(out - full[d], 0)
    top, left = (total // 2 if same else 0 for total in cut)
    return replace(
        conv, pad=(top, left, cut[0] - top, cut[1] - left), output_padding=(added[0], added[1])
    )

"""Convolutions, pooling and dense layers, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.evaluate.table import (
    F64,
    biased,
    evaluates,
    integers,
    over,
    weight,
)
from fastdigit.compiler.frontends.keras.network import Layer

#: Values of the windows that a convolution multiplies at once, about; they fit a cache.
COLUMNS = 1 << 18


def _padded(x: F64, layer: Layer, extent: list[int], stride: list[int], fill: float) -> F64:
    """Pad the axes behind the batch as TensorFlow does."""
    mode = str(layer.options["padding"]).lower()
    widths = [(0, 0)]
    for axis, (reach, step) in enumerate(zip(extent, stride, strict=True)):
        if mode == "same":
            outputs = math.ceil(x.shape[axis + 1] / step)
            total = max(0, (outputs - 1) * step + reach - x.shape[axis + 1])
            widths.append((total // 2, total - total // 2))
        else:
            widths.append((reach - 1 if mode == "causal" else 0, 0))
    return np.pad(x, [*widths, (0, 0)], constant_values=fill)


def _taps(x: F64, kernel: list[int], stride: list[int], dilation: list[int]) -> Any:
    """Yield, for each tap of a kernel, its index and the inputs that it meets."""
    counts = [
        (size - (taps - 1) * gap - 1) // step + 1
        for size, taps, step, gap in zip(x.shape[1:-1], kernel, stride, dilation, strict=True)
    ]
    for tap in np.ndindex(*kernel):
        where = [
            slice(index * gap, index * gap + (count - 1) * step + 1, step)
            for index, gap, count, step in zip(tap, dilation, counts, stride, strict=True)
        ]
        yield tap, x[(slice(None), *where)]


def _windows(x: F64, kernel: list[int], stride: list[int], dilation: list[int]) -> F64:
    """Return the windows (N, *counts, *kernel, C) of a padded x, as a view."""
    rank = len(kernel)
    reach = [(taps - 1) * gap + 1 for taps, gap in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(1, rank + 1)))
    steps = [slice(None, None, step) for step in stride]
    view = view[(slice(None), *steps, slice(None), *(slice(None, None, gap) for gap in dilation))]
    return np.moveaxis(view, rank + 1, -1)


def _convolved(
    layer: Layer, x: F64, kernel: F64, combine: Callable[[F64, F64], F64], rank: int
) -> F64:
    """Return ``combine`` of the windows and the kernel, some rows of some images at a time."""
    size = list(kernel.shape[:rank])
    stride = integers(layer.options["strides"], rank)
    dilation = integers(layer.options["dilation_rate"], rank)
    extent = [(taps - 1) * gap + 1 for taps, gap in zip(size, dilation, strict=True)]
    found = _windows(_padded(x, layer, extent, stride, 0.0), size, stride, dilation)
    row = max(1, math.prod(found.shape[2:]))
    rows = max(1, min(found.shape[1], COLUMNS // row))
    images = max(1, COLUMNS // (row * found.shape[1]))
    return np.concatenate(
        [
            np.concatenate(
                [
                    combine(found[first : first + images, start : start + rows], kernel)
                    for start in range(0, found.shape[1], rows)
                ],
                axis=1,
            )
            for first in range(0, len(found), images)
        ]
    )


def _grouped(groups: int, rank: int) -> Callable[[F64, F64], F64]:
    """Each of the outputs is a sum over the taps of the kernel and the channels of its group."""

    def combine(windows: F64, kernel: F64) -> F64:
        shape = windows.shape[: rank + 1]
        parts = [
            inputs.reshape(-1, outputs[..., 0].size) @ outputs.reshape(-1, outputs.shape[-1])
            for inputs, outputs in zip(
                np.split(windows, groups, -1), np.split(kernel, groups, -1), strict=True
            )
        ]
        return np.concatenate(parts, -1).reshape(*shape, -1)

    return combine


def _depthwise(windows: F64, kernel: F64) -> F64:
    """Channel c times multiplier m is output ``c * multipliers + m``; a product for each tap."""
    *size, channels, multipliers = kernel.shape
    before = windows.ndim - len(size) - 1
    total = np.zeros((*windows.shape[:before], channels, multipliers))
    for tap in np.ndindex(*size):
        total += windows[(..., *tap, slice(None))][..., np.newaxis] * kernel[tap]
    return total.reshape(*windows.shape[:before], -1)


@evaluates("Conv1D", "Conv2D")
def _conv(layer: Layer, operands: list[F64]) -> F64:
    kernel = weight(layer, "kernel")
    rank = kernel.ndim - 2
    combine = _grouped(int(layer.options["groups"]), rank)
    return biased(layer, _convolved(layer, operands[0], kernel, combine, rank))


@evaluates("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise_conv(layer: Layer, operands: list[F64]) -> F64:
    kernel = weight(layer, "kernel")
    return biased(layer, _convolved(layer, operands[0], kernel, _depthwise, kernel.ndim - 2))


@evaluates("SeparableConv1D", "SeparableConv2D")
def _separable_conv(layer: Layer, operands: list[F64]) -> F64:
    kernel, pointwise = weight(layer, "depthwise_kernel"), weight(layer, "pointwise_kernel")
    x = _convolved(layer, operands[0], kernel, _depthwise, kernel.ndim - 2)
    return biased(layer, x @ pointwise.reshape(pointwise.shape[-2:]))


@evaluates("Conv1DTranspose", "Conv2DTranspose")
def _transposed_conv(layer: Layer, operands: list[F64]) -> F64:
    """Add each input, times the kernel, where it goes; cut what "same" leaves out."""
    x, kernel = operands[0], weight(layer, "kernel")
    rank = kernel.ndim - 2
    stride = integers(layer.options["strides"], rank)
    dilation = integers(layer.options["dilation_rate"], rank)
    same = str(layer.options["padding"]).lower() == "same"
    extra = layer.options["output_padding"]
    starts, sizes = [], []
    full = []
    for axis in range(rank):
        reach = (kernel.shape[axis] - 1) * dilation[axis] + 1
        count = x.shape[axis + 1]
        full.append((count - 1) * stride[axis] + reach)
        if extra is None:
            size = count * stride[axis] + (0 if same else max(0, reach - stride[axis]))
        else:
            size = (count - 1) * stride[axis] + integers(extra, rank)[axis]
            size += reach % 2 if same else reach
        sizes.append(size)
        # The forward convolution, from the output, pads this much before its first row.
        starts.append(max(0, full[axis] - size) // 2 if same else 0)
    room = [max(a, b + c) for a, b, c in zip(full, sizes, starts, strict=True)]
    out = np.zeros((len(x), *room, kernel.shape[-2]))
    for tap in np.ndindex(*kernel.shape[:rank]):
        where = [
            slice(t * gap, t * gap + (count - 1) * step + 1, step)
            for t, gap, count, step in zip(tap, dilation, x.shape[1:-1], stride, strict=True)
        ]
        out[(slice(None), *where)] += x @ kernel[tap].T
    kept = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return biased(layer, out[(slice(None), *kept)])


@evaluates("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D")
def _pooling(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    rank = x.ndim - 2
    size = integers(layer.options["pool_size"], rank)
    given = layer.options["strides"]
    stride = size if given is None else integers(given, rank)
    if layer.kind.startswith("Max"):
        x = _padded(x, layer, size, stride, -np.inf)
        parts = [part for _, part in _taps(x, size, stride, [1] * rank)]
        return np.asarray(np.maximum.reduce(parts))
    ones = _padded(np.ones((1, *x.shape[1:-1], 1)), layer, size, stride, 0.0)
    x = _padded(x, layer, size, stride, 0.0)
    total = sum(part for _, part in _taps(x, size, stride, [1] * rank))
    count = sum(part for _, part in _taps(ones, size, stride, [1] * rank))
    return np.asarray(total / count)


@evaluates(
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
)
def _global_pooling(layer: Layer, operands: list[F64]) -> F64:
    axes = tuple(range(1, operands[0].ndim - 1))
    return over(operands[0], axes, bool(layer.options["keepdims"]), greatest="Max" in layer.kind)


@evaluates("Dense")
def _dense(layer: Layer, operands: list[F64]) -> F64:
    return biased(layer, operands[0] @ weight(layer, "kernel"))

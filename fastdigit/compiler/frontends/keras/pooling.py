"""Pooling, of images and of sequences."""

from __future__ import annotations

from typing import Any

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.keras.layers import on_image, pair, require_channels_last, single
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Pool, Shape
from fastdigit.compiler.ops import Pool2D, Reshape

_NO_PADDING = (0, 0, 0, 0)


@converts("MaxPooling2D", "AveragePooling2D")
def convert_pooling(layer: Any, shape: Shape, _out: Shape) -> Ops:
    require_channels_last(layer)
    size = pair(layer.pool_size)
    stride = size if layer.strides is None else pair(layer.strides)
    pad = same_padding(shape, size, stride) if layer.padding == "same" else _NO_PADDING
    return [Pool2D(Pool(_mode(layer), size, stride, pad))]


@converts("MaxPooling1D", "AveragePooling1D")
def convert_sequence_pooling(layer: Any, shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    size = (1, single(layer.pool_size))
    stride = size if layer.strides is None else (1, single(layer.strides))
    same = layer.padding == "same"
    pad = same_padding((1, shape[0]), size, stride) if same else _NO_PADDING
    return on_image((1, *shape), shape, [Pool2D(Pool(_mode(layer), size, stride, pad))], out)


@converts("GlobalMaxPooling2D", "GlobalAveragePooling2D")
def convert_global_pooling(layer: Any, shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    size = (shape[0], shape[1])
    reshape: Ops = [] if layer.keepdims else [Reshape(out)]
    return [Pool2D(Pool(_mode(layer), size, size)), *reshape]


@converts("GlobalMaxPooling1D", "GlobalAveragePooling1D")
def convert_global_sequence_pooling(layer: Any, shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    size = (1, shape[0])
    return on_image((1, *shape), shape, [Pool2D(Pool(_mode(layer), size, size))], out)


def _mode(layer: Any) -> str:
    return "max" if "Max" in type(layer).__name__ else "average"

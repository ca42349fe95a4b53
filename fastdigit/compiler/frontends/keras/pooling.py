"""Pooling, of images and of sequences."""

from __future__ import annotations

import math

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.keras.layers import axis_of, in_one_row
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Pool, Shape
from fastdigit.compiler.ops import Pool2D, Reshape, Transpose

_NO_PADDING = (0, 0, 0, 0)


@converts("MaxPooling2D", "AveragePooling2D")
def convert_pooling(layer: Layer, shape: Shape) -> Ops:
    size = layer.pair("pool_size")
    stride = size if layer.options["strides"] is None else layer.steps("strides")
    same = layer.word("padding", "valid", "same") == "same"
    pad = same_padding(shape, size, stride) if same else _NO_PADDING
    return [Pool2D(Pool(_mode(layer), size, stride, pad))]


@converts("MaxPooling1D", "AveragePooling1D")
def convert_sequence_pooling(layer: Layer, shape: Shape) -> Ops:
    size = (1, layer.single("pool_size"))
    stride = size if layer.options["strides"] is None else (1, layer.steps("strides")[1])
    same = layer.word("padding", "valid", "same") == "same"
    pad = same_padding((1, shape[0]), size, stride) if same else _NO_PADDING
    return in_one_row(layer, [Pool2D(Pool(_mode(layer), size, stride, pad))], shape)


@converts("GlobalMaxPooling2D", "GlobalAveragePooling2D")
def convert_global_pooling(layer: Layer, shape: Shape) -> Ops:
    size = (shape[0], shape[1])
    reshape: Ops = [] if layer.flag("keepdims") else [Reshape(shape[2:])]
    return [Pool2D(Pool(_mode(layer), size, size)), *reshape]


@converts("GlobalMaxPooling1D", "GlobalAveragePooling1D")
def convert_global_sequence_pooling(layer: Layer, shape: Shape) -> Ops:
    size = (1, shape[0])
    reshape: Ops = [] if layer.flag("keepdims") else [Reshape(shape[1:])]
    return [*in_one_row(layer, [Pool2D(Pool(_mode(layer), size, size))], shape), *reshape]


@converts("ops.Mean", "ops.Max")
def convert_reduction(layer: Layer, shape: Shape) -> Ops:
    """Move the reduced axes in front, where a pooling takes all of them."""
    given = layer.options["axis"]
    if given is None:
        raise layer.refuse("axis=None, the batch too", "axes behind the batch")
    axes = sorted({axis_of(layer, axis, shape) for axis in layer.integers("axis")})
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    size = math.prod(shape[axis] for axis in axes)
    image = (size, 1, math.prod(shape[axis] for axis in kept))
    mode = "max" if layer.kind == "ops.Max" else "average"
    out = tuple(shape[axis] for axis in kept)
    if layer.flag("keepdims"):
        out = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return [
        Transpose((*axes, *kept)),
        Reshape(image),
        Pool2D(Pool(mode, (size, 1), (size, 1))),
        Reshape(out),
    ]


def _mode(layer: Layer) -> str:
    return "max" if "Max" in layer.kind else "average"

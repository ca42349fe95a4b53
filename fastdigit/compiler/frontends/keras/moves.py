"""Layers that move elements and compute nothing, and those that do nothing in inference."""

from __future__ import annotations

from typing import Any

from fastdigit.compiler.frontends.keras.layers import pair, require_channels_last
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.ops import Pad, Reshape, Transpose


@converts("ZeroPadding2D")
def convert_zero_padding(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    require_channels_last(layer)
    vertical, horizontal = layer.padding
    return [Pad((pair(vertical), pair(horizontal), (0, 0)))]


@converts("ZeroPadding1D")
def convert_zero_padding1d(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    require_channels_last(layer)
    return [Pad((pair(layer.padding), (0, 0)))]


@converts("Reshape")
def convert_reshape(_layer: Any, _shape: Shape, out: Shape) -> Ops:
    return [Reshape(out)]


@converts("Flatten")
def convert_flatten(layer: Any, _shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    return [Reshape(out)]


@converts("Permute")
def convert_permute(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Transpose(tuple(int(axis) - 1 for axis in layer.dims))]


@converts(
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "Identity"),
)
def convert_nothing(_layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return []

"""Resizing of images, and of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.layers import (
    describe,
    on_image,
    require_channels_last,
    single,
)
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Array, Shape
from fastdigit.compiler.ops import Resize
from fastdigit.errors import UnsupportedError


@converts("UpSampling2D")
def convert_upsampling(layer: Any, shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    if layer.interpolation == "nearest":
        return [Resize(_repeated(shape[0], out[0]), _repeated(shape[1], out[1]))]
    return [_resized(layer, shape, out)]


@converts("UpSampling1D")
def convert_sequence_upsampling(layer: Any, shape: Shape, out: Shape) -> Ops:
    columns = _repeated(shape[0], shape[0] * single(layer.size))
    return on_image((1, *shape), shape, [Resize(np.zeros(1), columns)], out)


@converts("Resizing")
def convert_resizing(layer: Any, shape: Shape, out: Shape) -> Ops:
    require_channels_last(layer)
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if getattr(layer, option, False):
            raise UnsupportedError(f"layer {describe(layer)}: {option}=True; supported is False")
    return [_resized(layer, shape, out)]


def _repeated(size: int, out: int) -> Array:
    """Positions that take each row as often as the next."""
    return np.arange(out) // (out // size) * 1.0


def _resized(layer: Any, shape: Shape, out: Shape) -> Resize:
    """As TensorFlow computes positions, in float32 and in this order."""
    if layer.interpolation not in ("nearest", "bilinear"):
        raise UnsupportedError(
            f"layer {describe(layer)}: interpolation={layer.interpolation!r}; "
            "supported are 'nearest' and 'bilinear'"
        )
    found = []
    for size, count in zip(shape[:2], out[:2], strict=True):
        half = np.float32(0.5)
        centre = (np.arange(count, dtype=np.float32) + half) * (
            np.float32(size) / np.float32(count)
        )
        at = np.floor(centre) if layer.interpolation == "nearest" else centre - half
        found.append(np.clip(at, np.float32(0), np.float32(size - 1)))
    return Resize(*found)

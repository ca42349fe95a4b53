"""Resizing of images, and of sequences."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.keras.layers import in_one_row
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Array, Pair, Shape
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Reshape, Resize


@converts("UpSampling2D")
def convert_upsampling(layer: Layer, shape: Shape) -> Ops:
    rows, columns = layer.pair("size")
    if layer.options["interpolation"] == "nearest":
        return [Resize(_repeated(layer, shape[0], rows), _repeated(layer, shape[1], columns))]
    return [_resized(layer, shape, (shape[0] * rows, shape[1] * columns))]


@converts("UpSampling1D")
def convert_sequence_upsampling(layer: Layer, shape: Shape) -> Ops:
    columns = _repeated(layer, shape[0], layer.single("size"))
    return in_one_row(layer, [Resize(np.zeros(1), columns)], shape)


@converts("RepeatVector")
def convert_repeat(layer: Layer, shape: Shape) -> Ops:
    """A vector is the only row of an image, and that is taken several times."""
    times, size = layer.integer("n"), math.prod(shape)
    if len(shape) != 1 or times < 1 or times * size > MAX_ELEMENTS:
        raise layer.refuse(f"n={times} of shape {shape}", f"vectors, up to {MAX_ELEMENTS} elements")
    row = Resize(np.zeros(times), np.zeros(1))
    return [Reshape((1, 1, size)), row, Reshape((times, size))]


@converts("Resizing")
def convert_resizing(layer: Layer, shape: Shape) -> Ops:
    return [_resized(layer, shape, (layer.integer("height"), layer.integer("width")))]


def _repeated(layer: Layer, size: int, times: int) -> Array:
    """Positions that take each row as often as the next."""
    if times < 1:
        raise layer.refuse(f"size={layer.options['size']}", "a size >= 1")
    return np.arange(size * times) // times * 1.0


def _resized(layer: Layer, shape: Shape, out: Pair) -> Resize:
    """As TensorFlow computes positions, in float32 and in this order."""
    mode = layer.word("interpolation", "nearest", "bilinear")
    if min(out) < 1:
        raise layer.refuse(f"a size of {out}", "sizes >= 1")
    found = []
    for size, count in zip(shape[:2], out, strict=True):
        half = np.float32(0.5)
        centre = (np.arange(count, dtype=np.float32) + half) * (
            np.float32(size) / np.float32(count)
        )
        at = np.floor(centre) if mode == "nearest" else centre - half
        found.append(np.clip(at, np.float32(0), np.float32(size - 1)))
    return Resize(*found)

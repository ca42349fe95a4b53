"""What moves values: reshaping, slices, padding, resizing, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.evaluate.table import (
    F64,
    along,
    evaluates,
    integers,
)
from fastdigit.compiler.frontends.keras.network import Layer


@evaluates("Flatten")
def _flatten(_layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), -1)


@evaluates("Reshape")
def _reshape(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), *integers(layer.options["target_shape"], 1))


@evaluates("ops.Reshape")
def _reshape_operation(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), *integers(layer.options["newshape"], 1)[1:])


@evaluates("Permute")
def _permute(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].transpose(0, *integers(layer.options["dims"], 1))


@evaluates("ops.Transpose")
def _transpose(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].transpose(integers(layer.options["axes"], 1))


@evaluates("ops.ExpandDims")
def _expand_dims(layer: Layer, operands: list[F64]) -> F64:
    return np.expand_dims(operands[0], tuple(integers(layer.options["axis"], 1)))


@evaluates("ops.Squeeze")
def _squeeze(layer: Layer, operands: list[F64]) -> F64:
    x, given = operands[0], layer.options["axis"]
    ones = [axis for axis in range(1, x.ndim) if x.shape[axis] == 1]
    return np.squeeze(x, tuple(ones if given is None else integers(given, 1)))


@evaluates("ops.GetItem")
def _get_item(layer: Layer, operands: list[F64]) -> F64:
    key = (
        slice(*entry) if isinstance(entry, list) else Ellipsis if entry == "..." else entry
        for entry in layer.options["key"]
    )
    return operands[0][tuple(key)]


def _sides(given: Any) -> list[tuple[int, int]]:
    if isinstance(given, int):
        return [(given, given), (given, given)]
    if len(given) == 4:
        return [(given[0], given[1]), (given[2], given[3])]
    return [(each, each) if isinstance(each, int) else (each[0], each[1]) for each in given]


@evaluates("ZeroPadding2D")
def _zero_padding(layer: Layer, operands: list[F64]) -> F64:
    return np.pad(operands[0], [(0, 0), *_sides(layer.options["padding"]), (0, 0)])


@evaluates("Cropping2D")
def _cropping(layer: Layer, operands: list[F64]) -> F64:
    (top, bottom), (left, right) = _sides(layer.options["cropping"])
    _, height, width, _ = operands[0].shape
    return operands[0][:, top : height - bottom, left : width - right]


@evaluates("Cropping1D")
def _cropping1d(layer: Layer, operands: list[F64]) -> F64:
    before, after = integers(layer.options["cropping"], 2)
    return operands[0][:, before : operands[0].shape[1] - after]


@evaluates("CenterCrop")
def _center_crop(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    height, width = int(layer.options["height"]), int(layer.options["width"])
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


@evaluates("ZeroPadding1D")
def _zero_padding1d(layer: Layer, operands: list[F64]) -> F64:
    before, after = integers(layer.options["padding"], 2)
    return np.pad(operands[0], [(0, 0), (before, after), (0, 0)])


@evaluates("RepeatVector")
def _repeat_vector(layer: Layer, operands: list[F64]) -> F64:
    return np.stack([operands[0]] * int(layer.options["n"]), axis=1)


@evaluates("UpSampling1D")
def _upsampling1d(layer: Layer, operands: list[F64]) -> F64:
    return np.repeat(operands[0], integers(layer.options["size"], 1)[0], axis=1)


@evaluates("UpSampling2D")
def _upsampling(layer: Layer, operands: list[F64]) -> F64:
    rows, columns = integers(layer.options["size"], 2)
    x = operands[0]
    if layer.options["interpolation"] == "nearest":
        return x.repeat(rows, axis=1).repeat(columns, axis=2)
    return _sampled(layer, x, x.shape[1] * rows, x.shape[2] * columns)


@evaluates("Resizing")
def _resizing(layer: Layer, operands: list[F64]) -> F64:
    return _sampled(layer, operands[0], int(layer.options["height"]), int(layer.options["width"]))


def _sampled(layer: Layer, x: F64, height: int, width: int) -> F64:
    """Half-pixel centres; where they fall, TensorFlow computes in float32."""
    for axis, count in ((1, height), (2, width)):
        size = x.shape[axis]
        ratio = np.float32(size) / np.float32(count)
        centres = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * ratio
        if layer.options["interpolation"] == "nearest":
            x = x.take(np.minimum(centres.astype(int), size - 1), axis)
            continue
        at = np.clip((centres - np.float32(0.5)).astype(np.float64), 0, size - 1)
        low = at.astype(int)
        share = along(at - low, axis, x.ndim)
        high = np.minimum(low + 1, size - 1)
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x

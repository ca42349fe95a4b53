"""Resizing of images, and of sequences."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.onnx.constants import Batch, Constant
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.windows import channels_last_ops
from fastdigit.compiler.ir import Array
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Reshape, Resize
from fastdigit.compiler.ops.resize import COORDINATES, ROUNDINGS, positions
from fastdigit.errors import ModelFormatError


@converts("Resize")
def convert_resize(importer: Importer, operator: Operator) -> str:
    return _resized(importer, operator)


def _resized(importer: Importer, operator: Operator) -> str:
    mode = operator.text("mode", "nearest")
    coordinates = operator.text("coordinate_transformation_mode", "half_pixel")
    rounding = operator.text("nearest_mode", "round_prefer_floor")
    policy = operator.text("keep_aspect_ratio_policy", "stretch")
    for name, given, supported in (
        ("mode", mode, ("nearest", "linear")),
        ("coordinate_transformation_mode", coordinates, tuple(COORDINATES)),
        ("nearest_mode", rounding, tuple(ROUNDINGS)),
        ("keep_aspect_ratio_policy", policy, ("stretch",)),
    ):
        if given not in supported:
            raise operator.refuse(f"{name}={given}", ", ".join(supported))
    if operator.attributes.get("antialias", 0):
        raise operator.refuse("antialias=1", "0")
    shape = importer.shape(operator.value())
    scales, sizes = _targets(importer, operator)
    changed = {axis for axis, scale in enumerate(scales) if scale != 1}
    if not changed:
        return operator.value()

    def along(axis: int) -> Array:
        nearest = rounding if mode == "nearest" else None
        if axis not in changed:
            return np.arange(shape[axis], dtype=np.float32)
        return positions(coordinates, nearest, shape[axis], sizes[axis], scales[axis])

    if len(shape) == 3 and changed <= {1, 2}:
        return channels_last_ops(importer, operator, Resize(along(1), along(2)))
    if len(shape) == 3 and changed <= {0, 1}:
        return importer.emit(operator, Resize(along(0), along(1)))
    if len(shape) == 2 and changed == {1}:
        return channels_last_ops(importer, operator, Resize(np.zeros(1), along(1)))
    raise operator.refuse(
        f"another size of axes {[axis + 1 for axis in sorted(changed)]} of rank {len(shape) + 1}",
        "that of two neighbouring axes of an image, or of the last one of a sequence",
    )


@converts("Upsample")
def convert_upsample(importer: Importer, operator: Operator) -> str:
    """What Resize was called before opset 10."""
    attributes = {
        "mode": operator.attributes.get("mode", b"nearest"),
        "coordinate_transformation_mode": b"asymmetric",
        "nearest_mode": b"floor",
    }
    inputs = (operator.value(), None, operator.constant(1))
    return _resized(importer, replace(operator, inputs=inputs, attributes=attributes))


@converts("Tile")
def convert_tile(importer: Importer, operator: Operator) -> str:
    """Repeat all that lies within an axis: in tf2onnx' nearest neighbours, single rows."""
    value = operator.value()
    repeats = operator.ints(1)
    shape = importer.shape(value)
    if repeats is None or len(repeats) != len(shape) + 1 or repeats[0] != 1 or min(repeats) < 1:
        raise operator.refuse(f"repeats {repeats}", "one for each axis, 1 for the batch")
    for axis, times in enumerate(repeats[1:]):
        if times == 1:
            continue
        rows, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        if rows * row * times > MAX_ELEMENTS:
            raise operator.refuse(f"repeats {repeats}", f"up to {MAX_ELEMENTS} elements")
        shape = (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])
        repeated = Resize(np.arange(rows * times) // times * 1.0, np.zeros(1))
        ops = (Reshape((rows, 1, row)), repeated, Reshape(shape))
        value = importer.emit(operator, *ops, source=value)
    return value


def _targets(importer: Importer, operator: Operator) -> tuple[list[float], list[int]]:
    """Return the scale and the new size of each axis behind the batch."""
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    axes = [axis % rank for axis in operator.attributes.get("axes", range(rank))]
    scales, sizes = _given(operator, 2), _given(operator, 3)
    entries = sizes if scales is None else scales
    if entries is None or len(entries) != len(axes):
        raise ModelFormatError(f"{operator.name}: expected {len(axes)} scales or sizes")
    new_scales, new_sizes = [1.0] * rank, [1, *shape]
    for axis, entry in zip(axes, entries, strict=True):
        if axis == 0:
            if not (_is_batch(entry, importer.batch) if scales is None else entry == 1):
                raise operator.refuse("another size of the batch", "the batch as it is")
            continue
        # In float32, as ONNX Runtime computes them.
        size = np.float32(new_sizes[axis])
        number = np.float32(0 if isinstance(entry, Batch) else entry)
        scale, new = (number / size, number) if scales is None else (number, number * size)
        if not 1 <= new <= MAX_ELEMENTS:
            raise operator.refuse(
                f"axis {axis} of size {size:g} becomes one of {new:g}", f"1 to {MAX_ELEMENTS}"
            )
        new_scales[axis], new_sizes[axis] = float(scale), int(new)
    return new_scales[1:], new_sizes[1:]


def _given(operator: Operator, index: int) -> Constant | None:
    """Return a vector that is an input; an empty one stands for none."""
    vector = operator.constant(index)
    return vector.ravel() if vector is not None and vector.size else None


def _is_batch(entry: Any, batch: int | None) -> bool:
    if isinstance(entry, Batch):
        return entry.multiple == 1
    return batch is not None and int(entry) == batch

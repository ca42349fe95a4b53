"""Layers that move elements and compute nothing, and those that do nothing in inference."""

from __future__ import annotations

import math
from typing import Any

from fastdigit.compiler.frontends.common import taken
from fastdigit.compiler.frontends.keras.kinds import IN_TRAINING
from fastdigit.compiler.frontends.keras.layers import axis_of
from fastdigit.compiler.frontends.keras.network import Layer, describe
from fastdigit.compiler.frontends.keras.operations import ELLIPSIS
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Pair, Shape
from fastdigit.compiler.ops import Crop, Pad, Reshape, Transpose
from fastdigit.errors import ModelFormatError


@converts("ZeroPadding2D")
def convert_zero_padding(layer: Layer, _shape: Shape) -> Ops:
    return [Pad((*sides_of(layer, "padding"), (0, 0)))]


@converts("ZeroPadding1D")
def convert_zero_padding1d(layer: Layer, _shape: Shape) -> Ops:
    return [Pad((layer.pair("padding"), (0, 0)))]


def sides_of(layer: Layer, option: str) -> tuple[Pair, Pair]:
    """Return (before, after) of rows and of columns: n, (rows, columns), or two pairs."""
    given = layer.options[option]
    if isinstance(given, list | tuple) and any(isinstance(each, list | tuple) for each in given):
        flat = [size for each in given for size in (each if isinstance(each, list) else [each] * 2)]
    elif isinstance(given, list | tuple) and len(given) == 2:
        flat = [given[0], given[0], given[1], given[1]]
    else:  # of Keras 1: (top, bottom, left, right)
        flat = list(given) if isinstance(given, list | tuple) else [given] * 4
    if len(flat) != 4 or not all(isinstance(size, int) and size >= 0 for size in flat):
        raise ModelFormatError(
            f"layer {describe(layer)}: {option} is {given!r:.80}, expected sizes of four sides"
        )
    return (flat[0], flat[1]), (flat[2], flat[3])


@converts("Cropping2D")
def convert_cropping(layer: Layer, _shape: Shape) -> Ops:
    return [Crop((*sides_of(layer, "cropping"), (0, 0)))]


@converts("Cropping1D")
def convert_cropping1d(layer: Layer, _shape: Shape) -> Ops:
    return [Crop((layer.pair("cropping"), (0, 0)))]


@converts("CenterCrop")
def convert_center_crop(layer: Layer, shape: Shape) -> Ops:
    """Of an image that is smaller than the crop, Keras resizes a part."""
    widths: list[Pair] = []
    for size, option in zip(shape, ("height", "width"), strict=False):
        wanted = layer.integer(option)
        if not 1 <= wanted <= size:
            raise layer.refuse(f"{option}={wanted} of an image of {size}", "a smaller one")
        before = (size - wanted) // 2
        widths.append((before, size - wanted - before))
    return [Crop((*widths, (0, 0)))]


@converts("Reshape")
def convert_reshape(layer: Layer, shape: Shape) -> Ops:
    return [Reshape(_target(layer, layer.integers("target_shape"), shape))]


@converts("ops.Reshape")
def convert_reshape_operation(layer: Layer, shape: Shape) -> Ops:
    batch, *target = layer.integers("newshape")
    if batch != -1:
        raise layer.refuse(f"a shape whose first size is {batch}", "-1, the batch")
    return [Reshape(_target(layer, tuple(target), shape))]


def _target(layer: Layer, target: tuple[int, ...], shape: Shape) -> Shape:
    """Return a shape in which -1 stands for what is left."""
    if target.count(-1) != 1:
        return target
    known = -math.prod(target)
    if known < 1 or math.prod(shape) % known:
        raise layer.refuse(f"{list(target)} of shape {shape}", "one with as many elements")
    return tuple(math.prod(shape) // known if size == -1 else size for size in target)


@converts("Flatten")
def convert_flatten(_layer: Layer, shape: Shape) -> Ops:
    return [Reshape((math.prod(shape),))]


@converts("Permute")
def convert_permute(layer: Layer, _shape: Shape) -> Ops:
    return [Transpose(tuple(axis - 1 for axis in layer.integers("dims")))]


@converts("ops.Transpose")
def convert_transpose(layer: Layer, _shape: Shape) -> Ops:
    batch, *axes = layer.integers("axes")
    if batch != 0:
        raise layer.refuse("a transpose that moves the batch", "one that keeps it first")
    return [Transpose(tuple(axis - 1 for axis in axes))]


@converts("ops.ExpandDims")
def convert_expand_dims(layer: Layer, shape: Shape) -> Ops:
    axis = axis_of(layer, layer.single("axis"), (*shape, 1))
    return [Reshape((*shape[:axis], 1, *shape[axis:]))]


@converts("ops.Squeeze")
def convert_squeeze(layer: Layer, shape: Shape) -> Ops:
    if layer.options["axis"] is None:
        axes = {axis for axis, size in enumerate(shape) if size == 1}
    else:
        axes = {axis_of(layer, axis, shape) for axis in layer.integers("axis")}
    if any(shape[axis] != 1 for axis in axes):
        raise layer.refuse(f"axes {sorted(axes)} of shape {shape}", "axes of length 1")
    return [Reshape(tuple(size for axis, size in enumerate(shape) if axis not in axes))]


@converts("ops.GetItem")
def convert_get_item(layer: Layer, shape: Shape) -> Ops:
    key: list[Any] = layer.options["key"]
    named = sum(entry is not None and entry != ELLIPSIS for entry in key)
    if key.count(ELLIPSIS) == 0:
        key = [*key, ELLIPSIS]
    if key.count(ELLIPSIS) > 1 or named > 1 + len(shape):
        raise layer.refuse(f"{named} indices of {1 + len(shape)} axes", "one for each")
    at = key.index(ELLIPSIS)
    every = [[None, None, None]] * (1 + len(shape) - named)
    entries: list[Any] = [*key[:at], *every, *key[at + 1 :]]
    batch = entries[0]
    if (
        not isinstance(batch, list)
        or batch[:2] not in ([None, None], [0, None])
        or (batch[2] not in (None, 1))
    ):
        raise layer.refuse("a slice of the batch", "x[:, ...]")
    indices: dict[int, range] = {}
    after: list[int] = []
    axis = 0
    for entry in entries[1:]:
        if entry is None:
            after.append(1)
            continue
        size = shape[axis]
        if isinstance(entry, int):
            if not -size <= entry < size:
                raise layer.refuse(f"index {entry} of an axis of {size}", "one within")
            indices[axis] = range(entry % size, entry % size + 1)
        else:
            if entry[2] == 0:
                raise layer.refuse("a step of 0", "another")
            indices[axis] = range(size)[slice(*entry)]
            after.append(len(indices[axis]))
            if not indices[axis]:
                raise layer.refuse(f"nothing of an axis of {size}", "something")
        axis += 1
    return [*taken(shape, indices), Reshape(tuple(after))]


@converts("ops.Identity", *IN_TRAINING)
def convert_nothing(_layer: Layer, _shape: Shape) -> Ops:
    return []

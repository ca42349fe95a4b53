"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Pad, Reshape, Resize, Transpose
from fastdigit.errors import ModelFormatError


@converts("RESHAPE")
def convert_reshape(importer: Importer, operator: Operator) -> Value:
    shape = operator.value().shape
    if len(operator.inputs) > 1 and operator.inputs[1] is not None:
        target = operator.ints(1)
    else:
        target = [int(size) for size in operator.option("NewShape", ())]
    return importer.emit(operator, _filled(operator, shape, target))


def _filled(operator: Operator, shape: Shape, target: list[int]) -> Shape:
    """Return the shape that is asked for, in which one -1 stands for what is left."""
    elements, known = math.prod(shape), math.prod(size for size in target if size != -1)
    if target.count(-1) == 1 and known > 0 and elements % known == 0:
        target = [elements // known if size == -1 else size for size in target]
    if min(target, default=1) < 1 or math.prod(target) != elements:
        raise ModelFormatError(f"{operator.name}: a reshape from {shape} to {target}")
    return tuple(target)


@converts("SQUEEZE")
def convert_squeeze(importer: Importer, operator: Operator) -> Value:
    shape = operator.value().shape
    axes = {operator.axis(int(axis), len(shape)) for axis in operator.option("SqueezeDims", ())}
    axes = axes or {axis for axis, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise ModelFormatError(f"{operator.name}: axes {sorted(axes)} of {shape} are not all 1")
    return importer.emit(operator, tuple(n for axis, n in enumerate(shape) if axis not in axes))


@converts("EXPAND_DIMS")
def convert_expand_dims(importer: Importer, operator: Operator) -> Value:
    shape = operator.value().shape
    given = operator.ints(1)
    if len(given) != 1:
        raise ModelFormatError(f"{operator.name}: axes {given}, expected one")
    axis = operator.axis(given[0], len(shape) + 1)
    return importer.emit(operator, (*shape[:axis], 1, *shape[axis:]))


@converts("TRANSPOSE")
def convert_transpose(importer: Importer, operator: Operator) -> Value:
    value, perm = operator.value(), operator.ints(1)
    rank = len(value.shape)
    perm = [operator.axis(axis, rank) for axis in perm]
    if sorted(perm) != list(range(rank)):
        raise ModelFormatError(f"{operator.name}: axes {perm} of rank {rank}")
    result = tuple(value.shape[axis] for axis in perm)
    if rank > 1 and perm[0] == 0 and value.shape[0] == 1:
        return importer.emit(operator, result, Transpose(tuple(axis - 1 for axis in perm[1:])))
    source = importer.whole(operator, value)
    return importer.emit(operator, result, Transpose(tuple(perm)), source=source)


@converts("CONCATENATION", "PACK")
def convert_concatenation(importer: Importer, operator: Operator) -> Value:
    """PACK joins along a new axis."""
    values = [operator.value(index) for index in range(len(operator.inputs))]
    shapes = [value.shape for value in values]
    if operator.type == "PACK":
        axis = operator.axis(int(operator.option("Axis")), len(shapes[0]) + 1)
        shapes = [(*shape[:axis], 1, *shape[axis:]) for shape in shapes]
    else:
        axis = operator.axis(int(operator.option("Axis")), len(shapes[0]))
    first = shapes[0]
    alike = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(alike) != 1 or any(len(shape) != len(first) for shape in shapes):
        raise ModelFormatError(f"{operator.name}: joins shapes {shapes} along axis {axis}")
    result = (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
    lead = 1 if axis > 0 and first[0] == 1 else 0
    sources = [
        importer.viewed(operator, value, shape[lead:])
        for value, shape in zip(values, shapes, strict=True)
    ]
    joined = importer.builder.concat(operator.name, axis - lead, sources)
    return importer.emit(operator, result, source=joined)


@converts("PAD", "PADV2")
def convert_pad(importer: Importer, operator: Operator) -> Value:
    value, widths = operator.value(), operator.constant(1)
    rank = len(value.shape)
    if widths is None or widths.shape != (rank, 2) or widths.dtype.kind not in "iu":
        raise ModelFormatError(f"{operator.name}: expected {rank} pairs of widths")
    pairs = [(int(before), int(behind)) for before, behind in widths]
    if any(min(pair) < 0 for pair in pairs):
        raise operator.refuse(f"widths {pairs}", "padding, not cropping")
    fill = operator.weights(2) if operator.type == "PADV2" else None
    number = 0.0 if fill is None or not fill.size else float(fill.ravel()[0])
    result = tuple(n + sum(pair) for n, pair in zip(value.shape, pairs, strict=True))
    if rank > 1 and value.shape[0] == 1 and pairs[0] == (0, 0):
        return importer.emit(operator, result, Pad(tuple(pairs[1:]), number))
    source = importer.whole(operator, value)
    return importer.emit(operator, result, Pad(tuple(pairs), number), source=source)


@converts("TILE")
def convert_tile(importer: Importer, operator: Operator) -> Value:
    """Repeat all that lies within an axis: in nearest neighbours, single rows."""
    value, repeats = operator.value(), operator.ints(1)
    shape = value.shape
    if len(repeats) != len(shape) or min(repeats, default=1) < 1:
        raise ModelFormatError(f"{operator.name}: repeats {repeats} of shape {shape}")
    name = value.name
    for axis, times in enumerate(repeats):
        rows, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        if rows * row * times > MAX_ELEMENTS:
            raise operator.refuse(f"repeats {repeats}", f"up to {MAX_ELEMENTS} elements")
        shape = (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])
        if times > 1:
            repeated = Resize(np.arange(rows * times) // times * 1.0, np.zeros(1))
            name = importer.emit(
                operator, shape, Reshape((rows, 1, row)), repeated, source=name
            ).name
    return Value(name, shape)


@converts("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def convert_depth_to_space(importer: Importer, operator: Operator) -> Value:
    """A block of pixels lies in the channels, its rows first."""
    shape, block = operator.value().shape, int(operator.option("BlockSize"))
    if len(shape) != 4 or shape[0] != 1 or block < 1:
        raise operator.refuse(f"blocks of {block} in shape {shape}", "blocks of one image")
    _, height, width, channels = shape
    if operator.type == "DEPTH_TO_SPACE":
        if channels % block**2:
            raise ModelFormatError(f"{operator.name}: {channels} channels in blocks of {block}")
        depth = channels // block**2
        split, perm = (height, width, block, block, depth), (0, 2, 1, 3, 4)
        result = (1, height * block, width * block, depth)
    else:
        if height % block or width % block:
            raise ModelFormatError(f"{operator.name}: blocks of {block} in shape {shape}")
        split = (height // block, block, width // block, block, channels)
        perm, result = (0, 2, 1, 3, 4), (1, height // block, width // block, channels * block**2)
    return importer.emit(operator, result, Reshape(split), Transpose(perm))

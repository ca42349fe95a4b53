"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

from fastdigit.compiler.frontends.common import taken
from fastdigit.compiler.frontends.tflite.constants import slices
from fastdigit.compiler.frontends.tflite.importer import Importer, image_shape
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Pad, Reshape, Resize, Transpose
from fastdigit.errors import ModelFormatError, UnsupportedError


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
    if operator.op_type == "PACK":
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
    fill = operator.weights(2) if operator.op_type == "PADV2" else None
    number = 0.0 if fill is None or not fill.size else float(fill.ravel()[0])
    result = tuple(n + sum(pair) for n, pair in zip(value.shape, pairs, strict=True))
    if rank > 1 and value.shape[0] == 1 and pairs[0] == (0, 0):
        return importer.emit(operator, result, Pad(tuple(pairs[1:]), number))
    source = importer.whole(operator, value)
    return importer.emit(operator, result, Pad(tuple(pairs), number), source=source)


def _chosen(
    importer: Importer,
    operator: Operator,
    value: Value,
    indices: Mapping[int, Sequence[int]],
    dropped: Sequence[int] = (),
) -> Value:
    """Take some indices of axes, as the file counts these, and drop axes of length 1 then."""
    image = image_shape(value.shape)
    lead = len(value.shape) - len(image)
    sizes = [len(indices.get(axis, range(size))) for axis, size in enumerate(value.shape)]
    inner = {axis - lead: given for axis, given in indices.items() if axis >= lead}
    try:
        ops = taken(image, inner)
    except ValueError as error:
        raise UnsupportedError(f"{operator.name}: {error}") from error
    shape = tuple(size for axis, size in enumerate(sizes) if axis not in dropped)
    return importer.emit(operator, shape, *ops, source=value.name)


@converts("SLICE")
def convert_slice(importer: Importer, operator: Operator) -> Value:
    value, begin, count = operator.value(), operator.ints(1), operator.ints(2)
    if not len(begin) == len(count) == len(value.shape):
        raise ModelFormatError(f"{operator.name}: begin {begin} and size {count} of {value.shape}")
    indices = {}
    for axis, size in enumerate(value.shape):
        end = size if count[axis] == -1 else begin[axis] + count[axis]
        if not 0 <= begin[axis] < end <= size:
            raise ModelFormatError(f"{operator.name}: {begin[axis]} to {end} of {size}")
        indices[axis] = range(begin[axis], end)
    return _chosen(importer, operator, value, indices)


@converts("STRIDED_SLICE")
def convert_strided_slice(importer: Importer, operator: Operator) -> Value:
    value = operator.value()
    begin, end, strides = (operator.ints(index) for index in (1, 2, 3))
    try:
        cuts, dropped = slices(value.shape, begin, end, strides, operator.options)
    except ValueError as error:
        raise operator.refuse(str(error), "a slice of the axes that there are") from error
    indices = {axis: range(value.shape[axis])[cut] for axis, cut in enumerate(cuts)}
    return _chosen(importer, operator, value, indices, dropped)


@converts("SPLIT", "SPLIT_V")
def convert_split(importer: Importer, operator: Operator) -> list[Value]:
    which, at = (0, 1) if operator.op_type == "SPLIT" else (2, 0)
    given, value = operator.ints(which), operator.value(at)
    if len(given) != 1:
        raise ModelFormatError(f"{operator.name}: axes {given}, expected one")
    axis = operator.axis(given[0], len(value.shape))
    size, count = value.shape[axis], operator.outputs
    if operator.op_type == "SPLIT":
        sizes = [size // count] * count
    else:
        sizes = operator.ints(1)
        rest = size - sum(part for part in sizes if part != -1)
        sizes = [rest if part == -1 else part for part in sizes]
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 1:
        raise ModelFormatError(f"{operator.name}: parts of {sizes} of {size}")
    ends = list(accumulate(sizes))
    return [
        _chosen(importer, operator, value, {axis: range(end - part, end)})
        for part, end in zip(sizes, ends, strict=True)
    ]


@converts("UNPACK")
def convert_unpack(importer: Importer, operator: Operator) -> list[Value]:
    value = operator.value()
    axis = operator.axis(int(operator.option("Axis")), len(value.shape))
    return [
        _chosen(importer, operator, value, {axis: [index]}, [axis])
        for index in range(value.shape[axis])
    ]


@converts("GATHER")
def convert_gather(importer: Importer, operator: Operator) -> Value:
    value, indices = operator.value(), operator.constant(1)
    axis = operator.axis(int(operator.option("Axis")), len(value.shape))
    if indices is None or indices.dtype.kind not in "iu" or operator.option("BatchDims"):
        raise operator.refuse("indices that are not known", "constant indices")
    given = [int(index) for index in indices.ravel()]
    if axis == 0 and set(given) - {0} and value.shape[0] == 1:
        raise ModelFormatError(f"{operator.name}: takes {given} of 1")
    result = (*value.shape[:axis], *indices.shape, *value.shape[axis + 1 :])
    if axis == 0 and value.shape[0] == 1:
        if len(given) != 1:
            raise operator.refuse("the image several times", "indices of axes behind the first")
        return importer.emit(operator, result)
    chosen = _chosen(importer, operator, value, {axis: given})
    return importer.emit(operator, result, source=chosen.name)


@converts("MIRROR_PAD")
def convert_mirror_pad(importer: Importer, operator: Operator) -> Value:
    value, widths = operator.value(), operator.constant(1)
    if widths is None or widths.shape != (len(value.shape), 2) or widths.min() < 0:
        raise ModelFormatError(f"{operator.name}: expected {len(value.shape)} pairs of widths")
    mode: Literal["symmetric", "reflect"] = "symmetric" if operator.option("Mode") else "reflect"
    least = 0 if mode == "symmetric" else 1
    indices = {}
    for axis, (size, pair) in enumerate(zip(value.shape, widths.tolist(), strict=True)):
        if max(pair) > size - least:
            raise operator.refuse(f"{pair} more of {size}", "less than there is to mirror")
        if any(pair) and axis < len(value.shape) - len(image_shape(value.shape)):
            raise operator.refuse("the image several times", "padding behind the first axis")
        indices[axis] = np.pad(np.arange(size), pair, mode=mode).tolist()
    return _chosen(importer, operator, value, indices)


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
    if operator.op_type == "DEPTH_TO_SPACE":
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

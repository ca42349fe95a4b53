"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import taken
from fastdigit.compiler.frontends.layout import TO_NCHW, TO_NHWC
from fastdigit.compiler.frontends.onnx.batch import BatchAt, placed_at
from fastdigit.compiler.frontends.onnx.constants import Batch, split_lengths
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.shapes import shown, target_shape
from fastdigit.compiler.ir import Op
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Pad, Reshape, Transpose
from fastdigit.errors import ModelFormatError, UnsupportedError


@converts("Concat")
def convert_concat(importer: Importer, operator: Operator) -> str:
    values = [operator.value(index) for index in range(len(operator.inputs))]
    rank = len(importer.shape(values[0])) + 1
    axis = int(operator.attributes["axis"])
    axis = axis + rank if axis < 0 else axis
    if not 0 < axis < rank:
        raise operator.refuse(f"axis={axis} of rank {rank}", "an axis behind the batch")
    return importer.builder.concat(operator.name, axis - 1, values)


@converts("Flatten")
def convert_flatten(importer: Importer, operator: Operator) -> str:
    shape = importer.shape(operator.value())
    axis = int(operator.attributes.get("axis", 1))
    if axis not in (1, -len(shape)):
        raise operator.refuse(f"axis={axis}", "1")
    return importer.emit(operator, Reshape((math.prod(shape),)))


@converts("Reshape", anywhere=True)
def convert_reshape(importer: Importer, operator: Operator) -> str | BatchAt:
    source = importer.shape(operator.value())
    found = target_shape(operator, source, importer.batch, operator.batch)
    if found is None:
        shown_source = [*source[: operator.batch], "N", *source[operator.batch :]]
        raise operator.refuse(
            f"from ({', '.join(map(str, shown_source))}) to {shown(operator.constant(1))}",
            "a reshape that keeps the batch an axis",
        )
    shape, axis = found
    return placed_at(importer.emit(operator, Reshape(shape)), axis)


@converts("Squeeze", anywhere=True)
def convert_squeeze(importer: Importer, operator: Operator) -> str | BatchAt:
    shape, at = importer.shape(operator.value()), operator.batch
    full = [*shape[:at], 0, *shape[at:]]
    axes = _axes(operator, len(full))
    if axes is None and importer.batch is None:  # all of length 1
        axes = [axis for axis, size in enumerate(full) if size == 1]
    if axes is None or any(full[axis] != 1 for axis in axes):
        raise operator.refuse(f"axes {axes} of {full}", "a list of axes of length 1")
    kept = tuple(size for axis, size in enumerate(full) if axis not in axes and axis != at)
    moved = at - sum(axis < at for axis in axes)
    return placed_at(importer.emit(operator, Reshape(kept)), moved)


@converts("Unsqueeze", anywhere=True)
def convert_unsqueeze(importer: Importer, operator: Operator) -> str | BatchAt:
    shape, at = importer.shape(operator.value()), operator.batch
    rank = len(shape) + 1 + len(operator.ints(1) or ())
    axes = _axes(operator, rank)
    if axes is None:
        raise ModelFormatError(f"{operator.name}: axes are missing")
    sizes = iter((*shape[:at], 0, *shape[at:]))
    full = [1 if axis in axes else next(sizes) for axis in range(rank)]
    target = Reshape(tuple(size for size in full if size))
    return placed_at(importer.emit(operator, target), full.index(0))


def _axes(operator: Operator, rank: int) -> list[int] | None:
    given = operator.ints(1)
    if given is None:
        return None
    axes = [axis + rank if axis < 0 else axis for axis in given]
    if any(not 0 <= axis < rank for axis in axes) or len(set(axes)) != len(axes):
        raise operator.refuse(f"axes {given}", f"different axes of {rank}")
    return axes


@converts("Transpose", anywhere=True)
def convert_transpose(importer: Importer, operator: Operator) -> str | BatchAt:
    at = operator.batch
    rank = len(importer.shape(operator.value())) + 1
    perm = [int(axis) for axis in operator.attributes.get("perm") or range(rank)[::-1]]
    image = tuple(axis - (axis > at) for axis in perm if axis != at)
    return placed_at(importer.emit(operator, Transpose(image)), perm.index(at))


def _taken(
    importer: Importer, operator: Operator, indices: Mapping[int, Sequence[int]], *behind: Op
) -> str:
    """Take indices along axes; their numbers are those of a value without a batch."""
    shape = importer.shape(operator.value())
    # Rows and columns are taken together where channels come last: of an NCHW image, there.
    last = len(shape) == 3 and not _is_crop(indices.get(2, ())) and _is_crop(indices.get(0, ()))
    if last:
        shape = (*shape[1:], shape[0])
        indices = {(axis - 1) % 3: given for axis, given in indices.items()}
    try:
        ops = taken(shape, indices)
    except ValueError as error:
        raise UnsupportedError(f"{operator.name}: {error}") from error
    return importer.emit(operator, *([TO_NHWC, *ops, TO_NCHW] if last else ops), *behind)


def _is_crop(indices: Sequence[int]) -> bool:
    """Whether indices are neighbours in order."""
    return not indices or list(indices) == list(range(indices[0], indices[0] + len(indices)))


def _axis(operator: Operator, axis: int, rank: int) -> int:
    """Return an axis behind the batch, without it."""
    axis = axis + rank if axis < 0 else axis
    if not 0 < axis < rank:
        raise operator.refuse(f"axis={axis} of rank {rank}", "an axis behind the batch")
    return axis - 1


@converts("Slice")
def convert_slice(importer: Importer, operator: Operator) -> str:
    shape = importer.shape(operator.value())
    starts, ends, axes, steps = (operator.constant(index) for index in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise ModelFormatError(f"{operator.name}: starts or ends are missing")
    given = range(starts.size) if axes is None else [int(axis) for axis in axes.ravel()]
    strides = [1] * starts.size if steps is None else [int(step) for step in steps.ravel()]
    indices = {}
    for start, end, axis, step in zip(starts.ravel(), ends.ravel(), given, strides, strict=True):
        if axis % (len(shape) + 1) == 0:
            if _is_all(start, end, step, importer.batch):
                continue
            raise operator.refuse("a part of the batch", "all of it")
        if isinstance(start, Batch) or isinstance(end, Batch) or step == 0:
            raise operator.refuse("bounds that depend on the batch", "numbers")
        behind = _axis(operator, axis, len(shape) + 1)
        size = shape[behind]
        # An end before the first element, for a negative step, is INT_MIN: no Python index says so.
        stop = None if step < 0 and end < -size else int(end)
        indices[behind] = range(size)[int(start) : stop : step]
    return _taken(importer, operator, indices)


def _is_all(start: Any, end: Any, step: int, batch: int | None) -> bool:
    if isinstance(start, Batch) or int(start) != 0 or step != 1:
        return False
    return isinstance(end, Batch) or int(end) >= (batch or _HUGE)


#: More than any batch: what exporters write for the end of an axis.
_HUGE = (1 << 31) - 1


@converts("Split")
def convert_split(importer: Importer, operator: Operator) -> tuple[str, ...]:
    shape = importer.shape(operator.value())
    axis = _axis(operator, int(operator.attributes.get("axis", 0)), len(shape) + 1)
    try:
        lengths = split_lengths(shape[axis], operator.outputs, operator.ints(1))
    except ValueError as error:
        raise ModelFormatError(f"{operator.name}: {error}") from error
    ends = np.cumsum(lengths).tolist()
    return tuple(
        _taken(importer, operator, {axis: range(end - length, end)})
        for length, end in zip(lengths, ends, strict=True)
    )


@converts("Gather")
def convert_gather(importer: Importer, operator: Operator) -> str:
    shape, indices = importer.shape(operator.value()), operator.constant(1)
    axis = _axis(operator, int(operator.attributes.get("axis", 0)), len(shape) + 1)
    if indices is None or indices.dtype.kind not in "iu" or indices.ndim > 1:
        raise operator.refuse(f"indices {indices}", "a number, or a list of them")
    chosen = [int(i) + shape[axis] if i < 0 else int(i) for i in indices.ravel()]
    kept = () if indices.ndim else (Reshape(shape[:axis] + shape[axis + 1 :]),)
    return _taken(importer, operator, {axis: chosen}, *kept)


@converts("ReverseSequence")
def convert_reverse_sequence(importer: Importer, operator: Operator) -> str:
    """Reverse all of an axis, if the lengths that are given are all of it."""
    shape, lengths = importer.shape(operator.value()), operator.ints(1)
    batch = int(operator.attributes.get("batch_axis", 1))
    axis = _axis(operator, int(operator.attributes.get("time_axis", 0)), len(shape) + 1)
    if batch != 0 or lengths is None or set(lengths) != {shape[axis]}:
        raise operator.refuse(f"lengths {lengths} of {shape[axis]} steps", "all steps")
    return _taken(importer, operator, {axis: range(shape[axis])[::-1]})


@converts("Expand")
def convert_expand(importer: Importer, operator: Operator) -> str:
    shape, target = importer.shape(operator.value()), operator.constant(1)
    dims = [] if target is None else list(target.ravel())
    if len(dims) < len(shape) + 1:
        dims = [1] * (len(shape) + 1 - len(dims)) + dims
    first, *rest = dims
    if not (isinstance(first, Batch) or int(first) in (1, importer.batch)) or len(rest) != len(
        shape
    ):
        raise operator.refuse(f"to {shown(target)}", "the batch as it is, and as many axes")
    indices = {}
    for axis, (size, asked) in enumerate(zip(shape, map(int, rest), strict=True)):
        if asked not in (1, size):
            if size != 1:
                raise ModelFormatError(f"{operator.name}: {size} elements become {asked}")
            if math.prod(rest) > MAX_ELEMENTS:
                raise operator.refuse(f"to {shown(target)}", f"up to {MAX_ELEMENTS} elements")
            indices[axis] = [0] * asked
    return _taken(importer, operator, indices)


@converts("DepthToSpace")
def convert_depth_to_space(importer: Importer, operator: Operator) -> str:
    channels, height, width, block = _blocks(importer, operator)
    mode = operator.text("mode", "DCR")
    depth = channels // block**2
    if mode not in ("DCR", "CRD") or depth * block**2 != channels:
        raise operator.refuse(f"mode {mode}, {channels} channels", "DCR or CRD, whole blocks")
    first = (block, block, depth) if mode == "DCR" else (depth, block, block)
    perm = (2, 3, 0, 4, 1) if mode == "DCR" else (0, 3, 1, 4, 2)
    return importer.emit(
        operator,
        Reshape((*first, height, width)),
        Transpose(perm),
        Reshape((depth, height * block, width * block)),
    )


@converts("SpaceToDepth")
def convert_space_to_depth(importer: Importer, operator: Operator) -> str:
    channels, height, width, block = _blocks(importer, operator)
    mode = operator.text("mode", "DCR")
    if mode not in ("DCR", "CRD") or height % block or width % block:
        raise operator.refuse(
            f"mode {mode}, blocks of {block} of ({height}, {width})", "DCR or CRD, whole blocks"
        )
    return importer.emit(
        operator,
        Reshape((channels, height // block, block, width // block, block)),
        Transpose((2, 4, 0, 1, 3) if mode == "DCR" else (0, 2, 4, 1, 3)),
        Reshape((channels * block**2, height // block, width // block)),
    )


def _blocks(importer: Importer, operator: Operator) -> tuple[int, int, int, int]:
    shape, block = importer.shape(operator.value()), int(operator.attributes.get("blocksize", 0))
    if len(shape) != 3 or block < 1:
        raise operator.refuse(f"blocks of {block} of shape {shape}", "blocks of an image")
    return (*shape, block)


@converts("Pad")
def convert_pad(importer: Importer, operator: Operator) -> str:
    """Negative pads crop; the modes that repeat the image take its rows and columns again."""
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    mode = operator.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise operator.refuse(f"mode {mode}", "constant, edge, reflect or wrap")
    pads, value, axes = operator.ints(1), operator.weights(2), operator.ints(3)
    axes = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise operator.refuse(f"pads {pads}", "two for each axis")
    widths = dict.fromkeys(range(rank), (0, 0))
    for index, axis in enumerate(axes):
        widths[axis] = (pads[index], pads[index + len(axes)])
    if widths[0] != (0, 0):
        raise operator.refuse(f"pads {pads}", "padding of the image, not of the batch")
    behind = [widths[axis] for axis in range(1, rank)]
    added = [(max(before, 0), max(after, 0)) for before, after in behind]
    indices: dict[int, Sequence[int]] = {}
    for axis, (size, (before, after)) in enumerate(zip(shape, behind, strict=True)):
        if size + before + after < 1 or size + max(before, after) > MAX_ELEMENTS:
            raise operator.refuse(f"pads {pads} of shape {shape}", "pads that leave something")
        left = range(max(-before, 0), size - max(-after, 0))
        indices[axis] = left
        if mode != "constant" and any(added[axis]):
            if not left or (mode == "reflect" and max(added[axis]) >= len(left)):
                raise operator.refuse(f"pads {pads} of shape {shape}", f"{mode} within the image")
            indices[axis] = np.pad(np.array(left), added[axis], mode).tolist()  # type: ignore[call-overload]
    if mode != "constant" or not any(map(any, added)):
        return _taken(importer, operator, indices)
    fill = 0.0 if value is None or not value.size else float(value.ravel()[0])
    return _taken(importer, operator, indices, Pad(tuple(added), fill))

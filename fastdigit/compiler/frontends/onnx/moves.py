"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math

from fastdigit.compiler.frontends.onnx.batch import BatchAt, placed_at
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.shapes import shown, target_shape
from fastdigit.compiler.ops import Pad, Reshape, Transpose
from fastdigit.errors import ModelFormatError


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


@converts("Pad")
def convert_pad(importer: Importer, operator: Operator) -> str:
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    mode = operator.text("mode", "constant")
    if mode != "constant":
        raise operator.refuse(f"mode {mode}", "constant")
    pads, value, axes = operator.ints(1), operator.weights(2), operator.ints(3)
    axes = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise operator.refuse(f"pads {pads}", "two for each axis")
    widths = dict.fromkeys(range(rank), (0, 0))
    for index, axis in enumerate(axes):
        widths[axis] = (pads[index], pads[index + len(axes)])
    if widths[0] != (0, 0) or any(min(width) < 0 for width in widths.values()):
        raise operator.refuse(f"pads {pads}", "padding, not cropping, of the image")
    fill = 0.0 if value is None or not value.size else float(value.ravel()[0])
    return importer.emit(operator, Pad(tuple(widths[axis] for axis in range(1, rank)), fill))

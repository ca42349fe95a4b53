"""What the converters of layers share."""

from __future__ import annotations

from fastdigit.compiler.frontends.keras.network import Layer, describe
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, Ops
from fastdigit.compiler.ir import Array, Shape
from fastdigit.compiler.ops import Reshape, infer
from fastdigit.errors import ModelFormatError

__all__ = ["activated", "axis_of", "in_one_row", "result", "weight"]


def weight(layer: Layer, name: str, *shape: int | None) -> Array:
    """Return a variable that has to have a shape, in which None is any size."""
    found = layer.weights[name]
    if len(found.shape) != len(shape) or any(
        size not in (None, got) for size, got in zip(shape, found.shape, strict=True)
    ):
        wanted = tuple("?" if size is None else size for size in shape)
        raise ModelFormatError(
            f"layer {describe(layer)}: its {name} has shape {found.shape}, expected "
            f"{str(wanted).replace(repr('?'), '?')}"
        )
    return found


def result(layer: Layer, ops: Ops, shape: Shape) -> Shape:
    """Return the shape of what operators make of a value."""
    for op in ops:
        shape = infer(describe(layer), op, shape)
    return shape


def activated(layer: Layer, ops: Ops, shape: Shape) -> Ops:
    """Append the ``activation=`` of a layer to what it does."""
    activation = layer.options["activation"]
    if activation is None:
        return ops
    return [*ops, *CONVERTERS[activation.kind](activation, result(layer, ops, shape))]


def in_one_row(layer: Layer, ops: Ops, shape: Shape) -> Ops:
    """Apply operators of images to a sequence (steps, channels): an image of one row."""
    out = result(layer, ops, (1, *shape))
    return [Reshape((1, *shape)), *ops, Reshape(out[1:])]


def axis_of(layer: Layer, axis: int, shape: Shape) -> int:
    """Return which axis of an image a layer means, that counts the batch as 0."""
    if not -len(shape) <= axis <= len(shape) or axis == 0:
        raise layer.refuse(f"axis={axis} of {len(shape)} behind the batch", "one of these")
    return axis - 1 if axis > 0 else axis + len(shape)

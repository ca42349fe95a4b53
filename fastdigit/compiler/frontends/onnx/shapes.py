"""The shape that a Reshape asks for, with the batch size as a symbol."""

from __future__ import annotations

import math
from typing import Any

from fastdigit.compiler.frontends.onnx.constants import Batch, Constant
from fastdigit.compiler.frontends.onnx.registry import Operator
from fastdigit.compiler.ir import Shape
from fastdigit.errors import ModelFormatError

__all__ = ["shown", "target_shape"]


def target_shape(
    operator: Operator, source: Shape, batch: int | None, at: int = 0
) -> tuple[Shape, int] | None:
    """Return the shape for an image that a Reshape asks for, and where the batch is in it.

    Parameters
    ----------
    source
        Shape of the value for an image.
    batch
        The batch size if the model has a fixed one.
    at
        Where the batch is in the value.

    Returns
    -------
    tuple or None
        None if there is no axis that is the batch, with the same elements before and behind it as
        in the value.
    """
    target = operator.constant(1)
    if target is None:
        raise ModelFormatError(f"{operator.name}: the shape is missing")
    dims: list[Any] = list(target.ravel())
    if not operator.attributes.get("allowzero", 0):
        full = [*source[:at], Batch(), *source[at:]]
        dims = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(dims)]
    before, behind = math.prod(source[:at]), math.prod(source[at:])
    for axis, size in enumerate(dims):
        if not _may_be_batch(size, batch):
            continue
        free = [] if isinstance(size, Batch) or int(size) != -1 else [axis]
        left = _resolved(dims[:axis], before, bool(free))
        right = _resolved(dims[axis + 1 :], behind, bool(free))
        if left is not None and right is not None:
            return (*left, *right), axis
    if batch != 1:
        return None
    # Of one image, any axis of length 1 can be the batch.
    ones = [axis for axis, size in enumerate(dims) if not isinstance(size, Batch) and size == 1]
    for axis in ones[:1]:
        rest = _resolved([*dims[:axis], *dims[axis + 1 :]], before * behind, False)
        if rest is not None:
            return rest, axis
    return None


def _may_be_batch(size: Any, batch: int | None) -> bool:
    if isinstance(size, Batch):
        return size.multiple == 1
    return int(size) == -1 or (batch is not None and int(size) == batch)


def _resolved(dims: list[Any], elements: int, taken: bool) -> Shape | None:
    """Return sizes with so many elements, -1 among them resolved unless it is ``taken``."""
    if any(isinstance(size, Batch) for size in dims):
        return None
    sizes = [int(size) for size in dims]
    known = math.prod(size for size in sizes if size != -1)
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > (0 if taken else 1):
        return None
    if -1 in sizes and elements % known == 0:
        sizes = [elements // known if size == -1 else size for size in sizes]
    return tuple(sizes) if math.prod(sizes) == elements and -1 not in sizes else None


def shown(target: Constant | None) -> list[Any]:
    return [] if target is None else [_size(size) for size in target.ravel()]


def _size(size: Any) -> Any:
    if not isinstance(size, Batch):
        return int(size)
    return "N" if size.multiple == 1 else f"{size.multiple}N"

"""The shape that a Reshape asks for, with the batch size as a symbol."""

from __future__ import annotations

import math
from typing import Any

from fastdigit.compiler.frontends.onnx.constants import Batch, Constant
from fastdigit.compiler.frontends.onnx.registry import Operator
from fastdigit.compiler.ir import Shape
from fastdigit.errors import ModelFormatError

__all__ = ["shown", "target_shape"]


def target_shape(operator: Operator, source: Shape, batch: int | None) -> Shape | None:
    """Return the shape for an image that a Reshape asks for; None if the batch is not first."""
    target = operator.constant(1)
    if target is None:
        raise ModelFormatError(f"{operator.name}: the shape is missing")
    dims: list[Any] = list(target.ravel())
    if not operator.attributes.get("allowzero", 0):
        full = [Batch(), *source]
        dims = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(dims)]
    return _per_image(dims, math.prod(source), batch)


def _per_image(dims: list[Any], elements: int, batch: int | None) -> Shape | None:
    """Return the target of a reshape without its batch axis; None if that does not come first."""
    if not dims:
        return None
    first, rest = dims[0], dims[1:]
    if any(isinstance(size, Batch) for size in rest):
        return None
    sizes = [int(size) for size in rest]
    known = math.prod(size for size in sizes if size != -1)
    if any(size < 1 and size != -1 for size in sizes):
        return None
    if isinstance(first, Batch) or (batch is not None and int(first) == batch):
        if isinstance(first, Batch) and first.multiple != 1:
            return None
        if sizes.count(-1) == 1 and elements % known == 0:
            sizes = [elements // known if size == -1 else size for size in sizes]
        return tuple(sizes) if math.prod(sizes) == elements and -1 not in sizes else None
    if int(first) == -1 and -1 not in sizes and known == elements:
        return tuple(sizes)
    return None


def shown(target: Constant | None) -> list[Any]:
    return [] if target is None else [_size(size) for size in target.ravel()]


def _size(size: Any) -> Any:
    if not isinstance(size, Batch):
        return int(size)
    return "N" if size.multiple == 1 else f"{size.multiple}N"

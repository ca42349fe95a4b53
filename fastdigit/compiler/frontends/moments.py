"""Reductions over axes, and layer normalization that an exporter wrote in pieces.

Exporters take a layer normalization apart, each in its own way: Keras has it as ``x * r + (beta -
mean * r)`` with ``r = gamma / sqrt(variance + epsilon)``, PyTorch as ``(x - mean) / sqrt(...) *
gamma + beta``, with transposes in between. So no pattern of nodes is looked for: a mean, and what
arithmetic makes of it, are kept as numbers of a formula (:class:`Moments`) until an operator asks
for the value. The formula then says whether it is a normalization (Ba, Kiros and Hinton, "Layer
Normalization", 2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastdigit.compiler.axes import inverse, is_identity
from fastdigit.compiler.frontends.common import GraphBuilder
from fastdigit.compiler.ir import Array, Op, Pool, Shape
from fastdigit.compiler.limits import MAX_SMALL
from fastdigit.compiler.ops import Binary, Conv2D, Dense, LayerNorm, Pool2D, Reshape, Transpose
from fastdigit.errors import UnsupportedError

__all__ = ["Moments", "combined", "mean_of", "normalized", "placed", "reduction"]

Axes = tuple[int, ...]
Given = Array | str | None


def reduction(kind: str, shape: Shape, axes: Sequence[int]) -> list[Op]:
    """Return operators that reduce a value of ``shape`` over ``axes``, which stay with length 1.

    ``kind`` is "mean", "sum" or "max".
    """
    axes = tuple(sorted(axes))
    rank, size = len(shape), math.prod(shape[axis] for axis in axes)
    kept = tuple(axis for axis in range(rank) if axis not in axes)
    ops: list[Op]
    if rank == 3 and kind != "sum" and axes in ((0, 1), (1, 2)):
        window = (shape[axes[0]], shape[axes[1]])
        ops = [Pool2D(Pool("max" if kind == "max" else "average", window, window))]
        return ops if axes == (0, 1) else [Transpose((1, 2, 0)), *ops, Transpose((2, 0, 1))]
    stays = tuple(1 if axis in axes else shape[axis] for axis in range(rank))
    behind = math.prod(shape[axes[-1] + 1 :])
    together = axes == tuple(range(axes[0], axes[-1] + 1))
    if kind != "sum" and behind > 1 and together and size <= MAX_SMALL:
        # As an image whose width goes, where it lies: what is behind is its channels.
        pool = Pool2D(Pool("max" if kind == "max" else "average", (1, size), (1, size)))
        return [Reshape((math.prod(shape[: axes[0]]), size, behind)), pool, Reshape(stays)]
    move = kept + axes
    result = tuple(shape[axis] for axis in kept) + (1,) * len(axes)
    lead = math.prod(result)
    factors = np.full((size, 1), 1.0 / size if kind == "mean" else 1.0)
    if kind == "max":
        ops = [Reshape((lead, size, 1)), Pool2D(Pool("max", (1, size), (1, size)))]
    elif lead == 1:
        ops = [Reshape((size,)), Dense(factors)]
    else:
        ops = [Reshape((lead, 1, size)), Conv2D(factors[np.newaxis, np.newaxis])]
    return [*_transpose(move), *ops, Reshape(result), *_transpose(inverse(move))]


@dataclass(frozen=True, eq=False)
class Moments:
    """A value that depends on the mean of another one, as a formula.

    Parameters
    ----------
    name
        Of the node of the source that it comes from, for messages.
    source
        The value x; ``axes`` and all arrays are in the order of its axes, without the batch.
    shape
        Of ``source``.
    axes
        What means are over.
    perm
        Axis i of this value is axis ``perm[i]`` of ``source``.
    form
        With m the mean of x, and d the square root of its variance plus ``epsilon``: "sum" is
        ``factor * x + mean * m + shift``, "square" ``(x - m)^2``, "variance" its mean plus
        ``epsilon``, "deviation" d, "inverse" ``factor / d``, "scaled" ``(factor * x + mean * m) / d
        + shift``.
    factor, mean, shift
        Each broadcasts to ``shape``.
    """

    name: str
    source: str
    shape: Shape
    axes: Axes
    perm: Axes
    form: str
    factor: Array
    mean: Array
    shift: Array
    epsilon: float = 0.0

    @property
    def sizes(self) -> Shape:
        """This value's lengths, in the order of the source's axes."""
        whole = self.form == "square" or (self.form in ("sum", "scaled") and self.factor.any())
        own = self.shape if whole else self._reduced()
        arrays = (self.factor, self.mean, self.shift)
        return np.broadcast_shapes(own, *(array.shape for array in arrays))

    def _reduced(self) -> Shape:
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(self.shape))

    def times(self, number: Array | float) -> Moments:
        factor, mean, shift = (
            np.asarray(array * number) for array in (self.factor, self.mean, self.shift)
        )
        return replace(self, factor=factor, mean=mean, shift=shift)

    def aligned(self, constant: Array) -> Array | None:
        """Return a constant in the order of the source's axes; None if it doesn't broadcast."""
        rank = len(self.shape)
        dims = (1,) * (rank + 1 - constant.ndim) + constant.shape
        if len(dims) != rank + 1 or dims[0] != 1:
            return None
        there: Array = constant.reshape(dims[1:]).transpose(inverse(self.perm))
        if any(size not in (1, own) for size, own in zip(there.shape, self.shape, strict=True)):
            return None
        return there.astype(np.float64)

    def seen_as(self, perm: Axes) -> Moments | None:
        """Return this value in another order of axes, if that moves axes of length 1 only."""
        if all(
            mine == theirs or self.sizes[mine] == self.sizes[theirs] == 1
            for mine, theirs in zip(self.perm, perm, strict=True)
        ):
            return replace(self, perm=perm)
        return None


def mean_of(builder: GraphBuilder, name: str, value: str, axes: Sequence[int]) -> Moments:
    """Return the mean of a value over ``axes``, which stay with length 1."""
    source, perm = _origin(builder, value)
    shape = builder.shapes[source]
    there = tuple(sorted(perm[axis] for axis in axes))
    zero, one = _number(0.0, len(shape)), _number(1.0, len(shape))
    return Moments(name, source, shape, there, perm, "sum", zero, one, zero)


def normalized(
    builder: GraphBuilder, name: str, value: str, axes: Sequence[int], epsilon: float
) -> Moments:
    """Return a value minus its mean over ``axes``, divided by its deviation."""
    mean = mean_of(builder, name, value, axes)
    return replace(mean, form="scaled", factor=mean.mean, mean=-mean.mean, epsilon=epsilon)


def combined(
    builder: GraphBuilder,
    name: str,
    op_type: str,
    inputs: Sequence[Given | Moments],
    attributes: Mapping[str, Any],
    target: Shape | None = None,
) -> Moments | None:
    """Return the result of an operator as a formula; None if it has none.

    ``target`` is the shape that a Reshape asks for, without the batch.
    """
    operands = [given for given in inputs if given is not None]
    (like, *_) = [given for given in operands if isinstance(given, Moments)]
    result: Moments | None = None
    match op_type, operands:
        case "Identity", [Moments()]:
            result = like
        case "Neg", [Moments(form="sum" | "scaled" | "inverse")]:
            result = like.times(-1.0)
        case "Sqrt", [Moments(form="variance")]:
            result = replace(like, form="deviation")
        case "Reciprocal", [Moments(form="deviation")]:
            result = _inverse_of(like)
        case "ReduceMean", [Moments(form="square"), *_]:
            result = (
                replace(like, form="variance") if _same_axes(like, inputs, attributes) else None
            )
        case "Transpose", [Moments()]:
            order = list(attributes.get("perm") or [])
            if len(order) == len(like.perm) + 1 and order[0] == 0:
                perm = tuple(like.perm[axis - 1] for axis in order[1:])
                result = replace(like, perm=perm)
        case "Reshape", [Moments(), *_]:
            result = _reshaped(like, target)
        case "Pow", [Moments(), np.ndarray() as exponent] if exponent.size == 1:
            result = _power(like, float(exponent.ravel()[0]))
        case "Add" | "Sub" | "Mul" | "Div", [left, right]:
            result = _arithmetic(builder, op_type, left, right)
    return None if result is None else replace(result, name=name)


def placed(builder: GraphBuilder, moments: Moments) -> str:
    """Add the operators that compute a formula to the graph; return the value."""
    name, source, shape, axes = moments.name, moments.source, moments.shape, moments.axes

    def append(value: str, *ops: Op) -> str:
        for op in ops:
            value = builder.add(name, op, value)
        return value

    def scaled(value: str, kind: str, array: Array, neutral: float) -> str:
        if (array == neutral).all():
            return value
        result = np.broadcast_shapes(builder.shapes[value], array.shape)
        if result != builder.shapes[value]:
            raise UnsupportedError(
                f"{name}: a mean of shape {builder.shapes[value]} with a constant of shape "
                f"{array.shape}; supported is a constant that keeps the shape"
            )
        return append(value, Binary(kind, array))

    match moments.form:
        case "sum":
            value = append(source, *reduction("mean", shape, axes))
            less = bool(moments.factor.any() and (moments.mean == -1.0).all())
            value = value if less else scaled(value, "mul", moments.mean, 1.0)
            if moments.factor.any():
                given = scaled(source, "mul", moments.factor, 1.0)
                value = builder.combine(name, "sub" if less else "add", given, value)
            value = scaled(value, "add", moments.shift, 0.0)
        case "square" | "variance":
            value = append(source, *reduction("mean", shape, axes))
            value = builder.combine(name, "sub", source, value)
            value = builder.combine(name, "mul", value, value)
            if moments.form == "variance":
                value = append(value, *reduction("mean", shape, axes))
                value = scaled(value, "add", _number(moments.epsilon, len(shape)), 0.0)
        case "scaled" if (moments.factor == -moments.mean).all():
            value = _place_norm(moments, append, scaled)
        case _:
            raise UnsupportedError(
                f"{name}: divides by the square root of a variance; supported is layer "
                "normalization, (x - mean) / sqrt(variance + epsilon) * gamma + beta"
            )
    return append(value, *_transpose(moments.perm))


def _place_norm(moments: Moments, append: Any, scaled: Any) -> str:
    shape, axes = moments.shape, moments.axes
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    move = kept + axes
    moved = tuple(shape[axis] for axis in move)
    size = math.prod(shape[axis] for axis in axes)

    def vector(array: Array, neutral: float) -> Array | None:
        """The operand of LayerNorm, if it is the same for each mean."""
        if any(array.shape[axis] != 1 for axis in kept) or (array == neutral).all():
            return None
        own = tuple(shape[axis] if axis in axes else 1 for axis in range(len(shape)))
        return np.broadcast_to(array, own).transpose(move).ravel()

    gamma, beta = vector(moments.factor, 1.0), vector(moments.shift, 0.0)
    late = beta is None or (gamma is None and not (moments.factor == 1.0).all())
    norm = LayerNorm(moments.epsilon, gamma, None if late else beta)
    flat = (math.prod(moved[: len(kept)]), 1, size) if kept else (size,)
    several = len(axes) > 1 or len(shape) not in (1, 3)
    ops = [Reshape(flat), norm, Reshape(moved)] if several else [norm]
    value: str = append(moments.source, *_transpose(move), *ops, *_transpose(inverse(move)))
    if gamma is None:
        value = scaled(value, "mul", moments.factor, 1.0)
    return str(scaled(value, "add", moments.shift, 0.0) if late else value)


# ---- arithmetic --------------------------------------------------------------------------------


def _arithmetic(
    builder: GraphBuilder, op_type: str, left: Array | str | Moments, right: Array | str | Moments
) -> Moments | None:
    if isinstance(left, Moments) and left is right:
        return _power(left, 2.0) if op_type == "Mul" else None
    like = left if isinstance(left, Moments) else right
    assert isinstance(like, Moments)
    # A value is a formula too, if it is what the means are of.
    first, second = (_as_formula(builder, given, like) for given in (left, right))
    if first is None or second is None:
        return None
    if isinstance(first, Moments) and isinstance(second, Moments):
        if (matched := _matched(first, second)) is None:
            return None
        first, second = matched
        match op_type, first.form, second.form:
            case "Add" | "Sub", "sum" | "scaled", form if form == first.form:
                sign = 1.0 if op_type == "Add" else -1.0
                return _added(first, second.times(sign))
            case "Mul", "sum", "inverse":
                return _scaled(first, second)
            case "Mul", "inverse", "sum":
                return _scaled(second, first)
            case "Div", "sum", "deviation":
                return _scaled(first, _inverse_of(second))
        return None
    if isinstance(first, Moments):
        assert not isinstance(second, Moments)
        return _with_constant(op_type, first, second)
    assert isinstance(second, Moments)
    match op_type, second.form:
        case "Add" | "Mul", _:
            return _with_constant(op_type, second, first)
        case "Sub", "sum" | "scaled":
            return _with_constant("Add", second.times(-1.0), first)
        case "Div", "deviation":
            return _with_constant("Mul", _inverse_of(second), first)
    return None


def _with_constant(op_type: str, moments: Moments, constant: Array) -> Moments | None:
    match op_type, moments.form:
        case "Mul", "sum" | "scaled" | "inverse":
            return moments.times(constant)
        case "Div", "sum" | "scaled" | "inverse" if constant.all():
            return moments.times(1.0 / constant)
        case "Add" | "Sub", "sum" | "scaled":
            shift = moments.shift + (constant if op_type == "Add" else -constant)
            return replace(moments, shift=np.asarray(shift))
        case "Add", "variance" if constant.size and (constant == constant.flat[0]).all():
            return replace(moments, epsilon=moments.epsilon + float(constant.flat[0]))
    return None


def _as_formula(
    builder: GraphBuilder, given: Array | str | Moments, like: Moments
) -> Array | Moments | None:
    if isinstance(given, Moments):
        return given
    if not isinstance(given, str):
        if given.dtype.kind != "f" or not np.isfinite(given).all():
            return None
        return like.aligned(given)
    source, perm = _origin(builder, given)
    if source != like.source:
        return None
    zero, one = _number(0.0, len(perm)), _number(1.0, len(perm))
    form = replace(like, perm=perm, form="sum", factor=one, mean=zero, shift=zero, epsilon=0.0)
    return form


def _matched(first: Moments, second: Moments) -> tuple[Moments, Moments] | None:
    """Return both in the same order of axes, if they are about the same means."""
    if (first.source, first.axes) != (second.source, second.axes):
        return None
    if (moved := second.seen_as(first.perm)) is not None:
        return first, moved
    if (moved := first.seen_as(second.perm)) is not None:
        return moved, second
    return None


def _added(first: Moments, second: Moments) -> Moments | None:
    if first.form == "scaled" and first.epsilon != second.epsilon:
        return None
    return replace(
        first,
        factor=np.asarray(first.factor + second.factor),
        mean=np.asarray(first.mean + second.mean),
        shift=np.asarray(first.shift + second.shift),
    )


def _scaled(total: Moments, inverse: Moments) -> Moments | None:
    if total.shift.any():
        return None
    return replace(total.times(inverse.factor), form="scaled", epsilon=inverse.epsilon)


def _inverse_of(deviation: Moments) -> Moments:
    rank = len(deviation.shape)
    one, zero = _number(1.0, rank), _number(0.0, rank)
    return replace(deviation, form="inverse", factor=one, mean=zero, shift=zero)


def _power(moments: Moments, exponent: float) -> Moments | None:
    match moments.form, exponent:
        case "sum", 2.0:
            centred = (moments.factor == 1.0).all() and (moments.mean == -1.0).all()
            if centred and not moments.shift.any():
                rank = len(moments.shape)
                zero = _number(0.0, rank)
                return replace(moments, form="square", factor=zero, mean=zero)
        case "variance", 0.5:
            return replace(moments, form="deviation")
        case "variance", -0.5:
            return _inverse_of(replace(moments, form="deviation"))
    return None


def _reshaped(moments: Moments, target: Shape | None) -> Moments | None:
    """Return a reshaped value, if that only moves axes of length 1.

    Where several of them could have moved, the order is that of an image, NHWC or NCHW.
    """
    rank = len(moments.perm)
    if target is None or len(target) != rank:
        return None
    orders = [tuple(range(rank)), (2, 0, 1) if rank == 3 else (), moments.perm]
    for perm in orders:
        if len(perm) != rank or tuple(moments.sizes[axis] for axis in perm) != target:
            continue
        before = [axis for axis in moments.perm if moments.sizes[axis] != 1]
        if before == [axis for axis in perm if moments.sizes[axis] != 1]:
            return replace(moments, perm=perm)
    return None


def _same_axes(
    moments: Moments, inputs: Sequence[Given | Moments], attributes: Mapping[str, Any]
) -> bool:
    """Whether a ReduceMean goes over the axes of the mean, and keeps them."""
    given = inputs[1] if len(inputs) > 1 else None
    axes = [int(axis) for axis in given.ravel()] if isinstance(given, np.ndarray) else []
    if not axes or not attributes.get("keepdims", 1):
        return False
    rank = len(moments.perm) + 1
    behind = sorted(axis % rank - 1 for axis in axes)
    return behind[0] >= 0 and sorted(moments.perm[axis] for axis in behind) == list(moments.axes)


def _origin(builder: GraphBuilder, value: str) -> tuple[str, Axes]:
    """Return what a value is a transpose of, and the order of its axes; perhaps itself."""
    perm = tuple(range(len(builder.shapes[value])))
    while (node := builder.producers.get(value)) and isinstance(node.op, Transpose):
        perm = tuple(node.op.perm[axis] for axis in perm)
        value = node.inputs[0]
    return value, perm


def _number(number: float, rank: int) -> Array:
    return np.full((1,) * rank, number)


def _transpose(perm: Axes) -> list[Op]:
    return [Transpose(perm)] if not is_identity(perm) else []

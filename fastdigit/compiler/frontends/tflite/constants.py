"""Evaluates operators whose inputs are known: weights, and computations on shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.tflite.weights import Constant
from fastdigit.errors import UnsupportedError

__all__ = ["FOLDS", "fold", "slices"]

Inputs = Sequence[Any]
Options = Mapping[str, Any]

#: No operator may produce a constant with more elements than this.
MAX_ELEMENTS = 1 << 26


def fold(
    name: str, kind: str, inputs: Sequence[Constant | None], options: Options, outputs: int
) -> list[Constant]:
    """Return the outputs of an operator of :data:`FOLDS`.

    Raises
    ------
    UnsupportedError
        If the inputs do not suit the operator, or the result would be too big.
    """
    try:
        found = FOLDS[kind](inputs, options)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise UnsupportedError(f"{name}: cannot be computed ahead of time: {error}") from error
    results = found if isinstance(found, list) else [found]
    if any(result.size > MAX_ELEMENTS for result in results):
        raise UnsupportedError(f"{name}: would make a constant of more than {MAX_ELEMENTS} numbers")
    if len(results) != outputs:
        raise UnsupportedError(f"{name}: {outputs} outputs, expected {len(results)}")
    return results


def slices(
    shape: tuple[int, ...],
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    options: Options,
) -> tuple[list[slice], list[int]]:
    """Return what a STRIDED_SLICE takes of each axis, and the axes that it drops then.

    Raises
    ------
    ValueError
        If the numbers do not suit the shape, or a mask asks for what is not supported.
    """
    if options.get("EllipsisMask", 0) or options.get("NewAxisMask", 0) or options.get("Offset", 0):
        raise ValueError("an ellipsis, a new axis, or ends that are offsets")
    if not len(begin) == len(end) == len(strides) <= len(shape):
        raise ValueError(f"{len(begin)} axes of shape {shape}")
    taken, dropped = [], []
    for axis, size in enumerate(shape):
        if axis >= len(begin):
            taken.append(slice(0, size, 1))
            continue
        bit, step = 1 << axis, strides[axis]
        if step == 0:
            raise ValueError("a stride of 0")
        if options.get("ShrinkAxisMask", 0) & bit:
            index = begin[axis] + size if begin[axis] < 0 else begin[axis]
            if not 0 <= index < size:
                raise ValueError(f"index {begin[axis]} of {size}")
            taken.append(slice(index, index + 1, 1))
            dropped.append(axis)
            continue
        first = None if options.get("BeginMask", 0) & bit else begin[axis]
        last = None if options.get("EndMask", 0) & bit else end[axis]
        start, stop, step = slice(first, last, step).indices(size)
        # A stop before the first element is no index that Python would read so.
        taken.append(slice(start, None if stop < 0 else stop, step))
    return taken, dropped


def _strided_slice(inputs: Inputs, options: Options) -> Constant:
    data = inputs[0]
    begin, end, strides = (inputs[index].ravel().tolist() for index in (1, 2, 3))
    taken, dropped = slices(data.shape, begin, end, strides, options)
    return np.asarray(np.squeeze(data[tuple(taken)], axis=tuple(dropped)))


def _slice(inputs: Inputs, _options: Options) -> Constant:
    data, begin, size = inputs[0], inputs[1].ravel().tolist(), inputs[2].ravel().tolist()
    index = tuple(
        slice(first, None if count == -1 else first + count)
        for first, count in zip(begin, size, strict=True)
    )
    return np.asarray(data[index])


def _bounded(shape: Sequence[int]) -> list[int]:
    sizes = [int(size) for size in shape]
    if min(sizes, default=1) < 0 or math.prod(sizes) > MAX_ELEMENTS:
        raise ValueError(f"a constant of shape {tuple(sizes)}")
    return sizes


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Options], Constant]:
    def run(inputs: Inputs, options: Options) -> Constant:
        left, right = inputs
        _bounded(np.broadcast_shapes(left.shape, right.shape))
        result = np.asarray(function(left, right)).astype(np.result_type(left, right))
        if options.get("FusedActivationFunction", 0):
            raise ValueError("with an activation")
        return result

    return run


def _divided(left: Any, right: Any) -> Any:
    return np.trunc(left / right) if left.dtype.kind in "iu" else left / right


def _pack(inputs: Inputs, options: Options) -> Constant:
    result: Constant = np.stack(inputs, axis=options.get("Axis", 0))
    return result


def _concatenate(inputs: Inputs, options: Options) -> Constant:
    result: Constant = np.concatenate(inputs, axis=options.get("Axis", 0))
    return result


def _gather(inputs: Inputs, options: Options) -> Constant:
    if options.get("BatchDims", 0):
        raise ValueError("with batch dimensions")
    return np.asarray(np.take(inputs[0], inputs[1].astype(np.int64), options.get("Axis", 0)))


def _cast(inputs: Inputs, options: Options) -> Constant:
    # What is computed with integers are shapes; of which width they are does not matter.
    kinds = {0: np.float32, 1: np.float32, 2: np.int64, 4: np.int64}
    return np.asarray(inputs[0].astype(kinds[options["OutDataType"]]))


def _reshape(inputs: Inputs, options: Options) -> Constant:
    target = inputs[1].ravel() if len(inputs) > 1 else options["NewShape"]
    return np.asarray(inputs[0].reshape([int(size) for size in target]))


def _squeeze(inputs: Inputs, options: Options) -> Constant:
    return np.asarray(np.squeeze(inputs[0], axis=options.get("SqueezeDims") or None))


def _reduced(function: Callable[..., Any]) -> Callable[[Inputs, Options], Constant]:
    def run(inputs: Inputs, options: Options) -> Constant:
        axes = tuple(int(axis) for axis in inputs[1].ravel())
        kept = bool(options.get("KeepDims", 0))
        result = function(inputs[0], axis=axes, keepdims=kept)
        return np.asarray(result, dtype=inputs[0].dtype)

    return run


def _unary(function: Callable[[Any], Any]) -> Callable[[Inputs, Options], Constant]:
    return lambda inputs, _options: np.asarray(function(inputs[0]))


FOLDS: Mapping[str, Callable[[Inputs, Options], Any]] = {
    "ADD": _binary(np.add),
    "CAST": _cast,
    "CONCATENATION": _concatenate,
    "DEQUANTIZE": _unary(np.asarray),  # constants are dequantised as they are read
    "DIV": _binary(_divided),
    "EXPAND_DIMS": lambda inputs, _options: np.expand_dims(inputs[0], int(inputs[1].ravel()[0])),
    "FILL": lambda inputs, _options: np.full(_bounded(inputs[0].ravel()), inputs[1]),
    "FLOOR_DIV": _binary(np.floor_divide),
    "GATHER": _gather,
    "MAXIMUM": _binary(np.maximum),
    "MINIMUM": _binary(np.minimum),
    "MUL": _binary(np.multiply),
    "NEG": _unary(np.negative),
    "PACK": _pack,
    "REDUCE_MAX": _reduced(np.max),
    "REDUCE_PROD": _reduced(np.prod),
    "RESHAPE": _reshape,
    "RSQRT": _unary(lambda x: 1 / np.sqrt(x)),
    "SHAPE": lambda inputs, _options: np.array(inputs[0].shape, dtype=np.int64),
    "SLICE": _slice,
    "SQRT": _unary(np.sqrt),
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(np.subtract),
    "SUM": _reduced(np.sum),
    "TRANSPOSE": lambda inputs, _options: np.transpose(inputs[0], inputs[1].ravel().tolist()),
    "UNPACK": lambda inputs, options: list(np.moveaxis(inputs[0], options.get("Axis", 0), 0)),
}

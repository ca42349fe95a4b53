"""Evaluates the operators of an ONNX graph whose inputs are known: weights, and computations on
shapes.

The batch size is unknown, so shapes are object arrays in which it appears as a :class:`Batch`.
Semantics: ONNX operator specification (https://onnx.ai/onnx/operators/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import UnsupportedError

__all__ = ["EVALUATORS", "Batch", "Constant", "evaluate"]

Constant = NDArray[Any]
Attributes = Mapping[str, Any]
Inputs = Sequence[Constant | None]

#: No operator may produce a constant with more elements than this.
MAX_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Batch:
    """``multiple`` times the batch size."""

    multiple: int = 1

    def __mul__(self, other: object) -> Batch:
        if isinstance(other, int | np.integer):
            return Batch(self.multiple * int(other))
        return NotImplemented

    __rmul__ = __mul__


def evaluate(op_type: str, inputs: Inputs, attributes: Attributes) -> Constant:
    """Return the output of an operator of :data:`EVALUATORS`.

    Raises
    ------
    UnsupportedError
        If the inputs do not suit the operator, or the result would be too big.
    """
    try:
        result = EVALUATORS[op_type](inputs, attributes)
    except (ArithmeticError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnsupportedError(f"cannot be computed ahead of time: {error}") from error
    if result.size > MAX_ELEMENTS:
        raise UnsupportedError(f"would make a constant of {result.size} elements")
    return result


def _ints(constant: Constant | None) -> list[int]:
    if constant is None:
        raise ValueError("an input is missing")
    return [int(value) for value in constant.ravel()]


def _first(inputs: Inputs) -> Constant:
    if not inputs or inputs[0] is None:
        raise ValueError("the first input is missing")
    return inputs[0]


def _cast(inputs: Inputs, attributes: Attributes) -> Constant:
    from onnx import TensorProto, helper

    data, kind = _first(inputs), attributes["to"]
    if data.dtype == object:  # a shape: integers, whatever their width
        if kind not in (TensorProto.INT32, TensorProto.INT64):
            raise ValueError("the batch size becomes a number that is not an integer")
        return data
    return data.astype(helper.tensor_dtype_to_np_dtype(kind))


def _gather(inputs: Inputs, attributes: Attributes) -> Constant:
    indices = inputs[1]
    assert indices is not None
    return np.asarray(np.take(_first(inputs), indices.astype(np.int64), attributes.get("axis", 0)))


def _slice(inputs: Inputs, _attributes: Attributes) -> Constant:
    data = _first(inputs)
    starts, ends = _ints(inputs[1]), _ints(inputs[2])
    axes = _ints(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = _ints(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # An end before the first element, for a negative step, is INT_MIN: no Python index says so.
        stop = None if step < 0 and end < -data.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return data[tuple(index)]


def _concat(inputs: Inputs, attributes: Attributes) -> Constant:
    arrays = [array for array in inputs if array is not None]
    if sum(array.size for array in arrays) > MAX_ELEMENTS:
        raise ValueError("too many elements")
    return np.concatenate(arrays, axis=attributes["axis"])


def _squeeze(inputs: Inputs, _attributes: Attributes) -> Constant:
    axes = tuple(_ints(inputs[1])) if len(inputs) > 1 and inputs[1] is not None else None
    return np.squeeze(_first(inputs), axis=axes)


def _unsqueeze(inputs: Inputs, _attributes: Attributes) -> Constant:
    return np.expand_dims(_first(inputs), tuple(_ints(inputs[1])))


def _reshape(inputs: Inputs, attributes: Attributes) -> Constant:
    data, shape = _first(inputs), _ints(inputs[1])
    if not attributes.get("allowzero", 0):
        shape = [data.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return data.reshape(shape)


def _transpose(inputs: Inputs, attributes: Attributes) -> Constant:
    return np.transpose(_first(inputs), attributes.get("perm"))


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> Constant:
    from onnx import numpy_helper

    shape = _ints(inputs[0])
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("too many elements")
    if "value" not in attributes:
        return np.zeros(shape, dtype=np.float32)
    value = numpy_helper.to_array(attributes["value"]).ravel()
    return np.full(shape, value[0], dtype=value.dtype)


def _reduce_prod(inputs: Inputs, attributes: Attributes) -> Constant:
    data = _first(inputs)
    axes = attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = _ints(inputs[1])
    keepdims = bool(attributes.get("keepdims", 1))
    axis = tuple(axes) if axes is not None else None
    return np.asarray(np.prod(data, axis=axis, keepdims=keepdims), dtype=data.dtype)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    def run(inputs: Inputs, _attributes: Attributes) -> Constant:
        left, right = _first(inputs), inputs[1]
        assert right is not None
        shape = np.broadcast_shapes(left.shape, right.shape)
        if math.prod(shape) > MAX_ELEMENTS:
            raise ValueError("too many elements")
        return np.asarray(function(left, right))

    return run


def _divide(left: Constant, right: Constant) -> Constant:
    if np.issubdtype(left.dtype, np.integer):
        quotient: Constant = np.trunc(left / right).astype(left.dtype)
        return quotient
    return np.asarray(left / right)


def _unary(function: Callable[[Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    return lambda inputs, _attributes: np.asarray(function(_first(inputs)))


EVALUATORS: Mapping[str, Callable[[Inputs, Attributes], Constant]] = {
    "Add": _binary(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _binary(_divide),
    "Gather": _gather,
    "Identity": _unary(np.asarray),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Reciprocal": _unary(np.reciprocal),
    "ReduceProd": _reduce_prod,
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _unary(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

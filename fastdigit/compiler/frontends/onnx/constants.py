"""Evaluates the operators of an ONNX graph whose inputs are known: weights, and computations on
shapes.

The batch size is unknown, so shapes are object arrays in which it appears as a :class:`Batch`.
Semantics: ONNX operator specification (https://onnx.ai/onnx/operators/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import ModelFormatError, UnsupportedError

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.onnx.registry import Operator

__all__ = [
    "DTYPES",
    "EVALUATORS",
    "FLOATS",
    "Batch",
    "Constant",
    "Evaluator",
    "PerImage",
    "array_of",
    "constant_of",
    "vector_of",
]

Constant = NDArray[Any]
Attributes = Mapping[str, Any]
Inputs = Sequence[Constant | None]

#: Bytes that all operators may make together, and that they may read: so many, and so many times
#: what the file stores.
MAX_MADE, MADE_BY_STORED = 1 << 28, 8
MAX_READ, READ_BY_STORED = 1 << 30, 32

#: Types that an input may have, by their numbers in a TensorProto.
DTYPES = {1: "float32", 2: "uint8", 10: "float16", 11: "float64", 16: "bfloat16"}
#: Those of numbers that are computed with, as float32.
FLOATS = tuple(number for number, name in DTYPES.items() if "float" in name)


@dataclass(frozen=True)
class Batch:
    """``multiple`` times the batch size."""

    multiple: int = 1

    def __mul__(self, other: object) -> Batch:
        if isinstance(other, int | np.integer):
            return Batch(self.multiple * int(other))
        return NotImplemented

    __rmul__ = __mul__

    def __add__(self, other: object) -> Batch:
        return self if isinstance(other, int | np.integer) and other == 0 else NotImplemented

    __radd__ = __add__

    def __floordiv__(self, other: object) -> Batch:
        if not isinstance(other, int | np.integer) or other < 1 or self.multiple % other:
            return NotImplemented
        return Batch(self.multiple // int(other))


class PerImage(np.ndarray[Any, Any]):
    """A constant that is the same for each image: its batch axis has length 1 here."""


#: Operators that keep the batch axis of a constant.
_KEEP_BATCH = frozenset(
    {"Add", "Cast", "Div", "Identity", "Mul", "Slice", "Sub", "Transpose", "Unsqueeze"}
)


class Evaluator:
    """Computes constants, within limits for all of a model together.

    Parameters
    ----------
    stored
        Bytes of the constants that the model stores.
    """

    def __init__(self, stored: int = 0) -> None:
        self._made = 0
        self._read = 0
        self._may_make = MAX_MADE + MADE_BY_STORED * stored
        self._may_read = MAX_READ + READ_BY_STORED * stored

    def evaluate(
        self, op_type: str, inputs: Inputs, attributes: Attributes, outputs: int = 1
    ) -> list[Constant]:
        """Return the outputs of an operator of :data:`EVALUATORS`.

        Raises
        ------
        UnsupportedError
            If the inputs do not suit the operator, or the result would be too big: before it is
            made.
        """
        self._read += sum(given.nbytes for given in inputs if given is not None)
        repeated = any(isinstance(given, PerImage) for given in inputs)
        if repeated and op_type not in _KEEP_BATCH:
            raise UnsupportedError("works on a constant with a batch axis")
        try:
            self._made += _bytes_made(op_type, inputs, attributes)
            if self._made > self._may_make or self._read > self._may_read:
                raise UnsupportedError(
                    f"with what comes before it, makes constants of more than {self._may_make} "
                    f"bytes, or reads more than {self._may_read}, ahead of time: store what it "
                    "makes in the file"
                )
            with np.errstate(all="ignore"):  # weights that are not finite are refused
                if op_type == "Split":
                    results = _split(inputs, attributes, outputs)
                else:
                    results = [EVALUATORS[op_type](inputs, attributes)]
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnsupportedError(f"cannot be computed ahead of time: {error}") from error
        except MemoryError as error:
            raise UnsupportedError("would need too much memory ahead of time") from error
        return [result.view(PerImage) for result in results] if repeated else results


#: Bytes of a result that none of its inputs tells.
_NUMBER = 8


def _bytes_made(op_type: str, inputs: Inputs, attributes: Attributes) -> int:
    """Return how many bytes of memory an operator takes to compute, or more."""
    given = [array for array in inputs if array is not None]
    if any(array.dtype.kind not in "biufO" for array in given):
        raise ValueError(f"numbers of type {', '.join(str(array.dtype) for array in given)}")
    size = max((array.itemsize for array in given), default=_NUMBER)
    match op_type:
        case "Concat" | "Gather":
            if op_type == "Concat":
                return size * sum(array.size for array in given)
            data, indices = _first(inputs), _given(inputs, 1)
            each = data.size // max(data.shape[int(attributes.get("axis", 0))], 1)
            return int(indices.size * (size * each + _NUMBER))
        case "ConstantOfShape":
            return _NUMBER * math.prod(_for_an_image(_first(inputs))[0])
        case "Expand":
            sizes = _for_an_image(_given(inputs, 1))[0]
            return size * math.prod(np.broadcast_shapes(_first(inputs).shape, tuple(sizes)))
        case "Range":
            start, limit, delta = (_given(inputs, index).ravel()[0] for index in range(3))
            count: int = math.ceil((limit - start) / delta)
            return _NUMBER * max(0, count)
        case "Tile":
            return size * _first(inputs).size * math.prod(map(abs, _ints(inputs[1])))
        case "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Transpose" | "Unsqueeze":
            return _first(inputs).nbytes if op_type in ("Flatten", "Reshape") else 0
        case "Size" | "Slice" | "Split":
            return 0
        case "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum":
            return _first(inputs).nbytes
        case _:  # each element of its own, with what is made on the way
            shape = np.broadcast_shapes(*(array.shape for array in given))
            made = 3 if op_type == "Div" else 2 if op_type in ("And", "Or", "Pow", "Where") else 1
            return made * max(size, _NUMBER if op_type == "Cast" else 1) * math.prod(shape)


def array_of(name: str, tensor: Any) -> Constant:
    """Return the numbers of a ``TensorProto``; those of half precision as float32.

    Raises
    ------
    ModelFormatError
        If its data is not what its type and shape say.
    """
    from onnx import numpy_helper

    try:
        return _widened(np.asarray(numpy_helper.to_array(tensor)))
    except Exception as error:  # wrong lengths, unknown types
        raise ModelFormatError(f"{name}: {error}") from error


def constant_of(operator: Operator) -> Constant:
    """Return the value of a Constant."""
    attributes = operator.attributes
    if "value" in attributes:
        return array_of(operator.name, attributes["value"])
    for key, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for name in (key, f"{key}s"):
            if name in attributes:
                return np.array(attributes[name], dtype=dtype)
    raise operator.refuse(f"attribute {', '.join(attributes)}", "a tensor or numbers")


def vector_of(sizes: Sequence[Any]) -> Constant:
    """Return sizes, in which the batch may be, as a vector."""
    if any(isinstance(size, Batch) for size in sizes):
        vector = np.empty(len(sizes), dtype=object)
        vector[:] = sizes
        return vector
    return np.array(sizes, dtype=np.int64)


def _widened(array: Constant) -> Constant:
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def _ints(constant: Constant | None) -> list[int]:
    if constant is None:
        raise ValueError("an input is missing")
    return [int(value) for value in constant.ravel()]


def _given(inputs: Inputs, index: int) -> Constant:
    given = inputs[index] if index < len(inputs) else None
    if given is None:
        raise ValueError(f"input {index} is missing")
    return given


def _first(inputs: Inputs) -> Constant:
    return _given(inputs, 0)


def _cast(inputs: Inputs, attributes: Attributes) -> Constant:
    from onnx import TensorProto, helper

    data, kind = _first(inputs), attributes["to"]
    if data.dtype == object:  # a shape: integers, whatever their width
        if kind not in (TensorProto.INT32, TensorProto.INT64):
            raise ValueError("the batch size becomes a number that is not an integer")
        return data
    if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return data.astype(np.float32)
    if kind in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise ValueError(f"becomes {TensorProto.DataType.Name(kind)}, not numbers")
    return data.astype(helper.tensor_dtype_to_np_dtype(kind))


def _gather(inputs: Inputs, attributes: Attributes) -> Constant:
    data, indices, axis = _first(inputs), _given(inputs, 1), int(attributes.get("axis", 0))
    return np.asarray(np.take(data, indices.astype(np.int64), axis))


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
    shape, repeated = _for_an_image(_first(inputs))
    value = np.zeros(1, np.float32)
    if "value" in attributes:
        value = array_of("the value", attributes["value"]).ravel()
    result = np.full(shape, value[0], dtype=value.dtype)
    return result.view(PerImage) if repeated else result


def _for_an_image(shape: Constant) -> tuple[list[int], bool]:
    """Return a shape with a batch of 1, and whether it has a batch axis."""
    sizes = [1 if size == Batch() else size for size in shape.ravel()]
    return _ints(np.array(sizes)), any(size == Batch() for size in shape.ravel())


def _expand(inputs: Inputs, _attributes: Attributes) -> Constant:
    data = _first(inputs)
    shape, repeated = _for_an_image(_given(inputs, 1))
    result = np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape)))
    return result.view(PerImage) if repeated else result


def _flatten(inputs: Inputs, attributes: Attributes) -> Constant:
    data, axis = _first(inputs), int(attributes.get("axis", 1))
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _range(inputs: Inputs, _attributes: Attributes) -> Constant:
    start, limit, delta = (_given(inputs, index).ravel()[0] for index in range(3))
    return np.arange(start, limit, delta, dtype=_first(inputs).dtype)


def _size(inputs: Inputs, _attributes: Attributes) -> Constant:
    return np.array(_first(inputs).size, dtype=np.int64)


def _tile(inputs: Inputs, _attributes: Attributes) -> Constant:
    data, repeats = _first(inputs), _ints(inputs[1])
    if len(repeats) != data.ndim or min(repeats, default=0) < 0:
        raise ValueError(f"repeats {repeats}")
    return np.tile(data, repeats)


def _where(inputs: Inputs, _attributes: Attributes) -> Constant:
    condition, left, right = (_given(inputs, index) for index in range(3))
    return np.where(condition.astype(bool), left, right)


def _split(inputs: Inputs, attributes: Attributes, outputs: int) -> list[Constant]:
    data, axis = _first(inputs), int(attributes.get("axis", 0))
    given = _ints(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
    lengths = split_lengths(data.shape[axis], outputs, given)
    return np.split(data, np.cumsum(lengths)[:-1], axis)


def split_lengths(size: int, outputs: int, given: Sequence[int] | None) -> list[int]:
    """Return the lengths of the parts of an axis; ValueError if they are not its size."""
    lengths = list(given) if given is not None else [-(-size // outputs)] * (outputs - 1)
    lengths += [size - sum(lengths)] if given is None else []
    if len(lengths) != outputs or min(lengths) < 1 or sum(lengths) != size:
        raise ValueError(f"{outputs} parts of lengths {lengths} of an axis of {size}")
    return lengths


def _reduction(
    function: Callable[..., Any],
) -> Callable[[Inputs, Attributes], Constant]:
    def run(inputs: Inputs, attributes: Attributes) -> Constant:
        data = _first(inputs)
        axes = _ints(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return data
        keepdims = bool(attributes.get("keepdims", 1))
        axis = tuple(axes) if axes else None
        return np.asarray(function(data, axis=axis, keepdims=keepdims), dtype=data.dtype)

    return run


def _extremum(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    def run(inputs: Inputs, _attributes: Attributes) -> Constant:
        result = _first(inputs)
        for index in range(1, len(inputs)):
            other = _given(inputs, index)
            result = np.asarray(function(result, other))
        return result

    return run


def _predicate(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    compute = _binary(function)
    return lambda inputs, attributes: compute(inputs, attributes).astype(bool)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    def run(inputs: Inputs, _attributes: Attributes) -> Constant:
        left, right = _first(inputs), _given(inputs, 1)
        return np.asarray(function(left, right))

    return run


def _divide(left: Constant, right: Constant) -> Constant:
    if left.dtype == object:  # the batch size, by what divides its multiple
        return np.asarray(np.floor_divide(left, right))
    if np.issubdtype(left.dtype, np.integer):
        if not right.all():
            raise ZeroDivisionError("a division by zero")
        quotient: Constant = np.trunc(left / right).astype(left.dtype)
        return quotient
    return np.asarray(left / right)


def _unary(function: Callable[[Any], Any]) -> Callable[[Inputs, Attributes], Constant]:
    return lambda inputs, _attributes: np.asarray(function(_first(inputs)))


def _power(left: Constant, right: Constant) -> Constant:
    return np.power(left, right).astype(left.dtype)


#: By the name of the operator; Split, which has several outputs, is not a function of one.
EVALUATORS: Mapping[str, Callable[[Inputs, Attributes], Constant]] = {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "And": _predicate(np.logical_and),
    "Cast": _cast,
    "Ceil": _unary(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _binary(_divide),
    "Equal": _predicate(np.equal),
    "Exp": _unary(np.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _unary(np.floor),
    "Gather": _gather,
    "Greater": _predicate(np.greater),
    "GreaterOrEqual": _predicate(np.greater_equal),
    "Identity": _unary(np.asarray),
    "Less": _predicate(np.less),
    "LessOrEqual": _predicate(np.less_equal),
    "Log": _unary(np.log),
    "Max": _extremum(np.maximum),
    "Min": _extremum(np.minimum),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _predicate(np.logical_or),
    "Pow": _binary(_power),
    "Range": _range,
    "Reciprocal": _unary(np.reciprocal),
    "ReduceMax": _reduction(np.max),
    "ReduceMean": _reduction(np.mean),
    "ReduceMin": _reduction(np.min),
    "ReduceProd": _reduction(np.prod),
    "ReduceSum": _reduction(np.sum),
    "Reshape": _reshape,
    "Size": _size,
    "Slice": _slice,
    "Split": lambda inputs, attributes: _split(inputs, attributes, 1)[0],
    "Sqrt": _unary(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}

"""Values whose batch is not their first axis, such as sequences with their steps first.

In the graph, values have no batch; so where it is in the source is only remembered, and operators
are read as if it came first: what they say of axes and constants is moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fastdigit.compiler.frontends.onnx.constants import Constant
from fastdigit.compiler.frontends.onnx.registry import CONVERTERS, Operator

__all__ = ["BatchAt", "batch_first", "placed_at"]


@dataclass(frozen=True)
class BatchAt:
    """A value of the graph that the source has with its batch as axis ``axis``, which is not 0."""

    value: str
    axis: int


def placed_at(value: str, axis: int) -> str | BatchAt:
    """Return a value with its batch as an axis."""
    return BatchAt(value, axis) if axis else value


#: Operators with an attribute that is an axis, and its default.
_WITH_AXIS = {
    "Concat": None,
    "Gather": 0,
    "Hardmax": -1,
    "LogSoftmax": -1,
    "Softmax": -1,
    "Split": 0,
}
#: Operators that compute each element from itself, or from those at the same place.
_ELEMENTWISE = frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"})
_NOTHING = frozenset({"Cast", "Dropout", "Identity"})


def batch_first(operator: Operator, rank: int) -> tuple[Operator, int]:
    """Return an operator that does the same to a value with its batch first, and the axis at which
    the batch of the result is in the source.

    Parameters
    ----------
    operator
        Whose values have ``rank`` axes, with the batch as axis ``operator.batch``.
    """
    at, op_type = operator.batch, operator.op_type
    attributes = dict(operator.attributes)

    def moved(axis: int) -> int:
        axis = axis + rank if axis < 0 else axis
        return 0 if axis == at else axis + 1 if axis < at else axis

    if op_type in _WITH_AXIS:
        default = _WITH_AXIS[op_type]
        axis = int(attributes["axis"] if default is None else attributes.get("axis", default))
        axis = axis + rank if axis < 0 else axis
        attributes["axis"] = moved(axis)
        index = operator.constant(1) if op_type == "Gather" else None
        gone = int(index is not None and index.ndim == 0 and axis < at)
        return replace(operator, attributes=attributes, batch=0), at - gone
    if op_type == "Slice" or op_type.startswith("Reduce"):
        place = 3 if op_type == "Slice" else 1
        axes = operator.ints(place)
        if axes is None:
            count = len(operator.ints(1) or ()) if op_type == "Slice" else rank
            axes = list(range(count))
        axes = [axis + rank if axis < 0 else axis for axis in axes]
        there = np.array([moved(axis) for axis in axes], dtype=np.int64)
        gone = 0
        if op_type != "Slice" and not attributes.get("keepdims", 1):
            gone = sum(axis < at for axis in axes)
        return replace(operator.with_inputs({place: there}), batch=0), at - gone
    if op_type in ("MatMul", "Gemm") and at < rank - 1:
        return replace(operator, batch=0), at
    known = CONVERTERS.get(op_type)
    if op_type in _ELEMENTWISE:
        inputs: Mapping[int, Constant] = {
            index: _reordered(operator, given, rank)
            for index, given in enumerate(operator.inputs)
            if isinstance(given, np.ndarray) and not (op_type == "Pow" and given.size == 1)
        }
        return replace(operator.with_inputs(inputs), batch=0), at
    if op_type in _NOTHING or (known is not None and known.elementwise):
        return replace(operator, batch=0), at
    raise operator.refuse(f"a value with its batch as axis {at}", "one with its batch first")


def _reordered(operator: Operator, constant: Constant, rank: int) -> Constant:
    """Return a constant that broadcasts with a value whose batch is first."""
    if constant.ndim > rank or constant.ndim <= rank - 1 - operator.batch:
        return constant
    whole = constant.reshape(*[1] * (rank - constant.ndim), *constant.shape)
    return np.moveaxis(whole, operator.batch, 0)

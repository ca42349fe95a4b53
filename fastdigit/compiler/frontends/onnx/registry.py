"""The operators of ONNX that are read: a converter each, found by the name of the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from fastdigit.compiler.frontends.onnx.constants import Constant
from fastdigit.compiler.frontends.operator import OperatorBase
from fastdigit.compiler.ir import Array, Shape

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.moments import Moments
    from fastdigit.compiler.frontends.onnx.batch import BatchAt
    from fastdigit.compiler.frontends.onnx.importer import Importer

__all__ = [
    "CONVERTERS",
    "Convert",
    "Converter",
    "Operator",
    "aligned",
    "converts",
    "supported_operators",
]


@dataclass(frozen=True, eq=False)
class Operator(OperatorBase[str]):
    """An ONNX node with its inputs looked up: constants, names of IR values, or None.

    ``outputs`` is how many results it has, and ``batch`` the axis that is the batch of its values.
    """

    attributes: Mapping[str, Any]
    outputs: int = 1
    batch: int = 0

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        given: bytes = self.attributes.get(name, default.encode())
        return given.decode(errors="replace")

    def with_inputs(self, given: Mapping[int, Constant | str | None]) -> Operator:
        """Return it with other inputs at these places, and none where there was no place."""
        inputs = [*self.inputs, *[None] * (max(given, default=-1) + 1 - len(self.inputs))]
        for index, value in given.items():
            inputs[index] = value
        return replace(self, inputs=tuple(inputs))


def aligned(operator: Operator, constant: Array, shape: Shape) -> Array:
    """Return a constant with the axes of a value of ``shape``, without the batch."""
    rank = len(shape) + 1
    dims = (1,) * (rank - constant.ndim) + constant.shape
    if len(dims) != rank or dims[0] != 1:
        raise operator.refuse(
            f"a constant of shape {constant.shape} with an image of shape {shape}",
            "one of at most its rank, the same for each image",
        )
    if any(b not in (1, a) for a, b in zip(shape, dims[1:], strict=True)):
        raise operator.refuse(
            f"a constant of shape {constant.shape} enlarges an image of shape {shape}",
            "a constant that keeps the shape",
        )
    return constant.reshape(dims[1:])


#: What an operator results in; several, if it has several outputs that may be read.
Result: TypeAlias = "str | Moments | BatchAt | tuple[str | BatchAt, ...]"
Convert: TypeAlias = "Callable[[Importer, Operator], Result]"


@dataclass(frozen=True)
class Converter:
    """How an operator is read.

    Parameters
    ----------
    convert
        Appends what the operator does to the graph; returns the value of its first output.
    domain
        Of the operator; "" is ONNX's own.
    by_row
        Whether it computes each row of a matrix from itself, or with a constant that is the same
        for each row.
    anywhere
        Whether it reads values whose batch is not the first axis: ``Operator.batch``.
    elementwise
        Whether it computes each element from itself alone.
    """

    convert: Convert
    domain: str
    by_row: bool
    anywhere: bool
    elementwise: bool


#: By the name of the operator.
CONVERTERS: dict[str, Converter] = {}


def converts(
    *op_types: str,
    domain: str = "",
    by_row: bool = False,
    anywhere: bool = False,
    elementwise: bool = False,
) -> Callable[[Convert], Convert]:
    """Make a function the converter of operators; see :class:`Converter`."""

    def register(convert: Convert) -> Convert:
        for op_type in op_types:
            assert op_type not in CONVERTERS, f"{op_type} has two converters"
            CONVERTERS[op_type] = Converter(
                convert, domain, by_row or elementwise, anywhere, elementwise
            )
        return convert

    return register


def supported_operators() -> tuple[str, ...]:
    """Return the names of all operators that are read on images, sorted."""
    return tuple(sorted(CONVERTERS))

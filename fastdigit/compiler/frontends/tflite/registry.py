"""The operators of TensorFlow Lite that are read: a converter each, found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdigit.compiler.frontends.operator import OperatorBase, registrar
from fastdigit.compiler.frontends.tflite.reader import Quantization
from fastdigit.compiler.ir import Shape
from fastdigit.errors import UnsupportedError

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.tflite.importer import Importer

__all__ = ["CONVERTERS", "Convert", "Operator", "Value", "converts", "supported_operators"]


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the image.

    Parameters
    ----------
    name
        Of the value of the graph, whose shape is :func:`.importer.image_shape` of ``shape``.
    shape
        As the file has it.
    """

    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Operator(OperatorBase[Value]):
    """A node with its inputs looked up: constants, values, or None where one is left out."""

    options: Mapping[str, Any]
    outputs: int = 1
    #: What the integers of the first input stand for, if they are such.
    quantization: Quantization | None = None

    def ints(self, index: int) -> list[int]:
        """Return a constant vector of integers, which has to be there."""
        given = super().ints(index)
        if given is None:
            raise UnsupportedError(f"{self.name}: input {index} is not a vector of known integers")
        return given

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option; a file has none if all are what the schema has by default."""
        return self.options.get(name, default)

    def axis(self, given: int, rank: int) -> int:
        """Return an axis counted from the first."""
        axis = given + rank if given < 0 else given
        if not 0 <= axis < rank:
            raise self.refuse(f"axis {given} of rank {rank}", "one that there is")
        return axis


Convert = Callable[["Importer", Operator], Any]

#: By the name of the operator.
CONVERTERS: dict[str, Convert] = {}


def converts(*types: str) -> Callable[[Convert], Convert]:
    """Make a function the converter of operators.

    It appends to the graph what an operator does, before the activation that is fused into it, and
    returns its output: a :class:`Value`, a formula, or a list of them, one for each output.
    """
    return registrar(CONVERTERS, types)


def supported_operators() -> tuple[str, ...]:
    """Return the names of all operators that are read on images, sorted."""
    return tuple(sorted(CONVERTERS))

"""The operators of TensorFlow Lite that are read: a converter each, found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.compiler.frontends.tflite.reader import Quantization
from fastdigit.compiler.frontends.tflite.weights import Constant
from fastdigit.compiler.ir import Array, Shape
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
class Operator:
    """A node with its inputs looked up: constants, values, or None where one is left out."""

    name: str
    type: str
    inputs: tuple[Constant | Value | None, ...]
    options: Mapping[str, Any]
    outputs: int = 1
    #: What the integers of the first input stand for, if they are such.
    quantization: Quantization | None = None

    def value(self, index: int = 0) -> Value:
        """Return an input that depends on the image."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(given, Value):
            raise UnsupportedError(f"{self.name}: input {index} is a constant")
        return given

    def constant(self, index: int) -> Constant | None:
        """Return an input that is known ahead of time, or None if it is not given."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(given, Value):
            raise UnsupportedError(
                f"{self.name}: input {index} depends on the image; supported is a constant"
            )
        return given

    def weights(self, index: int) -> Array | None:
        """Return a constant of finite floating-point numbers."""
        given = self.constant(index)
        if given is None:
            return None
        if given.dtype.kind != "f":
            raise UnsupportedError(f"{self.name}: input {index} is {given.dtype}, expected float32")
        if not np.isfinite(given).all():
            raise UnsupportedError(f"{self.name}: input {index} has values that are not finite")
        return given if given.dtype == np.float64 else given.astype(np.float32)

    def ints(self, index: int) -> list[int]:
        """Return a constant vector of integers."""
        given = self.constant(index)
        if given is None or given.dtype.kind not in "iu":
            raise UnsupportedError(f"{self.name}: input {index} is not a vector of known integers")
        return [int(number) for number in given.ravel()]

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option; a file has none if all are what the schema has by default."""
        return self.options.get(name, default)

    def axis(self, given: int, rank: int) -> int:
        """Return an axis counted from the first."""
        axis = given + rank if given < 0 else given
        if not 0 <= axis < rank:
            raise self.refuse(f"axis {given} of rank {rank}", "one that there is")
        return axis

    def refuse(self, what: str, supported: str) -> UnsupportedError:
        return UnsupportedError(f"{self.name}: {what}; supported is {supported}")


Convert = Callable[["Importer", Operator], Any]

#: By the name of the operator.
CONVERTERS: dict[str, Convert] = {}


def converts(*types: str) -> Callable[[Convert], Convert]:
    """Make a function the converter of operators.

    It appends to the graph what an operator does, before the activation that is fused into it, and
    returns its output: a :class:`Value`, a formula, or a list of them, one for each output.
    """

    def register(convert: Convert) -> Convert:
        for name in types:
            assert name not in CONVERTERS, f"{name} has two converters"
            CONVERTERS[name] = convert
        return convert

    return register


def supported_operators() -> tuple[str, ...]:
    """Return the names of all operators that are read on images, sorted."""
    return tuple(sorted(CONVERTERS))

"""What operators of ONNX and of TensorFlow Lite have in common, and how converters are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.ir import Array
from fastdigit.errors import UnsupportedError

__all__ = ["OperatorBase", "registrar"]

#: What stands for a value that depends on the image.
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class OperatorBase(Generic[V]):
    """A node of a source with its inputs looked up.

    Parameters
    ----------
    name
        As messages have it.
    op_type
        Which operator it is, in the words of the source.
    inputs
        Constants, values that depend on the image, or None where one is left out.
    """

    name: str
    op_type: str
    inputs: tuple[NDArray[Any] | V | None, ...]

    def _given(self, index: int) -> NDArray[Any] | V | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int = 0) -> V:
        """Return an input that depends on the image."""
        given = self._given(index)
        if given is None:
            raise UnsupportedError(f"{self.name}: input {index} is missing")
        if isinstance(given, np.ndarray):
            raise UnsupportedError(f"{self.name}: input {index} is a constant")
        return given

    def constant(self, index: int) -> NDArray[Any] | None:
        """Return an input that is known ahead of time, or None if it is not given."""
        given = self._given(index)
        if given is None or isinstance(given, np.ndarray):
            return given
        raise UnsupportedError(
            f"{self.name}: input {index} depends on the image; supported is a constant"
        )

    def weights(self, index: int) -> Array | None:
        """Return a constant of finite floating-point numbers, or None if it is not given."""
        given = self.constant(index)
        if given is None:
            return None
        if given.dtype.kind != "f":
            raise UnsupportedError(f"{self.name}: input {index} is {given.dtype}, expected float32")
        if not np.isfinite(given).all():
            raise UnsupportedError(f"{self.name}: input {index} has values that are not finite")
        return given if given.dtype == np.float64 else given.astype(np.float32)

    def ints(self, index: int) -> list[int] | None:
        """Return a constant vector of integers, or None if it is not given."""
        given = self.constant(index)
        if given is None:
            return None
        if given.dtype.kind not in "iu":
            raise UnsupportedError(f"{self.name}: input {index} is not a vector of known integers")
        return [int(number) for number in given.ravel()]

    def refuse(self, what: str, supported: str) -> UnsupportedError:
        """Return the error about something that this operator has."""
        return UnsupportedError(f"{self.name}: {what}; supported is {supported}")


def registrar(table: dict[str, F], names: Sequence[str]) -> Callable[[F], F]:
    """Return a decorator that puts a function under ``names`` into a table of converters."""

    def register(function: F) -> F:
        for name in names:
            assert name not in table, f"{name} has two converters"
            table[name] = function
        return function

    return register

"""A Keras network as plain data, whatever version of Keras wrote it and whatever holds it.

A file or a model in memory is read into these records once; the converters and the evaluation see
nothing else. Names of layers, options and weights are those of Keras 3, and every option has a
value: :mod:`~fastdigit.compiler.frontends.keras.kinds` says which there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastdigit.compiler.ir import Array, Pair, Shape
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["Call", "Input", "Layer", "Network", "Operand", "Value", "describe"]

#: (name of a layer, which of its calls, which of the call's results).
Value: TypeAlias = tuple[str, int, int]
#: What a call takes: a value, or a constant that the file has.
Operand: TypeAlias = "Value | Array"


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, or a function: ``activations.NAME`` or ``ops.NAME``.

    Parameters
    ----------
    kind
        Name of its class in Keras 3; that of a user's own class has a package in front:
        "mine>Layer".
    name
        Its name in the network.
    options
        Every option that its kind has; an activation is a Layer, or None if it does nothing.
    weights
        Its variables, by their names in Keras 3.
    layers
        Those that it wraps.
    network
        Of a model that is a layer of another.
    input_shape
        What it takes, where the file says it: only to go on behind what is not supported.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    weights: Mapping[str, Array] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    network: Network | None = None
    input_shape: Shape | None = None

    def refuse(self, found: str, supported: str) -> UnsupportedError:
        """Return the error for an option that is not supported."""
        return UnsupportedError(f"layer {describe(self)}: {found}; supported is {supported}")

    def _wrong(self, option: str, expected: str) -> ModelFormatError:
        return ModelFormatError(
            f"layer {describe(self)}: {option} is {self.options[option]!r:.80}, expected {expected}"
        )

    def flag(self, option: str) -> bool:
        value = self.options[option]
        if value not in (True, False):
            raise self._wrong(option, "true or false")
        return bool(value)

    def number(self, option: str) -> float:
        value = self.options[option]
        if not _is_number(value) or not math.isfinite(value):
            raise self._wrong(option, "a finite number")
        return float(value)

    def integer(self, option: str) -> int:
        value = self.options[option]
        if not _is_integer(value):
            raise self._wrong(option, "an integer")
        return int(value)

    def integers(self, option: str) -> tuple[int, ...]:
        """Return a list of integers; one integer is a list of one."""
        value = self.options[option]
        values = value if isinstance(value, list | tuple) else [value]
        if not all(_is_integer(each) for each in values):
            raise self._wrong(option, "integers")
        return tuple(int(each) for each in values)

    def pair(self, option: str) -> Pair:
        """Return two integers; one stands for two that are equal."""
        values = self.integers(option)
        if len(values) not in (1, 2):
            raise self._wrong(option, "one or two integers")
        return values[0], values[-1]

    def steps(self, option: str) -> Pair:
        """Return two strides or dilations; one stands for two that are equal."""
        values = self.pair(option)
        if min(values) < 1:
            raise self._wrong(option, "integers of at least 1")
        return values

    def single(self, option: str) -> int:
        values = self.integers(option)
        if len(values) != 1:
            raise self._wrong(option, "one integer")
        return values[0]

    def word(self, option: str, *choices: str) -> str:
        value = self.options[option]
        word = value.lower() if isinstance(value, str) else value
        if word not in choices:
            raise self.refuse(f"{option}={value!r:.80}", " or ".join(map(repr, choices)))
        return str(word)

    def optional(self, name: str) -> Array | None:
        """Return a variable that the options may leave out."""
        return self.weights.get(name)


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 63
    return isinstance(value, float)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and int(value) == value


def describe(layer: Layer) -> str:
    return f"{layer.name!r} ({layer.kind.rpartition('>')[2]})"


@dataclass(frozen=True, eq=False)
class Call:
    """A layer applied to values; it writes the values (name of the layer, ``index``, 0), ..."""

    layer: Layer
    index: int
    operands: tuple[Operand, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """The operands that are values."""
        return tuple(operand for operand in self.operands if isinstance(operand, tuple))


@dataclass(frozen=True)
class Input:
    """An input: its value, and its shape for one image, in which a free size is None; None if the
    model does not say it."""

    name: str
    shape: tuple[int | None, ...] | None

    @property
    def value(self) -> Value:
        return self.name, 0, 0


@dataclass(frozen=True, eq=False)
class Network:
    """Layers applied in order.

    Parameters
    ----------
    name
        Of the model.
    inputs
        In the order of the model's arguments.
    calls
        Those that the outputs need, in topological order.
    outputs
        The values that the model returns.
    output_names
        What people know them by.
    listed
        The layers as the model lists them, without weights: their order is that of weights.
    """

    name: str
    inputs: tuple[Input, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    listed: tuple[Layer, ...]

    def choose(self, names: Sequence[str]) -> Network:
        """Return the network of some outputs, in that order, with what they need."""
        outputs = tuple(self.outputs[self.output_names.index(name)] for name in names)
        needed = {value[:2] for value in outputs}
        calls = []
        for call in reversed(self.calls):
            if (call.layer.name, call.index) in needed:
                calls.append(call)
                needed.update(value[:2] for value in call.values)
        inputs = tuple(given for given in self.inputs if given.value[:2] in needed)
        return Network(
            self.name, inputs, tuple(reversed(calls)), outputs, tuple(names), self.listed
        )

    def layers(self) -> Iterator[Layer]:
        """Every layer once, with those within others, in the order of the calls."""
        seen: set[int] = set()
        for call in self.calls:
            if id(call.layer) not in seen:
                seen.add(id(call.layer))
                yield from _within(call.layer)


def _within(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in layer.layers:
        yield from _within(inner)
    if layer.network is not None:
        yield from layer.network.layers()

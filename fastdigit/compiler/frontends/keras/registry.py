"""The layers of Keras that are converted: a converter each, found by the kind of the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastdigit.compiler.frontends.common import GraphBuilder
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.operator import registrar
from fastdigit.compiler.ir import Array, Op, Shape

__all__ = ["CONVERTERS", "JOINS", "Convert", "Join", "Ops", "converts", "joins", "supported_layers"]

Ops: TypeAlias = list[Op]
#: (layer, shape of its input for one image, channels last) -> what it does, in order.
Convert: TypeAlias = Callable[[Layer, Shape], Ops]
#: (graph, layer, its operands: values and constants) -> its output.
Join: TypeAlias = Callable[[GraphBuilder, Layer, "list[str | Array]"], str]

#: By kind: of layers with one input, and of those with several.
CONVERTERS: dict[str, Convert] = {}
JOINS: dict[str, Join] = {}


def converts(*kinds: str) -> Callable[[Convert], Convert]:
    """Make a function the converter of layers with one input; see :data:`Convert`."""
    return registrar(CONVERTERS, kinds)


def joins(*kinds: str) -> Callable[[Join], Join]:
    """Make a function the converter of layers with several inputs; see :data:`Join`."""
    return registrar(JOINS, kinds)


def supported_layers() -> tuple[str, ...]:
    """Return the names of all layers that are converted; functions are not layers."""
    return ("InputLayer", *sorted(kind for kind in {*CONVERTERS, *JOINS} if "." not in kind))

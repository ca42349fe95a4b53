"""The layers of Keras that are read: a converter each, found by the name of the layer's class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fastdigit.compiler.frontends.common import GraphBuilder
from fastdigit.compiler.ir import Op, Shape

__all__ = ["CONVERTERS", "JOINS", "Convert", "Join", "Ops", "converts", "joins", "supported_layers"]

Ops: TypeAlias = list[Op]
#: (layer, shape of its input, of its output, both for one image) -> what it does, in order.
Convert: TypeAlias = Callable[[Any, Shape, Shape], Ops]
#: (graph, layer, its inputs) -> its output.
Join: TypeAlias = Callable[[GraphBuilder, Any, list[str]], str]

#: By the name of the class: of layers with one input, and of those with several.
CONVERTERS: dict[str, Convert] = {}
JOINS: dict[str, Join] = {}


def converts(*layers: str) -> Callable[[Convert], Convert]:
    """Make a function the converter of layers with one input; see :data:`Convert`."""

    def register(convert: Convert) -> Convert:
        for layer in layers:
            assert layer not in CONVERTERS, f"{layer} has two converters"
            CONVERTERS[layer] = convert
        return convert

    return register


def joins(*layers: str) -> Callable[[Join], Join]:
    """Make a function the converter of layers with several inputs; see :data:`Join`."""

    def register(join: Join) -> Join:
        for layer in layers:
            assert layer not in JOINS, f"{layer} has two converters"
            JOINS[layer] = join
        return join

    return register


def supported_layers() -> tuple[str, ...]:
    """Return the names of all layers that are read, sorted."""
    return tuple(sorted({*CONVERTERS, *JOINS}))

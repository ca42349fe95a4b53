"""A graph as text, for people: a line a node, and what a pass changed as lines gone and new."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import numpy as np

from fastdigit.compiler.ir import Graph, Node

__all__ = ["changes", "describe"]


def describe(graph: Graph) -> list[str]:
    """One line a node: what it computes, from which values, with which options.

    Weights are shown as their shape; options that have their default are left out.
    """
    return [_line(graph, node) for node in graph.nodes]


def changes(before: Graph, after: Graph) -> list[str]:
    """Lines of :func:`describe` that are gone (``- ``) and new (``+ ``), in order."""
    lines = difflib.ndiff(describe(before), describe(after))
    return [line.rstrip("\n") for line in lines if line[:2] in ("- ", "+ ")]


def _line(graph: Graph, node: Node) -> str:
    shapes = [_shape(graph.shapes[value]) for value in node.inputs]
    options = " ".join(_fields(node.op))
    text = f"{node.name}: {type(node.op).__name__} {', '.join(shapes)} -> "
    return f"{text}{_shape(graph.shapes[node.output])}  {options}".rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _fields(value: Any) -> list[str]:
    result = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item is None or (
            field.default is not dataclasses.MISSING and _same(item, field.default)
        ):
            continue
        result.append(f"{field.name}={_text(item)}")
    return result


def _same(item: Any, default: Any) -> bool:
    return not isinstance(item, np.ndarray) and bool(item == default)


def _text(item: Any) -> str:
    if isinstance(item, np.ndarray):
        return f"[{_shape(item.shape)}]"
    if dataclasses.is_dataclass(item):
        return f"({' '.join(_fields(item))})"
    if isinstance(item, float):
        return f"{item:g}"
    if isinstance(item, tuple):
        return f"({','.join(_text(part) for part in item)})"
    return str(item)

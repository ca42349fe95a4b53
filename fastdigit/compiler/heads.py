"""What the outputs of a network are: probabilities of a softmax, of sigmoids, or numbers."""

from __future__ import annotations

import math
from typing import Final

from fastdigit.compiler.ir import Graph, Node, Op
from fastdigit.compiler.ops import LogSoftmax, Reshape, Softmax, Transpose

__all__ = [
    "ends_in_log_softmax",
    "ends_in_sigmoid",
    "ends_in_softmax",
    "gives_probabilities",
    "head_of",
    "is_binary",
]

#: Activations between 0 and 1, as FD_ACT_* of the engine's ``ends_in_sigmoid``.
SIGMOIDS: Final = ("sigmoid", "hard_sigmoid")


def _is_sigmoid(op: Op) -> bool:
    activation = getattr(op, "activation", None)
    if activation is None or activation.name not in SIGMOIDS:
        return False
    return all(getattr(op, part, None) is None for part in ("affine", "pool"))


def head_of(graph: Graph, index: int = 0) -> Node | None:
    """Return the operator that writes an output, by default the first; None if it is an input."""
    value = graph.outputs[index]
    return next((node for node in graph.nodes if node.output == value), None)


def ends_in_softmax(graph: Graph, index: int = 0) -> bool:
    """Whether an output is one of a softmax."""
    head = head_of(graph, index)
    return head is not None and isinstance(head.op, Softmax)


def ends_in_log_softmax(graph: Graph, index: int = 0) -> bool:
    """Whether an output is the logarithm of a softmax."""
    head = head_of(graph, index)
    return head is not None and isinstance(head.op, LogSoftmax)


def ends_in_sigmoid(graph: Graph, index: int = 0) -> bool:
    """Whether each value of an output is a probability of its own, in a graph that the passes have
    fused."""
    producers = {node.output: node for node in graph.nodes}
    node = head_of(graph, index)
    while node is not None and isinstance(node.op, Reshape | Transpose):
        node = producers.get(node.inputs[0])
    return node is not None and _is_sigmoid(node.op)


def gives_probabilities(graph: Graph, output: str) -> bool:
    """Whether a value comes from a softmax or a sigmoid, also in a graph that is not fused."""
    producers = {node.output: node for node in graph.nodes}
    node = producers.get(output)
    while node is not None and isinstance(node.op, Reshape | Transpose):
        node = producers.get(node.inputs[0])
    return node is not None and (isinstance(node.op, Softmax) or _is_sigmoid(node.op))


def is_binary(graph: Graph, index: int = 0) -> bool:
    """Whether an output is a single sigmoid, which tells the second of two classes from the first,
    as :attr:`fastdigit.Model.classes` has them."""
    size = math.prod(graph.shapes[graph.outputs[index]])
    return size == 1 and ends_in_sigmoid(graph, index)

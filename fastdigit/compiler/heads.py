"""What the outputs of a network are: probabilities of a softmax, of sigmoids, or numbers."""

from __future__ import annotations

import math
from typing import Final

from fastdigit.compiler.ir import Graph, Op
from fastdigit.compiler.ops import Reshape, Softmax, Transpose

__all__ = ["ends_in_sigmoid", "ends_in_softmax", "gives_probabilities", "is_binary"]

#: Activations between 0 and 1, as FD_ACT_* of the engine's ``ends_in_sigmoid``.
SIGMOIDS: Final = ("sigmoid", "hard_sigmoid")


def _is_sigmoid(op: Op) -> bool:
    activation = getattr(op, "activation", None)
    if activation is None or activation.name not in SIGMOIDS:
        return False
    return all(getattr(op, part, None) is None for part in ("affine", "pool"))


def ends_in_softmax(graph: Graph) -> bool:
    """Whether the first output is that of a softmax."""
    last = [node.op for node in graph.nodes if node.output == graph.output]
    return bool(last) and isinstance(last[0], Softmax)


def ends_in_sigmoid(graph: Graph) -> bool:
    """Whether each number of the first output is a probability of its own, in a graph that the
    passes have fused."""
    producers = {node.output: node for node in graph.nodes}
    node = producers.get(graph.output)
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


def is_binary(graph: Graph) -> bool:
    """Whether the first output is a single sigmoid, which tells the second of two classes from the
    first, as :attr:`fastdigit.Model.classes` has them."""
    return math.prod(graph.shapes[graph.output]) == 1 and ends_in_sigmoid(graph)

"""The operators, a file for each family: attributes, shape rule, limits, work.

An operator is a subclass of :class:`fastdigit.compiler.ir.Op` in one of these files and its
``__all__``. Passes leave alone what they do not know, so that a new operator works before any
pass has heard of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fastdigit.compiler.ir import Graph, Node, Op, Shape
from fastdigit.compiler.ops import (
    convolution,
    dense,
    elementwise,
    moves,
    normalization,
    pooling,
    recurrent,
    resize,
)
from fastdigit.compiler.ops.convolution import *  # noqa: F403
from fastdigit.compiler.ops.dense import *  # noqa: F403
from fastdigit.compiler.ops.elementwise import *  # noqa: F403
from fastdigit.compiler.ops.moves import *  # noqa: F403
from fastdigit.compiler.ops.normalization import *  # noqa: F403
from fastdigit.compiler.ops.pooling import *  # noqa: F403
from fastdigit.compiler.ops.recurrent import *  # noqa: F403
from fastdigit.compiler.ops.resize import *  # noqa: F403
from fastdigit.errors import UnsupportedError

__all__ = ["OPS", "check_values", "infer", "make_graph", "with_nodes"]
__all__ += convolution.__all__
__all__ += dense.__all__
__all__ += elementwise.__all__
__all__ += moves.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += resize.__all__

#: Every operator.
OPS: tuple[type[Op], ...] = tuple(
    value for value in map(globals().get, __all__) if isinstance(value, type)
)


def infer(name: str, op: Op, *shapes: Shape) -> Shape:
    """Return the shape of ``op`` applied to values of ``shapes``; ``name`` is for the message.

    Raises
    ------
    UnsupportedError
        If the operator does not accept those shapes, or its own attributes contradict each other.
    """
    try:
        return op.infer(*shapes)
    except ValueError as error:
        raise UnsupportedError(f"{name}: {error}") from None


def check_values(name: str, op: Op) -> None:
    """Check the weights of an operator; ``name`` is for the message.

    Raises
    ------
    UnsupportedError
        If one is not finite, or no number that its precision has.
    """
    try:
        op.check_values()
    except ValueError as error:
        raise UnsupportedError(f"{name}: {error}") from None


def make_graph(inputs: Mapping[str, Shape], nodes: Iterable[Node], outputs: Sequence[str]) -> Graph:
    """Build a graph, deriving the shape of every value from those of the inputs.

    Values of weights are not looked at: that is for :func:`fastdigit.compiler.spec.verify`.
    """
    nodes = tuple(nodes)
    shapes = dict(inputs)
    for node in nodes:
        shapes[node.output] = infer(node.name, node.op, *(shapes[source] for source in node.inputs))
    return Graph(tuple(inputs), tuple(outputs), nodes, shapes)


def with_nodes(
    graph: Graph,
    nodes: Iterable[Node],
    *,
    inputs: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Build a graph of other nodes, and of the same inputs and outputs where none are given."""
    if inputs is None:
        inputs = {value: graph.shapes[value] for value in graph.inputs}
    return make_graph(inputs, nodes, graph.outputs if outputs is None else outputs)

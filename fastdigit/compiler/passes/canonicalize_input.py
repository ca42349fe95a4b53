"""Take each input in the shape that the network wants, with no reshape behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fastdigit.compiler.axes import moves_only_units
from fastdigit.compiler.ir import Graph, Node, Shape
from fastdigit.compiler.ops import Eltwise, Reshape, Transpose, with_nodes
from fastdigit.compiler.passes.rewrite import readers_of

__all__ = ["canonicalize_input", "unflatten_input"]


def unflatten_input(graph: Graph) -> Graph:
    """Give each flat input the shape of the image that the network first makes of it.

    Before reshapes are joined, for a later one may be of another image.
    """
    return _reshaped(graph, lambda shape, _: len(shape) == 1)


def canonicalize_input(graph: Graph) -> Graph:
    """Give each input the image's shape that the network reshapes it to: the elements and their
    order stay.

    An input that is an image already keeps its shape, as pictures and batches have that: only the
    one channel of (1, height, width) goes last.
    """
    return _reshaped(graph, _takes_as_before)


def _reshaped(graph: Graph, may: Callable[[Shape, Shape], bool]) -> Graph:
    inputs: dict[str, Shape] = {}
    reshapes: list[Node] = []
    readers = readers_of(graph)
    for value in graph.inputs:
        shape = graph.shapes[value]
        target = _image_behind(graph, readers, value)
        if target is None or target == shape or not may(shape, target):
            inputs[value] = shape
            continue
        source = f"{value}:{'x'.join(map(str, target))}"
        inputs[source] = target
        reshapes.append(Node(value, Reshape(shape), (source,), value))
    return with_nodes(graph, (*reshapes, *graph.nodes), inputs=inputs) if reshapes else graph


def _takes_as_before(shape: Shape, target: Shape) -> bool:
    """Whether what is a batch of ``shape`` to the user is one of ``target`` too."""
    if len(shape) < 3:
        return len(shape) == 1
    rows = [size for size in shape if size != 1]
    return rows == [size for size in target if size != 1] and shape[2] != 1 and target[2] == 1


def _image_behind(graph: Graph, readers: Mapping[str, Sequence[Node]], source: str) -> Shape | None:
    """Return the rank-3 shape that the first operator to move an input gives it, if any.

    Only element-wise operators may come before, and no branch. For an image they may
    not, unless just axes of length 1 move: their affine might not survive the reshape.
    """
    rank = len(graph.shapes[source])
    value = source
    while True:
        if len(readers[value]) != 1 or value in graph.outputs:
            return None
        node = readers[value][0]
        before, after = graph.shapes[value], graph.shapes[node.output]
        match node.op:
            case Transpose(perm):
                return after if rank == 3 and moves_only_units(perm, before) else None
            case Reshape() if len(after) == 3:
                return after if rank != 3 or value == source else None
            case Reshape() | Eltwise():
                value = node.output
                continue
        return None

"""Take the input in the shape that the network wants, with no reshape behind it."""

from __future__ import annotations

from fastdigit.compiler.axes import moves_only_units
from fastdigit.compiler.ir import Graph, Node, Shape
from fastdigit.compiler.ops import Eltwise, Reshape, Transpose, make_graph

__all__ = ["canonicalize_input"]


def canonicalize_input(graph: Graph) -> Graph:
    """Give the input the image's shape that the network reshapes it to: the elements and their
    order stay."""
    shape = graph.shapes[graph.input]
    target = _image_behind(graph)
    if target is None or target == shape:
        return graph
    source = f"{graph.input}:{'x'.join(map(str, target))}"
    reshape = Node(graph.input, Reshape(shape), (source,), graph.input)
    return make_graph(source, target, (reshape, *graph.nodes), graph.output)


def _image_behind(graph: Graph) -> Shape | None:
    """Return the rank-3 shape that the first operator to move the input gives it, if any.

    Only element-wise operators may come before, and no branch. For an image they may
    not, unless just axes of length 1 move: their affine might not survive the reshape.
    """
    rank = len(graph.shapes[graph.input])
    value = graph.input
    while True:
        readers = [node for node in graph.nodes if value in node.inputs]
        if len(readers) != 1:
            return None
        node = readers[0]
        before, after = graph.shapes[value], graph.shapes[node.output]
        match node.op:
            case Transpose(perm):
                return after if rank == 3 and moves_only_units(perm, before) else None
            case Reshape() if len(after) == 3:
                return after if rank != 3 or value == graph.input else None
            case Reshape() | Eltwise():
                value = node.output
                continue
        return None

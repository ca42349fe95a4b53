"""Order operators: those on vectors last, where the engine takes many images at once."""

from __future__ import annotations

from fastdigit.compiler.ir import Graph, Node
from fastdigit.compiler.ops import with_nodes

__all__ = ["put_vectors_last"]


def put_vectors_last(graph: Graph) -> Graph:
    """Move each operator that returns a vector, and whose result no image is made of, behind all
    others. So the weights of the dense layers of one head are read once for a chunk of images, also
    if another head returns an image."""
    needed: set[str] = set()  # by an operator that stays before
    early: list[Node] = []
    late: list[Node] = []
    for node in reversed(graph.nodes):
        if len(graph.shapes[node.output]) == 1 and node.output not in needed:
            late.append(node)
        else:
            early.append(node)
            needed.update(node.inputs)
    nodes = (*reversed(early), *reversed(late))
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return with_nodes(graph, nodes)

"""Give each reader of a transpose, reshape, padding or crop one of its own, to be absorbed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fastdigit.compiler.ir import Graph, Node
from fastdigit.compiler.ops import Crop, Pad, Reshape, Transpose, with_nodes

__all__ = ["merge_moves", "split_moves"]


def split_moves(graph: Graph) -> Graph:
    """Copy each such node for every reader but the first: they cost nothing until the end."""
    readers = Counter(value for node in graph.nodes for value in node.inputs)
    readers.update(set(graph.outputs))
    moves = {
        node.output: node
        for node in graph.nodes
        if isinstance(node.op, Transpose | Reshape | Pad | Crop) and readers[node.output] > 1
    }
    if not moves:
        return graph
    seen: Counter[str] = Counter(set(graph.outputs))
    taken = set(graph.shapes)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = []
        for value in node.inputs:
            move = moves.get(value)
            seen[value] += 1
            if move is None or seen[value] == 1:
                inputs.append(value)
                continue
            copy = f"{value}'{seen[value]}"
            while copy in taken:
                copy += "'"
            taken.add(copy)
            # The source of the move may itself have been a move, whose copy comes in another round.
            nodes.append(replace(move, output=copy))
            inputs.append(copy)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return with_nodes(graph, nodes)


def merge_moves(graph: Graph) -> Graph:
    """Undo what is left of it: one node in place of several that do the same to the same value."""
    known: dict[tuple[object, ...], str] = {}
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(alias.get(value, value) for value in node.inputs)
        if (
            isinstance(node.op, Transpose | Reshape | Pad | Crop)
            and node.output not in graph.outputs
        ):
            first = known.setdefault((node.op, *inputs), node.output)
            if first != node.output:
                alias[node.output] = first
                continue
        nodes.append(replace(node, inputs=inputs))
    if not alias:
        return graph
    return with_nodes(graph, nodes)

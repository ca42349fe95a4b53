"""How passes change a graph: replace two neighbours, drop nodes, or change operators in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from fastdigit.compiler.ir import Graph, Node, Op
from fastdigit.compiler.ops import with_nodes

__all__ = ["Pair", "Replacement", "map_nodes", "remove_dead", "remove_nodes", "replace_pairs"]

#: What stands in for the two: up to two (name, operator), in order; none when the two cancel.
Replacement = Sequence[tuple[str, Op]]


class Pair:
    """Two nodes of a graph, where ``second`` alone reads what ``first`` writes.

    Parameters
    ----------
    graph
        The graph they are in.
    first, second
        Producer and its only consumer.
    """

    def __init__(self, graph: Graph, first: Node, second: Node) -> None:
        self.first = first
        self.second = second
        self.shape_in = graph.shapes[first.inputs[0]]
        self.shape_between = graph.shapes[first.output]
        self.shape_out = graph.shapes[second.output]
        self._graph = graph

    def producer(self, node: Node) -> Node | None:
        """Return the node before ``node``, if nothing but ``node`` reads its output."""
        value = node.inputs[0]
        if _readers(self._graph)[value] != 1:
            return None
        return next((other for other in self._graph.nodes if other.output == value), None)


def replace_pairs(graph: Graph, rule: Callable[[Pair], Replacement | None]) -> Graph:
    """Apply ``rule`` to pairs of neighbours, first to last, until it returns None for all of them.

    The second of a pair has no other input.

    A rule must make progress: it may not undo what it did.
    """
    for _ in range(10 * (len(graph.nodes) + 1) ** 2):
        changed = _replace_first(graph, rule)
        if changed is None:
            return graph
        graph = changed
    raise AssertionError(f"{rule.__module__} does not come to an end")


def remove_nodes(graph: Graph, useless: Callable[[Node], bool]) -> Graph:
    """Remove the nodes for which ``useless`` is true: their readers read their input instead."""
    alias: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(alias.get(value, value) for value in node.inputs)
        if useless(node):
            alias[node.output] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    if not alias:
        return graph
    outputs = [alias.get(value, value) for value in graph.outputs]
    return with_nodes(graph, nodes, outputs=outputs)


def map_nodes(graph: Graph, change: Callable[[Node], Op]) -> Graph:
    """Give each node the operator ``change(node)``; the same graph if they are the same objects."""
    nodes = [replace(node, op=change(node)) for node in graph.nodes]
    if all(new.op is old.op for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return with_nodes(graph, nodes)


def remove_dead(graph: Graph) -> Graph:
    """Remove the nodes that no output depends on."""
    wanted = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
    nodes = [node for node in graph.nodes if node.output in wanted]
    if len(nodes) == len(graph.nodes):
        return graph
    return with_nodes(graph, nodes)


def _readers(graph: Graph) -> Counter[str]:
    return Counter([*graph.outputs, *(value for node in graph.nodes for value in node.inputs)])


def _replace_first(graph: Graph, rule: Callable[[Pair], Replacement | None]) -> Graph | None:
    readers = _readers(graph)
    producers = {node.output: node for node in graph.nodes}
    for second in graph.nodes:
        if len(second.inputs) != 1:
            continue
        first = producers.get(second.inputs[0])
        if first is None or readers[first.output] != 1:
            continue
        replacement = rule(Pair(graph, first, second))
        if replacement is not None:
            return _splice(graph, first, second, replacement)
    return None


def _splice(graph: Graph, first: Node, second: Node, replacement: Replacement) -> Graph:
    if not replacement:
        return remove_nodes(graph, lambda node: node is first or node is second)
    between = (first.output,) if len(replacement) == 2 else ()
    sources = (first.inputs, *((value,) for value in between))
    targets = (*between, second.output)
    new = [
        Node(name, op, source, target)
        for (name, op), source, target in zip(replacement, sources, targets, strict=True)
    ]
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is second:
            nodes += new
        elif node is not first:
            nodes.append(node)
    return with_nodes(graph, nodes)

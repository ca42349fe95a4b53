"""How passes change a graph: replace two neighbours, drop nodes, or change operators in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from fastdigit.compiler.ir import Graph, Node, Op
from fastdigit.compiler.ops import infer, with_nodes

__all__ = [
    "Pair",
    "Replacement",
    "map_nodes",
    "readers_of",
    "remove_dead",
    "remove_nodes",
    "replace_pairs",
]

#: What stands in for the two: up to two (name, operator), in order; none when the two cancel.
Replacement = Sequence[tuple[str, Op]]


class Pair:
    """Two nodes of a graph, where ``second`` alone reads what ``first`` writes.

    Parameters
    ----------
    graph
        What they are in.
    first, second
        Producer and its only consumer.
    """

    def __init__(self, graph: _Nodes, first: Node, second: Node) -> None:
        self.first = first
        self.second = second
        self.shape_in = graph.shapes[first.inputs[0]]
        self.shape_between = graph.shapes[first.output]
        self.shape_out = graph.shapes[second.output]
        self._graph = graph

    def producer(self, node: Node) -> Node | None:
        """Return the node before ``node``, if nothing but ``node`` reads its output."""
        return self._graph.producer_of(node)


#: How many nodes before a pair a rule may look at, by :meth:`Pair.producer`.
LOOKS_BACK = 3


def replace_pairs(graph: Graph, rule: Callable[[Pair], Replacement | None]) -> Graph:
    """Apply ``rule`` to pairs of neighbours, first to last, until it returns None for all of them.

    The second of a pair has no other input. A replacement takes the place of the second. A rule
    looks at a pair, and at :data:`LOOKS_BACK` nodes before it, so that after a replacement only few
    pairs need another look: the time is that of the nodes and of the replacements.

    A rule must make progress, and give what the two gave the same shape: it may not undo what it
    did.
    """
    nodes = _Nodes(graph)
    for _ in range(10 * (len(graph.nodes) + 1) ** 2):
        if not nodes.replace_first(rule):
            return with_nodes(graph, nodes.ordered(), outputs=nodes.outputs) if nodes.new else graph
    raise AssertionError(f"{rule.__module__} does not come to an end")


class _Nodes:
    """The nodes of a graph while pairs of them are replaced.

    ``places`` has, for each node that there was, what is in its place now. ``waiting`` is a heap of
    the places with pairs to look at.
    """

    def __init__(self, graph: Graph) -> None:
        self.new = False
        self.outputs = list(graph.outputs)
        self.shapes = dict(graph.shapes)
        self.places = [[node] for node in graph.nodes]
        self.place_of = {node.output: place for place, node in enumerate(graph.nodes)}
        self.producers = {node.output: node for node in graph.nodes}
        #: What reads each value: outputs of nodes, as often as they read it, and "" for the graph.
        self.readers: defaultdict[str, list[str]] = defaultdict(list)
        for node in graph.nodes:
            for value in node.inputs:
                self.readers[value].append(node.output)
        for value in graph.outputs:
            self.readers[value].append("")
        self.waiting = list(range(len(self.places)))

    def ordered(self) -> list[Node]:
        return [node for place in self.places for node in place]

    def producer_of(self, node: Node) -> Node | None:
        value = node.inputs[0]
        return self.producers.get(value) if len(self.readers[value]) == 1 else None

    def replace_first(self, rule: Callable[[Pair], Replacement | None]) -> bool:
        while self.waiting:
            for second in self.places[self.waiting[0]]:
                if len(second.inputs) != 1:
                    continue
                first = self.producer_of(second)
                if first is None:
                    continue
                replacement = rule(Pair(self, first, second))
                if replacement is not None:
                    self._splice(first, second, replacement)
                    return True
            heappop(self.waiting)
        return False

    def _splice(self, first: Node, second: Node, replacement: Replacement) -> None:
        self.new = True
        targets = (first.output, second.output)[2 - len(replacement) :]
        sources = (first.inputs, (first.output,))[: len(replacement)]
        new = [
            Node(name, op, source, target)
            for (name, op), source, target in zip(replacement, sources, targets, strict=True)
        ]
        place = self.place_of[second.output]
        self._remove(first)
        at = next(at for at, node in enumerate(self.places[place]) if node is second)
        self._remove(second)
        for node in reversed(new):
            self._insert(node, place, at)
        shape = self.shapes[second.output]
        for node in new:
            given = (self.shapes[value] for value in node.inputs)
            self.shapes[node.output] = infer(node.name, node.op, *given)
        if not new:
            self._rename(second.output, first.inputs[0])
        last = new[-1].output if new else first.inputs[0]
        assert self.shapes[last] == shape, f"{second.name}: a pass has changed the shape"
        self._look_again(place)
        for value in {*first.inputs, *targets}:
            self._look_behind(value)

    def _remove(self, node: Node) -> None:
        place = self.place_of.pop(node.output)
        self.places[place] = [other for other in self.places[place] if other is not node]
        del self.producers[node.output]
        for value in node.inputs:
            self.readers[value].remove(node.output)

    def _insert(self, node: Node, place: int, at: int) -> None:
        self.places[place].insert(at, node)
        self.place_of[node.output] = place
        self.producers[node.output] = node
        for value in node.inputs:
            self.readers[value].append(node.output)

    def _rename(self, old: str, new: str) -> None:
        """Let what reads one value read another."""
        readers = self.readers.pop(old, [])
        self.readers[new] += readers
        self.outputs = [new if value == old else value for value in self.outputs]
        for output in dict.fromkeys(filter(None, readers)):
            node = self.producers[output]
            inputs = tuple(new if value == old else value for value in node.inputs)
            changed = self.producers[output] = replace(node, inputs=inputs)
            place = self.place_of[output]
            self.places[place] = [
                changed if other is node else other for other in self.places[place]
            ]

    def _look_again(self, place: int) -> None:
        heappush(self.waiting, place)

    def _look_behind(self, value: str) -> None:
        """Look again at the pairs for which a rule may have looked at what gives ``value``."""
        for _ in range(LOOKS_BACK + 1):
            if len(self.readers[value]) != 1 or not self.readers[value][0]:
                return
            value = self.readers[value][0]
            self._look_again(self.place_of[value])


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


def readers_of(graph: Graph) -> Mapping[str, Sequence[Node]]:
    """Return the nodes that read each value, in order; none for any other."""
    readers: defaultdict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for value in dict.fromkeys(node.inputs):
            readers[value].append(node)
    return readers


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

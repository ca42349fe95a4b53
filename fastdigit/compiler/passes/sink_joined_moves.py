"""Move transposes and reshapes below the operators that join two branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.ir import Array, Binary, Concat, Graph, Node, Reshape, Shape, Transpose
from fastdigit.compiler.ops import make_graph
from fastdigit.compiler.passes.cancel_transposes import moves_only_units
from fastdigit.compiler.passes.rewrite import remove_dead

__all__ = ["sink_joined_moves"]


def sink_joined_moves(graph: Graph) -> Graph:
    """Sink a transpose that all operands of a Binary or Concat share; drop a reshape that only adds
    axes of length 1 to the second operand of a Binary, which broadcasts the same without.

    An operand that is not transposed goes along if its order of elements is the same either way.
    """
    for _ in range(10 * (len(graph.nodes) + 1)):
        changed = _sink_first(graph)
        if changed is None:
            return graph
        graph = remove_dead(changed)
    raise AssertionError("sink_joined_moves does not come to an end")


def _sink_first(graph: Graph) -> Graph | None:
    producers = {node.output: node for node in graph.nodes}
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Binary | Concat):
            continue
        sources = [producers.get(value) for value in node.inputs]
        new = _without_units(graph, node, sources[-1]) or _sunk(graph, node, sources)
        if new is not None:
            nodes = [*graph.nodes[:index], *new, *graph.nodes[index + 1 :]]
            return make_graph(graph.input, graph.shapes[graph.input], nodes, graph.output)
    return None


def _without_units(graph: Graph, node: Node, source: Node | None) -> list[Node] | None:
    if source is None or not isinstance(source.op, Reshape) or len(node.inputs) != 2:
        return None
    before, after = graph.shapes[source.inputs[0]], graph.shapes[source.output]
    if isinstance(node.op, Concat) or _aligned(before, len(after)) != after:
        return None
    return [replace(node, inputs=(node.inputs[0], source.inputs[0]))]


def _aligned(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _sunk(graph: Graph, node: Node, sources: list[Node | None]) -> list[Node] | None:
    transposes = [s.op for s in sources if s is not None and isinstance(s.op, Transpose)]
    if not transposes or any(op != transposes[0] for op in transposes):
        return None
    perm = transposes[0].perm
    rank, back = len(perm), tuple(np.argsort(perm).tolist())
    if len(graph.shapes[node.output]) != rank or len(back) != rank:
        return None
    op = node.op
    match op:
        case Concat(axis):
            op = Concat(perm[axis])
        case Binary(constant=constant, affine=None):
            op = replace(op, constant=_transposed(constant, rank, back))
        case _:
            return None
    new: list[Node] = []
    inputs: list[str] = []
    for position, (value, source) in enumerate(zip(node.inputs, sources, strict=True)):
        if source is not None and isinstance(source.op, Transpose):
            inputs.append(source.inputs[0])
            continue
        shape = _aligned(graph.shapes[value], rank)
        if not moves_only_units(back, shape):
            return None
        target = tuple(shape[axis] for axis in back)
        inputs.append(f"{node.output}:{position}")
        new.append(Node(node.name, Reshape(target), (value,), inputs[-1]))
    joined = f"{node.output}:joined"
    new.append(Node(node.name, op, tuple(inputs), joined))
    new.append(Node(node.name, Transpose(perm), (joined,), node.output))
    return new


def _transposed(constant: Array | None, rank: int, back: tuple[int, ...]) -> Array | None:
    if constant is None:
        return None
    return constant.reshape(_aligned(constant.shape, rank)).transpose(back)

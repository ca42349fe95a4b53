"""Move transposes and reshapes below the operators that join two branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from fastdigit.compiler.axes import aligned, aligned_shape, inverse, moves_only_units
from fastdigit.compiler.ir import Graph, Node, Shape
from fastdigit.compiler.ops import Binary, Concat, Reshape, Transpose, infer, with_nodes
from fastdigit.compiler.passes.rewrite import remove_dead

__all__ = ["sink_joined_moves"]

Shapes: TypeAlias = Mapping[str, Shape]


def sink_joined_moves(graph: Graph) -> Graph:
    """Sink a transpose of an operand below the Binary or Concat that joins it with others; drop a
    reshape that only adds axes of length 1 to the second operand of a Binary, which broadcasts the
    same without.

    The other operands are moved back, which must cost nothing: a transpose takes that up, and
    where only axes of length 1 move, so does a reshape. Any other operand whose order of elements
    stays is reshaped; but not for a transpose that moves only axes of length 1 itself: it is no
    more than a reshape, and one would take the place of another for ever.

    It ends, also together with `cancel_transposes` and `split_moves`. For each path from a
    transpose (or a reshape that is one) to the output, take the number of operators on it, moves
    not counted, and whether the transpose moves more than axes of length 1. Each step takes such a
    pair away and puts only lesser ones, in lexical order, in its place, which cannot go on for ever
    (Dershowitz and Manna, "Proving Termination with Multiset Orderings", 1979).
    """
    shapes = dict(graph.shapes)
    producers: dict[str, Node] = {}
    waiting = list(reversed(graph.nodes))
    sunk = False
    for _ in range(10 * (len(graph.nodes) + 1) ** 2):
        if not waiting:
            return remove_dead(with_nodes(graph, producers.values())) if sunk else graph
        node = waiting.pop()
        shapes[node.output] = infer(node.name, node.op, *(shapes[value] for value in node.inputs))
        new = None
        if isinstance(node.op, Binary | Concat):
            sources = [producers.get(value) for value in node.inputs]
            new = _without_units(shapes, node, sources[-1]) or _sunk(shapes, node, sources)
        if new is None:
            producers[node.output] = node
        else:
            waiting += reversed(new)
            sunk = True
    raise AssertionError("sink_joined_moves does not come to an end")


def _without_units(shapes: Shapes, node: Node, source: Node | None) -> list[Node] | None:
    if source is None or not isinstance(source.op, Reshape) or len(node.inputs) != 2:
        return None
    before, after = shapes[source.inputs[0]], shapes[source.output]
    if isinstance(node.op, Concat) or aligned_shape(before, len(after)) != after:
        return None
    return [replace(node, inputs=(node.inputs[0], source.inputs[0]))]


def _sunk(shapes: Shapes, node: Node, sources: list[Node | None]) -> list[Node] | None:
    leader = _leader(shapes, node, sources)
    if leader is None:
        return None
    perm, keeps_order = leader
    rank, back = len(perm), inverse(perm)
    op = node.op
    match op:
        case Concat(axis):
            op = Concat(perm[axis])
        case Binary(constant=constant, affine=None):
            moved = None if constant is None else aligned(constant, rank).transpose(back)
            op = replace(op, constant=moved)
        case _:
            return None
    new: list[Node] = []
    inputs: list[str] = []
    for position, (value, source) in enumerate(zip(node.inputs, sources, strict=True)):
        shape = aligned_shape(shapes[value], rank)
        move: Transpose | Reshape = Reshape(tuple(shape[axis] for axis in back))
        free = moves_only_units(back, shape)
        same_rank = len(shapes[value]) == rank
        match source:
            case Node(op=Transpose(other)) if same_rank and (
                free or not keeps_order or other == perm
            ):
                move, value = Transpose(tuple(other[axis] for axis in back)), source.inputs[0]
            case Node(op=Reshape()) if same_rank and free:
                value = source.inputs[0]
            case _ if keeps_order or not free:
                return None
        inputs.append(value)
        if move != Transpose(tuple(range(rank))):
            inputs[-1] = f"{node.output}:{position}"
            new.append(Node(node.name, move, (value,), inputs[-1]))
    joined = f"{node.output}:joined"
    new.append(Node(node.name, op, tuple(inputs), joined))
    new.append(Node(node.name, Transpose(perm), (joined,), node.output))
    return new


def _leader(
    shapes: Shapes, node: Node, sources: list[Node | None]
) -> tuple[tuple[int, ...], bool] | None:
    """Return the permutation to sink, and whether it moves only axes of length 1: any other comes
    first."""
    found = [
        (source.op.perm, moves_only_units(source.op.perm, shapes[source.inputs[0]]))
        for source in sources
        if source is not None
        and isinstance(source.op, Transpose)
        and len(source.op.perm) == len(shapes[node.output])
    ]
    return min(found, key=lambda pair: pair[1], default=None)

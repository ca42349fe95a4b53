"""Move transposes towards the output until they meet their inverse and vanish."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from fastdigit.compiler.axes import inverse, is_identity, moves_only_units, unit_permutation
from fastdigit.compiler.ir import Graph, Node, Op
from fastdigit.compiler.ops import Crop, Dense, Eltwise, Pad, Reshape, Transpose
from fastdigit.compiler.passes.rewrite import Pair, Replacement, map_nodes, replace_pairs

__all__ = ["cancel_transposes"]


def cancel_transposes(graph: Graph) -> Graph:
    """Sink each transpose below its consumer where that has an equivalent in the other layout.

    A transpose before a dense layer is absorbed by the order of the rows of its weights. One that
    moves only axes of length 1 vanishes in a reshape; a reshape that does no more than that becomes
    a transpose.
    """
    return replace_pairs(map_nodes(graph, partial(_reshape_as_transpose, graph)), _rule)


def _reshape_as_transpose(graph: Graph, node: Node) -> Op:
    shape = graph.shapes[node.inputs[0]]
    if isinstance(node.op, Reshape) and node.op.shape != shape:
        perm = unit_permutation(shape, node.op.shape)
        if perm is not None:
            return Transpose(perm)
    return node.op


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first, pair.second
    if not isinstance(first.op, Transpose):
        return None
    perm = first.op.perm
    match second.op:
        case Transpose(after):
            merged = tuple(perm[axis] for axis in after)
            if is_identity(merged):
                return []
            return [(first.name, Transpose(merged))]
        case Eltwise(affine=affine):
            moved_affine = affine and replace(affine, axis=perm[affine.axis])
            return [(second.name, replace(second.op, affine=moved_affine)), (first.name, first.op)]
        case Pad(widths, value):
            back = tuple(widths[axis] for axis in inverse(perm))
            return [(second.name, Pad(back, value)), (first.name, first.op)]
        case Crop(widths):
            back = tuple(widths[axis] for axis in inverse(perm))
            return [(second.name, Crop(back)), (first.name, first.op)]
        case Reshape():
            if moves_only_units(perm, pair.shape_in):
                return [(second.name, second.op)]
        case Dense(weights) if len(perm) == 3:
            rows = weights.reshape(*pair.shape_between, -1)
            back_to = rows.transpose(*inverse(perm), 3).reshape(weights.shape)
            return [(second.name, replace(second.op, weights=back_to))]
    return None

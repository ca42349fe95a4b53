"""Remove what computes nothing: dead nodes, layers without effect, scales of 1, biases of 0."""

from __future__ import annotations

from dataclasses import replace

from fastdigit.compiler.ir import LINEAR, Affine, Array, Graph, Node, Op, Pool
from fastdigit.compiler.ops import (
    Binary,
    Conv2D,
    Crop,
    Dense,
    Eltwise,
    Pad,
    Pool2D,
    Reshape,
    Transpose,
)
from fastdigit.compiler.passes.rewrite import map_nodes, remove_dead, remove_nodes

__all__ = ["remove_identities"]


def remove_identities(graph: Graph) -> Graph:
    """Drop nodes that nothing reads and nodes that return their input; None for neutral weights."""
    graph = map_nodes(remove_dead(graph), lambda node: _without_neutral_weights(node.op))
    return remove_nodes(graph, lambda node: _is_identity(graph, node))


def _bias(bias: Array | None) -> Array | None:
    return bias if bias is not None and bias.any() else None


def _affine(affine: Affine | None) -> Affine | None:
    if affine is None or ((affine.scale == 1).all() and not affine.shift.any()):
        return None
    return affine


def _pool(pool: Pool | None) -> Pool | None:
    return None if pool is None or (pool.size == (1, 1) and pool.stride == (1, 1)) else pool


def _without_neutral_weights(op: Op) -> Op:
    match op:
        case Conv2D():
            new = replace(op, bias=_bias(op.bias), affine=_affine(op.affine), pool=_pool(op.pool))
            unchanged = new.bias is op.bias and new.affine is op.affine and new.pool is op.pool
            return op if unchanged else new
        case Dense():
            return op if _bias(op.bias) is op.bias else replace(op, bias=None)
        case Eltwise() | Binary():
            return op if _affine(op.affine) is op.affine else replace(op, affine=None)
    return op


def _is_identity(graph: Graph, node: Node) -> bool:
    match node.op:
        case Eltwise(activation, affine):
            return activation == LINEAR and affine is None
        case Pool2D(pool):
            return _pool(pool) is None
        case Pad(widths) | Crop(widths):
            return not any(sum(width) for width in widths)
        case Transpose(perm):
            return perm == tuple(range(len(perm)))
        case Reshape(shape):
            return shape == graph.shapes[node.inputs[0]]
    return False

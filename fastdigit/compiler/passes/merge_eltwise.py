"""Merge element-wise neighbours into one operator: an activation, then an affine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fastdigit.compiler.axes import aligned_shape, is_uniform
from fastdigit.compiler.ir import LINEAR, Affine, Graph, Node, Op
from fastdigit.compiler.ops import Binary, Eltwise
from fastdigit.compiler.passes.rewrite import Pair, Replacement, map_nodes, replace_pairs

__all__ = ["merge_eltwise"]


def merge_eltwise(graph: Graph) -> Graph:
    """Join activations with the affine behind them, and affines along one axis with each other.

    A sum or product with a constant that has a single axis is an affine.
    """
    return replace_pairs(map_nodes(graph, partial(_as_affine, graph)), _rule)


def _as_affine(graph: Graph, node: Node) -> Op:
    op = node.op
    if not isinstance(op, Binary) or op.constant is None or op.kind not in ("add", "mul"):
        return op
    if op.activation != LINEAR or op.affine is not None:
        return op
    shape = graph.shapes[node.output]
    dims = aligned_shape(op.constant.shape, len(shape))
    axes = [axis for axis, size in enumerate(dims) if size != 1]
    if len(axes) > 1:
        return op
    axis = axes[0] if axes else len(shape) - 1
    vector = np.broadcast_to(op.constant.ravel().astype(np.float64), (shape[axis],))
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    return Eltwise(
        affine=Affine(axis, vector, zero) if op.kind == "mul" else Affine(axis, one, vector)
    )


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first.op, pair.second.op
    if not isinstance(first, Eltwise) or not isinstance(second, Eltwise):
        return None
    if second.activation != LINEAR:
        return None
    if first.affine is None or second.affine is None:
        affine = first.affine or second.affine
    else:
        affine = _compose(first.affine, second.affine)
        if affine is None:
            return None
    name = pair.first.name if first.activation != LINEAR else pair.second.name
    return [(name, replace(first, affine=affine))]


def _compose(inner: Affine, outer: Affine) -> Affine | None:
    """Return the affine that applies ``inner``, then ``outer``; None if they differ in axis."""
    if inner.axis != outer.axis:
        if is_uniform(inner):
            inner = Affine(outer.axis, inner.scale[:1], inner.shift[:1])
        elif is_uniform(outer):
            outer = Affine(inner.axis, outer.scale[:1], outer.shift[:1])
        else:
            return None
    outer_scale = outer.scale.astype(np.float64)
    return Affine(
        inner.axis,
        inner.scale * outer_scale,
        inner.shift * outer_scale + outer.shift,
    )

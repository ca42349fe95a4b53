"""Merge element-wise neighbours into one operator: an activation, then an affine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.ir import LINEAR, Affine, Eltwise, Graph
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["is_uniform", "merge_eltwise"]


def merge_eltwise(graph: Graph) -> Graph:
    """Join activations with the affine behind them, and affines along one axis with each other."""
    return replace_pairs(graph, _rule)


def is_uniform(affine: Affine) -> bool:
    """Whether every element gets the same scale and shift."""
    return bool(np.ptp(affine.scale) == 0 and np.ptp(affine.shift) == 0)


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

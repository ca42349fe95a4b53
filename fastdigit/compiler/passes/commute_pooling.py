"""Move element-wise operators before a pooling, where a convolution's epilogue takes both."""

from __future__ import annotations

from dataclasses import replace

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.axes import is_uniform
from fastdigit.compiler.ir import LINEAR, Affine, Graph, Pool, Shape
from fastdigit.compiler.ops import Conv2D, Eltwise, Pool2D
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["commute_pooling"]


def commute_pooling(graph: Graph) -> Graph:
    """Swap a pooling directly after a bare convolution with the element-wise operator behind it.

    Activations that never decrease commute with a maximum, bit for bit, as do affines per
    channel with scales that are not negative. Averages commute with affines per channel, whatever
    the scale, and with no activation.
    """
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first, pair.second
    if not isinstance(first.op, Pool2D) or not isinstance(second.op, Eltwise):
        return None
    pool, eltwise = first.op.pool, second.op
    if not _epilogue_has_room(pair, eltwise):
        return None
    if pool.mode == "average" and eltwise.activation != LINEAR:
        return None
    if not ACTIVATIONS[eltwise.activation.name].monotone:
        return None
    affine = eltwise.affine
    if affine is not None:
        affine = _before_pool(affine, pool, pair.shape_in)
        if affine is None:
            return None
    return [(second.name, replace(eltwise, affine=affine)), (first.name, first.op)]


def _epilogue_has_room(pair: Pair, eltwise: Eltwise) -> bool:
    """Whether a convolution before the pooling can take ``eltwise`` too."""
    before = pair.producer(pair.first)
    if before is not None and isinstance(before.op, Eltwise):
        if before.op.affine is not None or eltwise.activation != LINEAR:
            return False
        before = pair.producer(before)
    return (
        before is not None
        and isinstance(before.op, Conv2D)
        and before.op.activation == LINEAR
        and before.op.affine is None
        and before.op.pool is None
        and before.op.groups == 1
    )


def _before_pool(affine: Affine, pool: Pool, shape: Shape) -> Affine | None:
    """Return the affine that does before the pooling what ``affine`` does behind it."""
    if pool.mode == "max" and (affine.scale < 0).any():
        return None
    if is_uniform(affine):
        channels = shape[2]
        return Affine(2, affine.scale[:1].repeat(channels), affine.shift[:1].repeat(channels))
    return affine if affine.axis == 2 else None

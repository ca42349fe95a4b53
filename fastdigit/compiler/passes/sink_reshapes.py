"""Move reshapes towards the output, where a dense layer reads an image as it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.axes import is_uniform
from fastdigit.compiler.ir import Affine, Graph, Shape
from fastdigit.compiler.ops import Dense, Eltwise, Reshape
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["sink_reshapes"]


def sink_reshapes(graph: Graph) -> Graph:
    """Merge reshapes, move them below element-wise operators, drop them before a dense layer."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first, pair.second
    if not isinstance(first.op, Reshape):
        return None
    match second.op:
        case Reshape():
            return [(second.name, second.op)]
        case Eltwise(affine=affine):
            moved = affine and _move_affine(affine, pair.shape_between, pair.shape_in)
            if affine is None or moved is not None:
                return [(second.name, replace(second.op, affine=moved)), (first.name, first.op)]
        case Dense() if len(pair.shape_in) in (1, 3):
            return [(second.name, second.op)]
    return None


def _move_affine(affine: Affine, shape: Shape, target: Shape) -> Affine | None:
    """Return the affine of a value of ``target`` shape that does the same before the reshape."""
    if is_uniform(affine):
        size = target[-1]
        scale, shift = np.full(size, affine.scale[0]), np.full(size, affine.shift[0])
        return Affine(len(target) - 1, scale, shift)
    # The elements that share an index of `axis` lie the same way in both shapes if the axis has the
    # same length, and as many elements behind it.
    behind = int(np.prod(shape[affine.axis + 1 :]))
    for axis, size in enumerate(target):
        if size == shape[affine.axis] and int(np.prod(target[axis + 1 :])) == behind:
            return replace(affine, axis=axis)
    return None

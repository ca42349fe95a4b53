"""Join what follows a convolution, a dense layer or two joined branches into its epilogue:
one loop instead of several."""

from __future__ import annotations

from dataclasses import replace

from fastdigit.compiler.ir import LINEAR, Graph
from fastdigit.compiler.ops import Binary, Conv2D, Dense, Eltwise, Pool2D
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["fuse_epilogue"]


def fuse_epilogue(graph: Graph) -> Graph:
    """Fuse activation, affine and pooling, in this order, as far as the layer still has room."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    name = pair.first.name
    match pair.first.op, pair.second.op:
        case Conv2D(pool=None, groups=1) as conv, Pool2D(pool):
            return [(name, replace(conv, pool=pool))]
        case Conv2D(affine=None, pool=None) as conv, Eltwise(activation, affine):
            if activation == LINEAR:
                return [(name, replace(conv, affine=affine))]
            if conv.activation == LINEAR:
                return [(name, replace(conv, activation=activation, affine=affine))]
        case Binary(affine=None) as binary, Eltwise(activation, affine):
            if activation == LINEAR:
                return [(name, replace(binary, affine=affine))]
            if binary.activation == LINEAR:
                return [(name, replace(binary, activation=activation, affine=affine))]
        case Dense(activation=own) as dense, Eltwise(activation, affine):
            if own == LINEAR != activation:
                fused = (name, replace(dense, activation=activation))
                if affine is None:
                    return [fused]
                return [fused, (pair.second.name, Eltwise(LINEAR, affine))]
    return None

"""Join what follows a convolution, a dense layer or two joined branches into its epilogue:
one loop instead of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from fastdigit.compiler.ir import LINEAR, Graph, Op
from fastdigit.compiler.ops import Eltwise, Pool2D
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["fuse_epilogue"]


def fuse_epilogue(graph: Graph) -> Graph:
    """Fuse activation, affine and pooling, in this order, as far as the layer still has room."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    first, second, name = pair.first.op, pair.second.op, pair.first.name
    if isinstance(second, Pool2D):
        return [(name, _with(first, pool=second.pool))] if _has_room(first, "pool") else None
    if not isinstance(second, Eltwise) or not first.epilogue:
        return None
    if not all(_is_free(first, part) for part in ("affine", "pool")):
        return None
    activation, affine = second.activation, second.affine
    fused = first
    if activation != LINEAR:
        if not _has_room(first, "activation"):
            return None
        fused = _with(first, activation=activation)
    if "affine" in first.epilogue:
        return [(name, _with(fused, affine=affine))]
    if fused is first:
        return None
    rest = [] if affine is None else [(pair.second.name, Eltwise(LINEAR, affine))]
    return [(name, fused), *rest]


def _has_room(op: Op, part: str) -> bool:
    return part in op.epilogue and _is_free(op, part)


def _is_free(op: Op, part: str) -> bool:
    """Whether an operator does nothing in this part of its epilogue."""
    return getattr(op, part, None) in (None, LINEAR)


def _with(op: Op, **parts: Any) -> Op:
    return replace(cast(Any, op), **parts)  # type: ignore[no-any-return]

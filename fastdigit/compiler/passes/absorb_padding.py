"""Give zero padding to the convolution behind it."""

from __future__ import annotations

from dataclasses import replace

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.ir import Graph
from fastdigit.compiler.ops import Conv2D, Eltwise, Pad
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["absorb_padding"]


def absorb_padding(graph: Graph) -> Graph:
    """Merge pads, move them below element-wise operators that keep zeros, and into convolutions."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first, pair.second
    if not isinstance(first.op, Pad) or first.op.value != 0:
        return None
    widths = first.op.widths
    match second.op:
        case Pad(after, 0.0):
            merged = tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(widths, after, strict=True))
            return [(first.name, Pad(merged))]
        case Eltwise(activation, None) if ACTIVATIONS[activation.name].at_zero == 0:
            return [(second.name, second.op), (first.name, first.op)]
        case Conv2D(pad=(top, left, bottom, right)) if widths[2] == (0, 0):
            (above, below), (before, behind), _ = widths
            pad = (top + above, left + before, bottom + below, right + behind)
            return [(second.name, replace(second.op, pad=pad))]
    return None

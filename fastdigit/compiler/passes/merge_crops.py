"""One crop in place of several, or of one that takes back what a padding added."""

from __future__ import annotations

from fastdigit.compiler.ir import Graph
from fastdigit.compiler.ops import Crop, Pad
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["merge_crops"]


def merge_crops(graph: Graph) -> Graph:
    """Join crops, as exporters write one for each axis, and take a crop off a padding."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    first, second = pair.first, pair.second
    match first.op, second.op:
        case Crop(before), Crop(after):
            joined = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(before, after, strict=True))
            return [(second.name, Crop(tuple(joined)))]
        case Pad(widths, value), Crop(cut):
            left = tuple((w[0] - c[0], w[1] - c[1]) for w, c in zip(widths, cut, strict=True))
            if min(map(min, left)) >= 0:
                return [(first.name, Pad(left, value))]
    return None

"""Shift the output of a normalised convolution so that what its relu cut off is zero again.

A BatchNormalization after a relu turns the relu's zeros into its shift. The dense layer that
follows then has no zero inputs, and a kernel that skips the weights of zero inputs has nothing to
skip. But the shift is a constant, so it can move through the dense layer into its bias.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.ir import Affine, Array, Graph, Pool
from fastdigit.compiler.ops import Conv2D, Dense
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["move_baseline"]


def move_baseline(graph: Graph) -> Graph:
    """Subtract from each output of relu, affine and pooling its value at an all-zero relu, and give
    the following dense layer's bias what that takes away."""
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    conv, dense = pair.first.op, pair.second.op
    if not (isinstance(conv, Conv2D) and isinstance(dense, Dense) and conv.affine is not None):
        return None
    if conv.activation.name != "relu":
        return None
    axis, shift = conv.affine.axis, np.asarray(conv.affine.shift, np.float64)
    windows = _windows(conv.pool, axis, len(shift), pair.shape_between[axis])
    if windows is None:
        return None
    baseline = np.array([shift[window].max() for window in windows])
    if not baseline.any():
        return None
    moved = shift.copy()
    for window, value in zip(windows, baseline, strict=True):
        moved[window] -= value
    shape = [1, 1, 1]
    shape[axis] = len(baseline)
    image = np.broadcast_to(baseline.reshape(shape), pair.shape_between)
    weights = np.asarray(dense.weights, np.float64)
    bias: Array = image.ravel() @ weights
    if dense.bias is not None:
        bias = bias + dense.bias
    return [
        (pair.first.name, replace(conv, affine=Affine(axis, conv.affine.scale, moved))),
        (pair.second.name, replace(dense, bias=bias)),
    ]


def _windows(pool: Pool | None, axis: int, length: int, outputs: int) -> list[slice] | None:
    """Indices of the affine's axis that meet in each output; None if an index is in two of them, or
    an output is not a maximum."""
    if axis == 2 or pool is None:
        return [slice(i, i + 1) for i in range(length)]
    size, stride, before = pool.size[axis], pool.stride[axis], pool.pad[axis]
    if pool.mode != "max" or stride < size:
        return None
    starts = [i * stride - before for i in range(outputs)]
    return [slice(max(start, 0), min(start + size, length)) for start in starts]

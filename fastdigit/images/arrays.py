"""Filters that the steps share: sliding extremes, averages over blocks, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["averaged", "box_mean", "closing", "resampling", "run_lengths", "sliding_max"]


def sliding_max(values: Floats, window: int, axis: int) -> Floats:
    """The greatest of each ``window`` neighbours; the axis gets shorter by ``window`` - 1.

    By doubling: the time is that of log2(window) passes.
    """
    values = np.moveaxis(values, axis, 0)
    length, span = len(values) - window + 1, 1
    while 2 * span <= window:
        values = np.maximum(values[:-span], values[span:])
        span *= 2
    values = np.maximum(values[:length], values[window - span : window - span + length])
    return np.moveaxis(values, 0, axis)


def closing(values: Floats, window: int) -> Floats:
    """Fill what is dark and narrower than ``window``; sides get shorter by 2 ``window`` - 2."""
    for axis in range(values.ndim):
        values = sliding_max(values, window, axis)
    for axis in range(values.ndim):
        values = -sliding_max(-values, window, axis)
    return values


def box_mean(values: Floats, window: int) -> Floats:
    """The mean of the ``window`` x ``window`` pixels around each, with the edges repeated."""
    before = window // 2
    sums = np.pad(values, (before + 1, window - before - 1), "edge").cumsum(0).cumsum(1)
    size, other = values.shape
    total = sums[window:, window:] - sums[:-window, window:]
    total -= sums[window:, :-window] - sums[:-window, :-window]
    mean: Floats = total[:size, :other] / window**2
    return mean


def averaged(values: Floats, block: int) -> Floats:
    """Means of square blocks of the first two axes; those at the end may be smaller."""
    if block == 1:
        return values
    ys, xs = (np.arange(0, n, block) for n in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, ys, axis=0), xs, axis=1)
    counts = [
        np.diff(np.append(starts, n)) for starts, n in zip((ys, xs), values.shape[:2], strict=True)
    ]
    areas = np.outer(*counts)
    means: Floats = sums / (areas if values.ndim == 2 else areas[..., None])
    return means


def resampling(n: int, m: int) -> Floats:
    """Weights (m, n) that make m samples of n: a triangle as wide as the coarser of both grids,
    which interpolates linearly when enlarging and averages when reducing."""
    step = n / m
    centres = (np.arange(m) + 0.5) * step - 0.5
    distance = np.abs(centres[:, None] - np.arange(n))
    weights = np.clip(1 - distance / max(step, 1.0), 0, None)
    weighted: Floats = weights / weights.sum(1, keepdims=True)
    return weighted


def run_lengths(mask: NDArray[Any]) -> NDArray[np.intp]:
    """Of each pixel in the mask, how long the column of such pixels is in which it lies."""
    height, width = mask.shape
    padded = np.zeros((width, height + 2), np.int8)
    padded[:, 1:-1] = mask.T
    steps = np.diff(padded, axis=1).ravel()
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    marks = np.zeros(width * (height + 1), np.intp)
    marks[starts] = ends - starts
    marks[ends] -= ends - starts
    return marks.cumsum().reshape(width, height + 1)[:, :-1].T

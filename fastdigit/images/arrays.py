"""Filters that the steps share: sliding extremes, averages over blocks, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "averaged",
    "box_mean",
    "closing",
    "framed",
    "quantile",
    "resampling",
    "run_lengths",
    "sliding_max",
    "surrounded",
]

# Sums of so many bytes a side fit 32 bits.
MOST_BYTES = 4096


def sliding_max(values: NDArray[Any], window: int, axis: int) -> NDArray[Any]:
    """The greatest of each ``window`` neighbours; the axis gets shorter by ``window`` - 1.

    By doubling: the time is that of log2(window) passes.
    """
    before = (slice(None),) * axis
    length, span = values.shape[axis] - window + 1, 1
    while 2 * span <= window:
        values = np.maximum(values[(*before, slice(-span))], values[(*before, slice(span, None))])
        span *= 2
    rest = slice(window - span, window - span + length)
    greatest: NDArray[Any] = np.maximum(values[(*before, slice(length))], values[(*before, rest)])
    return greatest


def framed(values: NDArray[Any], before: int, after: int) -> NDArray[Any]:
    """With the edges of both axes repeated."""
    rows, columns = (np.arange(-before, n + after).clip(0, n - 1) for n in values.shape)
    wider: NDArray[Any] = values[rows][:, columns]
    return wider


def surrounded(values: NDArray[Any], by: int) -> NDArray[Any]:
    """With so many zeros on each side; as np.pad, which takes longer in small pictures."""
    height, width = values.shape
    wider = np.zeros((height + 2 * by, width + 2 * by), values.dtype)
    wider[by : by + height, by : by + width] = values
    return wider


def quantile(values: Floats, part: float) -> float:
    """As np.quantile, which takes longer of few values."""
    place = part * (values.size - 1)
    below = int(place)
    above = min(below + 1, values.size - 1)
    low, high = np.partition(values.ravel(), (below, above))[[below, above]].tolist()
    return float(low + (high - low) * (place - below))


def closing(values: NDArray[Any], window: int) -> NDArray[Any]:
    """Fill what is dark and narrower than ``window``; sides get shorter by 2 ``window`` - 2."""
    for axis in range(values.ndim):
        values = sliding_max(values, window, axis)
    for axis in range(values.ndim):
        values = -sliding_max(-values, window, axis)
    return values


def box_mean(values: Floats, window: int) -> Floats:
    """The mean of the ``window`` x ``window`` pixels around each, with the edges repeated."""
    before = window // 2
    sums = framed(values, before + 1, window - before - 1).cumsum(0).cumsum(1)
    size, other = values.shape
    total = sums[window:, window:] - sums[:-window, window:]
    total -= sums[window:, :-window] - sums[:-window, :-window]
    mean: Floats = total[:size, :other] / window**2
    return mean


def averaged(values: NDArray[Any], block: int) -> Floats:
    """Means of square blocks of the first two axes; those at the end may be smaller."""
    if block == 1:
        return values.astype(np.float64, copy=False)
    rows, columns = (-(-n // block) for n in values.shape[:2])
    # Bytes are added up as integers.
    dtype = np.uint32 if values.dtype == np.uint8 and block <= MOST_BYTES else np.float64
    lines = np.zeros((rows, *values.shape[1:]), dtype)
    for start in range(block):
        part = values[start::block]
        lines[: len(part)] += part
    sums = np.zeros((rows, columns, *values.shape[2:]), dtype)
    for start in range(block):
        part = lines[:, start::block]
        sums[:, : part.shape[1]] += part
    counts = (np.diff(np.append(np.arange(0, n, block), n)) for n in values.shape[:2])
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

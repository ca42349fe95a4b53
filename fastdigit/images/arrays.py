"""Filters that the steps share, on arrays of any layout; the loops are in C (csrc/image)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.images import _pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "averaged",
    "box_mean",
    "closing",
    "flattened",
    "framed",
    "plane",
    "quantile",
    "resampled",
    "run_lengths",
    "sliding_max",
    "surrounded",
]


def plane(values: NDArray[Any]) -> Floats:
    """As the loops take it: float64, row after row."""
    return np.ascontiguousarray(values, np.float64)


def sliding_max(values: NDArray[Any], window: int, axis: int) -> Floats:
    """The greatest of each ``window`` neighbours; the axis gets shorter by ``window`` - 1."""
    return _pixels.sliding_max(plane(values), window, axis)


def framed(values: NDArray[Any], before: int, after: int) -> NDArray[Any]:
    """With the edges of both axes repeated."""
    # Of whole numbers, `clip` takes far longer than both of these.
    rows, columns = (
        np.minimum(np.maximum(np.arange(-before, n + after), 0), n - 1) for n in values.shape
    )
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
    return _pixels.quantile(np.ascontiguousarray(values.ravel(), np.float64), part)


def closing(values: NDArray[Any], window: int) -> Floats:
    """Fill what is dark and narrower than ``window``, with the edges repeated."""
    return _pixels.closing(plane(values), window)


def flattened(values: NDArray[Any], window: int, little: float) -> Floats:
    """Each pixel beside its closing, both with ``little`` more."""
    return _pixels.flattened(plane(values), window, little)


def box_mean(values: NDArray[Any], window: int) -> Floats:
    """The mean of the ``window`` x ``window`` pixels around each, with the edges repeated."""
    return _pixels.box_mean(plane(values), window)


def averaged(values: NDArray[Any], block: int, full: float = 1) -> Floats:
    """Means of square blocks of the first two axes, divided by ``full``; those at the end may be
    smaller."""
    if values.ndim == 2:
        return averaged(values[..., None], block, full)[..., 0]
    if not values.flags.c_contiguous or values.dtype.char not in "BH?d":
        values = np.ascontiguousarray(values, None if values.dtype.char in "BH?" else np.float64)
    return _pixels.averaged(values, block, full)


def resampled(values: NDArray[Any], rows: int, columns: int) -> Floats:
    """In another size: each sample is weighted by a triangle as wide as the coarser of both grids,
    which interpolates linearly when enlarging and averages when reducing."""
    return _pixels.resampled(plane(values), rows, columns)


def run_lengths(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Of each pixel in the mask, how long the column of such pixels is in which it lies."""
    return _pixels.run_lengths(np.ascontiguousarray(mask, np.bool_))

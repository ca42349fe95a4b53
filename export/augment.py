"""Augmentation of training digits: one affine map and one elastic distortion, composed.

Both are applied in a single resampling, so that an image is interpolated once. Done in NumPy for
whole batches: about 20 µs an image and core, beside 250 µs for the training step.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from export.recipes import Augmentation

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["augment", "displacements", "resample"]


def augment(
    images: npt.NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Distort each image at random.

    Parameters
    ----------
    images
        uint8 of shape (N, rows, columns); 0 is background.
    augmentation
        How far to go.
    random
        Where the randomness comes from; the result is a function of its state.

    Returns
    -------
    ndarray
        float32 of shape (N, rows, columns), in [0, 1].
    """
    rows, columns = displacements(images.shape, augmentation, random)
    return resample(images, rows, columns) * np.float32(1 / 255)


def displacements(
    shape: tuple[int, ...], augmentation: Augmentation, random: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Draw where each pixel of the distorted images comes from.

    Returns
    -------
    tuple of ndarray
        Row and column in the original for each pixel, float32 of shape (N, rows, columns).
    """
    n, height, width = shape
    a = augmentation

    def uniform(limit: float) -> npt.NDArray[np.float32]:
        return random.uniform(-limit, limit, n).astype(np.float32)

    angle = uniform(np.deg2rad(a.rotation))
    row_scale, column_scale = 1 + uniform(a.zoom), 1 + uniform(a.zoom)
    shear = uniform(a.shear)
    row_shift, column_shift = uniform(a.shift), uniform(a.shift)

    # From a pixel of the result, relative to the centre, back to one of the original: the shift
    # is undone, then the rotation, then shear and zoom.
    row = np.arange(height, dtype=np.float32) - (height - 1) / 2
    column = np.arange(width, dtype=np.float32) - (width - 1) / 2
    row = row[None, :, None] - row_shift[:, None, None]
    column = column[None, None, :] - column_shift[:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    turned_row = cosine * row + sine * column
    turned_column = cosine * column - sine * row
    rows = turned_row / row_scale[:, None, None] + (height - 1) / 2
    columns = (turned_column - shear[:, None, None] * turned_row) / column_scale[:, None, None]
    columns += (width - 1) / 2

    if a.elastic:
        noise = random.standard_normal((2, *shape), dtype=np.float32)
        smooth = np.matmul(
            np.matmul(_gaussian(height, a.elastic_sigma), noise),
            _gaussian(width, a.elastic_sigma).T,
        )
        rows += np.float32(a.elastic) * smooth[0]
        columns += np.float32(a.elastic) * smooth[1]
    return rows.astype(np.float32), columns.astype(np.float32)


@functools.cache
def _gaussian(size: int, sigma: float) -> npt.NDArray[np.float32]:
    """Smoothing along one axis that leaves white noise with a standard deviation of 1."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    return (kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32)


def resample(
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.float32],
    columns: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Read `images` at fractional positions: bilinear, and 0 outside.

    Parameters
    ----------
    images
        uint8 of shape (N, height, width).
    rows, columns
        Positions, float32 of shape (N, any, any).

    Returns
    -------
    ndarray
        float32 of the shape of `rows`, in 0 .. 255.
    """
    n, height, width = images.shape
    # A border of zeros, so that every neighbour exists; further out it is zero all the same.
    padded = np.zeros((n, height + 3, width + 3), np.float32)
    padded[:, 1:-2, 1:-2] = images
    rows = np.clip(rows, -1, height) + np.float32(1)
    columns = np.clip(columns, -1, width) + np.float32(1)
    row, column = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - row.astype(np.float32), columns - column.astype(np.float32)
    stride = width + 3
    index = row * stride + column
    index += (np.arange(n, dtype=np.int32) * ((height + 3) * stride))[:, None, None]
    flat = padded.reshape(-1)
    top = flat.take(index)
    top += right * (flat.take(index + 1) - top)
    index += stride
    bottom = flat.take(index)
    bottom += right * (flat.take(index + 1) - bottom)
    return top + down * (bottom - top)

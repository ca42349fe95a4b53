"""What :mod:`fastdigit.reader` has from csrc/image once more, in NumPy: written for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support import image_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def page_ink(grey: Floats, dark: bool, block: int) -> tuple[Floats, float, float]:
    """The ink, its contrast, and the paper's noise."""
    if not dark:
        grey = 1 - grey
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % block), (0, -width % block)), "reflect")
    rows, columns = padded.shape[0] // block, padded.shape[1] // block
    blocks = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
    rank = int(0.8 * block * block)
    coarse = np.sort(blocks, axis=2)[..., rank]
    coarse = image_reference.closing(np.pad(coarse, 4, "edge"), 5)
    coarse = image_reference.box_mean(coarse, 3)
    paper = _between(height, rows, block) @ coarse @ _between(width, columns, block).T

    away = (paper - grey) / (paper + 0.15)
    seen = away[::2, ::3].ravel()
    tenth, quarter = np.quantile(seen, 0.1), np.quantile(seen, 0.25)
    noise = float(quarter - tenth) / 0.607
    middle = float(quarter) + 0.674 * noise
    top = float(away.max())
    much = seen[seen > middle + (top - middle) / 2]
    top = float(np.quantile(much, 0.75)) if len(much) else top
    if top <= middle:
        return np.zeros_like(grey), 0.0, noise
    start = middle + min(3 * noise, (top - middle) / 2)
    return np.clip((away - start) / (top - start), 0, 1), top - middle, noise


def _between(pixels: int, blocks: int, block: int) -> Floats:
    """Weights (pixels, blocks) of linear interpolation between the middles of blocks."""
    at = ((np.arange(pixels) + 0.5) / block - 0.5).clip(0, blocks - 1)
    low = np.floor(at).astype(np.intp)
    weights = np.zeros((pixels, blocks))
    weights[np.arange(pixels), low] = 1 - (at - low)
    weights[np.arange(pixels), np.minimum(low + 1, blocks - 1)] += at - low
    return weights

"""The ink of a whole page or field: where the paper is, and what is darker or brighter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import box_mean, closing, quantile
from fastdigit.images.background import ink_is_dark

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = ["Page", "ink_of_page"]

# Sides of the blocks that have one brightness of paper each: of the shorter side, and limits.
BLOCKS_OF_SIDE: Final = 14
SMALLEST_BLOCK, LARGEST_BLOCK = 4, 16
# Of a block's pixels, how many are darker than what counts as its paper.
PAPER_QUANTILE: Final = 0.8
# Blocks that a stroke may be wide.
WIDEST_STROKE: Final = 5
# A frame along the edge of the picture, in pixels or of the shorter side.
THICKEST_FRAME: Final = 4
EDGE: Final = 0.05
# Where there is little light, differences count for less: of white paper's.
LITTLE_LIGHT: Final = 0.15
# A normal distribution's: from its first tenth to its first quarter, and from there to its middle.
TENTH_TO_QUARTER, QUARTER_TO_MIDDLE = 0.607, 0.674
# So many deviations of the noise are still paper.
ABOVE_NOISE: Final = 3
# Every so many rows and columns are enough to know quantiles.
SAMPLED: Final = (slice(None, None, 2), slice(None, None, 3))


class Page:
    """Ink, and how sure it is that there is any.

    Attributes
    ----------
    ink
        How much there is in each pixel, 0 to 1.
    contrast
        Of the range from black to white: between ink and paper.
    noise
        One standard deviation of the paper, on the same scale.
    """

    def __init__(self, ink: Floats, contrast: float, noise: float) -> None:
        self.ink, self.contrast, self.noise = ink, contrast, noise


def ink_of_page(grey: Floats) -> Page:
    """How much ink there is in each pixel of a page, whatever its light.

    The paper of a block of pixels is what four fifths of them are darker than; blocks that strokes
    darken are filled from those around them (a morphological closing), and paper between the
    middles of blocks is interpolated.
    """
    if not _ink_is_dark(grey):
        grey = 1 - grey
    height, width = grey.shape
    block = min(max(min(height, width) // BLOCKS_OF_SIDE, SMALLEST_BLOCK), LARGEST_BLOCK)
    # Mirrored, not repeated: what is at the edge may be a frame.
    padded = np.pad(grey, ((0, -height % block), (0, -width % block)), "reflect")
    rows, columns = padded.shape[0] // block, padded.shape[1] // block
    blocks = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
    rank = int(PAPER_QUANTILE * block * block)
    coarse = np.partition(blocks, rank, axis=2)[..., rank]
    coarse = closing(np.pad(coarse, WIDEST_STROKE - 1, "edge"), WIDEST_STROKE)
    coarse = box_mean(coarse, 3)
    paper = _between(height, rows, block) @ coarse @ _between(width, columns, block).T

    away = (paper - grey) / (paper + LITTLE_LIGHT)
    seen = away[SAMPLED].ravel()
    tenth, quarter = quantile(seen, 0.1), quantile(seen, 0.25)
    noise = (quarter - tenth) / TENTH_TO_QUARTER
    middle = quarter + QUARTER_TO_MIDDLE * noise
    top = float(away.max())
    much = seen[seen > middle + (top - middle) / 2]
    top = quantile(much, 0.75) if len(much) else top
    if top <= middle:
        return Page(np.zeros_like(grey), 0.0, noise)
    start = middle + min(ABOVE_NOISE * noise, (top - middle) / 2)
    return Page(np.clip((away - start) / (top - start), 0, 1), top - middle, noise)


def _ink_is_dark(grey: Floats) -> bool:
    """Whether most parts of the picture say so: one that ends on a frame takes it for the paper."""
    edge = max(THICKEST_FRAME, round(EDGE * min(grey.shape)))
    votes = [ink_is_dark(grey)]
    for cut in (edge, 2 * edge + 1):
        if min(grey.shape) >= 4 * cut:
            votes.append(ink_is_dark(np.ascontiguousarray(grey[cut:-cut, cut:-cut])))
    return 2 * sum(votes) > len(votes) or (2 * sum(votes) == len(votes) and votes[0])


def _between(pixels: int, blocks: int, block: int) -> Floats:
    """Weights (pixels, blocks) of linear interpolation between the middles of blocks."""
    at = ((np.arange(pixels) + 0.5) / block - 0.5).clip(0, blocks - 1)
    low = np.floor(at).astype(np.intp)
    part = at - low
    weights = np.zeros((pixels, blocks))
    weights[np.arange(pixels), low] = 1 - part
    weights[np.arange(pixels), np.minimum(low + 1, blocks - 1)] += part
    return weights

"""The ink of a whole page or field: where the paper is, and what is darker or brighter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import averaged, closing, flattened, quantile
from fastdigit.images.background import ink_is_dark
from fastdigit.images.ink import (
    ABOVE_NOISE,
    LITTLE_LIGHT,
    MIN_CONTRAST,
    MOST_BEYOND,
    contrast_of_difference,
)
from fastdigit.reader import _loops
from fastdigit.reader.creases import without_creases
from fastdigit.reader.shades import shades_of

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = ["Page", "ink_of_page"]

# Sides of the blocks that have one brightness of paper each: of the shorter side, and limits.
BLOCKS_OF_SIDE: Final = 14
SMALLEST_BLOCK, LARGEST_BLOCK = 4, 16
# Blocks that a stroke may be wide.
WIDEST_STROKE: Final = 5
# Light, or what lies under the paper, that changes by more than this factor is evened out first,
# where it changes.
JUMP: Final = 1.25
# A frame along the edge of the picture, in pixels or of the shorter side.
THICKEST_FRAME: Final = 4
EDGE: Final = 0.05
# Pixels of the longer side that are enough to tell whether ink is dark.
ENOUGH: Final = 160
# How often shades are taken out, of which less is left each time.
FOLLOWED: Final = 3


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
    other
        The contrast of what is brighter than paper, if ink is darker, or darker; 0 where there is
        much contrast.
    light
        Of the paper, or what it lacks if ink is bright.
    dark
        Whether ink is darker than paper.
    fold
        Whether there is nothing but a soft shade from one edge to the other.
    """

    def __init__(self, found: tuple[Floats, float, float, float], light: float, dark: bool) -> None:
        self.ink, self.contrast, self.noise, self.other = found
        self.light, self.dark, self.fold = light, dark, False

    @property
    def shows_ink(self) -> bool:
        """Whether something stands out from the paper and its noise."""
        least = max(MIN_CONTRAST, contrast_of_difference(self.light, dark=self.dark))
        least = max(least, ABOVE_NOISE * self.noise)
        return self.contrast >= least and not self.is_noise

    @property
    def is_noise(self) -> bool:
        """Whether as much stands out to the other side of the paper."""
        return self.other > MOST_BEYOND * self.contrast


def ink_of_page(grey: Floats) -> Page:
    """How much ink there is in each pixel of a page, whatever its light.

    Paper is found block by block, as strokes are narrower than some blocks, and ink is what differs
    from it by more than its noise.
    """
    block = min(max(min(grey.shape) // BLOCKS_OF_SIDE, SMALLEST_BLOCK), LARGEST_BLOCK)
    coarse = averaged(grey, block)
    dark = _ink_is_dark(_bright_part(grey, coarse, block))
    light = quantile(coarse, 0.5)
    light = light if dark else 1 - light
    evened = _evened(grey, coarse, dark, block)
    page = Page(_loops.page_ink(evened, dark, block), light, dark)
    if page.shows_ink:
        uncreased, page.fold = without_creases(evened, page.ink, dark)
        if page.fold:
            return page
        if uncreased is not None:
            evened = uncreased
            page = Page(_loops.page_ink(evened, dark, block), light, dark)
    for _ in range(FOLLOWED):
        if not page.shows_ink:
            break
        window, page.fold = shades_of(page.ink)
        if not 0 < window < WIDEST_STROKE * block:
            break
        del page  # planes of a page are large
        # Paper that follows the shades of folds, as strokes are narrower than these.
        evened = _flattened(evened, dark, window)
        page = Page(_loops.page_ink(evened, dark, block), light, dark)
    return page


def _bright_part(grey: Floats, coarse: Floats, block: int) -> Floats:
    """Without what lies dark around it, the table perhaps: whether ink is dark is seen on paper."""
    low, high = float(coarse.min()), float(coarse.max())
    if high + LITTLE_LIGHT < JUMP * (low + LITTLE_LIGHT):
        return grey
    bright = coarse > (low + high) / 2
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    inside = grey[
        (rows[0] + 1) * block : rows[-1] * block, (columns[0] + 1) * block : columns[-1] * block
    ]
    return np.ascontiguousarray(inside) if min(inside.shape) > 2 * block else grey


def _evened(grey: Floats, coarse: Floats, dark: bool, block: int) -> Floats:
    """Without the edges of shadows and of the paper, which are no strokes: dark on one side only.

    Each pixel is compared with the paper around it as a closing finds it, which fills what is
    narrower than its window and keeps every edge in its place (Serra, Image Analysis and
    Mathematical Morphology, 1982).
    """
    coarse = closing(coarse if dark else 1 - coarse, WIDEST_STROKE)
    if coarse.max() + LITTLE_LIGHT < JUMP * (coarse.min() + LITTLE_LIGHT):
        return grey
    return _flattened(grey, dark, WIDEST_STROKE * block)


def _flattened(grey: Floats, dark: bool, window: int) -> Floats:
    """As if all paper were as bright, of which strokes are narrower than the window."""
    if dark:
        return flattened(grey, window, LITTLE_LIGHT)
    flat = flattened(1 - grey, window, LITTLE_LIGHT)
    np.subtract(1, flat, out=flat)
    return flat


def _ink_is_dark(grey: Floats) -> bool:
    """Whether most parts of the picture say so: one that ends on a frame takes it for the paper."""
    block = -(-max(grey.shape) // ENOUGH)
    if block > 1:
        grey = averaged(grey, block)
    edge = max(-(-THICKEST_FRAME // block), round(EDGE * min(grey.shape)))
    first = ink_is_dark(grey)
    for cut in (edge, 2 * edge + 1):
        if min(grey.shape) < 4 * cut:
            break
        # The second that agrees with the first decides, and else the third.
        vote = ink_is_dark(np.ascontiguousarray(grey[cut:-cut, cut:-cut]))
        if vote == first:
            break
    else:
        return vote
    return first

"""What the paper looks like at each pixel, and whether ink is darker or brighter than it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastdigit.images import _pixels

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = ["SMALL", "ink_is_dark", "structure_of", "widest_stroke"]

# Of the longer side: what is as wide and as high as this is no stroke, but a shadow or the table.
WIDEST_STROKE = 0.36
# The same in a picture this small, which is all digit.
SMALL, WIDEST_STROKE_OF_SMALL = 40, 0.6
# Of the longer side: where pixels are compared with the mean.
NEIGHBOURHOODS = (0.36, 0.15)
# What the border says, against the skew.
BORDER_VOTE = 0.3
# Where noise is averaged, to see what lies below it; not in a picture of fewer pixels a side.
AVERAGED, FEWEST = 5, 16
# Pixels a side that are enough to tell how noisy they are.
ENOUGH = 96


def structure_of(grey: Floats) -> tuple[float, float]:
    """How far the picture is from smooth light on empty paper, and which noise that is averaged in.

    Smooth light is a polynomial of second degree. Noise is what neighbouring pixels differ by,
    mostly; it is 0 in a picture too small to tell.
    """
    if min(grey.shape) < FEWEST:
        return float(np.ptp(grey)), 0.0
    rows, columns = (_polynomials(n) for n in grey.shape)
    every = -(-max(grey.shape) // ENOUGH)
    structure, step = _pixels.structure(grey, rows, columns, AVERAGED, every)
    # Of a bell curve the mean of the lower four fifths is so many standard deviations, and a
    # difference has two of its values.
    return structure, step / 0.5586 / 2**0.5 / AVERAGED


@lru_cache(maxsize=512)
def _polynomials(count: int) -> Floats:
    """Three orthonormal ones, of degrees 0 to 2, at evenly spaced places."""
    places = np.linspace(-1, 1, count)
    basis = np.linalg.qr(np.stack([np.ones(count), places, places**2], axis=1))[0]
    return np.ascontiguousarray(basis.T)


def ink_is_dark(grey: Floats) -> bool:
    """Whether there is dark ink on bright paper.

    Ink covers less than the paper around it, so the differences from the local mean are skewed to
    its side, whatever the light. Bold strokes in a tight crop cover half of it: then the border of
    the picture, which is mostly paper, decides.
    """
    side = max(grey.shape)
    skew = _pixels.skew(grey, [max(3, round(part * side) | 1) for part in NEIGHBOURHOODS])
    least, greatest = _pixels.extremes(grey)
    return BORDER_VOTE * _pixels.border_vote(grey, (least + greatest) / 2) >= skew


def widest_stroke(grey: Floats) -> int:
    """Pixels that a stroke may be wide, an odd number."""
    side = max(grey.shape)
    part = WIDEST_STROKE if side > SMALL else WIDEST_STROKE_OF_SMALL
    return max(3, int(part * side + 0.5) | 1)

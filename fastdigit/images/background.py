"""What the paper looks like at each pixel, and whether ink is darker or brighter than it."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastdigit.images.arrays import box_mean, closing, framed

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = [
    "SMALL",
    "flat_paper",
    "ink_is_dark",
    "paper_of_dark_ink",
    "structure_of",
    "widest_stroke",
]

# Of the longer side: what is as wide and as high as this is no stroke, but a shadow or the table.
WIDEST_STROKE = 0.36
# The same in a picture this small, which is all digit.
SMALL, WIDEST_STROKE_OF_SMALL = 40, 0.6
# Of the longer side: where pixels are compared with the mean.
NEIGHBOURHOODS = (0.36, 0.15)
# Of the way around the picture: what touches so much of its border is no stroke.
LONGEST_CONTACT = 0.4
# The same if it goes around a corner and the picture is no tight crop.
CORNER_CONTACT = 0.1
# What the border says, against the skew.
BORDER_VOTE = 0.3
# Where noise is averaged, to see what lies below it; not in a picture of fewer pixels a side.
AVERAGED, FEWEST = 5, 16
# Pixels a side that are enough to tell how noisy they are.
ENOUGH = 96


def flat_paper(grey: Floats) -> float | None:
    """The brightness of the border, if it is the same everywhere, and nothing in the picture is
    both brighter and darker: drawings, and digits that were prepared already."""
    paper = float(grey[0, 0])
    if any((side != paper).any() for side in _border(grey)):
        return None
    return paper if paper in (float(grey.min()), float(grey.max())) else None


def structure_of(grey: Floats) -> tuple[float, float]:
    """How far the picture is from smooth light on empty paper, and which noise that is averaged in.

    Smooth light is a polynomial of second degree. Noise is what neighbouring pixels differ by,
    mostly; it is 0 in a picture too small to tell.
    """
    if min(grey.shape) < FEWEST:
        return float(np.ptp(grey)), 0.0
    rows, columns = (_polynomials(n) for n in grey.shape)
    light = rows @ grey @ columns.T
    light[1, 2] = light[2, 1] = light[2, 2] = 0
    away = box_mean(grey - rows.T @ light @ columns, AVERAGED)
    edge = AVERAGED // 2  # beyond it, pixels would count several times
    away = away[edge:-edge, edge:-edge]
    every = -(-max(grey.shape) // ENOUGH)
    steps = np.diff(grey[:, ::every], axis=0), np.diff(grey[::every], axis=1)
    noise = max(_typical(np.abs(step)) for step in steps) / 2**0.5
    return float(np.abs(away).max()), noise / AVERAGED


def _typical(sizes: Floats) -> float:
    """The standard deviation of a bell curve, of absolute values of which a fifth are outliers."""
    count = int(0.8 * sizes.size)
    # The mean of the lower four fifths is so many standard deviations.
    return float(np.partition(sizes.ravel(), count)[:count].mean()) / 0.5586


@lru_cache(maxsize=512)
def _polynomials(count: int) -> Floats:
    """Three orthonormal ones, of degrees 0 to 2, at evenly spaced places."""
    places = np.linspace(-1, 1, count)
    return np.linalg.qr(np.stack([np.ones(count), places, places**2], axis=1))[0].T


def ink_is_dark(grey: Floats) -> bool:
    """Whether there is dark ink on bright paper.

    Ink covers less than the paper around it, so the differences from the local mean are skewed to
    its side, whatever the light. Bold strokes in a tight crop cover half of it: then the border of
    the picture, which is mostly paper, decides.
    """
    windows = (max(3, round(part * max(grey.shape)) | 1) for part in NEIGHBOURHOODS)
    away = [grey - box_mean(grey, window) for window in windows]
    cubes = np.stack([values * values * values for values in away])
    skew = float(cubes.sum() / max(np.abs(cubes).sum(), 1e-30))
    border = np.concatenate(_border(grey))
    middle = (float(grey.min()) + float(grey.max())) / 2
    return BORDER_VOTE * float(np.sign(border - middle).mean()) >= skew


def paper_of_dark_ink(grey: Floats, window: int) -> Floats:
    """The brightness of the paper at each pixel, without the strokes on it.

    A morphological closing: what is dark and narrower than ``window`` pixels is filled with what is
    around it, while edges of shadows stay where they are. Beyond its border the picture goes on
    as the border does, without the strokes that touch it.
    """
    height, width = grey.shape
    around = _paper_of_border(grey)
    top, right, bottom, left = np.split(around, np.cumsum([width, height, width]))
    edged = grey.copy()
    edged[:, 0], edged[:, -1] = left[::-1], right
    edged[0], edged[-1] = top, bottom[::-1]
    pad = window - 1
    padded = framed(edged, pad, pad)
    padded[pad : pad + height, pad : pad + width] = grey
    return closing(padded, window)


def widest_stroke(grey: Floats) -> int:
    """Pixels that a stroke may be wide, an odd number."""
    side = max(grey.shape)
    part = WIDEST_STROKE if side > SMALL else WIDEST_STROKE_OF_SMALL
    return max(3, int(part * side + 0.5) | 1)


def _paper_of_border(grey: Floats) -> Floats:
    """The border's pixels, clockwise, without what touches it."""
    sides = _border(grey)
    ring = np.concatenate(sides)
    count = len(ring)
    window = max(3, round(LONGEST_CONTACT * count))
    first = count - (window - 1)
    filled = closing(np.tile(ring, 3), window)[first : first + count]
    filled = np.maximum(filled, ring)
    touched = filled - ring > 0.25 * (grey.max() - grey.min())
    filled = np.where(touched, filled, ring)  # light that falls off to one side stays as it is
    corners = np.cumsum([0, *map(len, sides)])
    if not touched.any() or all(touched[a:b].any() for a, b in itertools.pairwise(corners)):
        return filled  # nothing touches it, or a digit all around
    # From a place that nothing touches, if there is one.
    start = int(np.argmin(touched))
    turned = np.roll(touched, -start)
    steps = np.diff(np.concatenate([[0], turned.astype(np.int8), [0]]))
    for begin, end in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
        goes_around = any(begin < (c - start) % count < end for c in corners[:-1])
        if goes_around and end - begin > CORNER_CONTACT * count:
            at = np.arange(begin + start, end + start) % count
            filled[at] = ring[at]
    return filled


def _border(grey: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The outermost pixels, clockwise from the upper left corner."""
    return grey[0], grey[:, -1], grey[-1, ::-1], grey[::-1, 0]

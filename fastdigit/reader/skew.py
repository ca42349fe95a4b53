"""Lines of text that are not level: how steep they are, and the page with them made level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.images.arrays import averaged, plane
from fastdigit.images.ink import INK
from fastdigit.reader import _loops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Straightened", "slope_of"]

# The steepest lines that are looked for, in rows a column: 12 degrees.
STEEPEST: Final = 0.2126
# In heights of a digit: how much lines may rise over all that is written without harm; and by how
# much two slopes that are tried differ there.
HARMLESS: Final = 0.25
STEP: Final = 0.15
# Slopes on either side of level, at most; and how many times those near the best are halved.
MOST_STEPS: Final = 24
HALVINGS: Final = 2
# How much sharper the rows of the page are to be, for lines that are not level; and by how much
# more, in heights of a digit over the width: few digits that stand high and low look like a slope.
SHARPER: Final = 1.04
SHARPER_IF_SHORT: Final = 0.25
# What is looked at: pixels of the longer side, and inked ones of these.
SIDE: Final = 512
POINTS: Final = 2000


def slope_of(ink: Floats, height: float) -> float:
    """Rows a column by which the lines of a page go down; 0 if they are level, or nearly so.

    Parameters
    ----------
    ink
        (height, width), 0 to 1.
    height
        Of a digit, in pixels; 0 if there is none.

    Notes
    -----
    Where lines are level, rows have much ink or none: of all slopes, the one along which sums of
    ink have the greatest squares (Postl, "Detection of Linear Oblique Structures and Skew Scan in
    Digitized Documents", 1986).
    """
    if not height:
        return 0.0
    block = -(-max(ink.shape) // SIDE)
    small = averaged(ink, block) if block > 1 else ink
    points = _loops.points(plane(small), INK, POINTS)
    if points is None:
        return 0.0
    down, across, first, last = points
    width = float(last - first) * block
    if STEEPEST * width <= HARMLESS * height:
        return 0.0
    low = STEEPEST * float(np.abs(across).max()) + 1

    def sharpness(slopes: NDArray[Any]) -> dict[float, int]:
        sums = _loops.sharpness(down, across, slopes, low)
        return dict(zip(slopes.tolist(), sums.tolist(), strict=True))

    steps = min(int(np.ceil(STEEPEST * width / (STEP * height))), MOST_STEPS)
    step = STEEPEST / steps
    tried = sharpness(step * np.arange(-steps, steps + 1))
    level, best = tried[0.0], max(tried, key=tried.__getitem__)
    for _ in range(HALVINGS):
        step /= 2
        beside = best + np.array([-step, step])
        tried |= sharpness(beside.clip(-STEEPEST, STEEPEST))
        best = max(tried, key=tried.__getitem__)
    least = SHARPER + SHARPER_IF_SHORT * height / width
    if tried[best] < least * level or abs(best) * width <= HARMLESS * height:
        return 0.0
    return best


class Straightened:
    """A page whose lines are made level, by two shears: with its columns moved up or down, then its
    rows to the side.

    Parameters
    ----------
    ink
        (height, width), 0 to 1.
    slope
        Of its lines, in rows a column.

    Attributes
    ----------
    ink
        With level lines; larger, and as large in its parts, but for a few hundredths.
    """

    def __init__(self, ink: Floats, slope: float) -> None:
        self._slope = slope
        self._shape = ink.shape
        sheared, self._above = _sheared(np.ascontiguousarray(ink.T), -slope)
        self.ink, self._before = _sheared(np.ascontiguousarray(sheared.T), slope)

    def box(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Where the ink of a box is on the page as it was: (top, bottom, left, right)."""
        top, bottom, left, right = box
        rows, columns = np.nonzero(self.ink[top:bottom, left:right] > INK)
        if not len(rows):
            rows, columns = np.array([0, bottom - top - 1]), np.array([0, right - left - 1])
        y, x = rows + top - self._above + 0.0, columns + left - self._before + 0.0
        x -= self._slope * (y + self._above)
        y += self._slope * x
        height, width = self._shape
        return (
            int(np.clip(np.floor(y.min()), 0, height - 1)),
            int(np.clip(np.ceil(y.max()) + 1, 1, height)),
            int(np.clip(np.floor(x.min()), 0, width - 1)),
            int(np.clip(np.ceil(x.max()) + 1, 1, width)),
        )


def _sheared(values: Floats, slope: float) -> tuple[Floats, float]:
    """Each row moved to the right by ``slope`` times its number, in a wider array; and by how much
    the first one is moved."""
    moved = slope * np.arange(len(values))
    first = -min(0.0, float(moved[-1]))
    return _loops.sheared(values, plane(moved + first)), first

"""Soft shades on a page, as of folds and creases: wide, and without the sharp edges of strokes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.images.ink import INK
from fastdigit.reader import _loops

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = ["Shades", "shades_of"]

# Rows and columns that are looked at, of the longer side.
LINES: Final = 64
# Ink rises by less within three pixels where an edge is soft; and at a fold that nothing sharp is
# beside.
SOFT: Final = 0.15
SOFT_ALONE: Final = 0.3
# A soft run is a shade's if it is so many pixels long, and so much longer than strokes are wide, or
# as pale as that in its middle.
LONG: Final = 10
LONGER: Final = 2.5
PALE: Final = 0.55
# Sharp runs that tell how wide strokes are; soft ones that tell of a shade.
FEWEST_SHARP: Final = 8
FEWEST_SOFT: Final = 3
# In pixels: sharp runs that are shorter are those of lines, or of strokes so narrow that any window
# does. And so much wider than strokes is a window that these are narrower than.
THIN: Final = 4
WINDOW: Final = 1.7
NARROWEST: Final = 9
# Of what nothing sharp is beside, how many runs may be short.
FEW: Final = 0.1


class Shades(NamedTuple):
    """What is soft in the ink of a page.

    Attributes
    ----------
    window
        Pixels that strokes are narrower than, and shades wider, if there are shades; or 0.
    fold
        Whether there is nothing else than a shade from one edge of the page to the other.
    """

    window: int
    fold: bool


def shades_of(ink: Floats) -> Shades:
    """Look for shades in (height, width) of ink, 0 to 1."""
    step = -(-max(ink.shape) // LINES)
    # A rise is that of the steeper end.
    lengths, rises, middles = _loops.runs(ink, step, INK)
    sharp = lengths[rises >= SOFT]
    soft = (rises < SOFT) & (lengths >= LONG)
    if len(sharp) >= FEWEST_SHARP and np.count_nonzero(soft) >= FEWEST_SOFT:
        strokes = sharp[sharp >= THIN]
        stroke = float(np.median(strokes)) if len(strokes) else THIN
        shades = soft & ((lengths >= LONGER * stroke) | (middles < PALE))
        if np.count_nonzero(shades) >= FEWEST_SOFT:
            return Shades(max(NARROWEST, round(WINDOW * stroke)) | 1, False)
    few = FEW * len(lengths)
    fold = np.count_nonzero((rises >= SOFT_ALONE) | (lengths < LONG)) <= few < len(lengths)
    return Shades(0, bool(fold) and (_goes_through(ink) or _goes_through(ink.T)))


def _goes_through(ink: Floats) -> bool:
    """Whether ink goes from the first row to the last, and stays away from both ends of rows."""
    inked = ink > INK
    return bool(
        inked[0].any() and inked[-1].any() and not inked[:, 0].any() and not inked[:, -1].any()
    )

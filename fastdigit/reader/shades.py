"""Soft shades on a page, as of folds and creases: wide, and without the sharp edges of strokes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    lengths, rises, middles = (
        np.concatenate(parts)
        for parts in zip(_runs(ink[::step]), _runs(ink[:, ::step].T), strict=True)
    )
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


def _runs(lines: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Of each run of ink in a row, its length, how steep its steeper end is, and how much ink there
    is in its middle; not of those from edge to edge."""
    count, width = lines.shape
    inked = np.zeros((count, width + 2), np.bool_)
    np.greater(lines, INK, out=inked[:, 1:-1])
    flat = inked.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    rows, starts = np.divmod(changes[::2], width + 2)
    ends = starts + changes[1::2] - changes[::2]
    first, last = starts > 0, ends < width
    some = first | last
    rows, starts, ends, first, last = (a[some] for a in (rows, starts, ends, first, last))
    rise = np.where(first, _rise(lines, rows, starts - 2, starts + 1), -1.0)
    fall = np.where(last, _rise(lines, rows, ends + 1, ends - 2), -1.0)
    return ends - starts, np.maximum(rise, fall), lines[rows, (starts + ends) // 2]


def _rise(
    lines: Floats, rows: NDArray[np.intp], outside: NDArray[np.intp], inside: NDArray[np.intp]
) -> Floats:
    last = lines.shape[1] - 1
    # Of whole numbers, `clip` takes far longer than both of these.
    inside, outside = (np.minimum(np.maximum(at, 0), last) for at in (inside, outside))
    rise: Floats = lines[rows, inside] - lines[rows, outside]
    return rise


def _goes_through(ink: Floats) -> bool:
    """Whether ink goes from the first row to the last, and stays away from both ends of rows."""
    inked = ink > INK
    return bool(
        inked[0].any() and inked[-1].any() and not inked[:, 0].any() and not inked[:, -1].any()
    )

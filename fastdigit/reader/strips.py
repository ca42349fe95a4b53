"""A field as one picture of one height, for a network that reads it without cutting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import plane, resampled
from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.cuts import Piece

__all__ = ["STRIP", "WINDOW", "Strip", "strip_of"]

#: Rows of a strip.
STRIP: Final = 32
#: Columns of it that the network takes at once.
WINDOW: Final = 160
# That a digit is high, unless the field would not fit.
DIGIT: Final = 24
# Digits further apart are moved together, in heights of a digit: looking at paper costs time.
GAP: Final = 0.4


@dataclass(frozen=True, eq=False)
class Strip:
    """A field.

    Attributes
    ----------
    pixels
        uint8 (STRIP, width): its ink.
    rows, columns
        (STRIP,) and (width,): where the middle of each row and column lies in the page, in pixels.
    """

    pixels: NDArray[np.uint8]
    rows: Floats
    columns: Floats


def strip_of(pieces: Sequence[Piece], height: float) -> Strip:
    """Draw the pieces of a field, whose digits are ``height`` pixels high."""
    top, left = min(p.top for p in pieces), min(p.left for p in pieces)
    bottom, right = max(p.bottom for p in pieces), max(p.right for p in pieces)
    ink = np.zeros((bottom - top, right - left))
    for piece in pieces:
        own = ink[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left]
        np.maximum(own, piece.ink, out=own)
    empty = ink.max(0) <= INK
    # How many empty columns end here.
    number = np.arange(len(empty))
    run = number - np.maximum.accumulate(np.where(empty, -1, number))
    kept = run <= GAP * height
    columns = np.flatnonzero(kept) + left + 0.5
    ink = plane(ink[:, kept])
    scale = min(DIGIT / height, STRIP / len(ink))
    high, wide = min(max(1, round(len(ink) * scale)), STRIP), max(1, round(ink.shape[1] * scale))
    pixels = np.zeros((STRIP, wide), np.uint8)
    above = (STRIP - high) // 2
    pixels[above : above + high] = np.rint(255 * resampled(ink, high, wide).clip(0, 1))
    rows = (np.arange(STRIP) - above + 0.5) * len(ink) / high + top
    at = (np.arange(wide) + 0.5) * len(columns) / wide - 0.5
    return Strip(pixels, rows, np.interp(at, np.arange(len(columns)), columns))

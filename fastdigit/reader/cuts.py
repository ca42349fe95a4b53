"""Over-segmentation: marks are cut wherever one digit might end and the next begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import plane
from fastdigit.images.ink import INK
from fastdigit.reader import _loops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks

__all__ = ["Piece", "pieces_of"]

# In heights of a digit: narrower or lower marks are never two digits.
NARROWEST_TWO: Final = 0.45
LOWEST_TWO: Final = 0.4
# And wider or higher ones are no line of digits.
WIDEST_CUT: Final = 40
HIGHEST_CUT: Final = 4
# Marks of less ink than this part of a square as high as a digit are dirt; parts of cut marks too.
DIRT: Final = 0.01
SLIVER: Final = 0.004
# A path goes sideways by one pixel a row at most, which costs as much as so much ink; and each
# pixel of paper a little, so that short paths win.
SIDEWAYS: Final = 0.2
PAPER: Final = 0.002
# A path may cut so many strokes' widths of ink.
MOST_INK: Final = 2.5
# Rows through whose every column the cheapest path is looked for, of the height.
ROWS: Final = (0.25, 0.5, 0.75)
# In heights of a digit: cheapest of so many neighbours; off the ends; and apart from each other.
NEIGHBOURS: Final = 0.08
OFF_THE_ENDS: Final = 0.06
APART: Final = 0.07
# Cuts of a mark as wide as it is high, but for one.
MOST_CUTS: Final = 4


@dataclass(frozen=True, eq=False)
class Piece:
    """A mark, or a part of one.

    Attributes
    ----------
    top, left
        Where its box begins, in pixels of the page.
    ink
        What is in its box, without that of others.
    mark
        The mark's number.
    """

    top: int
    left: int
    ink: Floats
    mark: int

    @property
    def bottom(self) -> int:
        return self.top + len(self.ink)

    @property
    def right(self) -> int:
        return self.left + int(self.ink.shape[1])


def pieces_of(
    ink: Floats, marks: Marks, chosen: NDArray[np.intp], height: float, stroke: float
) -> list[Piece]:
    """Cut the chosen marks.

    Parameters
    ----------
    ink
        Of the page.
    marks
        Connected marks in it, with cells of one pixel.
    chosen
        Numbers of those to cut.
    height
        Of a digit, in pixels.
    stroke
        Width of strokes, in pixels.

    Returns
    -------
    list of Piece
        In order of their middles, from left to right.

    Notes
    -----
    A cut is a path from a mark's top to its bottom that goes through as little ink as it can; for
    each row of three and each column the cheapest path through that pixel is found by dynamic
    programming from both ends, and those that are cheaper than their neighbours' are kept.
    """
    whole: list[Piece] = []
    wide: list[Piece] = []
    large = chosen[marks.area[chosen] >= DIRT * height * height]
    numbers, boxes = large.tolist(), marks.boxes[large].tolist()
    inks = _loops.ink_of_marks(plane(ink), marks.labels, numbers, boxes)
    for number, box, own in zip(numbers, boxes, inks, strict=True):
        top, bottom, left, right = box
        piece = Piece(top, left, own, number)
        is_wide = right - left >= NARROWEST_TWO * height and bottom - top >= LOWEST_TWO * height
        is_line = right - left <= WIDEST_CUT * height and bottom - top <= HIGHEST_CUT * height
        (wide if is_wide and is_line else whole).append(piece)
    for piece in wide:
        whole += _cut(piece, height, MOST_INK * stroke)
    return sorted(whole, key=lambda piece: piece.left + piece.right)


def _cut(piece: Piece, height: float, most: float) -> list[Piece]:
    """The parts of a piece between paths of at most so much ink; the piece, if there is none."""
    kind = (
        *(PAPER, SIDEWAYS, *ROWS, most, OFF_THE_ENDS * height, APART * height),
        max(2, round(NEIGHBOURS * height)),
        int(MOST_CUTS * piece.ink.shape[1] / height) + 1,
    )
    parts = _loops.cut(piece.ink, kind, INK, SLIVER * height * height)
    if parts is None:
        return [piece]
    return [Piece(piece.top + top, piece.left + left, ink, piece.mark) for top, left, ink in parts]

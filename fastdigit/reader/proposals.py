"""From a page's pixels to what might be its digits, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import averaged
from fastdigit.images.components import marks_of
from fastdigit.images.ink import stroke_width
from fastdigit.reader.borders import without_borders
from fastdigit.reader.candidates import candidates_of
from fastdigit.reader.cuts import pieces_of
from fastdigit.reader.layout import BESIDE, TELLING, digit_height, fields_of, rows_of, signs_of
from fastdigit.reader.paper import ink_of_page
from fastdigit.reader.rings import without_rings
from fastdigit.reader.rulings import without_rulings
from fastdigit.reader.skew import Straightened, slope_of

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidates
    from fastdigit.reader.cuts import Piece

__all__ = ["Proposals", "propose"]

# Digits are averaged down by whole factors to about this height.
DIGIT_SIDE: Final = 34
# Where ink does not stand out, it may from the mean of so many pixels by as many.
AVERAGED: Final = (1, 2, 3)
# Upright lines that make boxes of a line.
UPRIGHTS_OF_BOXES: Final = 3
# Under a heading, say, digits are much smaller than what has most ink: so many side by side, and
# so many pixels high at least. A small mark by itself is a rest of a line, or dirt.
FEWEST_SMALLER: Final = 2
SMALLER: Final = 8

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Proposals:
    """What might be the digits of one field.

    Attributes
    ----------
    given
        The candidates, if they are not made of the pieces.
    lengths
        Of each piece: its strokes' length, in heights of a digit.
    height
        Of a digit in the line, in pixels of the boxes.
    pieces
        From left to right; none if their pixels are not those of the boxes.
    factor
        Pixels of the page that one pixel of the boxes is wide and high.
    straightened
        The page that the boxes are of, if it is not the one that was given; of its pixels each is
        ``block`` wide and high there.
    block
        See there.
    ringed
        Whether there were rings around digits of the page.
    """

    given: Candidates | None
    lengths: list[float]
    height: float
    pieces: list[Piece]
    factor: int = 1
    straightened: Straightened | None = None
    block: int = 1
    ringed: bool = False

    @cached_property
    def candidates(self) -> Candidates:
        """Made when they are asked for, as they take some time."""
        return candidates_of(self.pieces, self.height) if self.given is None else self.given

    @property
    def box(self) -> Box:
        """Of all pieces, in their pixels."""
        pieces = self.pieces
        return (
            min(piece.top for piece in pieces),
            max(piece.bottom for piece in pieces),
            min(piece.left for piece in pieces),
            max(piece.right for piece in pieces),
        )

    def on_page(self, box: Box) -> Box:
        """A box in pixels of the page that was given."""
        if self.straightened is not None:
            box = self.straightened.box(_times(self.factor, box))
            return _times(self.block, box)
        return _times(self.factor * self.block, box)


def propose(grey: Floats, beside: float = BESIDE) -> list[list[Proposals]]:
    """Find what might be digits.

    Parameters
    ----------
    grey
        (height, width) in 0..1.
    beside
        Of the lower of two marks: how much of it is beside the other in one line.

    Returns
    -------
    list of list of Proposals
        The lines from top to bottom, of each its fields from left to right.
    """
    for block in AVERAGED:
        page = ink_of_page(averaged(grey, block) if block > 1 else grey)
        if page.fold:
            return []
        if page.shows_ink:
            break
    else:
        return []
    writing = _Writing(page.ink)
    slope = slope_of(page.ink, digit_height(writing.marks))
    straightened = Straightened(page.ink, slope) if slope else None
    if straightened is not None:
        writing = _Writing(straightened.ink)
    lines: list[tuple[float, list[Proposals]]] = []
    fewest = 1
    while True:
        sized = _Sized(writing, beside)
        for row in sized.rows:
            pieces = pieces_of(sized.ink, sized.marks, row.marks, row.height, sized.stroke)
            signs = signs_of(sized.marks, row)
            fields = fields_of(pieces, row.height, writing.boxed, sized.frames)
            if signs:
                fields = [[one for one in field if one.mark not in signs] for field in fields]
            line = [
                Proposals(
                    None,
                    [float(piece.ink.sum()) / (row.height * sized.stroke) for piece in field],
                    row.height,
                    field,
                    sized.factor,
                    straightened,
                    block,
                    writing.ringed,
                )
                for field in fields
                if len({piece.mark for piece in field}) >= fewest
            ]
            if line:
                lines.append((sized.factor * (row.top + row.bottom), line))
        if not writing.keep_smaller(sized):
            break
        fewest = FEWEST_SMALLER
    lines.sort(key=lambda line: line[0])
    return [line for _, line in lines]


class _Writing:
    """The ink of a page without lines and what frames it."""

    def __init__(self, ink: Floats) -> None:
        rulings = without_rulings(ink)
        self.boxed = len(rulings.uprights) >= UPRIGHTS_OF_BOXES
        self.ink, self.marks, self.frames = rulings.ink, rulings.marks, rulings.frames
        inside = without_borders(self.ink, self.marks)
        if inside is not self.ink:
            self.ink, self.marks = inside, marks_of(inside, cell=1)
        before = self.ink
        self.ink, self.marks = without_rings(self.ink, self.marks)
        self.ringed = self.ink is not before

    def keep_smaller(self, sized: _Sized) -> bool:
        """Keep only marks that are much smaller, and stand in none of the lines; False if there are
        too few to be one."""
        tops, bottoms = self.marks.boxes[:, 0], self.marks.boxes[:, 1]
        heights = bottoms - tops
        left = (heights < TELLING * sized.factor * sized.height) & (heights >= SMALLER)
        middles = (tops + bottoms) / (2 * sized.factor)
        for row in sized.rows:
            left &= (middles < row.top) | (middles > row.bottom)
        if np.count_nonzero(left) < FEWEST_SMALLER:
            return False
        inside = left[self.marks.labels] & (self.marks.labels >= 0)
        self.ink = np.where(inside, self.ink, 0)
        self.marks = marks_of(self.ink, cell=1)
        return True


class _Sized:
    """What is as high as most ink's marks, in its lines."""

    def __init__(self, writing: _Writing, beside: float) -> None:
        ink, marks = writing.ink, writing.marks
        height = digit_height(marks)
        self.factor = max(1, int(height / DIGIT_SIDE + 0.25))
        if self.factor > 1:
            ink = averaged(ink, self.factor)
            marks = marks_of(ink, cell=1)
            height = digit_height(marks)
        self.ink, self.marks, self.height = ink, marks, height
        self.frames = [frame.smaller(self.factor) for frame in writing.frames]
        self.rows = rows_of(marks, height, beside) if height else []
        self.stroke = max(1.0, stroke_width(ink)) if height else 1.0


def _times(factor: int, box: Box) -> Box:
    top, bottom, left, right = box
    return factor * top, factor * bottom, factor * left, factor * right

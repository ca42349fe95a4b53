"""From a page's pixels to what might be its digits, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastdigit.images.arrays import averaged
from fastdigit.images.components import marks_of
from fastdigit.images.ink import stroke_width
from fastdigit.reader.borders import without_borders
from fastdigit.reader.candidates import candidates_of
from fastdigit.reader.cuts import pieces_of
from fastdigit.reader.layout import digit_height, fields_of, rows_of
from fastdigit.reader.paper import ink_of_page
from fastdigit.reader.rulings import without_rulings

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidate
    from fastdigit.reader.cuts import Piece

__all__ = ["Proposals", "propose"]

# Digits are averaged down by whole factors to about this height.
DIGIT_SIDE: Final = 34
# What stands out less from the paper is nothing: of the range, and of the noise.
LEAST_CONTRAST: Final = 0.05
ABOVE_NOISE: Final = 5
# Where ink does not stand out, it may from the mean of so many pixels by as many.
AVERAGED: Final = (1, 2, 3)
# Upright lines that make boxes of a line.
UPRIGHTS_OF_BOXES: Final = 3


@dataclass(frozen=True, eq=False)
class Proposals:
    """What might be the digits of one field.

    Attributes
    ----------
    candidates
        Sorted by their end.
    lengths
        Of each piece: its strokes' length, in heights of a digit.
    height
        Of a digit in the line, in pixels of the boxes.
    pieces
        From left to right; none if their pixels are not those of the boxes.
    """

    candidates: list[Candidate]
    lengths: list[float]
    height: float
    pieces: list[Piece]


def propose(grey: Floats) -> tuple[list[list[Proposals]], int]:
    """Find what might be digits.

    Parameters
    ----------
    grey
        (height, width) in 0..1.

    Returns
    -------
    lines
        From top to bottom, of each its fields from left to right.
    factor
        Pixels of ``grey`` that one pixel of the candidates' boxes is wide and high.
    """
    for block in AVERAGED:
        page = ink_of_page(averaged(grey, block) if block > 1 else grey)
        if page.contrast >= max(LEAST_CONTRAST, ABOVE_NOISE * page.noise):
            break
    else:
        return [], 1
    rulings = without_rulings(page.ink)
    ink, marks = rulings.ink, marks_of(rulings.ink, cell=1)
    inside = without_borders(ink, marks)
    if inside is not ink:
        ink, marks = inside, marks_of(inside, cell=1)
    height = digit_height(marks)
    factor = max(1, int(height / DIGIT_SIDE + 0.25))
    if factor > 1:
        ink = averaged(ink, factor)
        marks = marks_of(ink, cell=1)
        height = digit_height(marks)
    if not height:
        return [], factor * block
    boxed = len(rulings.uprights) >= UPRIGHTS_OF_BOXES
    stroke = max(1.0, stroke_width(ink))
    lines: list[list[Proposals]] = []
    for row in rows_of(marks, height):
        pieces = pieces_of(ink, marks, row.marks, row.height, stroke)
        line = [
            Proposals(
                candidates_of(field, row.height),
                [float(piece.ink.sum()) / (row.height * stroke) for piece in field],
                row.height,
                field,
            )
            for field in fields_of(pieces, row.height, boxed)
        ]
        lines.append([proposals for proposals in line if proposals.candidates])
    return [line for line in lines if line], factor * block

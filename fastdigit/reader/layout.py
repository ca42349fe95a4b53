"""Which marks stand in one line, and where one field ends and the next begins."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.reader import _loops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.images.components import Marks
    from fastdigit.reader.cuts import Piece
    from fastdigit.reader.frames import Frame

__all__ = [
    "BESIDE",
    "BESIDE_ON_ROLLERS",
    "TELLING",
    "Row",
    "digit_height",
    "fields_of",
    "rows_of",
    "signs_of",
]

# A mark as high as this part of a digit says which line it stands in.
TELLING: Final = 0.5
# Of the lower of two marks: how much of it is beside the other in one line.
BESIDE: Final = 0.5
# The same of the rollers of a meter, of which one stands half turned.
BESIDE_ON_ROLLERS: Final = 0.25
# In heights of a digit: what is as far apart are two fields; in boxes, digits stand apart.
FIELD_GAP: Final = 1.2
FIELD_GAP_IN_BOXES: Final = 1.8
# In heights of a cell: what is as far apart are no cells of one field.
CELL_GAP: Final = 0.6
# Of the height of a printed digit: how far its top and bottom are from those of others, and by how
# much signs are higher. How many digits are so even at least, and the part of all.
EVEN: Final = 0.03
HIGHER: Final = 0.05
FEWEST_EVEN: Final = 4
MOST_EVEN: Final = 0.8
# Of its height, how wide a sign is at most.
NARROW: Final = 0.6
# Of a page, in pixels: lower marks are never digits.
LOWEST: Final = 6


@dataclass(frozen=True)
class Row:
    """Marks in one line of text.

    Attributes
    ----------
    marks
        Their numbers.
    height
        Of its digits, in pixels.
    top, bottom
        Between which rows those stand that are high enough for digits.
    """

    marks: NDArray[np.intp]
    height: float
    top: float
    bottom: float


def digit_height(marks: Marks, chosen: NDArray[np.int64] | None = None) -> float:
    """The height of most ink's marks, of all or of those with these numbers, in cells; 0 if there
    are none high enough."""
    return float(_loops.height_of_most(marks.boxes, marks.area, chosen, LOWEST))


def rows_of(marks: Marks, height: float, beside: float = BESIDE) -> list[Row]:
    """Lines of text, from top to bottom; ``beside`` as BESIDE."""
    tops, bottoms = marks.boxes[:, 0], marks.boxes[:, 1]
    tells = bottoms - tops >= max(TELLING * height, LOWEST)
    telling = np.flatnonzero(tells)
    first, end = tops.tolist(), bottoms.tolist()
    groups: list[list[int]] = []
    # Of each group, where it begins and ends: the median of its members.
    spans: list[tuple[float, float]] = []
    all_tops: list[int] = []
    all_bottoms: list[int] = []
    for number in telling[np.argsort(tops[telling] + bottoms[telling])].tolist():
        top, bottom = first[number], end[number]
        if groups:
            shared = min(bottom, spans[-1][1]) - max(top, spans[-1][0])
            if shared >= beside * min(bottom - top, spans[-1][1] - spans[-1][0]):
                groups[-1].append(number)
                insort(all_tops, top)
                insort(all_bottoms, bottom)
                spans[-1] = _middle(all_tops), _middle(all_bottoms)
                continue
        groups.append([number])
        spans.append((top, bottom))
        all_tops, all_bottoms = [top], [bottom]
    small = np.flatnonzero(~tells)
    middles = (tops[small] + bottoms[small]) / 2
    rows: list[Row] = []
    for members, (top, bottom) in zip(groups, spans, strict=True):
        inside = small[(middles >= top) & (middles <= bottom)]
        own = np.array(members, np.int64)
        high = digit_height(marks, own)
        both = np.concatenate([own, inside])
        rows.append(Row(both, high, top, bottom))
    return rows


def signs_of(marks: Marks, row: Row) -> set[int]:
    """Numbers of marks that are signs of a printed line: strokes, bars and brackets.

    Printed digits are of one height, and stand on one line. What is narrow, higher than they are
    and goes below their line is `/`, `|` or a bracket; by itself, each looks like a 1. Written
    digits are not so even, and nothing is said of what stands among them.
    """
    boxes = marks.boxes[row.marks]
    tops, bottoms, wide = boxes[:, 0], boxes[:, 1], boxes[:, 3] - boxes[:, 2]
    height = row.bottom - row.top
    higher = bottoms - tops >= height + max(2.0, HIGHER * height)
    if not higher.any():
        return set()
    tells = bottoms - tops >= TELLING * height
    near = max(1.0, EVEN * height)
    even = tells & (np.abs(tops - row.top) <= near) & (np.abs(bottoms - row.bottom) <= near)
    signs = higher & (bottoms - row.bottom >= near) & (wide <= NARROW * (bottoms - tops))
    others = np.count_nonzero(tells & ~signs)
    if not signs.any() or np.count_nonzero(even) < max(FEWEST_EVEN, MOST_EVEN * others):
        return set()
    return {number for number in row.marks[signs].tolist() if _is_a_stroke(marks, number)}


def _is_a_stroke(marks: Marks, number: int) -> bool:
    """Whether each row has one run of its cells, as a bar has, or a bow."""
    top, bottom, left, right = marks.boxes[number]
    own = np.pad(marks.labels[top:bottom, left:right] == number, ((0, 0), (1, 0)))
    return bool(np.count_nonzero(own[:, 1:] & ~own[:, :-1], axis=1).max() == 1)


def _middle(ordered: list[int]) -> float:
    """Their median."""
    half = len(ordered) // 2
    return (ordered[half] + ordered[~half]) / 2


def fields_of(
    pieces: Sequence[Piece], height: float, boxed: bool, frames: Sequence[Frame] = ()
) -> list[list[Piece]]:
    """Pieces of one line, by the field that they stand in; ``frames``, in their pixels, part them.

    Cells of one digit that stand close are one field, however far its digits are apart.
    """
    gap = (FIELD_GAP_IN_BOXES if boxed else FIELD_GAP) * height
    around = [_frame_around(piece, frames) if frames else None for piece in pieces]
    fields: list[list[Piece]] = []
    reach = -np.inf
    last: Frame | None = None
    for piece, frame in zip(pieces, around, strict=True):
        if frame is not last and _are_neighbours(last, frame):
            parted = False
        elif frame is not last and fields:
            parted = True
        else:
            parted = piece.left - reach > gap
        if parted or not fields:
            fields.append([])
        fields[-1].append(piece)
        reach = max(reach, piece.right)
        last = frame
    return fields


def _frame_around(piece: Piece, frames: Sequence[Frame]) -> Frame | None:
    """The smallest that the middle of a piece lies in."""
    y, x = (piece.top + piece.bottom) / 2, (piece.left + piece.right) / 2
    return min((one for one in frames if one.has(y, x)), key=lambda one: one.wide, default=None)


def _are_neighbours(left: Frame | None, right: Frame | None) -> bool:
    """Whether two frames are the cells of two digits that follow each other."""
    if left is None or right is None or not (left.is_cell and right.is_cell):
        return False
    high = min(left.box[1] - left.box[0], right.box[1] - right.box[0])
    return right.box[2] - left.box[3] <= CELL_GAP * high

"""Which marks stand in one line, and where one field ends and the next begins."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.images.components import Marks
    from fastdigit.reader.cuts import Piece

__all__ = ["TELLING", "Row", "digit_height", "fields_of", "rows_of"]

# A mark as high as this part of a digit says which line it stands in.
TELLING: Final = 0.5
# Of the lower of two marks: how much of it is beside the other in one line.
BESIDE: Final = 0.5
# In heights of a digit: what is as far apart are two fields; in boxes, digits stand apart.
FIELD_GAP: Final = 1.2
FIELD_GAP_IN_BOXES: Final = 1.8
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


def digit_height(marks: Marks, chosen: NDArray[np.intp] | slice = slice(None)) -> float:
    """The height of most ink's marks, in cells; 0 if there are none high enough."""
    heights = (marks.boxes[chosen, 1] - marks.boxes[chosen, 0]).astype(np.float64)
    weights = np.where(heights >= LOWEST, marks.area[chosen], 0).astype(np.float64)
    if not weights.any():
        return 0.0
    order = np.argsort(heights)
    total = np.cumsum(weights[order])
    return float(heights[order][np.searchsorted(total, total[-1] / 2)])


def rows_of(marks: Marks, height: float) -> list[Row]:
    """Lines of text, from top to bottom."""
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
            if shared >= BESIDE * min(bottom - top, spans[-1][1] - spans[-1][0]):
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
        high = digit_height(marks, np.array(members))
        both = np.concatenate([members, inside]).astype(np.intp)
        rows.append(Row(both, high, top, bottom))
    return rows


def _middle(ordered: list[int]) -> float:
    """Their median."""
    half = len(ordered) // 2
    return (ordered[half] + ordered[~half]) / 2


def fields_of(pieces: Sequence[Piece], height: float, boxed: bool) -> list[list[Piece]]:
    """Pieces of one line, by the field that they stand in."""
    gap = (FIELD_GAP_IN_BOXES if boxed else FIELD_GAP) * height
    fields: list[list[Piece]] = []
    reach = -np.inf
    for piece in pieces:
        if piece.left - reach > gap:
            fields.append([])
        fields[-1].append(piece)
        reach = max(reach, piece.right)
    return fields

"""What might be a digit: pieces that stand side by side, joined, as the network takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images import _pixels
from fastdigit.images.normalize import BOX, SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.cuts import Piece

__all__ = ["Candidate", "candidates_of", "images_of"]

# Pieces that one digit is made of, at most.
MOST_PIECES: Final = 8
# In heights of a digit: several pieces together are no wider, and nothing is smaller.
WIDEST: Final = 1.6
SMALLEST: Final = 0.3


@dataclass(frozen=True, eq=False)
class Candidate:
    """Pieces ``start`` to ``end`` of a field, joined.

    Attributes
    ----------
    start, end
        Of the field's pieces.
    box
        (top, bottom, left, right), in pixels of the page.
    ink
        What is in the box.
    cut
        Of its two sides, at how many a mark was cut in two.
    """

    start: int
    end: int
    box: tuple[int, int, int, int]
    ink: Floats
    cut: int


def candidates_of(pieces: Sequence[Piece], height: float) -> list[Candidate]:
    """All runs of pieces that have the size of a digit; sorted by ``end``."""
    found: list[Candidate] = []
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, piece in enumerate(pieces):
        first.setdefault(piece.mark, number)
        last[piece.mark] = number
    boxes = [(piece.top, piece.bottom, piece.left, piece.right) for piece in pieces]
    for end in range(1, len(pieces) + 1):
        top, bottom, left, right = boxes[end - 1]
        earliest, latest = end, 0
        for start in range(end - 1, max(-1, end - 1 - MOST_PIECES), -1):
            box = boxes[start]
            top, bottom = min(top, box[0]), max(bottom, box[1])
            left, right = min(left, box[2]), max(right, box[3])
            earliest = min(earliest, first[pieces[start].mark])
            latest = max(latest, last[pieces[start].mark])
            if start < end - 1 and right - left > WIDEST * height:
                break
            if max(bottom - top, right - left) < SMALLEST * height:
                continue
            if start == end - 1:
                ink = pieces[start].ink
            else:
                ink = np.zeros((bottom - top, right - left))
                for number in range(start, end):
                    above, below, before, behind = boxes[number]
                    own = ink[above - top : below - top, before - left : behind - left]
                    np.maximum(own, pieces[number].ink, out=own)
            cut = (earliest < start) + (latest >= end)
            found.append(Candidate(start, end, (top, bottom, left, right), ink, cut))
    return found


def images_of(candidates: Sequence[Candidate]) -> NDArray[np.uint8]:
    """uint8 (candidates, 28, 28): each in a box of 20x20, its centre of mass in the middle."""
    return _pixels.drawn([candidate.ink for candidate in candidates], BOX, SIDE)

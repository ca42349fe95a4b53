"""What might be a digit: pieces that stand side by side, joined, as the network takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.images.normalize import BOX, SIDE
from fastdigit.reader import _loops

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


class Candidate(NamedTuple):
    """Pieces ``start`` to ``end`` of a field, joined.

    Attributes
    ----------
    start, end
        Of the field's pieces.
    box
        (top, bottom, left, right), in pixels of the page.
    pieces
        Those that it is made of; their own pixels may be others than those of ``box``.
    cut
        Of its two sides, at how many a mark was cut in two.
    is_mark
        Whether it is one mark, and all of it.
    """

    start: int
    end: int
    box: tuple[int, int, int, int]
    pieces: Sequence[Piece]
    cut: int
    is_mark: bool = False

    @property
    def ink(self) -> Floats:
        """Of all pieces together."""
        top, left = (
            min(piece.top for piece in self.pieces),
            min(piece.left for piece in self.pieces),
        )
        bottom = max(piece.bottom for piece in self.pieces)
        right = max(piece.right for piece in self.pieces)
        joined = np.zeros((bottom - top, right - left))
        for piece in self.pieces:
            part = (
                slice(piece.top - top, piece.bottom - top),
                slice(piece.left - left, piece.right - left),
            )
            np.maximum(joined[part], piece.ink, out=joined[part])
        return joined


def candidates_of(pieces: Sequence[Piece], height: float) -> list[Candidate]:
    """All runs of pieces that have the size of a digit; sorted by ``end``."""
    found: list[Candidate] = []
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, piece in enumerate(pieces):
        first.setdefault(piece.mark, number)
        last[piece.mark] = number
    own = [
        (piece.top, piece.bottom, piece.left, piece.right, first[piece.mark], last[piece.mark])
        for piece in pieces
    ]
    widest, smallest = WIDEST * height, SMALLEST * height
    for end in range(1, len(pieces) + 1):
        top, bottom, left, right, earliest, latest = own[end - 1]
        mark, is_one = pieces[end - 1].mark, True
        for start in range(end - 1, max(-1, end - 1 - MOST_PIECES), -1):
            # Comparisons, for calls of min and max would take most of the time.
            above, below, before, behind, first_of, last_of = own[start]
            is_one = is_one and pieces[start].mark == mark
            top = above if above < top else top
            bottom = below if below > bottom else bottom
            left = before if before < left else left
            right = behind if behind > right else right
            earliest = first_of if first_of < earliest else earliest
            latest = last_of if last_of > latest else latest
            if start < end - 1 and right - left > widest:
                break
            if bottom - top < smallest and right - left < smallest:
                continue
            cut = (earliest < start) + (latest >= end)
            box = top, bottom, left, right
            is_mark = is_one and not cut
            found.append(Candidate(start, end, box, pieces[start:end], cut, is_mark))
    return found


def images_of(candidates: Sequence[Candidate]) -> NDArray[np.uint8]:
    """uint8 (candidates, 28, 28): each in a box of 20x20, its centre of mass in the middle."""
    return _loops.drawn(candidates, BOX, SIDE)

"""What might be a digit: pieces that stand side by side, joined, as the network takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.images.normalize import BOX, SIDE
from fastdigit.reader import _loops

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.cuts import Piece

__all__ = ["Candidate", "Candidates", "candidates_of", "images_of"]

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


@dataclass(frozen=True, eq=False)
class Candidates:
    """All of a field, sorted by their ends.

    Attributes
    ----------
    table
        int32 (candidates, 8): start, end, top, bottom, left and right of the box, cut, is_mark.
    pieces
        Those of the field.
    """

    table: NDArray[np.int32]
    pieces: Sequence[Piece]

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Candidate]:
        for start, end, top, bottom, left, right, cut, is_mark in self.table.tolist():
            box = top, bottom, left, right
            yield Candidate(start, end, box, self.pieces[start:end], cut, bool(is_mark))

    def are_cut(self, numbers: Sequence[int]) -> bool:
        """Whether a mark is cut at a side of any of these."""
        return bool(self.table[list(numbers), 6].any())

    def box(self, number: int) -> tuple[int, int, int, int]:
        """That of one candidate."""
        top, bottom, left, right = self.table[number, 2:6].tolist()
        return top, bottom, left, right


def candidates_of(pieces: Sequence[Piece], height: float) -> Candidates:
    """All runs of pieces that have the size of a digit."""
    table = _loops.candidates(pieces, MOST_PIECES, WIDEST * height, SMALLEST * height)
    return Candidates(table, pieces)


def images_of(
    candidates: Candidates, chosen: NDArray[np.intp] | slice = slice(None)
) -> NDArray[np.uint8]:
    """uint8 (chosen, 28, 28): each in a box of 20x20, its centre of mass in the middle."""
    return _loops.drawn(candidates.pieces, candidates.table[chosen], BOX, SIDE)

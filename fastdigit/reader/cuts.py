"""Over-segmentation: marks are cut wherever one digit might end and the next begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks

__all__ = ["Piece", "pieces_of"]

# In heights of a digit: narrower or lower marks are never two digits.
NARROWEST_TWO: Final = 0.45
LOWEST_TWO: Final = 0.4
# Marks of less ink than this part of a square as high as a digit are dirt; parts of cut marks too.
DIRT: Final = 0.01
SLIVER: Final = 0.004
# A path goes sideways by one pixel a row at most, which costs as much as so much ink; and each
# pixel of paper a little, so that short paths win.
SIDEWAYS: Final = 0.03
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
    for number in chosen.tolist():
        top, bottom, left, right = marks.boxes[number].tolist()
        inside = marks.labels[top:bottom, left:right] == number
        piece = Piece(top, left, np.where(inside, ink[top:bottom, left:right], 0), number)
        if np.count_nonzero(inside) < DIRT * height * height:
            continue
        is_wide = right - left >= NARROWEST_TWO * height and bottom - top >= LOWEST_TWO * height
        (wide if is_wide else whole).append(piece)
    for piece, paths in zip(wide, _paths(wide, height, MOST_INK * stroke), strict=True):
        whole += _cut(piece, paths, height)
    return sorted(whole, key=lambda piece: piece.left + piece.right)


def _paths(pieces: list[Piece], height: float, most: float) -> list[list[NDArray[np.intp]]]:
    """For each piece its cuts: the column in each row. All pieces go through the loops at once."""
    if not pieces:
        return []
    rows = max(piece.ink.shape[0] for piece in pieces)
    columns = max(piece.ink.shape[1] for piece in pieces)
    cost = np.full((rows, len(pieces), columns), 1e3)
    for n, piece in enumerate(pieces):
        high, wide = piece.ink.shape
        cost[:, n, :wide] = 0  # below a lower piece, a path goes on for nothing
        cost[:high, n, :wide] = piece.ink + PAPER
    down, steps_up = _sweep(cost)
    up, steps_down = _sweep(cost[::-1])
    up, steps_down = up[::-1], steps_down[::-1]

    window = max(2, round(NEIGHBOURS * height))
    margin = OFF_THE_ENDS * height
    found: list[list[tuple[float, int, int]]] = [[] for _ in pieces]
    for part in ROWS:
        for n, piece in enumerate(pieces):
            high, wide = piece.ink.shape
            row = min(high - 1, int(part * high))
            total = (down[row, n] + up[row, n] - cost[row, n])[:wide]
            around = np.lib.stride_tricks.sliding_window_view(
                np.pad(total, window, constant_values=np.inf), 2 * window + 1
            )
            column = np.arange(wide)
            lowest = (total <= around.min(1)) & (total <= most)
            lowest &= (column > margin) & (column < wide - margin)
            last = -window
            for x in np.flatnonzero(lowest).tolist():
                if x - last >= window:
                    found[n].append((float(total[x]), row, x))
                    last = x
    return [
        _kept(
            [_followed(steps_up[:, n], steps_down[:, n], row, x) for _, row, x in sorted(starts)],
            piece,
            height,
        )
        for n, (piece, starts) in enumerate(zip(pieces, found, strict=True))
    ]


def _sweep(cost: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """Cheapest paths from the first row to each pixel, and the step back from it."""
    total = np.empty_like(cost)
    steps = np.zeros(cost.shape, np.int8)
    total[0] = cost[0]
    for row in range(1, len(cost)):
        before = total[row - 1]
        best = before.copy()
        aside = before[:, :-1] + SIDEWAYS
        better = aside < best[:, 1:]
        best[:, 1:][better] = aside[better]
        steps[row][:, 1:][better] = -1
        aside = before[:, 1:] + SIDEWAYS
        better = aside < best[:, :-1]
        best[:, :-1][better] = aside[better]
        steps[row][:, :-1][better] = 1
        total[row] = best + cost[row]
    return total, steps


def _followed(
    up: NDArray[np.int8], down: NDArray[np.int8], row: int, column: int
) -> NDArray[np.intp]:
    path = np.empty(len(up), np.intp)
    x = column
    for y in range(row, -1, -1):
        path[y] = x
        x += int(up[y, x])
    x = column
    for y in range(row, len(up)):
        path[y] = x
        x += int(down[y, x])
    return path


def _kept(paths: list[NDArray[np.intp]], piece: Piece, height: float) -> list[NDArray[np.intp]]:
    """The first of those that are nearly the same, and not too many."""
    high, wide = piece.ink.shape
    most = int(MOST_CUTS * wide / height) + 1
    kept: list[NDArray[np.intp]] = []
    for path in paths:
        own = path[:high]
        if len(kept) < most and all(
            float(np.abs(own - other).mean()) > APART * height for other in kept
        ):
            kept.append(own)
    return kept


def _cut(piece: Piece, paths: list[NDArray[np.intp]], height: float) -> list[Piece]:
    if not paths:
        return [piece]
    columns = np.arange(piece.ink.shape[1])
    place = sum((columns > path[:, None]).astype(np.intp) for path in paths)
    parts: list[Piece] = []
    for number in range(len(paths) + 1):
        part = np.where(place == number, piece.ink, 0)
        inside = part > INK
        if np.count_nonzero(inside) < SLIVER * height * height:
            continue
        ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        cropped = part[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        at = piece.top + int(ys[0]), piece.left + int(xs[0])
        parts.append(Piece(*at, cropped, piece.mark))
    return parts

"""Frames, ruled lines, boxes: straight lines that are no strokes of the digit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images import _pixels
from fastdigit.images.components import marks_of
from fastdigit.images.ink import INK, stroke_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Line", "find_lines", "lines_of", "without_lines"]

# Of the picture's side that a line goes through at least.
LENGTH: Final = 0.55
# Of the line that is to be inked, and where nothing else touches it.
COVERED: Final = 0.85
ALONE: Final = 0.4
# The same in a small picture.
ALONE_IN_SMALL: Final = 0.6
# Of the lengths of its runs: its thickness.
QUANTILE: Final = 0.4
# Of the other side that a line may be thick.
THICKNESS: Final = 0.08
# A picture this small has few pixels to tell straight from curved.
SMALL: Final = 40
# In one smaller than this, no line is looked for.
SMALLEST: Final = 20
# Slopes that are looked for.
SLOPE: Final = 0.07
# Lines in each direction, and what looked like one at first.
MOST, TRIES = 8, 1000
# Of the side: what is as near to the border reaches it.
NEAR: Final = 0.04


@dataclass(frozen=True, eq=False)
class Line:
    """A straight line, nearly level or nearly upright.

    Attributes
    ----------
    upright
        Whether x and y are exchanged in what follows.
    start, end
        The columns that it goes through.
    top, bottom
        First and end row, in each of these columns; the same where there is nothing of the line
        alone: a stroke crosses it.
    thickness
        In pixels.
    """

    upright: bool
    start: int
    end: int
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]
    thickness: float

    @cached_property
    def where(self) -> float:
        """The row of its middle."""
        # As np.median has it, which takes longer to call than to sort.
        both = np.sort(self.top + self.bottom)
        half = len(both) // 2
        return (int(both[half]) + int(both[~half])) / 4

    def off_centre(self, ink: Floats) -> float:
        """How far from the picture's middle: 1 at its edge."""
        return float(abs(2 * self.where / ink.shape[1 if self.upright else 0] - 1))

    def erase(self, ink: Floats) -> None:
        """Take the line's pixels away, in place."""
        view = ink.T if self.upright else ink
        first, end = int(self.top.min()), int(self.bottom.max())
        rows = np.arange(first, end)[:, None]
        own = (rows >= self.top) & (rows < self.bottom)
        view[first:end, self.start : self.end][own] = 0


def find_lines(ink: Floats) -> list[Line]:
    """Long straight marks, be they lines or strokes."""
    mask = ink > INK
    return [*_straight(mask, False), *_straight(mask, True)]


def _straight(mask: NDArray[np.bool_], upright: bool) -> list[Line]:
    height, width = mask.shape[::-1] if upright else mask.shape
    if min(width, height) < SMALLEST:
        return []
    # In a small picture any stroke looks straight: a line goes through all of it.
    ends = 2 if width < SMALL else 0
    least = math.ceil(LENGTH * width), math.ceil(COVERED * LENGTH * width)
    if not _pixels.spans(mask, upright, *least, ends):
        return []
    kind = (
        *(LENGTH, COVERED, ALONE),
        LENGTH / 2,  # seen at first, and left to look at
        LENGTH / 2,
        max(2, THICKNESS * height),
        SLOPE,
        1,  # of equals, the more level
        QUANTILE,
        max(2, width // 25),  # columns that may be missing
        1 if width < 2 * SMALL else 2,  # rows beside the straight line
        1,
        MOST,
        TRIES,
        ends,
        ALONE_IN_SMALL,
    )
    return lines_of(mask, upright, kind)


def lines_of(mask: NDArray[np.bool_], upright: bool, kind: tuple[float, ...]) -> list[Line]:
    """Lines of a kind, whose fields are those of fd_image_line_kind in csrc/image/image.h."""
    return [
        Line(upright, start, end, top[start:end], bottom[start:end], thickness)
        for start, end, thickness, top, bottom in _pixels.level_lines(mask, upright, kind)
    ]


def without_lines(ink: Floats) -> tuple[Floats, int]:
    """The ink without lines that are none of the digit's strokes, and how many these were.

    A line is told from a stroke by what is left without it: it goes on beyond that on both sides,
    or it is much thinner. If nothing as large as a digit is left, it was the digit.
    """
    found = find_lines(ink)
    if not found:
        return ink, 0
    # All of them cannot be lines if next to nothing is left: the boldest in the middle is a stroke.
    while (digit := _largest(left := _erased(ink, found))) is None:
        found.remove(max(found, key=lambda line: line.thickness * (1.5 - line.off_centre(ink))))
        if not found:
            return ink, 0
    chosen = [line for line in found if _is_line(line, found, digit, left)]
    left = _erased(ink, chosen)
    # Without the others, more is left, and may be the digit.
    digit = _largest(left) or digit
    chosen = [line for line in found if _is_line(line, found, digit, left)]
    left = _erased(ink, chosen)
    return (left, len(chosen)) if chosen and _largest(left) is not None else (ink, 0)


def _erased(ink: Floats, lines: list[Line]) -> Floats:
    left = ink.copy()
    for line in lines:
        line.erase(left)
    return left


def _largest(left: Floats) -> tuple[int, int, int, int] | None:
    """The box of the largest mark, if it may be a digit: rows, columns."""
    marks = marks_of(left)
    if not len(marks.ink):
        return None
    height, width = marks.labels.shape
    first, end, start, stop = marks.boxes.T
    middle = np.hypot((first + end) / height - 1, (start + stop) / width - 1)
    box = marks.boxes[int(np.argmax(marks.ink * (1.5 - middle)))]
    if max(box[1] - box[0], box[3] - box[2]) < 0.25 * min(height, width):
        return None
    top, bottom, left_, right = (int(n) * marks.cell for n in box)
    return top, bottom, left_, right


def _is_line(line: Line, lines: list[Line], box: tuple[int, int, int, int], left: Floats) -> bool:
    rows, columns = (box[:2], box[2:]) if not line.upright else (box[2:], box[:2])
    width = left.shape[0 if line.upright else 1]
    near = max(1.5, NEAR * width)
    # From border to border, or from line to line.
    where = line.where
    # A frame's lines are of one kind, and end where they meet.
    corners = [
        o.where
        for o in lines
        if o.upright != line.upright
        and max(o.thickness, line.thickness) <= 1.5 * min(o.thickness, line.thickness) + 1
        and min(abs(o.start - where), abs(o.end - where)) <= near
    ]
    stops = [0.0, float(width), *corners]
    through = all(min(abs(stop - x) for stop in stops) <= near for x in (line.start, line.end))
    beyond = line.start < columns[0] - near and line.end > columns[1] + near
    outside = where < rows[0] or where > rows[1]
    thin = line.thickness <= 0.6 * stroke_width(left[box[0] : box[1], box[2] : box[3]])
    if through:
        return beyond or thin or (outside and width >= SMALL)
    separate = float((line.bottom > line.top).mean()) > 0.96
    return (beyond and (thin or outside)) or (outside and thin and separate)

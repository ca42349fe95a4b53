"""Frames and small tables around fields: marks that close a rectangle with thin, straight lines."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.lines import lines_of
from fastdigit.reader import _loops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks
    from fastdigit.images.lines import Line

__all__ = ["Frame", "frames_of"]

# Sides of the smallest frame, in pixels.
SMALLEST: Final = 16
# Of its box, how much of it is ink at most.
FULLEST: Final = 0.5
# Of a mark's side: how far from it the frame's line may lie, and how much of the side it goes
# along. Strokes at the corners make it seem shorter.
NEAR: Final = 0.15
WHOLE: Final = 0.85
# Of its height, by how much a frame may rise at most.
MOST_RISE: Final = 0.3
# Of such a line: what of it is inked, and where nothing else touches it. Digits may touch it.
COVERED: Final = 0.85
ALONE: Final = 0.25
# Of a frame's shorter side, how thick its lines are; of a digit's, strokes are thicker. And pixels
# that they always may be.
THICKNESS: Final = 0.08
THIN: Final = 2
# The steepest line: rows a column.
SLOPE: Final = 0.06
# Lines between two boxes are up to so many times thicker than those around.
DOUBLE: Final = 2
# Of a side, how much is no thicker than other sides, if what is thicker is a stroke upon it.
THINNER: Final = 0.1
# Lines of a table in each direction.
MOST: Final = 24
# A frame that is no wider than so many times its height is the cell of one digit.
CELL: Final = 1.5


@dataclass(frozen=True, eq=False)
class Frame:
    """A rectangle of lines.

    Attributes
    ----------
    box
        (top, bottom, left, right), in pixels.
    level, upright
        Its lines, and those inside that go from side to side; in the window's pixels.
    window
        (top, left) of the pixels in which they were looked for.
    """

    box: tuple[int, int, int, int]
    level: list[Line]
    upright: list[Line]
    window: tuple[int, int]

    @property
    def is_cell(self) -> bool:
        """Whether there is room for one digit."""
        top, bottom, left, right = self.box
        return right - left <= CELL * (bottom - top)

    @property
    def wide(self) -> int:
        """Its width."""
        return self.box[3] - self.box[2]

    @property
    def inner(self) -> list[float]:
        """Where its upright lines are, if it is parted in boxes."""
        return [line.where + self.window[1] for line in self.upright] * (len(self.upright) > 2)

    def has(self, y: float, x: float) -> bool:
        """Whether a point lies inside."""
        top, bottom, left, right = self.box
        return top <= y < bottom and left <= x < right

    def smaller(self, factor: int) -> Frame:
        """Where it is in a page that is averaged down by a whole factor."""
        top, bottom, left, right = (edge // factor for edge in self.box)
        return Frame((top, bottom + 1, left, right + 1), [], [], (0, 0))

    def erase(self, ink: Floats) -> None:
        """Take its lines away, in place; not where a stroke crosses them."""
        part = ink[self.window[0] :, self.window[1] :]
        for line in (*self.level, *self.upright):
            line.erase(part)
        uprights = [(upright, _Course(upright)) for upright in self.upright]
        for level in self.level:
            course = _Course(level)
            for upright, across in uprights:
                # Where two lines meet, each looks like a stroke that crosses the other.
                y, x = _meeting(course, across)
                reach = round((level.thickness + upright.thickness) / 2) + 1
                part[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 0


def frames_of(marks: Marks) -> list[Frame]:
    """Those marks of a page, in cells of one pixel, that are frames; their lines are level or
    nearly so."""
    # Most marks are told from frames by this, in little time.
    closed = _loops.closed_marks(
        marks.labels, marks.boxes, marks.area, SMALLEST, FULLEST, NEAR, WHOLE
    )
    frames = [_frame(marks, number) for number in closed]
    return [frame for frame in frames if frame is not None]


def _frame(marks: Marks, number: int) -> Frame | None:
    top, bottom, left, right = marks.boxes[number].tolist()
    # With room for soft edges.
    window = max(0, top - 2), max(0, left - 2)
    height, width = marks.labels.shape
    part = slice(window[0], min(height, bottom + 2)), slice(window[1], min(width, right + 2))
    mask = np.ascontiguousarray(marks.labels[part] == number)
    thickest = max(THIN, THICKNESS * min(bottom - top, right - left))
    level = _sides(mask, False, thickest)
    if not level:
        return None
    # A frame that is askew is higher than its uprights are long.
    top_line = _Course(level[0])
    rise = min(abs(top_line.at(0) - top_line.at(mask.shape[1])), MOST_RISE * len(mask))
    upright = _sides(mask, True, thickest, WHOLE * (1 - rise / len(mask)))
    if not upright:
        return None
    # The second thinnest: one side alone may be broken.
    thin = DOUBLE * sorted(line.thickness for line in _outer(level) + _outer(upright))[1]
    level, upright = _without_strokes(level, thin), _without_strokes(upright, thin)
    if max(line.thickness for line in _outer(level) + _outer(upright)) > thickest:
        return None
    # What is inside and thicker is a stroke that touches the frame at both ends.
    thin = DOUBLE * max(line.thickness for line in _outer(level) + _outer(upright))
    level, upright = _not_thicker(level, thin), _not_thicker(upright, thin)
    frame = Frame((top, bottom, left, right), level, upright, window)
    if frame.is_cell:  # what goes through it may be a one
        frame = Frame(frame.box, _outer(level), _outer(upright), window)
    return frame


def _sides(
    mask: NDArray[np.bool_], upright: bool, thickest: float, whole: float = WHOLE
) -> list[Line]:
    """Lines from one side of a mark to the other, if the first and last are its edges."""
    height, width = mask.shape[::-1] if upright else mask.shape
    kind = (
        *(whole, COVERED, ALONE),
        ALONE,  # seen at first, and left to look at
        ALONE,
        DOUBLE * thickest,
        SLOPE,
        0.5,  # of equals, the more level
        0.3,  # of the lengths of its runs: its thickness
        max(2, width // 40),  # columns that may be missing
        2,  # rows beside the straight line
        2,
        MOST,
        2 * MOST,
        0,  # lines may end anywhere
        0,
    )
    lines = sorted(lines_of(mask, upright, kind), key=lambda line: line.where)
    near = NEAR * height + 2
    if len(lines) < 2 or lines[0].where > near or lines[-1].where < height - near:
        return []
    return lines if min(lines[0].thickness, lines[-1].thickness) <= thickest else []


def _not_thicker(lines: list[Line], thickness: float) -> list[Line]:
    """The outer ones, and those inside that are no thicker."""
    inner = [line for line in lines[1:-1] if line.thickness <= thickness]
    return [lines[0], *inner, lines[-1]]


def _without_strokes(lines: list[Line], thickness: float) -> list[Line]:
    """The same, but of the outer ones not what is thicker in a part: a one may stand upon it."""
    return [_thin_part(lines[0], thickness), *lines[1:-1], _thin_part(lines[-1], thickness)]


def _thin_part(line: Line, thickness: float) -> Line:
    thick = line.bottom - line.top > thickness
    inked = line.bottom > line.top
    thinner = np.count_nonzero(inked & ~thick)
    if line.thickness <= thickness or thinner < THINNER * np.count_nonzero(inked):
        return line
    middle = (line.top + line.bottom) // 2
    return replace(
        line,
        top=np.where(thick, middle, line.top),
        bottom=np.where(thick, middle, line.bottom),
        thickness=thickness,
    )


def _outer(lines: list[Line]) -> list[Line]:
    return [lines[0], lines[-1]]


class _Course:
    """Where a line goes."""

    def __init__(self, line: Line) -> None:
        self.where = line.where
        seen = np.flatnonzero(line.bottom > line.top)
        self._columns: list[int] = (seen + line.start).tolist()
        self._rows: list[float] = ((line.top[seen] + line.bottom[seen] - 1) / 2).tolist()

    def at(self, column: float) -> float:
        """The row of its middle in a column: where it is crossed there, as far beside it as it is
        not."""
        columns, rows = self._columns, self._rows
        if not columns:
            return self.where
        behind = bisect_right(columns, column)
        if not 0 < behind < len(columns):
            return rows[0 if behind == 0 else -1]
        before = behind - 1
        slope = (rows[behind] - rows[before]) / (columns[behind] - columns[before])
        return slope * (column - columns[before]) + rows[before]


def _meeting(level: _Course, upright: _Course) -> tuple[int, int]:
    """Row and column where two lines meet, nearly."""
    y, x = level.where, upright.where
    for _ in range(2):
        y, x = level.at(x), upright.at(y)
    return round(y), round(x)

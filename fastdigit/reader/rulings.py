"""Lines of forms: baselines, frames, boxes and combs, taken out of a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.components import marks_of
from fastdigit.images.ink import INK
from fastdigit.images.lines import lines_of
from fastdigit.reader.frames import frames_of

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks
    from fastdigit.images.lines import Line
    from fastdigit.reader.frames import Frame

__all__ = ["Rulings", "without_rulings"]

# Of the page's width that a line goes through at least, and how much of that is inked.
LENGTH: Final = 0.55
COVERED: Final = 0.85
# Of that, where nothing else touches the line; and of the page's width.
ALONE: Final = 0.25
# Of the lengths of its runs: its thickness.
QUANTILE: Final = 0.3
# Of the page's height that a line may be thick, and pixels that it always may.
THICKNESS: Final = 0.05
THIN: Final = 3
# The steepest line: rows a column.
SLOPE: Final = 0.06
MOST: Final = 12
# Uprights between boxes: of the height of all ink, from top to bottom, at least.
UPRIGHT: Final = 0.12
LEAN: Final = 0.06


@dataclass(frozen=True)
class Rulings:
    """The lines that were taken out.

    Attributes
    ----------
    ink
        What is left.
    level
        Rows of the level lines' middles.
    uprights
        Columns of the upright lines' middles, from left to right.
    marks
        Of what is left, in cells of one pixel.
    frames
        What fields or digits stand in.
    """

    ink: Floats
    level: tuple[float, ...]
    uprights: tuple[float, ...]
    marks: Marks
    frames: tuple[Frame, ...]


def without_rulings(ink: Floats) -> Rulings:
    """Take frames and level lines out of a page, and the thin uprights that stand or hang on these.

    A frame is judged by itself, however large the page is; other lines are to go through most of
    it. Where a stroke crosses a line, the line stays: no stroke is cut.
    """
    marks = marks_of(ink, cell=1)
    frames = tuple(frames_of(marks))
    columns = [column for frame in frames for column in frame.inner]
    if frames:
        ink = ink.copy()
        for frame in frames:
            frame.erase(ink)
        marks = marks_of(ink, cell=1)
    lines = _level_lines(ink)
    if not lines:
        return Rulings(ink, (), tuple(sorted(columns)), marks, frames)
    left = ink.copy()
    for line in lines:
        line.erase(left)
    thickness = max(line.thickness for line in lines)
    level = tuple(line.where for line in lines)
    marks = marks_of(left, cell=1)
    uprights = columns
    inked = np.flatnonzero((ink > INK).any(1))
    highest = int(inked[-1] - inked[0]) + 1
    for number, (top, bottom, start, end) in enumerate(marks.boxes.tolist()):
        high, wide = bottom - top, end - start
        if high < UPRIGHT * highest or wide > max(THIN, 1.5 * thickness + 2 + LEAN * high):
            continue
        if marks.area[number] > high * (1.5 * thickness + 1):
            continue
        if min(abs(row - at) for at in level for row in (top, bottom)) > thickness + THIN:
            continue
        around = slice(top, bottom), slice(max(0, start - 1), end + 1)
        own = marks.labels[around] == number
        own[:, 1:] |= own[:, :-1]  # its soft edges
        own[:, :-1] |= own[:, 1:]
        left[around][own] = 0
        uprights.append((start + end) / 2)
    return Rulings(left, level, tuple(sorted(uprights)), marks_of(left, cell=1), frames)


def _level_lines(ink: Floats) -> list[Line]:
    height, width = ink.shape
    kind = (
        *(LENGTH, COVERED, ALONE),
        ALONE,  # seen at first, and left to look at
        ALONE,
        max(THIN, THICKNESS * height),
        SLOPE,
        0.5,  # of equals, the more level
        QUANTILE,
        max(2, width // 40),  # columns that may be missing
        2,  # rows beside the straight line
        2,
        MOST,
        MOST,
        0,  # lines may end anywhere
        0,
    )
    return lines_of(ink > INK, False, kind)

"""Lines of forms: baselines, frames, boxes and combs, taken out of a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.arrays import run_lengths
from fastdigit.images.components import marks_of
from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Rulings", "without_rulings"]

# Of the page's width that a line goes through at least, and how much of that is inked.
LENGTH: Final = 0.55
COVERED: Final = 0.85
# Of that, where nothing else touches the line; and of the page's width.
ALONE: Final = 0.25
# Of the page's height that a line may be thick, and pixels that it always may.
THICKNESS: Final = 0.05
THIN: Final = 3
# The steepest line: rows a column.
SLOPE: Final = 0.06
MOST: Final = 12
# Uprights between boxes: of the page's height at least.
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
    """

    ink: Floats
    level: tuple[float, ...]
    uprights: tuple[float, ...]


@dataclass(frozen=True)
class _Line:
    start: int
    end: int
    rows: NDArray[np.intp]
    lengths: NDArray[np.intp]
    alone: NDArray[np.bool_]
    thickness: float


def without_rulings(ink: Floats) -> Rulings:
    """Take level lines out of a field, and the thin uprights that stand or hang on them.

    Where a stroke crosses a line, the line stays: no stroke is cut.
    """
    mask = ink > INK
    lines = _level_lines(mask)
    if not lines:
        return Rulings(ink, (), ())
    left = ink.copy()
    for line in lines:
        left[_pixels(line, mask)] = 0
    thickness = max(line.thickness for line in lines)
    level = tuple(float(np.median(line.rows[line.start : line.end])) for line in lines)
    marks = marks_of(left, cell=1)
    uprights: list[float] = []
    for number, (top, bottom, start, end) in enumerate(marks.boxes.tolist()):
        high, wide = bottom - top, end - start
        if high < UPRIGHT * ink.shape[0] or wide > max(THIN, 1.5 * thickness + 2 + LEAN * high):
            continue
        if marks.area[number] > high * (1.5 * thickness + 1):
            continue
        if min(abs(row - at) for at in level for row in (top, bottom)) > thickness + THIN:
            continue
        own = marks.labels == number
        own[:, 1:] |= own[:, :-1]  # its soft edges
        own[:, :-1] |= own[:, 1:]
        left[own] = 0
        uprights.append((start + end) / 2)
    return Rulings(left, level, tuple(sorted(uprights)))


def _level_lines(mask: NDArray[np.bool_]) -> list[_Line]:
    height, width = mask.shape
    runs = run_lengths(mask)
    thickest = max(THIN, THICKNESS * height)
    ys, xs = np.nonzero(mask & (runs <= thickest))
    steps = max(1, round(SLOPE * width / 2))
    slopes = np.arange(-steps, steps + 1) * 2 / width
    margin = int(SLOPE * width) + 2
    size = height + 2 * margin
    lines: list[_Line] = []
    for _ in range(MOST):
        if len(ys) < ALONE * width:
            break
        # Hough: the best of all slopes and rows; of equals, the most level.
        drops = np.rint(slopes[:, None] * (xs - width / 2)).astype(np.intp)
        places = ys - drops + margin + np.arange(len(slopes))[:, None] * size
        counts = np.bincount(places.ravel(), minlength=size * len(slopes)).reshape(-1, size)
        best = int(np.argmax(counts.max(1) - np.abs(slopes) / 2))
        row = int(counts[best].argmax()) - margin
        if counts[best, row + margin] < ALONE * width:
            break
        centre = row + np.rint(slopes[best] * (np.arange(width) - width / 2)).astype(np.intp)
        line = _followed(mask, runs, centre, thickest)
        if line is not None:
            lines.append(line)
        reach = 2 + (line.thickness if line is not None else 0)
        away = np.abs(ys - centre[xs]) > reach
        ys, xs = ys[away], xs[away]
    return lines


def _followed(
    mask: NDArray[np.bool_], runs: NDArray[np.int32], centre: NDArray[np.intp], thickest: float
) -> _Line | None:
    height, width = mask.shape
    columns = np.arange(width)
    lengths, rows = np.zeros(width, np.intp), centre.copy()
    for offset in (0, 1, -1, 2, -2):
        at = centre + offset
        free = (lengths == 0) & (at >= 0) & (at < height)
        at = at.clip(0, height - 1)
        found = free & mask[at, columns]
        lengths[found] = runs[at, columns][found]
        rows[found] = at[found]
    covered = lengths > 0
    at = np.flatnonzero(covered)
    if not len(at):
        return None
    breaks = np.flatnonzero(np.diff(at) > max(2, width // 40) + 1)
    starts, ends = np.append(at[0], at[breaks + 1]), np.append(at[breaks], at[-1]) + 1
    longest = int(np.argmax(ends - starts))
    start, end = int(starts[longest]), int(ends[longest])
    thickness = float(np.quantile(lengths[start:end][covered[start:end]], 0.3))
    alone = covered & (lengths <= 1.5 * thickness + 1)
    if (
        end - start < LENGTH * width
        or covered[start:end].mean() < COVERED
        or thickness > thickest
        or alone[start:end].mean() < ALONE
    ):
        return None
    return _Line(start, end, rows, lengths, alone, thickness)


def _pixels(line: _Line, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where nothing but the line is, and its soft upper edge."""
    height, width = mask.shape
    padded = np.zeros((height + 2, width), bool)
    padded[1:-1] = mask
    columns = np.arange(width)
    top = line.rows.copy()
    for _ in range(int(2 * line.thickness) + 2):
        inside = padded[(top + 1).clip(0, height), columns] & padded[top.clip(0, height), columns]
        top = np.where(line.alone & inside, top - 1, top)
    top = np.maximum(top, 0)
    bottom = np.where(line.alone, np.minimum(top + line.lengths + 1, height), top)
    top = np.where(line.alone, np.maximum(top - 1, 0), top)
    rows = np.arange(height)[:, None]
    pixels: NDArray[np.bool_] = (rows >= top) & (rows < bottom)
    pixels[:, : line.start] = False
    pixels[:, line.end :] = False
    return pixels

"""What is drawn around a digit and does not touch it: rings, underlines, pieces of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images import _pixels
from fastdigit.images.components import SPECK, Marks, marks_of
from fastdigit.images.ink import stroke_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Straight", "straight", "without_marks_around"]

# Among more marks than these, nothing is looked for.
MOST: Final = 40

# ---- Rings ----

# Directions in which a ring is looked for, from the middle of what it encloses.
DIRECTIONS: Final = 64
# Of these, in how many it is found; and when those count in which the picture cuts it off.
FOUND, CLOSED = 0.5, 0.78
# Of its height: what is less high inside is a dot or a bar of the digit's own.
INSIDE: Final = 0.3
# In cells, the least height of a digit in a ring.
SMALLEST: Final = 3
# Of its box: a ring or a frame encloses more, the outline of a digit less.
FILLED: Final = 0.68
# Its width, by what is usual of it, in nine of ten directions.
UNEVEN: Final = 2.5
# A one in a ring, or a zero's bar or slash: what is so narrow, by its length, is a one if it is so
# high, by the ring's height, no wider than this part of its own, and the ring no higher than wide.
NARROW, HIGH, LEANS, TALL = 0.3, 0.35, 0.85, 1.35

# ---- Straight marks ----

# Rows by columns of a line that is level; and its thickness by its length.
SLOPE, FLAT = 0.15, 0.34
# Of its rows beside the straight line: what is left out as frayed, on each side.
FRAYED: Final = 0.02
# Of its thickness, that near the ends at least.
EVEN: Final = 0.5
# And how high all of it is.
WOBBLE: Final = 1.5
# Of the digit's strokes: a line is thin; or as thick as strokes.
THIN, THICK = 0.65, 1.7
# Of these strokes, the gap between digit and line; if that is thin; and if it goes on beyond the
# digit on both sides, by so much.
GAP, GAP_THIN, GAP_BEYOND, BEYOND = 0.7, 0.6, 0.3, 0.3
# Of the digit's width or height, the least length of a line.
SHORTEST: Final = 0.3
# Of the longest line, the least size of a digit.
LARGE: Final = 0.3
# Of the digit: a line beside it that is as thick as its strokes is so much longer.
LONGER: Final = 1.3
# Of the digit's width, how much one below it or above it is below or above it.
BELOW: Final = 0.5


def without_marks_around(ink: Floats, marks: Marks) -> tuple[Floats, Marks, int]:
    """Without rings, underlines and pieces of frames: ink, its marks, and how many these were."""
    taken = 0
    while len(found := _around(ink, marks)):
        ink = np.where(_pixels_of(marks, found, ink.shape), 0, ink)
        marks = marks_of(ink)
        taken += len(found)
    return ink, marks, taken


def _around(ink: Floats, marks: Marks) -> NDArray[np.intp]:
    """Numbers of the marks that are such; a ring is found first, and alone."""
    rows, columns = marks.labels.shape
    kept = np.flatnonzero(_pixels.kept_marks(marks.boxes, marks.ink, rows, columns, SPECK))
    if not 2 <= len(kept) <= MOST:
        return kept[:0]
    # The picture's edge may cut a ring into pieces.
    edges = np.flatnonzero((marks.boxes == (0, rows, 0, columns)).any(axis=1))
    rings = [np.array([number]) for number in kept[_encloses(marks.boxes[kept])]]
    for ring in (*rings, edges) if len(edges) else rings:
        inside = _inside(marks.boxes, ring, kept)
        if len(inside) and _is_ring(marks, ring, inside):
            return ring
    lines = {number: line for number in kept.tolist() if (line := straight(marks, number))}
    return _lines(ink, marks, kept, lines) if lines else kept[:0]


def _pixels_of(marks: Marks, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels lie in cells of these marks."""
    cells = np.isin(marks.labels, chosen).repeat(marks.cell, 0).repeat(marks.cell, 1)
    return cells[: shape[0], : shape[1]]


# ---- Rings ----


def _encloses(boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether there is another one inside each of these boxes."""
    starts, ends = boxes[:, ::2], boxes[:, 1::2]
    within = (starts[:, None] < starts) & (ends[:, None] > ends)
    return np.asarray((within[..., 0] & within[..., 1]).any(axis=1), np.bool_)


def _inside(
    boxes: NDArray[np.int64], ring: NDArray[np.intp], kept: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Which marks lie in the box of others."""
    top, end, left, stop = _box(boxes[ring])
    first, last, start, finish = boxes[kept].T
    within = (first > top) & (last < end) & (start > left) & (finish < stop)
    inside: NDArray[np.intp] = kept[within & ~np.isin(kept, ring)]
    return inside


def _box(boxes: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """That of all of them."""
    (top, left), (end, stop) = boxes[:, ::2].min(axis=0), boxes[:, 1::2].max(axis=0)
    return int(top), int(end), int(left), int(stop)


def _is_ring(marks: Marks, ring: NDArray[np.intp], inside: NDArray[np.intp]) -> bool:
    top, end, left, stop = _box(marks.boxes[ring])
    first, last, start, finish = _box(marks.boxes[inside])
    if last - first < max(SMALLEST, INSIDE * (end - top)):
        return False
    middle = (first + last - 1) / 2, (start + finish - 1) / 2
    ys, xs = np.nonzero(np.isin(marks.labels, ring))
    around, far = _directions(ys, xs, middle)
    nearest = np.full(DIRECTIONS, np.inf)
    np.minimum.at(nearest, around, far)
    ys, xs = np.nonzero(np.isin(marks.labels[first:last, start:finish], inside))
    directions, farthest = _directions(ys + first, xs + start, middle)
    if (farthest >= nearest[directions]).any():
        return False
    found = np.isfinite(nearest)
    edge = _to_edges(marks.labels.shape, (top, end, left, stop), middle)
    closed = found | np.isfinite(edge)
    if found.mean() < FOUND or closed.mean() < CLOSED:
        return False
    outer = np.where(found | np.isinf(edge), 0.0, edge)
    np.maximum.at(outer, around, far)
    area = np.pi * np.square(outer[closed]).mean()
    widths = np.sort(outer[found] - nearest[found]) + 1
    if widths[len(widths) * 9 // 10] > UNEVEN * widths[len(widths) // 2]:
        return False
    if area < FILLED * (end - top) * (stop - left):
        return False
    # Is it a one in a ring, or a zero with a bar or a slash?
    tall = end - top > TALL * (stop - left)
    return not _is_bar(ys, xs) or (
        not tall and last - first >= HIGH * (end - top) and finish - start <= LEANS * (last - first)
    )


def _directions(
    ys: NDArray[np.intp], xs: NDArray[np.intp], middle: tuple[float, float]
) -> tuple[NDArray[np.intp], Floats]:
    """In which direction from the middle cells lie, and how far."""
    down, across = ys - middle[0], xs - middle[1]
    turn = np.arctan2(down, across) / (2 * np.pi) % 1
    return (turn * DIRECTIONS).astype(np.intp) % DIRECTIONS, np.hypot(down, across)


def _to_edges(
    shape: tuple[int, ...], box: tuple[int, int, int, int], middle: tuple[float, float]
) -> Floats:
    """How far it is in each direction to an edge of the picture that the box reaches."""
    turns = 2 * np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    down, across = np.sin(turns), np.cos(turns)
    ways = []
    for step, place, size in ((down, middle[0], shape[0]), (across, middle[1], shape[1])):
        ways.append(np.where(step > 0, size - place, place + 1) / np.maximum(np.abs(step), 1e-9))
    reached = (
        np.where(down > 0, box[1] == shape[0], box[0] == 0),
        np.where(across > 0, box[3] == shape[1], box[2] == 0),
    )
    upright = ways[0] < ways[1]
    return np.where(np.where(upright, *reached), np.where(upright, *ways), np.inf)


def _is_bar(ys: NDArray[np.intp], xs: NDArray[np.intp]) -> bool:
    """Whether these cells are a long and narrow mark."""
    small, large = np.linalg.eigvalsh(np.cov(ys, xs) + np.eye(2) / 12)
    return bool(small < NARROW**2 * large)


# ---- Straight marks ----


@dataclass(frozen=True)
class Straight:
    """A straight mark, level or upright; in cells.

    Attributes
    ----------
    upright
        Whether x and y are exchanged in what follows.
    start, end
        The columns that it goes through.
    top, bottom
        First and end row at its start, without its slope.
    slope
        Rows by columns.
    thickness
        Of its ink.
    """

    upright: bool
    start: int
    end: int
    top: float
    bottom: float
    slope: float
    thickness: float


def straight(marks: Marks, number: int) -> Straight | None:
    """The mark as a line, if it is one."""
    top, end, left, stop = marks.boxes[number].tolist()
    upright = end - top > stop - left
    long, high = (end - top, stop - left) if upright else (stop - left, end - top)
    if high > (FLAT + SLOPE) * long:
        return None
    ys, xs = np.nonzero(marks.labels[top:end, left:stop] == number)
    if upright:
        ys, xs = xs, ys
    from_middle = xs - xs.mean()
    slope = float((from_middle * ys).sum() / (from_middle * from_middle).sum())
    beside = np.sort(ys - slope * xs)
    frayed = int(FRAYED * len(beside))
    first, last = float(beside[frayed]), float(beside[-1 - frayed]) + 1
    if abs(slope) > SLOPE or last - first > FLAT * long:
        return None
    at, start = (left, top) if upright else (top, left)
    across = np.sort(np.bincount(xs - xs.min()))
    usual = across[len(across) // 2]
    if across[len(across) // 10] < EVEN * usual or last - first > WOBBLE * usual + 1:
        return None
    thickness = float(marks.ink[number]) / long / marks.cell**2
    return Straight(upright, start, start + long, at + first, at + last, slope, thickness)


def _lines(
    ink: Floats, marks: Marks, kept: NDArray[np.intp], lines: dict[int, Straight]
) -> NDArray[np.intp]:
    """Which of these lines are none of the digit's strokes, by what the other marks are."""
    rest = np.array([n for n in kept if n not in lines], np.intp)
    if not len(rest):  # The digit is straight itself, but not level, and no thin line.
        upright = {n: line.thickness for n, line in lines.items() if line.upright}
        bold = [n for n, width in upright.items() if width > THIN * max(upright.values())]
        if len(bold) != 1:
            return kept[:0]
        rest = np.array(bold, np.intp)
    top, end, left, stop = _box(marks.boxes[rest])
    if max(end - top, stop - left) < LARGE * max(line.end - line.start for line in lines.values()):
        return kept[:0]
    cells = np.isin(marks.labels, rest)
    strokes = stroke_width(np.where(_pixels_of(marks, rest, ink.shape), ink, 0)) / marks.cell
    found = []
    for number, line in lines.items():
        if number in rest:
            continue
        box = (left, stop, top, end) if line.upright else (top, end, left, stop)
        if _is_outside(line, box, cells.T if line.upright else cells, strokes):
            found.append(number)
    return np.array(found, np.intp)


def _is_outside(
    line: Straight, box: tuple[int, int, int, int], cells: NDArray[np.bool_], strokes: float
) -> bool:
    """Whether a line is no stroke of the digit that lies in the box."""
    top, end, left, stop = box
    length = line.end - line.start
    if length < SHORTEST * max(end - top, stop - left):
        return False
    ys, xs = np.nonzero(cells)
    beside = ys - line.slope * (xs - line.start)
    gap = max(float((line.top - beside).min()) - 1, float((beside - line.bottom).min()))
    thin = line.thickness < THIN * strokes
    beyond = line.start < left - BEYOND * strokes and line.end > stop + BEYOND * strokes
    if gap < strokes * (GAP_BEYOND if beyond else GAP_THIN if thin else GAP):
        return False
    if thin:
        return True
    if line.upright:
        return line.thickness <= THICK * strokes and length > LONGER * (stop - left)
    below = min(line.end, stop) - max(line.start, left)
    return line.thickness <= THICK * strokes and below >= BELOW * (stop - left)

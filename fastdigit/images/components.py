"""Connected marks: which of them are the digit, and which are dirt or a neighbour's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.errors import InputError
from fastdigit.images.arrays import surrounded
from fastdigit.images.ink import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Marks", "digit_of", "marks_of"]

# Where marks are told apart: on cells of several pixels if the picture is larger.
LABEL_SIDE: Final = 128
# Marks of less ink than this part of the largest are dirt.
SPECK: Final = 0.03
# Of the largest: a mark as large may be another digit.
AS_LARGE: Final = 0.55
# Of all marks together: what stands beside others and is as high is a digit.
AS_HIGH: Final = 0.7
# Of the height of all: the gap between one digit and the next below it.
APART: Final = 0.04


@dataclass(frozen=True, eq=False)
class Marks:
    """Connected marks.

    Attributes
    ----------
    labels
        Of each cell, the number of its mark, or -1.
    cell
        Sides of a cell, in pixels.
    boxes
        (marks, 4): first row, end of rows, first column, end of columns; in cells.
    ink
        How much there is in each.
    """

    labels: NDArray[np.intp]
    cell: int
    boxes: NDArray[np.intp]
    ink: Floats


def marks_of(ink: Floats) -> Marks:
    """Runs of inked cells that touch in neighbouring rows, corners included, are one mark."""
    height, width = ink.shape
    cell = -(-max(height, width) // LABEL_SIDE)
    padded = np.zeros((-(-height // cell) * cell, -(-width // cell) * cell))
    padded[:height, :width] = ink
    blocks = padded.reshape(padded.shape[0] // cell, cell, -1, cell)
    inked = blocks.max((1, 3)) > INK
    amounts = blocks.sum((1, 3)) * inked

    edges = np.diff(surrounded(inked.view(np.int8), 1)[1:-1], axis=1)
    ys, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    numbers, count = _joined(ys.tolist(), starts.tolist(), ends.tolist())
    labels = np.full(inked.shape, -1)
    labels[inked] = numbers.repeat(ends - starts)
    boxes = np.tile(np.array([1 << 30, 0, 1 << 30, 0]), (count, 1))
    np.minimum.at(boxes[:, 0], numbers, ys)
    np.maximum.at(boxes[:, 1], numbers, ys + 1)
    np.minimum.at(boxes[:, 2], numbers, starts)
    np.maximum.at(boxes[:, 3], numbers, ends)
    totals = np.bincount(labels[inked], amounts[inked], count).astype(np.float64)
    return Marks(labels, cell, boxes, totals)


def _joined(ys: list[int], starts: list[int], ends: list[int]) -> tuple[NDArray[np.intp], int]:
    """Of each run, in order, the number of its mark; and how many marks there are."""
    # A run points to an earlier one of its mark, or to itself.
    parent = list(range(len(ys)))

    above = 0
    for i, (y, start, end) in enumerate(zip(ys, starts, ends, strict=True)):
        while ys[above] < y - 1 or (ys[above] == y - 1 and ends[above] < start):
            above += 1
        other, mine = above, i
        while other < i and ys[other] == y - 1 and starts[other] <= end:
            first = other
            while parent[first] != first:
                first = parent[first]
            if first < mine:
                parent[mine] = first
                mine = first
            else:
                parent[first] = mine
            other += 1
        parent[i] = mine
    numbers, count = [0] * len(ys), 0
    for i, earlier in enumerate(parent):
        if earlier == i:
            numbers[i] = count
            count += 1
        else:
            numbers[i] = numbers[earlier]
    return np.array(numbers, np.intp), count


def digit_of(ink: Floats, marks: Marks) -> Floats:
    """The ink of the digit alone: without dirt and without what reaches in from beside."""
    kept = _kept(marks)
    several = _several(marks, kept)
    if several > 1:
        raise InputError(
            f"the image shows several digits ({several} marks as large as digits), and one digit "
            "is expected: call fastdigit.normalize(image[top:bottom, left:right]) for each"
        )
    mask = np.append(kept, False)[marks.labels]
    # A cell of faint pixels beside a mark is the mark's soft edge.
    padded = surrounded(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    mask = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    height, width = ink.shape
    mask = mask.repeat(marks.cell, 0).repeat(marks.cell, 1)[:height, :width]
    others = np.append(~kept, False)[marks.labels]
    mask &= ~others.repeat(marks.cell, 0).repeat(marks.cell, 1)[:height, :width]
    return np.where(mask, ink, 0)


def _kept(marks: Marks) -> NDArray[np.bool_]:
    """Which marks belong to a digit."""
    height, width = marks.labels.shape
    top, bottom, left, right = marks.boxes.T
    at_border = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    middle = np.hypot((top + bottom) / height - 1, (left + right) / width - 1)
    main = int(np.argmax(marks.ink * (1.5 - middle) * np.where(at_border, 0.5, 1)))
    kept: NDArray[np.bool_] = marks.ink >= SPECK * marks.ink[main]
    if not at_border[main]:
        # What the border cuts off is not this digit's, unless it reaches into its box.
        inside = (bottom > top[main]) & (top < bottom[main])
        inside &= (right > left[main]) & (left < right[main])
        kept &= ~at_border | inside
    return kept


def _several(marks: Marks, kept: NDArray[np.bool_]) -> int:
    """How many digits the marks are.

    Digits stand beside one another, each nearly as high as all of them, or one below the other,
    apart. Parts of a broken digit do neither.
    """
    boxes = marks.boxes[kept]
    sizes = np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])
    boxes = boxes[sizes >= AS_LARGE * sizes.max()]
    if len(boxes) < 2:
        return len(boxes)
    columns, rows = _groups(boxes[:, 2:]), _groups(boxes[:, :2])
    high = int(boxes[:, 1].max() - boxes[:, 0].min())
    wide = int(boxes[:, 3].max() - boxes[:, 2].min())
    beside = [
        column
        for column in columns
        if np.ptp(boxes[column][:, :2]) >= AS_HIGH * (high if len(rows) == 1 else sizes.max())
    ]
    if len(beside) > 1 and (wide > 0.9 * high or len(beside) > 2):
        return len(boxes)
    if len(columns) == 1 and len(rows) > 1 and high > 2.2 * wide:
        ends = [(boxes[row][:, 0].min(), boxes[row][:, 1].max()) for row in rows]
        gaps = [int(below[0] - above[1]) for above, below in itertools.pairwise(ends)]
        if min(gaps) > APART * high:
            return len(rows)
    return 1


def _groups(spans: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Numbers of the spans that overlap by more than a little, in order."""
    order = np.argsort(spans[:, 0])
    groups: list[list[int]] = []
    reach = 0
    for number in order.tolist():
        start, end = spans[number].tolist()
        if groups and min(end, reach) - start > 0.2 * (end - start):
            groups[-1].append(number)
        else:
            groups.append([number])
            reach = 0
        reach = max(reach, end)
    return [np.array(group) for group in groups]

"""Connected marks: which of them are the digit, and which are dirt or a neighbour's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.errors import NotOneDigitError
from fastdigit.images import _pixels
from fastdigit.images.arrays import plane
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
# Of its height: no digit is wider.
WIDE: Final = 1.5
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
    area
        Cells of each.
    """

    labels: NDArray[np.int32]
    cell: int
    boxes: NDArray[np.int64]
    ink: Floats
    area: NDArray[np.int64]


def marks_of(ink: Floats, cell: int | None = None) -> Marks:
    """Runs of inked cells that touch in neighbouring rows, corners included, are one mark."""
    cell = cell or -(-max(ink.shape) // LABEL_SIDE)
    labels, boxes, amounts, area = _pixels.marks(plane(ink), cell, INK)
    return Marks(labels, cell, boxes, amounts, area)


def digit_of(ink: Floats, marks: Marks) -> Floats:
    """The ink of the digit alone: without dirt and without what reaches in from beside."""
    rows, columns = marks.labels.shape
    kept = _pixels.kept_marks(marks.boxes, marks.ink, rows, columns, SPECK)
    if marks.cell > 1 and _is_wide(marks.boxes[kept]):  # digits less than a cell apart, perhaps
        return digit_of(ink, marks_of(ink, 1))
    several = _several(marks, kept) if len(kept) > 1 else 1
    if several > 1:
        raise NotOneDigitError(
            f"the image shows several digits ({several} marks as large as digits), and one digit "
            "is expected: fastdigit.read, the command fastdigit read and POST /read of the server "
            "read all digits of a picture"
        )
    return _pixels.kept_ink(ink, marks.labels, marks.cell, kept)


def _is_wide(boxes: NDArray[np.int64]) -> bool:
    if not len(boxes):
        return False
    high, wide = (boxes[:, i + 1].max() - boxes[:, i].min() for i in (0, 2))
    return bool(wide > WIDE * high)


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


def _groups(spans: NDArray[np.int64]) -> list[NDArray[np.intp]]:
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

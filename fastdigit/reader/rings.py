"""Circles and ellipses around digits or fields, as of marked answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.components import marks_of
from fastdigit.reader.borders import without_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks

__all__ = ["without_rings"]

# Marks that are looked at, the largest.
MOST: Final = 64
# In pixels: what is in a ring is higher.
LOWEST: Final = 6
# Of a ring's height: how high at least what it holds is; of its height and width, if that is wide.
HIGH: Final = 0.4
LESS_HIGH, WIDE = 0.2, 0.5
# From its middle to its outline, where its ink begins; and how much of it lies further in.
HOLLOW: Final = 0.7
INSIDE: Final = 0.05


def without_rings(ink: Floats, marks: Marks) -> tuple[Floats, Marks]:
    """Take out marks that lie around others as high as digits.

    Parameters
    ----------
    ink
        (height, width), 0 to 1.
    marks
        Of ``ink``, in cells of one pixel.

    Returns
    -------
    ndarray, Marks
        Those that were given if there is none.
    """
    boxes = marks.boxes
    if len(boxes) < 2:
        return ink, marks
    largest = np.arange(len(boxes))
    if len(boxes) > MOST:
        sizes = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        largest = np.argpartition(-sizes, MOST)[:MOST]
    top, bottom, left, right = boxes.T
    around = boxes[largest].T[:, :, None]
    holds = (around[0] < top) & (around[1] > bottom) & (around[2] < left) & (around[3] > right)
    holders = np.flatnonzero(holds.any(1))
    rings = [int(largest[n]) for n in holders if _is_ring(marks, int(largest[n]), holds[n])]
    if not rings:
        return ink, marks
    out = np.zeros(len(boxes), np.bool_)
    out[rings] = True
    left_over = without_marks(ink, marks, out)
    return left_over, marks_of(left_over, cell=1)


def _is_ring(marks: Marks, number: int, held: NDArray[np.bool_]) -> bool:
    """Whether a mark is hollow, and what it holds is as high as digits."""
    inside = marks.boxes[held]
    inside = inside[inside[:, 1] - inside[:, 0] >= LOWEST]
    if not len(inside):
        return False
    top, bottom, left, right = marks.boxes[number].tolist()
    height, width = bottom - top, right - left
    high = int((inside[:, 1] - inside[:, 0]).max())
    wide = int(inside[:, 3].max() - inside[:, 2].min())
    if high < HIGH * height and (high < LESS_HIGH * height or wide < WIDE * width):
        return False
    y, x = np.nonzero(marks.labels[top:bottom, left:right] == number)
    away = np.hypot((2 * y + 1) / height - 1, (2 * x + 1) / width - 1)
    return bool(np.count_nonzero(away < HOLLOW) <= INSIDE * len(away))

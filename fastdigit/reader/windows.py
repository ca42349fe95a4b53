"""Dark windows with bright digits in them, as of meters and counters, in a brighter picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images.components import marks_of

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats
    from fastdigit.images.components import Marks

__all__ = ["window_of"]

# A window is as dark as this between the darkest and the brightest of the picture; so much of its
# box is dark; and it is so large, in pixels of its shorter side, and of the picture's area.
DARK: Final = 0.4
SOLID: Final = 0.45
SMALLEST: Final = 14
LEAST_AREA: Final = 0.004
# Of the highest window's height: as high are those beside it; and of its height, how far they share
# their rows.
AS_HIGH: Final = 0.75
BESIDE: Final = 0.7
# Of its outline, how much is dark: what is solid and no box is a letter.
OUTLINE: Final = 0.8
# Rows and columns that are enough to tell how dark and how bright a picture is.
SAMPLED: Final = 256
# Pixels of its edge that belong to the frame.
EDGE: Final = 2
# Digits are so much brighter than their window.
BRIGHTER: Final = 0.2

Box = tuple[int, int, int, int]


def window_of(grey: Floats) -> tuple[Floats, Box] | None:
    """The part of a picture where bright digits stand on dark ground; None if there is no such.

    Parameters
    ----------
    grey
        (height, width) in 0..1.

    Returns
    -------
    part
        Of ``grey``: what is between windows that stand side by side is made dark.
    box
        Where it is, (top, bottom, left, right).
    """
    step = -(-max(grey.shape) // SAMPLED)
    low, high = np.quantile(grey[::step, ::step], (0.01, 0.99))
    if high - low < BRIGHTER:
        return None
    marks = marks_of((grey < low + DARK * (high - low)).astype(np.float64), cell=1)
    boxes = marks.boxes
    high_, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    some = (
        (np.minimum(high_, wide) >= SMALLEST)
        & (marks.area >= SOLID * high_ * wide)
        & (high_ * wide >= LEAST_AREA * grey.size)
    )
    numbers = np.array([n for n in np.flatnonzero(some).tolist() if _is_a_box(marks, n)], np.intp)
    if not len(numbers):
        return None
    some = np.zeros(len(boxes), bool)
    some[numbers] = True
    first = numbers[np.argmax((high_ * wide)[numbers])]
    top, bottom = boxes[first, 0], boxes[first, 1]
    shared = np.minimum(boxes[:, 1], bottom) - np.maximum(boxes[:, 0], top)
    beside = some & (high_ >= AS_HIGH * high_[first]) & (shared >= BESIDE * high_[first])
    chosen = boxes[beside]
    top, bottom, left, right = (
        int(chosen[:, 0].min()),
        int(chosen[:, 1].max()),
        int(chosen[:, 2].min()),
        int(chosen[:, 3].max()),
    )
    dark = marks.labels[top:bottom, left:right]
    ground = float(np.median(grey[top:bottom, left:right][np.isin(dark, np.flatnonzero(beside))]))
    part = np.full((bottom - top, right - left), ground)
    for above, below, before, behind in chosen.tolist():
        inside = (
            slice(above - top + EDGE, below - top - EDGE),
            slice(before - left + EDGE, behind - left - EDGE),
        )
        part[inside] = grey[above + EDGE : below - EDGE, before + EDGE : behind - EDGE]
    if part.max() - ground < BRIGHTER:
        return None
    return part, (top, bottom, left, right)


def _is_a_box(marks: Marks, number: int) -> bool:
    """Whether a mark goes along the sides of its box, but for its corners and edges."""
    top, bottom, left, right = marks.boxes[number].tolist()
    own = marks.labels[top + EDGE : bottom - EDGE, left + EDGE : right - EDGE] == number
    sides = (own[0], own[-1], own[:, 0], own[:, -1])
    return sum(map(np.count_nonzero, sides)) >= OUTLINE * sum(map(len, sides))

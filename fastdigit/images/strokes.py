"""The width of strokes, and how it is brought to what MNIST has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.images import _pixels
from fastdigit.images.arrays import framed, plane, sliding_max, surrounded

if TYPE_CHECKING:
    from fastdigit.images.arrays import Floats

__all__ = ["in_range"]

# Of strokes in a box of 20x20: 0.01 of MNIST's training digits have thinner ones, 0.02 bolder ones.
# Those out of this range are brought to what lies well inside.
THINNEST, THIN = 1.45, 1.8
BOLDEST, BOLD = 4.1, 3.3
EASE: Final = 2.0
# The grid on which strokes are changed is so much finer than that of the box.
FINER: Final = 3


def in_range(
    digit: Floats, within: tuple[int, int, int, int], width: float, box: int
) -> Floats | None:
    """That part of the digit with thicker or thinner strokes, if those of ``width`` pixels in
    ``box`` are out of MNIST's range."""
    if THINNEST <= width <= BOLDEST:
        return None
    fine = _pixels.fitted(digit, within, FINER * box)
    # Little out of range, little is changed: else a hair's breadth would decide.
    if width < THINNEST:
        target = min(THIN, THINNEST + EASE * (THINNEST - width))
    else:
        target = max(BOLD, BOLDEST - EASE * (width - BOLDEST))
    steps = FINER * abs(target - width) / 2
    whole = math.ceil(steps)
    # Averaging has made hairlines pale.
    fine = np.sqrt(fine) if width < THINNEST else np.clip(2 * fine - 0.5, 0, 1)
    fine = surrounded(fine, whole + 1)
    sign = 1 if width < THINNEST else -1
    changed = fine
    for step in range(whole):
        grown = sign * _grown(sign * changed, bool(step % 2))
        if sign < 0 and grown.sum() < 0.25 * fine.sum():
            break  # next to nothing would be left
        changed = changed + min(1.0, steps - step) * (grown - changed)
    inside = changed > 0.5
    if not inside.any():
        return None
    ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return plane(changed[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1])


def _grown(values: Floats, square: bool) -> Floats:
    """Larger by a pixel; squares and crosses in turn come near to a disc."""
    padded = framed(values, 1, 1)
    upright = sliding_max(padded, 3, 0)
    if square:
        return sliding_max(upright, 3, 1)
    cross: Floats = np.maximum(upright[:, 1:-1], sliding_max(padded, 3, 1)[1:-1])
    return cross

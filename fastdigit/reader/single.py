"""A picture of one digit alone: what :func:`fastdigit.normalize` makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.errors import InputError
from fastdigit.images.ink import stroke_width
from fastdigit.images.normalize import explain
from fastdigit.reader.candidates import WIDEST, Candidates
from fastdigit.reader.cuts import Piece
from fastdigit.reader.proposals import Proposals

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["single"]


def single(pixels: NDArray[Any]) -> Proposals | None:
    """What might be the only digit of a picture; its box is in pixels. None: there are several,
    or none.

    Fields and pages have lines that are longer than strokes. A picture that is cut close to one
    digit has none to compare with, and its strokes go as far as lines would; ``normalize`` knows
    such pictures.
    """
    try:
        steps = explain(pixels)
    except InputError:  # nothing, or several
        return None
    top, bottom, left, right = steps.box_in_grey
    ink = np.ascontiguousarray(steps.digit[top:bottom, left:right])
    if right - left > WIDEST * (bottom - top):
        return None
    height = float(steps.box[1] - steps.box[0])
    length = float(ink.sum()) / (max(bottom - top, 1) * max(1.0, stroke_width(ink)))
    table = np.array([(0, 1, *steps.box, 0, 0)], np.int32)
    return Proposals(Candidates(table, [Piece(0, 0, ink, 0)]), [length], height, [])

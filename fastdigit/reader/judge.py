"""What networks say of a candidate: whether it is one whole digit, and which."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.images.normalize import SIDE
from fastdigit.model import Model, load, shipped_file
from fastdigit.reader.candidates import images_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidates

__all__ = ["NOT_A_DIGIT", "Judged", "judged"]

#: The class of what is no digit: a part of one, several, a letter, a mark.
NOT_A_DIGIT: Final = 10
#: Knows what is no digit, from what :mod:`export.segments` cut out of fields; its digits are few.
SEGMENTS: Final = "segments"
#: Knows digits better, and takes anything for one.
DIGITS: Final = "digits"
# Of the geometric mean of what both say of the label: the share of the second.
SHARE: Final = 0.8
# What is no digit by so much, or so unlikely a digit, is not worth asking the second.
HOPELESS: Final = 0.995
UNLIKELY: Final = 0.001
# Log-odds that it is a digit: those of the first network; a polynomial of its height, in heights of
# the line's digits; and what it loses if a mark had to be cut at one of its sides, or at both. A
# logistic regression on candidates from fields of held-out writers.
OF_ODDS: Final = 0.88
OF_HEIGHT: Final = np.array([-15.14, 31.8, -15.03])
HIGHEST: Final = 1.4
OF_CUTS: Final = np.array([0, -2.29, -3.27])
# By its height and cuts, and by its width in heights of the line's digits: what is not worth asking
# the first. Of 780 fields of held-out writers' digits, all but three were read as without these
# three limits, and those were wrong before and after.
LEAST_PRIOR: Final = -6.0
TOO_WIDE: Final = 1.5
# A mark that is one digit by so much, and no wider, is one: neither its parts are asked for nor it
# together with others that are.
SETTLED: Final = 0.98
WIDEST_SETTLED: Final = 1.05

_models: tuple[Model, Model] | None = None
_lock = threading.Lock()


class Judged(NamedTuple):
    """What networks say of candidates.

    Attributes
    ----------
    probabilities
        (candidates, 11): of each digit, and that it is none.
    looks
        How many images the networks have looked at.
    """

    probabilities: Floats
    looks: int


def judged(candidates: Candidates, height: float, *, every: bool = False) -> Judged:
    """Say of each candidate what it is.

    Parameters
    ----------
    candidates
        Of a field.
    height
        Of the line's digits, in pixels of the candidates' boxes.
    every
        Also parts of what is a digit for sure; else, these are none.

    Returns
    -------
    Judged
    """
    starts, ends, top, bottom, left, right, cuts, are_marks = candidates.table.T
    high, wide = (bottom - top) / height, (right - left) / height
    high = np.minimum(np.maximum(high, 0), HIGHEST)
    prior = OF_HEIGHT @ [np.ones_like(high), high, high**2]
    prior += OF_CUTS[cuts]
    worth = (prior >= LEAST_PRIOR) & (wide < TOO_WIDE)
    own = np.zeros((len(candidates), NOT_A_DIGIT + 1))
    own[:, NOT_A_DIGIT] = 1
    images = np.empty((len(candidates), SIDE, SIDE), np.uint8)
    segments, digits = _loaded()
    looks = 0

    def ask(which: NDArray[np.bool_]) -> NDArray[np.intp]:
        nonlocal looks
        numbers = np.flatnonzero(which)
        looks += len(numbers)
        if len(numbers):
            drawn = images_of(candidates, numbers)
            images[numbers] = drawn
            own[numbers] = segments.predict_proba(drawn)
        return numbers

    def whole_of(numbers: NDArray[np.intp] | slice) -> Floats:
        none = np.minimum(np.maximum(own[numbers, NOT_A_DIGIT], 1e-7), 1 - 1e-7)
        likely: Floats = 1 / (1 + np.exp(-(OF_ODDS * np.log((1 - none) / none) + prior[numbers])))
        return likely

    if every:
        ask(worth)
    else:
        first = ask(worth & (are_marks > 0) & (wide < WIDEST_SETTLED))
        settled = first[whole_of(first) >= SETTLED]
        rest = worth & ~_settled(starts, ends, settled)
        rest[first] = False
        ask(rest)
    whole = whole_of(slice(None))
    labels = np.maximum(own[:, :NOT_A_DIGIT], 1e-12)
    both = np.flatnonzero((own[:, NOT_A_DIGIT] < HOPELESS) & (whole > UNLIKELY))
    if len(both):
        told = digits.predict_proba(images[both]).astype(np.float64)
        labels[both] = labels[both] ** (1 - SHARE) * told**SHARE
    labels *= (whole / labels.sum(1))[:, None]
    return Judged(np.column_stack([labels, 1 - whole]), looks + len(both))


def _settled(
    starts: NDArray[np.int32], ends: NDArray[np.int32], digits: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Which candidates need not be asked for, as these are digits: their parts, what has parts of
    them, and what is made of them alone."""
    # Of each boundary of pieces: whether it is inside a digit; and how many pieces before it are in
    # none.
    inside = np.zeros(int(ends[-1]) + 1, bool)
    free = np.ones(len(inside), np.intp)
    free[0] = 0
    for start, end in zip(starts[digits].tolist(), ends[digits].tolist(), strict=True):
        inside[start + 1 : end] = True
        free[start + 1 : end + 1] = 0
    free = np.cumsum(free)
    out: NDArray[np.bool_] = inside[starts] | inside[ends] | (free[starts] == free[ends])
    return out


def _loaded() -> tuple[Model, Model]:
    global _models
    if _models is None:
        with _lock:
            if _models is None:
                _models = load(shipped_file(SEGMENTS)), load(DIGITS)
    return _models

"""What networks say of a candidate: whether it is one whole digit, and which."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.model import Model, load, shipped_file
from fastdigit.reader.candidates import images_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidate

__all__ = ["NOT_A_DIGIT", "judged"]

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

_models: tuple[Model, Model] | None = None
_lock = threading.Lock()


def judged(candidates: Sequence[Candidate], height: float) -> Floats:
    """Say of each candidate what it is.

    Parameters
    ----------
    candidates
        Of a field.
    height
        Of the line's digits, in pixels of the candidates' boxes.

    Returns
    -------
    ndarray
        (candidates, 11): the probability of each digit, and that it is none.
    """
    edges = np.array([candidate.box for candidate in candidates])
    high, wide = (edges[:, 1] - edges[:, 0]) / height, (edges[:, 3] - edges[:, 2]) / height
    high = high.clip(0, HIGHEST)
    prior = OF_HEIGHT @ [np.ones_like(high), high, high**2]
    prior += OF_CUTS[[candidate.cut for candidate in candidates]]
    own = np.zeros((len(candidates), NOT_A_DIGIT + 1))
    own[:, NOT_A_DIGIT] = 1
    asked = np.flatnonzero((prior >= LEAST_PRIOR) & (wide < TOO_WIDE))
    images = images_of([candidates[number] for number in asked.tolist()])
    segments, digits = _loaded()
    if len(asked):
        own[asked] = segments.predict_proba(images)
    none = own[:, NOT_A_DIGIT].clip(1e-7, 1 - 1e-7)
    whole = 1 / (1 + np.exp(-(OF_ODDS * np.log((1 - none) / none) + prior)))
    labels = np.maximum(own[:, :NOT_A_DIGIT], 1e-12)
    likely = (none[asked] < HOPELESS) & (whole[asked] > UNLIKELY)
    if likely.any():
        both = asked[likely]
        told = digits.predict_proba(images[likely]).astype(np.float64)
        labels[both] = labels[both] ** (1 - SHARE) * told**SHARE
    labels *= (whole / labels.sum(1))[:, None]
    return np.column_stack([labels, 1 - whole])


def _loaded() -> tuple[Model, Model]:
    global _models
    if _models is None:
        with _lock:
            if _models is None:
                _models = load(shipped_file(SEGMENTS)), load(DIGITS)
    return _models

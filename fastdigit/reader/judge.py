"""What networks say of a candidate: whether it is one whole digit, and which."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.model import Model, load, shipped_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["NOT_A_DIGIT", "judged"]

#: The class of what is no digit: a part of one, several, a letter, a mark.
NOT_A_DIGIT: Final = 10
#: Knows what is no digit, from what :mod:`export.segments` cut out of fields; its digits are few.
SEGMENTS: Final = "segments"
#: Knows digits better, and takes anything for one.
DIGITS: Final = "digits"
# Of the geometric mean of what both say of the label: the share of the second.
SHARE: Final = 0.8

_models: tuple[Model, Model] | None = None
_lock = threading.Lock()


def judged(images: NDArray[np.uint8]) -> Floats:
    """(N, 11): the probability of each digit, and that it is none."""
    segments, digits = _loaded()
    own = segments.predict_proba(images).astype(np.float64)
    labels = own[:, :NOT_A_DIGIT]
    labels = np.maximum(labels, 1e-12) ** (1 - SHARE) * digits.predict_proba(images) ** SHARE
    labels *= (1 - own[:, NOT_A_DIGIT:]) / labels.sum(1, keepdims=True)
    return np.concatenate([labels, own[:, NOT_A_DIGIT:]], axis=1)


def _loaded() -> tuple[Model, Model]:
    global _models
    if _models is None:
        with _lock:
            if _models is None:
                _models = load(shipped_file(SEGMENTS)), load(DIGITS)
    return _models

"""What a network reads in a field that it does not cut: digits that touch or overlap."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.model import Model, load, shipped_file
from fastdigit.reader import _loops
from fastdigit.reader.strips import STRIP, WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.strips import Strip

__all__ = ["boxes_of", "likely_texts", "log_probabilities", "places", "steps_of"]

#: Trained with CTC by :mod:`export.joined`; its classes: nothing, the digits, what is none.
JOINED: Final = "joined"
BLANK, NO_DIGIT = 0, 11
# Columns of a strip that one step is.
STRIDE: Final = 2
# Columns beyond a step that the network looks at: 1, and 2 columns a step from there: 1 + 1 + 1 + 2
# + 1 steps.
SIDEWAYS: Final = 14
# Labels that are less probable in a step than this are not looked at there.
LEAST: Final = 1e-3
# In place of a probability of 0.
IMPOSSIBLE: Final = 1e-30
# What is ink of a strip; and how far a digit goes from where it is seen, in columns.
INKED: Final = 90
REACH: Final = 16

_model: Model | None = None
_lock = threading.Lock()


def steps_of(strip: Strip) -> Floats:
    """(steps, 11): in each step, the probability that there is nothing, and of each digit.

    What is no digit is nothing: it separates digits as paper does.
    """
    wide = strip.pixels.shape[1]
    steps = -(-wide // STRIDE)
    inner = WINDOW - 2 * SIDEWAYS
    count = 1 if wide <= WINDOW else 1 + -(-(wide - WINDOW) // inner)
    padded = np.zeros((STRIP, WINDOW + (count - 1) * inner), np.uint8)
    padded[:, :wide] = strip.pixels
    windows = np.stack([padded[:, n * inner : n * inner + WINDOW] for n in range(count)])
    scores = _loaded().run(windows[..., None]).astype(np.float64)
    edge = SIDEWAYS // STRIDE
    # Of two windows, each says what it sees whole.
    parts = [
        row[edge if n else 0 : len(row) - (edge if n < count - 1 else 0)]
        for n, row in enumerate(scores)
    ]
    joined = np.concatenate(parts)[:steps]
    likely: Floats = np.exp(joined - joined.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    likely[:, BLANK] += likely[:, NO_DIGIT]
    return likely[:, :NO_DIGIT]


def likely_texts(steps: Floats, most: int) -> list[str]:
    """The most probable texts, the best first.

    Notes
    -----
    Prefix beam search (Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition
    using Bi-Directional Recurrent DNNs", 2014): of each prefix, the probability that it was read so
    far and that the last step was nothing, or its last digit.
    """
    return _loops.likely_texts(np.ascontiguousarray(steps), LEAST, most)


def log_probabilities(steps: Floats, texts: Sequence[str]) -> Floats:
    """(texts,): the logarithm of the probability of each, of all its alignments together."""
    return _loops.text_logs(np.ascontiguousarray(steps), texts, IMPOSSIBLE)


def places(steps: Floats, text: str) -> NDArray[np.int32]:
    """In which step each digit of the text is seen best, in order (Viterbi's algorithm)."""
    return _loops.places(np.ascontiguousarray(steps), text, IMPOSSIBLE)


def boxes_of(strip: Strip, steps: Floats, text: str) -> list[tuple[int, int, int, int]]:
    """Where each digit of the text is, (top, bottom, left, right) in pixels of the page.

    Between two of them, where there is least ink in a column: as well as that can be told of digits
    that no column separates.
    """
    inked = strip.pixels >= INKED
    amount = strip.pixels.sum(0, dtype=np.int64)
    wide = len(amount)
    at = np.minimum(places(steps, text) * STRIDE + STRIDE // 2, wide - 1)
    edges = [0, wide]
    for left, right in itertools.pairwise(at.tolist()):
        middle = (left + right) / 2
        between = np.arange(left + 1, max(right, left + 2))
        nearest = np.abs(between - middle)
        edges.append(int(between[np.lexsort((nearest, amount[between.clip(0, wide - 1)]))[0]]))
    edges = sorted(edges)
    boxes = []
    for place, start, end in zip(at.tolist(), edges, edges[1:], strict=False):
        start, end = max(start, place - REACH), min(max(end, place + 1), place + REACH + 1)
        own = inked[:, start:end]
        if not own.any():
            own = np.ones_like(own)
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0)) + start
        top, bottom = strip.rows[[rows[0], rows[-1]]]
        first, last = strip.columns[[columns[0], columns[-1]]]
        boxes.append((int(top), int(bottom) + 1, int(first), int(last) + 1))
    return boxes


def _loaded() -> Model:
    global _model
    if _model is None:
        with _lock:
            if _model is None:
                _model = load(shipped_file(JOINED))
    return _model

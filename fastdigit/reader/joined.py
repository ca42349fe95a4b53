"""What a network reads in a field that it does not cut: digits that touch or overlap."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.model import Model, load, shipped_file
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
DIGITS: Final = "0123456789"
# Columns of a strip that one step is.
STRIDE: Final = 2
# Columns beyond a step that the network looks at: 1, and 2 columns a step from there: 1 + 1 + 1 + 2
# + 1 steps.
SIDEWAYS: Final = 14
# Labels that are less probable in a step than this are not looked at there.
LEAST: Final = 1e-3
# In place of a probability of 0.
IMPOSSIBLE: Final = 1e-30
# After so many steps, probabilities are scaled, lest they become too small for a float.
SCALED: Final = 8
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
    beam: dict[str, tuple[float, float]] = {"": (1.0, 0.0)}
    for row in steps.tolist():
        likely = [(digit, row[n]) for n, digit in enumerate(DIGITS, 1) if row[n] >= LEAST]
        after: dict[str, list[float]] = {}
        for prefix, (blank, label) in beam.items():
            both = blank + label
            last = prefix[-1:]
            own = after.setdefault(prefix, [0.0, 0.0])
            own[0] += both * row[BLANK]
            if last:
                own[1] += label * row[int(last) + 1]
            for digit, chance in likely:
                gain = (blank if digit == last else both) * chance
                if gain > 0:
                    after.setdefault(prefix + digit, [0.0, 0.0])[1] += gain
        ranked = sorted(
            (-blank - label, text, blank, label) for text, (blank, label) in after.items()
        )
        top = -ranked[0][0]
        beam = {text: (blank / top, label / top) for _, text, blank, label in ranked[:most]}
    return list(beam)


def log_probabilities(steps: Floats, texts: Sequence[str]) -> Floats:
    """(texts,): the logarithm of the probability of each, of all its alignments together."""
    longest = max(len(text) for text in texts)
    states = np.full((len(texts), 2 * longest + 1), BLANK)
    for own, text in zip(states, texts, strict=True):
        own[1 : 2 * len(text) : 2] = [int(digit) + 1 for digit in text]
    # Over what is nothing between two digits, if these differ.
    skips = np.zeros(states.shape)
    skips[:, 2:] = (states[:, 2:] != BLANK) & (states[:, 2:] != states[:, :-2])
    # What lies behind a text is not reached.
    length = np.array([2 * len(text) for text in texts])
    inside = (np.arange(states.shape[1]) <= length[:, None]).astype(np.float64)
    # Two states more, before the first: before the first step, it is in the second of them.
    reached = np.zeros((len(texts), states.shape[1] + 2))
    reached[:, 1] = 1
    skips[:, 1:2] = 1
    total = np.zeros(len(texts))
    for number, row in enumerate(np.maximum(steps, IMPOSSIBLE)):
        own = skips * reached[:, :-2]
        own += reached[:, 1:-1]
        own += reached[:, 2:]
        own *= row.take(states)
        if number % SCALED == 0:
            own *= inside
            scale = np.maximum(own.sum(1), IMPOSSIBLE**SCALED)
            total += np.log(scale)
            own /= scale[:, None]
        reached[:, :2] = 0
        reached[:, 2:] = own
        skips[:, 1:2] = 0
    rows = np.arange(len(texts))
    ends = reached[rows, length + 2] + np.where(length > 0, reached[rows, length + 1], 0)
    found: Floats = total + np.log(np.maximum(ends, IMPOSSIBLE**SCALED))
    return found


def places(steps: Floats, text: str) -> NDArray[np.intp]:
    """In which step each digit of the text is seen best, in order (Viterbi's algorithm)."""
    states = np.zeros(2 * len(text) + 1, np.intp)
    states[1::2] = [int(digit) + 1 for digit in text]
    # From two states before: only over what is nothing, between different digits.
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != BLANK) & (states[2:] != states[:-2])
    score = np.full(len(states), -np.inf)
    logs = np.log(np.maximum(steps, IMPOSSIBLE))
    came = np.zeros((len(steps), len(states)), np.intp)
    for step, row in enumerate(logs):
        if step == 0:
            score[:2] = row[states[:2]]
            continue
        ways = np.full((3, len(states)), -np.inf)
        ways[0] = score
        ways[1, 1:] = score[:-1]
        ways[2, 2:] = np.where(skips[2:], score[:-2], -np.inf)
        came[step] = ways.argmax(0)
        score = ways.max(0) + row[states]
    state = len(states) - 1
    if len(states) > 1 and score[-2] > score[-1]:
        state -= 1
    seen: list[list[int]] = [[] for _ in text]
    for step in range(len(steps) - 1, -1, -1):
        if state % 2:
            seen[state // 2].append(step)
        state -= int(came[step, state])
    return np.array(
        [
            max(at, key=lambda step: steps[step, int(d) + 1])
            for at, d in zip(seen, text, strict=True)
        ],
        np.intp,
    )


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

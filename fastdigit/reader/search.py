"""The best way to read a field: paths through its pieces, the most probable first."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastdigit.reader.judge import NOT_A_DIGIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidate

__all__ = ["Path", "best_paths"]

# A label with a smaller probability is never read.
LEAST: Final = 1e-4
# Log-odds lost by leaving out a stroke as long as a digit is high.
LEFT_OUT: Final = 10.0


@dataclass(frozen=True, order=True)
class Path:
    """One way to read a field.

    Attributes
    ----------
    score
        Log-odds: the sum over its digits.
    text
        Their labels.
    chosen
        For each digit the number of its candidate.
    """

    score: float
    text: str
    chosen: tuple[int, ...]


def best_paths(
    candidates: Sequence[Candidate],
    probabilities: Floats,
    left_out: Sequence[float],
    most: int,
) -> list[Path]:
    """Find the most probable ways to read a field.

    Parameters
    ----------
    candidates
        Of the field, sorted by their end.
    probabilities
        (candidates, 11): of each digit, and of what is none.
    left_out
        For each piece of the field: how many strokes as long as a digit is high are lost if it is
        part of no digit.
    most
        How many to find, of different texts.

    Returns
    -------
    list of Path
        The best first; the last may be that of no digit at all.

    Notes
    -----
    Viterbi's algorithm, with several best paths to each place. Whether a candidate is a digit is
    judged by itself, so the likelihood of a path is the product of p over its candidates and of
    1 - p over all others: up to a constant, the sum of log(p / (1 - p)) over its own.
    """
    none = np.log(np.maximum(probabilities[:, NOT_A_DIGIT], 1e-7))
    odds = np.log(np.maximum(probabilities[:, :NOT_A_DIGIT], 1e-12)) - none[:, None]
    best: list[list[Path]] = [[Path(0.0, "", ())]]
    number = 0
    for end, lost in enumerate(left_out, 1):
        ways = [Path(path.score - LEFT_OUT * lost, path.text, path.chosen) for path in best[-1]]
        while number < len(candidates) and candidates[number].end == end:
            before = best[candidates[number].start]
            labels = np.flatnonzero(probabilities[number, :NOT_A_DIGIT] >= LEAST)
            if most == 1:
                labels = labels[odds[number, labels].argmax() :][:1] if len(labels) else labels
            for label in labels.tolist():
                gain = float(odds[number, label])
                ways += [
                    Path(path.score + gain, path.text + str(label), (*path.chosen, number))
                    for path in before
                ]
            number += 1
        best.append(_best_of_each_text(ways, most))
    return best[-1]


def _best_of_each_text(ways: list[Path], most: int) -> list[Path]:
    kept: dict[str, Path] = {}
    for path in heapq.nlargest(2 * most, ways):
        if path.text not in kept:
            kept[path.text] = path
            if len(kept) == most:
                break
    return list(kept.values())

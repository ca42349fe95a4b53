"""The best way to read a field: paths through its pieces, the most probable first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fastdigit.reader import _loops
from fastdigit.reader.judge import NOT_A_DIGIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdigit.images.arrays import Floats
    from fastdigit.reader.candidates import Candidates

__all__ = ["Path", "best_paths"]

# A label with a smaller probability is never read.
LEAST: Final = 1e-4
# Log-odds lost by leaving out a stroke as long as a digit is high.
LEFT_OUT: Final = 8.0
# And by leaving out what stands by itself, a letter perhaps, at most.
ALONE_LEFT_OUT: Final = 4.0


class Path(NamedTuple):
    """One way to read a field; the better, the greater.

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
    candidates: Candidates,
    probabilities: Floats,
    left_out: Sequence[float],
    most: int,
    length: int | None = None,
) -> list[Path]:
    """Find the most probable ways to read a field.

    Parameters
    ----------
    candidates
        Of the field.
    probabilities
        (candidates, 11): of each digit, and of what is none.
    left_out
        For each piece of the field: how many strokes as long as a digit is high are lost if it is
        part of no digit.
    most
        How many to find, of different texts.
    length
        How many digits they have; None: any number, and none.

    Returns
    -------
    list of Path
        The best first; of no digit at all, too, unless ``length`` is given.

    Notes
    -----
    Viterbi's algorithm, with several best paths to each place. Whether a candidate is a digit is
    judged by itself, so the likelihood of a path is the product of p over its candidates and of
    1 - p over all others: up to a constant, the sum of log(p / (1 - p)) over its own.
    """
    likely = probabilities[:, :NOT_A_DIGIT]
    none = np.log(np.maximum(probabilities[:, NOT_A_DIGIT:], 1e-7))
    gains = np.where(likely >= LEAST, np.log(np.maximum(likely, 1e-12)) - none, np.nan)
    losses = LEFT_OUT * np.asarray(left_out, np.float64)
    found = _loops.search(candidates.table, gains, losses, ALONE_LEFT_OUT, most, length)
    return [Path(*way) for way in found]

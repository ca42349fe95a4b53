"""Who runs when, and what the times say.

A run is a number of *rounds*; in a round every contestant gets one *turn*, a burst of single calls,
each timed by itself. Drift of the machine (clock frequency, other tenants) is slower than a round,
so it hits all contestants of a round alike and cancels in the ratio taken within that round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "NOISY",
    "SOME_NOISE",
    "SPIN_GAP",
    "STEADY",
    "Contestant",
    "Spread",
    "Summary",
    "Turn",
    "TurnFailed",
    "interleave",
    "order_of_round",
    "ratio",
    "spread",
    "summarize",
    "verdict",
]

T = TypeVar("T")
#: Seconds after which the idle threads of ONNX Runtime and OpenMP no longer spin but sleep.
SPIN_GAP = 0.15

# Verdicts on a relative interquartile range.
STEADY, SOME_NOISE, NOISY = "steady", "some noise", "noisy"
STEADY_UP_TO = 0.03
SOME_NOISE_UP_TO = 0.10

Nanoseconds: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Turn:
    """One contestant's turn.

    Attributes
    ----------
    nanoseconds
        Duration of each timed call, int64 (calls,), at least one.
    idle_cpu
        CPU seconds that the contestant's process used between its previous turn and this one,
        when it should have been idle; 0 on its first.
    preemptions
        Involuntary context switches of the process while it was timed.
    """

    nanoseconds: Nanoseconds
    idle_cpu: float = 0.0
    preemptions: int = 0

    @property
    def median(self) -> float:
        """Median duration of a call, nanoseconds."""
        return float(np.median(self.nanoseconds))


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    lower: float
    upper: float

    @property
    def relative(self) -> float:
        """Interquartile range as a fraction of the median."""
        return (self.upper - self.lower) / self.median


@dataclass(frozen=True)
class Summary:
    """Statistics of one contestant over all rounds; durations are of a call, in nanoseconds.

    Attributes
    ----------
    rounds
        Median and quartiles, over the rounds, of each round's median.
    minimum, p99
        Over all calls of all rounds.
    calls
        Number of timed calls.
    """

    rounds: Spread
    minimum: float
    p99: float
    calls: int


class TurnFailed(Exception):
    """A contestant could not finish its turn; it takes no further part."""


class Contestant(Protocol):
    """Something that can be timed."""

    @property
    def name(self) -> str:
        """Unique among the contestants of a run."""
        ...

    def turn(self, start: int, warmup: float, budget: float) -> Turn:
        """Warm up for `warmup` seconds, then time single calls for `budget` seconds.

        `start` is the image to begin with. Raises `TurnFailed`.
        """
        ...


def order_of_round(contestants: Sequence[T], round_: int) -> list[T]:
    """Return the order in which contestants take their turns in round number `round_`.

    The order is rotated by one each round, and reversed after each full rotation: everyone is
    first equally often, and nobody always follows the same neighbour.
    """
    n = len(contestants)
    cycle, shift = divmod(round_, n)
    order = [*contestants[shift:], *contestants[:shift]]
    return order[::-1] if cycle % 2 else order


def interleave(
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    warmup: float,
    budget: float,
    gap: float = 0.0,
    images: int = 1,
    on_turn: Callable[[str], None] = lambda name: None,
    before_round: Callable[[], object] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[dict[str, list[Turn]], dict[str, TurnFailed]]:
    """Let all contestants take turns, one at a time.

    Parameters
    ----------
    contestants
        At least one, with different names.
    rounds
        Number of turns of each.
    warmup, budget
        Seconds of untimed and of timed calls in each turn.
    gap
        Seconds of idleness before each turn, for the spinning threads of the previous
        contestant to go to sleep.
    images
        Size of the data set. Each round begins at another image, the same for everyone.
    on_turn
        Called with the contestant's name after each turn.
    before_round
        Called before each round, after another `gap`.
    sleep
        What to idle with.

    Returns
    -------
    turns
        All turns by contestant's name, in the order of the rounds; only of those that finished
        every round, so that the n-th turns of any two were in the same round.
    failures
        By name, what stopped the others.
    """
    turns: dict[str, list[Turn]] = {contestant.name: [] for contestant in contestants}
    failures: dict[str, TurnFailed] = {}
    for round_ in range(rounds):
        start = round_ * images // rounds
        if before_round is not None:
            if gap:
                sleep(gap)
            before_round()
        for contestant in order_of_round(contestants, round_):
            if contestant.name in failures:
                continue
            if gap:
                sleep(gap)
            try:
                turns[contestant.name].append(contestant.turn(start, warmup, budget))
            except TurnFailed as failure:
                failures[contestant.name] = failure
                del turns[contestant.name]
            on_turn(contestant.name)
    return turns, failures


def summarize(turns: Sequence[Turn]) -> Summary:
    """Reduce the turns of one contestant (at least one) to its statistics."""
    calls = np.concatenate([turn.nanoseconds for turn in turns])
    return Summary(
        rounds=spread(turn.median for turn in turns),
        minimum=float(calls.min()),
        p99=float(np.percentile(calls, 99)),
        calls=calls.size,
    )


def ratio(peer: Sequence[Turn], subject: Sequence[Turn]) -> Spread:
    """Compare two contestants round by round.

    Parameters
    ----------
    peer, subject
        Their turns, equally many, the n-th of both in the same round.

    Returns
    -------
    Spread
        Of (peer's median call) / (subject's median call), over the rounds; above 1 where the
        subject is the faster one.
    """
    return spread(p.median / s.median for p, s in zip(peer, subject, strict=True))


def spread(values: Iterable[float]) -> Spread:
    """Return the median of some values, at least one, and their quartiles."""
    lower, median, upper = np.percentile(np.fromiter(values, np.float64), [25, 50, 75])
    return Spread(median=float(median), lower=float(lower), upper=float(upper))


def verdict(relative_spread: float) -> str:
    """Say in a word what an interquartile range (as a fraction of the median) means."""
    if relative_spread <= STEADY_UP_TO:
        return STEADY
    return SOME_NOISE if relative_spread <= SOME_NOISE_UP_TO else NOISY

"""The scheduler and the statistics of the benchmark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdigit.bench.measure import (
    Turn,
    TurnFailed,
    interleave,
    order_of_round,
    ratio,
    summarize,
)

durations = st.lists(st.integers(1, 10**9), min_size=1, max_size=20)
turns = st.lists(durations, min_size=1, max_size=9).map(
    lambda rounds: [Turn(np.array(calls, np.int64)) for calls in rounds]
)


def scaled(own: list[Turn], factors: list[int]) -> list[Turn]:
    return [Turn(turn.nanoseconds * factor) for turn, factor in zip(own, factors, strict=True)]


@pytest.mark.parametrize("n", range(1, 8))
def test_order_of_round_is_fair(n: int) -> None:
    orders = [order_of_round(range(n), round_) for round_ in range(2 * n)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    for position in range(n):
        assert Counter(order[position] for order in orders) == dict.fromkeys(range(n), 2)


@pytest.mark.parametrize("n", range(3, 8))
def test_nobody_always_follows_the_same_neighbour(n: int) -> None:
    followers: dict[int, set[int]] = {i: set() for i in range(n)}
    for round_ in range(2 * n):
        order = order_of_round(range(n), round_)
        for before, after in pairwise(order):
            followers[before].add(after)
    assert all(len(after) == 2 for after in followers.values())


@dataclass
class Recorder:
    """A contestant that writes down when it ran."""

    name: str
    log: list[tuple[object, ...]]
    fails_in: int | None = None
    taken: int = field(default=0)

    def turn(self, start: int, warmup: float, budget: float) -> Turn:
        self.log.append((self.name, start, warmup, budget))
        if self.taken == self.fails_in:
            raise TurnFailed("enough")
        self.taken += 1
        return Turn(np.array([self.taken], np.int64))


def test_interleave_gives_everyone_one_turn_a_round_with_gaps() -> None:
    log: list[tuple[object, ...]] = []
    seen: list[str] = []
    results, failures = interleave(
        [Recorder(name, log) for name in "abc"],
        rounds=4,
        warmup=0.5,
        budget=2.0,
        gap=0.25,
        images=100,
        on_turn=seen.append,
        sleep=lambda seconds: log.append(("sleep", seconds)),
    )
    assert not failures
    assert log[::2] == [("sleep", 0.25)] * 12
    assert log[1::2] == [
        (name, start, 0.5, 2.0)
        for names, start in (("abc", 0), ("bca", 25), ("cab", 50), ("cba", 75))
        for name in names
    ]
    assert "".join(seen) == "abcbcacabcba"
    assert {name: [int(t.median) for t in own] for name, own in results.items()} == (
        {name: [1, 2, 3, 4] for name in "abc"}
    )


def test_interleave_calls_before_each_round_after_a_gap() -> None:
    log: list[tuple[object, ...]] = []
    interleave(
        [Recorder("a", log)],
        rounds=2,
        warmup=0,
        budget=0,
        gap=0.25,
        before_round=lambda: log.append(("before",)),
        sleep=lambda seconds: log.append(("sleep",)),
    )
    assert [name for name, *_ in log] == ["sleep", "before", "sleep", "a"] * 2


def test_interleave_goes_on_without_the_one_that_failed() -> None:
    log: list[tuple[object, ...]] = []
    results, failures = interleave(
        [Recorder("a", log), Recorder("b", log, fails_in=2)], rounds=5, warmup=0, budget=0
    )
    assert list(results) == ["a"]
    assert len(results["a"]) == 5
    assert str(failures["b"]) == "enough"
    assert [name for name, *_ in log].count("b") == 3


@given(turns, st.randoms(use_true_random=False))
def test_summary_does_not_depend_on_order(own: list[Turn], random: Random) -> None:
    shuffled = [
        Turn(np.array(random.sample(turn.nanoseconds.tolist(), turn.nanoseconds.size)))
        for turn in own
    ]
    random.shuffle(shuffled)
    assert summarize(shuffled) == summarize(own)


@given(turns)
def test_summary_is_what_it_says(own: list[Turn]) -> None:
    summary = summarize(own)
    calls = [int(call) for turn in own for call in turn.nanoseconds]
    medians = sorted(float(np.median(turn.nanoseconds)) for turn in own)
    assert summary.calls == len(calls)
    assert summary.minimum == min(calls)
    assert min(calls) <= summary.p99 <= max(calls)
    middle = len(medians) // 2
    expected = medians[middle] if len(medians) % 2 else (medians[middle - 1] + medians[middle]) / 2
    assert summary.rounds.median == pytest.approx(expected)
    assert medians[0] <= summary.rounds.lower <= summary.rounds.median
    assert summary.rounds.median <= summary.rounds.upper <= medians[-1]


def test_p99_and_spread_of_known_values() -> None:
    summary = summarize([Turn(np.arange(0, 101)), Turn(np.arange(100, 201))])
    assert summary.rounds.median == 100
    assert (summary.rounds.lower, summary.rounds.upper) == (75, 125)
    assert summary.rounds.relative == 0.5
    assert summary.p99 == pytest.approx(197.99)


@given(turns)
def test_ratio_to_itself_is_one(own: list[Turn]) -> None:
    assert ratio(own, own).median == 1
    assert ratio(own, own).relative == 0


@given(turns, st.integers(2, 50))
def test_ratio_of_a_slower_peer_is_how_much_slower_it_is(own: list[Turn], factor: int) -> None:
    slower = scaled(own, [factor] * len(own))
    assert ratio(slower, own).median == pytest.approx(factor)
    assert ratio(own, slower).median == pytest.approx(1 / factor)


@given(turns, st.data())
def test_drift_between_rounds_cancels_in_the_ratio(own: list[Turn], data: st.DataObject) -> None:
    n = len(own)
    peer = scaled(own, data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)))
    drift = data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    still = ratio(peer, own)
    drifting = ratio(scaled(peer, drift), scaled(own, drift))
    assert drifting.median == pytest.approx(still.median)
    assert (drifting.lower, drifting.upper) == pytest.approx((still.lower, still.upper))


def test_ratio_needs_turns_of_the_same_rounds() -> None:
    turn = Turn(np.array([1]))
    with pytest.raises(ValueError, match="zip"):
        ratio([turn], [turn, turn])

"""benchmarks/endurance.py: it counts what it does, and an answer that differs ends it."""

from __future__ import annotations

import json

import pytest

from benchmarks import endurance


@pytest.fixture(scope="module")
def run() -> endurance.Run:
    return endurance.Run(20_000, 30)


def test_what_was_asked_for_is_done(run: endurance.Run) -> None:
    run.work(seed=1)
    assert run.wrong == [] and run.share_done() >= 1
    assert all(run.done[name] >= wanted for name, wanted in run.wanted.items())
    assert run.done["loads"] == 30
    json.dumps(run.done)


def test_an_answer_that_differs_is_found(run: endurance.Run) -> None:
    run.done.clear()
    for subject in run.subjects:
        subject.answers[:, 0] ^= 1  # the last bit of a probability
    run.work(seed=2)
    assert len(run.wrong) == 1 and "another answer" in run.wrong[0]

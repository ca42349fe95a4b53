"""Worker processes: isolated, pinned, and reported when they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastdigit.bench.adapter import ModelFiles, Runtime
from fastdigit.bench.arrays import FloatArray
from fastdigit.bench.machine import choose_cpus
from fastdigit.bench.worker import Worker, WorkerFailed
from tests.support import bench_fakes

Start = Callable[..., Worker]

IMAGES = np.random.default_rng(0).random((21, 28, 28, 1), np.float32)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    workers: list[Worker] = []
    np.save(tmp_path / "images.npy", IMAGES)

    def start(runtime: type[Runtime], timeout: float = 60.0) -> Worker:
        worker = Worker(
            runtime,
            threads=1,
            cpus=choose_cpus(1),
            files=ModelFiles(fdm=Path("none.fdm"), onnx=()),
            images=tmp_path / "images.npy",
            log=tmp_path / "log",
            timeout=timeout,
        )
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.close()


def expected() -> FloatArray:
    return bench_fakes.probabilities(IMAGES)


@pytest.mark.parametrize("batch", [1, 4, 21, 50])
def test_predicts_in_order_whatever_the_batch(start: Start, batch: int) -> None:
    worker = start(bench_fakes.Right)
    worker.prepare(batch)
    np.testing.assert_allclose(worker.predict(len(IMAGES)), expected(), atol=1e-6)


def test_can_be_prepared_again(start: Start) -> None:
    worker = start(bench_fakes.Right)
    for batch in (4, 1):
        worker.prepare(batch)
        np.testing.assert_allclose(worker.predict(5), expected()[:5], atol=1e-6)


def test_turn_times_single_calls_until_the_budget_is_spent(start: Start) -> None:
    worker = start(bench_fakes.Right)
    worker.prepare(4)
    for _ in range(2):
        turn = worker.turn(start=8, warmup=0.0, budget=0.05)
        assert turn.nanoseconds.dtype == np.int64
        assert (turn.nanoseconds > 0).all()
        # All but the last call began within the budget.
        assert turn.nanoseconds[:-1].sum() <= 0.05e9
        assert turn.idle_cpu >= 0


def test_turn_without_a_budget_still_measures(start: Start) -> None:
    worker = start(bench_fakes.Right)
    worker.prepare(4)
    assert worker.turn(0, 0.0, 0.0).nanoseconds.size == 3


def test_fastest_variant_is_chosen_and_a_broken_one_named(start: Start) -> None:
    prepared = start(bench_fakes.ThreeVariants).prepare(1)
    assert prepared.variant == "fast"
    assert set(prepared.nanoseconds) == {"fast", "slow"}
    assert prepared.nanoseconds["slow"] > prepared.nanoseconds["fast"]
    assert prepared.rejected == {"broken": "ValueError: cannot be opened"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_is_pinned(start: Start) -> None:
    worker = start(bench_fakes.ReportsAffinity)
    assert worker.prepare(1).threads_placed
    assert worker.predict(1).argmax() == min(choose_cpus(1)[0], 8)


def test_exception_is_reported_and_the_worker_lives_on(start: Start) -> None:
    worker = start(bench_fakes.RefusesBatch2)
    with pytest.raises(WorkerFailed, match="RuntimeError: no kernel for batch 2") as caught:
        worker.prepare(2)
    assert caught.value.alive
    assert worker.prepared is None
    worker.prepare(4)
    np.testing.assert_allclose(worker.predict(5), expected()[:5], atol=1e-6)


def test_crash_is_reported_with_its_signal_and_last_words(start: Start) -> None:
    worker = start(bench_fakes.Segfaults)
    worker.prepare(1)
    with pytest.raises(WorkerFailed, match=r"(?s)crashed with SIGSEGV.*about to crash") as caught:
        for _ in range(bench_fakes.Segfaults.good_calls):
            worker.turn(0, 0.0, 0.01)
    assert not caught.value.alive
    with pytest.raises(WorkerFailed):
        worker.turn(0, 0.0, 0.01)


def test_exit_is_reported_with_its_status(start: Start) -> None:
    with pytest.raises(WorkerFailed, match="ended by itself with exit status 3") as caught:
        worker = start(bench_fakes.Exits)
        worker.prepare(1)
        worker.predict(1)
    assert not caught.value.alive


def test_hang_is_ended(start: Start) -> None:
    worker = start(bench_fakes.Hangs, timeout=1.0)
    worker.prepare(1)
    with pytest.raises(WorkerFailed, match="did not answer within 1 s") as caught:
        worker.predict(1)
    assert not caught.value.alive


def test_call_that_writes_nothing_leaves_nan(start: Start) -> None:
    worker = start(bench_fakes.WritesNothing)
    worker.prepare(1)
    assert np.isnan(worker.predict(1)).all()

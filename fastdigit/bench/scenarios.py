"""What is measured, on which data, and the run that puts it all together.

A *scenario* is a batch size and a number of threads. In each, every runtime is opened, its
probabilities are compared with ONNX Runtime's, and those that agree are timed in interleaved
rounds. At the end each runtime classifies all images. Between the rounds the machine is measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastdigit.bench.adapter import ModelFiles, Runtime
from fastdigit.bench.arrays import FloatArray
from fastdigit.bench.machine import choose_cpus
from fastdigit.bench.measure import interleave
from fastdigit.bench.results import (
    SUBJECT,
    Agreement,
    Failure,
    Measurement,
    Parity,
    Results,
    Settings,
    compare,
)
from fastdigit.bench.roofline import Probe
from fastdigit.bench.runtimes import OnnxRuntime
from fastdigit.bench.worker import Worker, WorkerFailed
from fastdigit.datasets import load_mnist_test

__all__ = ["Images", "digits", "noise", "run"]

REFERENCE_BATCH = 100

Labels: TypeAlias = npt.NDArray[np.integer]
OnProgress: TypeAlias = Callable[[str, float], None]


@dataclass(frozen=True)
class Images:
    """Images (N, height, width, channels), float32 in [0, 1]; labels (N,), None if unknown."""

    name: str
    images: FloatArray
    labels: Labels | None


def digits() -> Images:
    """Return the 10,000 MNIST test digits in a fixed random order.

    In file order the first half is easier than the second, and looks different.
    """
    images, labels = load_mnist_test()
    order = np.random.default_rng(0).permutation(len(images))
    scaled = images[order, :, :, np.newaxis].astype(np.float32) / np.float32(255)
    return Images("MNIST test digits", scaled, labels[order])


def noise(shape: tuple[int, ...] = (28, 28, 1), count: int = 10_000) -> Images:
    """Return uniform noise, as unlike digits as images can be: no blank area and hardly a zero."""
    images = np.random.default_rng(0).random((count, *shape), np.float32)
    return Images("uniform noise", images, None)


def run(
    runtimes: Sequence[type[Runtime]],
    files: ModelFiles,
    data: Images,
    settings: Settings,
    *,
    reference: type[Runtime] = OnnxRuntime,
    subject: str = SUBJECT,
    probe: Probe | None = None,
    on_progress: OnProgress = lambda what, share: None,
) -> Results:
    """Measure all runtimes in all scenarios.

    Parameters
    ----------
    runtimes
        Adapters with different names, at least one.
    files
        The network.
    data
        Images to classify.
    settings
        How much to measure.
    reference
        Everyone is compared with this runtime's output for ``files.onnx[0]``.
    subject
        Name of the runtime that the others are set in relation to.
    probe
        Measures the machine before each round.
    on_progress
        Called with what is going on, and the share of the work that is done, 0 to 1.

    Returns
    -------
    Results
        A runtime that fails is found in ``failures``, and the run goes on without it.

    Raises
    ------
    InputError
        This process may use fewer CPUs than ``settings.threads`` asks for.
    WorkerFailed
        The reference failed: there is nothing to compare with.
    """
    cpus = {n: choose_cpus(n) for n in settings.threads}
    results = Results(settings, data.name, cpus, subject=subject)
    with tempfile.TemporaryDirectory(prefix="fastdigit-bench-") as scratch:
        _Run(
            runtimes, files, data, settings, reference, probe, on_progress, results, Path(scratch)
        ).run()
    if probe is not None and probe.samples:
        results.roofline = probe.roofline()
    return results


class _Check(NamedTuple):
    """How a runtime compares with the reference; None where it was not, or not on all images."""

    agreement: Agreement | None
    accuracy: float | None


class _Run:
    """State of a run in progress."""

    def __init__(
        self,
        runtimes: Sequence[type[Runtime]],
        files: ModelFiles,
        data: Images,
        settings: Settings,
        reference: type[Runtime],
        probe: Probe | None,
        on_progress: OnProgress,
        results: Results,
        scratch: Path,
    ) -> None:
        self._runtimes = runtimes
        self._files = files
        self._data = data
        self._settings = settings
        self._reference = reference
        self._probe = probe
        self._on_progress = on_progress
        self._results = results
        self._scratch = scratch
        self._expected: FloatArray | None = None
        self._steps_done = 0
        scenarios = len(settings.threads) * len(settings.batches)
        # A step is a turn; opening a runtime and classifying everything take about as long.
        self._steps = scenarios * len(runtimes) * (settings.rounds + 1)
        self._steps += len(runtimes) * settings.check

    def run(self) -> None:
        np.save(self._scratch / "images.npy", self._data.images)
        if self._settings.check:
            self._on_progress(f"reference: {self._reference.name}", 0.0)
            self._expected = self._predict_reference()
        for threads in self._settings.threads:
            workers = [self._start(runtime, threads) for runtime in self._runtimes]
            try:
                for batch in self._settings.batches:
                    workers = self._scenario(workers, threads, batch)
                if self._settings.check and threads == self._settings.threads[-1]:
                    self._classify_all(workers, threads, self._settings.batches[-1])
            finally:
                for worker in workers:
                    worker.close()

    def _start(
        self, runtime: type[Runtime], threads: int, files: ModelFiles | None = None
    ) -> Worker:
        return Worker(
            runtime,
            threads=threads,
            cpus=self._results.cpus[threads],
            files=files or self._files,
            images=self._scratch / "images.npy",
            log=self._scratch / f"{runtime.name}-{threads}.log",
            timeout=self._settings.timeout,
        )

    def _predict_reference(self) -> FloatArray:
        only_first = replace(self._files, onnx=self._files.onnx[:1])
        worker = self._start(self._reference, self._settings.threads[0], only_first)
        try:
            worker.prepare(min(REFERENCE_BATCH, len(self._data.images)))
            return worker.predict(len(self._data.images))
        except WorkerFailed as failure:
            raise WorkerFailed(f"{worker.name} {failure}", alive=failure.alive) from None
        finally:
            worker.close()

    def _scenario(self, workers: list[Worker], threads: int, batch: int) -> list[Worker]:
        """Measure one scenario; return the workers that are still alive."""
        what = f"batch {batch}" + (f", {threads} threads" if len(self._results.cpus) > 1 else "")
        checks: dict[str, _Check] = {}
        ready, dead = [], set()
        for worker in workers:
            self._step(f"{what}: opening {worker.name}")
            try:
                check = self._open(worker, batch)
            except WorkerFailed as failure:
                self._fail(worker, threads, batch, failure)
                if not failure.alive:
                    dead.add(worker.name)
                continue
            checks[worker.name] = check
            if check.agreement is None or check.agreement.passed:
                ready.append(worker)
            else:
                self._results.failures.append(
                    Failure(worker.name, threads, batch, "wrong", _describe(check.agreement))
                )
        if ready:
            turns, stopped = interleave(
                ready,
                rounds=self._settings.rounds,
                warmup=self._settings.warmup,
                budget=self._settings.budget,
                gap=self._settings.gap if threads > 1 else 0.0,
                images=len(self._data.images),
                on_turn=lambda name: self._step(f"{what}: {name}"),
                before_round=None if self._probe is None else self._probe.sample,
            )
            for worker in ready:
                failed = stopped.get(worker.name)
                if isinstance(failed, WorkerFailed):
                    self._fail(worker, threads, batch, failed)
                    if not failed.alive:
                        dead.add(worker.name)
            for worker in ready:
                if worker.prepared is not None and worker.name in turns:
                    self._results.measurements.append(
                        Measurement(
                            runtime=worker.name,
                            batch=batch,
                            threads=threads,
                            prepared=worker.prepared,
                            agreement=checks[worker.name].agreement,
                            turns=turns[worker.name],
                            accuracy=checks[worker.name].accuracy,
                        )
                    )
        for worker in workers:
            if worker.name in dead:
                worker.close()
        return [worker for worker in workers if worker.name not in dead]

    def _open(self, worker: Worker, batch: int) -> _Check:
        """Prepare the fastest variant whose results are right, or one that is wrong if all are."""
        wrong: dict[str, str] = {}
        while True:
            prepared = worker.prepare(batch, without=wrong)
            if self._expected is None:
                return _Check(None, None)
            expected = self._expected[: self._settings.sample]
            check = self._compare(worker.predict(len(expected)))
            no_other = len(prepared.nanoseconds) < 2
            if check.agreement is None or check.agreement.passed or no_other:
                return check
            wrong[prepared.variant] = _describe(check.agreement)

    def _compare(self, probabilities: FloatArray) -> _Check:
        """Compare the probabilities of the first images, or of all, with the reference."""
        assert self._expected is not None
        count, labels = len(probabilities), self._data.labels
        agreement = compare(probabilities, self._expected[:count], self._settings.tolerance)
        if labels is None or count < len(labels):
            return _Check(agreement, None)
        return _Check(agreement, float((probabilities.argmax(1) == labels).mean()))

    def _classify_all(self, workers: list[Worker], threads: int, batch: int) -> None:
        assert self._expected is not None
        for worker in workers:
            self._step(f"accuracy: {worker.name}")
            if worker.prepared is None:  # reported when it failed
                continue
            try:
                probabilities = worker.predict(len(self._expected))
            except WorkerFailed as failure:
                self._fail(worker, threads, batch, failure)
                continue
            check = self._compare(probabilities)
            assert check.agreement is not None
            self._results.parity.append(
                Parity(worker.name, threads, batch, check.agreement, check.accuracy)
            )

    def _fail(self, worker: Worker, threads: int, batch: int, failure: WorkerFailed) -> None:
        self._results.failures.append(
            Failure(worker.name, threads, batch, "failed", str(failure), final=not failure.alive)
        )

    def _step(self, what: str) -> None:
        self._steps_done += 1
        self._on_progress(what, min(self._steps_done / self._steps, 1.0))


def _describe(agreement: Agreement) -> str:
    allowed = agreement.tolerance
    return (
        f"{agreement.disagreements} of {agreement.images} labels differ from the reference, "
        f"probabilities by up to {agreement.max_difference:.1e}; allowed are "
        f"{int(allowed.labels * agreement.images)} and {allowed.difference:g}"
    )

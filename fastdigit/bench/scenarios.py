"""What is measured, on which data, and the run that puts it all together.

A *scenario* is a batch size and a number of threads. In each, every runtime is opened, its
probabilities are compared with ONNX Runtime's, and those that agree are timed in interleaved
rounds. At the end each runtime classifies all images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fastdigit.bench.machine import choose_cpus
from fastdigit.bench.measure import SPIN_GAP, Spread, Summary, Turn, interleave, ratio, summarize
from fastdigit.bench.runtimes import FastDigit, FloatArray, ModelFiles, OnnxRuntime, Runtime
from fastdigit.bench.worker import ANSWER_TIMEOUT, Prepared, Worker, WorkerFailed
from fastdigit.datasets import load_mnist_test

__all__ = [
    "QUICK",
    "TOLERANCE",
    "Agreement",
    "Failure",
    "Images",
    "Measurement",
    "Parity",
    "Results",
    "Settings",
    "compare",
    "digits",
    "noise",
    "run",
]

#: Largest accepted difference of a probability.
TOLERANCE = 1e-5
SAMPLE = 512  # images compared before a scenario is timed
REFERENCE_BATCH = 100

SUBJECT = FastDigit.name

Labels: TypeAlias = npt.NDArray[np.integer]
OnProgress: TypeAlias = Callable[[str, float], None]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes
    ----------
    batches, threads
        Every batch size is measured with every number of threads.
    rounds
        Turns of each runtime in each scenario.
    warmup, budget
        Seconds of untimed and of timed calls in a turn.
    gap
        Seconds of idleness before each turn with more than one thread. ONNX Runtime's and
        OpenMP's idle threads spin for about 100 ms before they sleep.
    check
        Compare with ONNX Runtime. Without it, wrong results go unnoticed.
    timeout
        Seconds without an answer after which a worker is given up.
    """

    batches: tuple[int, ...] = (1, 8, 64, 512)
    threads: tuple[int, ...] = (1,)
    rounds: int = 25
    warmup: float = 0.05
    budget: float = 0.2
    gap: float = SPIN_GAP
    check: bool = True
    timeout: float = ANSWER_TIMEOUT


QUICK = Settings(rounds=7, warmup=0.02, budget=0.08)


@dataclass(frozen=True)
class Images:
    """A data set: float32 (N, 28, 28, 1) in [0, 1]; labels (N,), None where there is no truth."""

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


def noise(count: int = 10_000) -> Images:
    """Return uniform noise, as unlike digits as images can be: no blank area and hardly a zero."""
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return Images("uniform noise", images, None)


@dataclass(frozen=True)
class Agreement:
    """Two runtimes' probabilities of the same images.

    Attributes
    ----------
    images
        Number of images compared.
    disagreements
        Number of images whose most probable classes differ.
    max_difference
        Largest absolute difference of a probability; NaN if one of them is NaN.
    """

    images: int
    disagreements: int
    max_difference: float

    @property
    def passed(self) -> bool:
        """Whether the labels are the same and no probability is further off than allowed."""
        return self.disagreements == 0 and self.max_difference <= TOLERANCE


def compare(probabilities: FloatArray, reference: FloatArray) -> Agreement:
    """Compare probabilities, float32 (N, classes), with those of the reference."""
    if probabilities.shape != reference.shape:
        raise ValueError(f"got shape {probabilities.shape}, expected {reference.shape}")
    return Agreement(
        images=len(reference),
        disagreements=int((probabilities.argmax(1) != reference.argmax(1)).sum()),
        max_difference=float(np.abs(probabilities - reference).max()),
    )


@dataclass(frozen=True)
class Measurement:
    """One runtime's times in one scenario."""

    runtime: str
    batch: int
    threads: int
    prepared: Prepared
    agreement: Agreement | None
    turns: list[Turn]

    @property
    def summary(self) -> Summary:
        """Statistics of `turns`."""
        return summarize(self.turns)


@dataclass(frozen=True)
class Failure:
    """Why a runtime has no times in a scenario.

    `kind` is "wrong" when it disagreed with the reference, "failed" when it raised, crashed or
    hung. `final` failures took its process: it has no times in the scenarios that follow, either.
    """

    runtime: str
    threads: int
    batch: int
    kind: Literal["wrong", "failed"]
    message: str
    final: bool = False


@dataclass(frozen=True)
class Parity:
    """One runtime on the whole data set; `accuracy` is None where there are no labels."""

    runtime: str
    threads: int
    batch: int
    agreement: Agreement
    accuracy: float | None


@dataclass
class Results:
    """All that a run found out."""

    settings: Settings
    data: str
    cpus: dict[int, list[int]] = field(default_factory=dict)  # by number of threads
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)

    def ratio(self, peer: Measurement, subject: str = SUBJECT) -> Spread | None:
        """Return how many times longer `peer` took than `subject`, round by round.

        None if it is the subject, or if the subject has no times in that scenario.
        """
        for own in self.measurements:
            if (own.runtime, own.batch, own.threads) == (subject, peer.batch, peer.threads):
                return None if own is peer else ratio(peer.turns, own.turns)
        return None

    def parity_failed(self, subject: str = SUBJECT) -> bool:
        """Whether `subject` disagreed with the reference anywhere."""
        return any(f.runtime == subject and f.kind == "wrong" for f in self.failures) or any(
            p.runtime == subject and not p.agreement.passed for p in self.parity
        )

    @property
    def runtime_failed(self) -> bool:
        """Whether any runtime raised, crashed or hung."""
        return any(failure.kind == "failed" for failure in self.failures)


def run(
    runtimes: Sequence[type[Runtime]],
    files: ModelFiles,
    data: Images,
    settings: Settings,
    *,
    reference: type[Runtime] = OnnxRuntime,
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
    results = Results(settings, data.name, {n: choose_cpus(n) for n in settings.threads})
    with tempfile.TemporaryDirectory(prefix="fastdigit-bench-") as scratch:
        _Run(runtimes, files, data, settings, reference, on_progress, results, Path(scratch)).run()
    return results


class _Run:
    """State of a run in progress."""

    def __init__(
        self,
        runtimes: Sequence[type[Runtime]],
        files: ModelFiles,
        data: Images,
        settings: Settings,
        reference: type[Runtime],
        on_progress: OnProgress,
        results: Results,
        scratch: Path,
    ) -> None:
        self._runtimes = runtimes
        self._files = files
        self._data = data
        self._settings = settings
        self._reference = reference
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
        agreements: dict[str, Agreement | None] = {}
        ready, dead = [], set()
        for worker in workers:
            self._step(f"{what}: opening {worker.name}")
            try:
                agreement = self._open(worker, batch)
            except WorkerFailed as failure:
                self._fail(worker, threads, batch, failure)
                if not failure.alive:
                    dead.add(worker.name)
                continue
            agreements[worker.name] = agreement
            if agreement is None or agreement.passed:
                ready.append(worker)
            else:
                self._results.failures.append(
                    Failure(worker.name, threads, batch, "wrong", _describe(agreement))
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
                            agreement=agreements[worker.name],
                            turns=turns[worker.name],
                        )
                    )
        for worker in workers:
            if worker.name in dead:
                worker.close()
        return [worker for worker in workers if worker.name not in dead]

    def _open(self, worker: Worker, batch: int) -> Agreement | None:
        """Prepare the fastest variant whose results are right, or one that is wrong if all are."""
        wrong: dict[str, str] = {}
        while True:
            prepared = worker.prepare(batch, without=wrong)
            agreement = self._check(worker)
            no_other = len(prepared.nanoseconds) < 2
            if agreement is None or agreement.passed or no_other:
                return agreement
            wrong[prepared.variant] = _describe(agreement)

    def _check(self, worker: Worker) -> Agreement | None:
        if self._expected is None:
            return None
        expected = self._expected[:SAMPLE]
        return compare(worker.predict(len(expected)), expected)

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
            labels = self._data.labels
            self._results.parity.append(
                Parity(
                    runtime=worker.name,
                    threads=threads,
                    batch=batch,
                    agreement=compare(probabilities, self._expected),
                    accuracy=None
                    if labels is None
                    else float((probabilities.argmax(1) == labels).mean()),
                )
            )

    def _fail(self, worker: Worker, threads: int, batch: int, failure: WorkerFailed) -> None:
        self._results.failures.append(
            Failure(worker.name, threads, batch, "failed", str(failure), final=not failure.alive)
        )

    def _step(self, what: str) -> None:
        self._steps_done += 1
        self._on_progress(what, min(self._steps_done / self._steps, 1.0))


def _describe(agreement: Agreement) -> str:
    return (
        f"{agreement.disagreements} of {agreement.images} labels differ from the reference, "
        f"probabilities by up to {agreement.max_difference:.1e}; allowed are 0 and {TOLERANCE:g}"
    )

"""What a run was asked for and what it found out: records, without anything that runs.

:mod:`~fastdigit.bench.scenarios` fills them, :mod:`~fastdigit.bench.report` makes JSON of them and
:mod:`~fastdigit.bench.tables` tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fastdigit.bench.arrays import FloatArray
from fastdigit.bench.measure import SPIN_GAP, Spread, Summary, Turn, ratio, summarize
from fastdigit.bench.roofline import Roofline
from fastdigit.bench.runtimes import FastDigit
from fastdigit.bench.worker import ANSWER_TIMEOUT, Prepared

__all__ = [
    "EIGHT_BIT",
    "FULL",
    "QUICK",
    "SUBJECT",
    "VALUES",
    "Agreement",
    "Failure",
    "Measurement",
    "Parity",
    "Results",
    "Settings",
    "Tolerance",
    "compare",
]

SAMPLE = 512  # images compared before a scenario is timed

SUBJECT = FastDigit.name


@dataclass(frozen=True)
class Tolerance:
    """How far results may differ from the reference's.

    Attributes
    ----------
    labels
        Greatest share of images with another label.
    difference
        Largest absolute difference of a probability.
    """

    labels: float
    difference: float


#: For runtimes that compute in float32.
FULL = Tolerance(labels=0.0, difference=1e-5)

#: For networks without probabilities, whose greatest value is no label.
VALUES = Tolerance(labels=1.0, difference=1e-5)

#: With 8-bit weights: a network that labels more images otherwise is another network.
EIGHT_BIT = Tolerance(labels=0.01, difference=1.0)


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
    tolerance
        How far results may differ.
    sample
        Images to compare before a scenario is timed. If that is all of them, each measurement gets
        an accuracy.
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
    tolerance: Tolerance = FULL
    sample: int = SAMPLE
    timeout: float = ANSWER_TIMEOUT


QUICK = Settings(rounds=7, warmup=0.02, budget=0.08)


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
    tolerance
        What is allowed.
    """

    images: int
    disagreements: int
    max_difference: float
    tolerance: Tolerance = FULL

    @property
    def passed(self) -> bool:
        """Whether no more labels differ, and no probability is further off, than allowed."""
        return (
            self.disagreements <= self.tolerance.labels * self.images
            and self.max_difference <= self.tolerance.difference
        )


def compare(
    probabilities: FloatArray, reference: FloatArray, tolerance: Tolerance = FULL
) -> Agreement:
    """Compare probabilities, float32 (N, classes), with those of the reference."""
    if probabilities.shape != reference.shape:
        raise ValueError(f"got shape {probabilities.shape}, expected {reference.shape}")
    return Agreement(
        images=len(reference),
        disagreements=int((probabilities.argmax(1) != reference.argmax(1)).sum()),
        max_difference=float(np.abs(probabilities - reference).max()),
        tolerance=tolerance,
    )


@dataclass(frozen=True)
class Measurement:
    """One runtime's times in one scenario; `accuracy` is None unless all images were compared."""

    runtime: str
    batch: int
    threads: int
    prepared: Prepared
    agreement: Agreement | None
    turns: list[Turn]
    accuracy: float | None = None

    @property
    def summary(self) -> Summary:
        """Statistics of `turns`."""
        return summarize(self.turns)

    @property
    def images_per_second(self) -> float:
        """By the median over the rounds."""
        return self.batch / self.summary.rounds.median * 1e9


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
    roofline: Roofline | None = None
    notes: list[str] = field(default_factory=list)
    subject: str = SUBJECT

    def ratio(self, peer: Measurement) -> Spread | None:
        """Return how many times longer `peer` took than the subject, round by round.

        None if it is the subject, or if the subject has no times in that scenario.
        """
        for own in self.measurements:
            if (own.runtime, own.batch, own.threads) == (self.subject, peer.batch, peer.threads):
                return None if own is peer else ratio(peer.turns, own.turns)
        return None

    def parity_failed(self) -> bool:
        """Whether the subject disagreed with the reference anywhere."""
        return any(f.runtime == self.subject and f.kind == "wrong" for f in self.failures) or any(
            p.runtime == self.subject and not p.agreement.passed for p in self.parity
        )

    @property
    def runtime_failed(self) -> bool:
        """Whether any runtime raised, crashed or hung."""
        return any(failure.kind == "failed" for failure in self.failures)

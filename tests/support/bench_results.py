"""Results of a benchmark that never ran, for what reports and draws them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.bench.machine import Machine
from fastdigit.bench.measure import Turn
from fastdigit.bench.results import Agreement, Failure, Measurement, Parity, Results, Settings
from fastdigit.bench.worker import Prepared
from tests.support import bench_fakes

MACHINE = Machine(
    cpu="Some CPU",
    architecture="x86_64",
    cpus=2,
    cpu_quota=1.5,
    isa="avx2",
    isas_available=["generic", "avx2"],
    system="Linux 1.2.3",
    python="3.11.0",
    numpy="2.0.0",
    load_average=1.9,
)


def slow_and_noisy() -> Results:
    """Results with wide numbers and something of everything."""

    def turns(nanoseconds: int) -> list[Turn]:
        return [
            Turn(np.array([nanoseconds * (4 + i) // 4] * 3), idle_cpu=0.05, preemptions=i)
            for i in range(4)
        ]

    prepared = Prepared("first", {"first": 1e6, "second": 2e6}, {"third": "no"}, False)
    agreement = Agreement(images=512, disagreements=0, max_difference=1e-7)
    results = Results(Settings(threads=(1, 2)), "digits", {1: [0], 2: [0, 1]})
    for threads in (1, 2):
        for batch in (1, 512):
            for name, nanoseconds in (("fastdigit", 71_234_567), ("onnxruntime", 298_765_432)):
                results.measurements.append(
                    Measurement(name, batch, threads, prepared, agreement, turns(nanoseconds))
                )
    results.failures.append(Failure("mnn", 1, 8, "failed", "crashed [with] SIGSEGV", final=True))
    results.parity.append(Parity("fastdigit", 1, 512, agreement, 0.9935))
    wrong = Agreement(images=10_000, disagreements=7, max_difference=float("nan"))
    results.parity.append(Parity("ncnn", 1, 512, wrong, None))
    results.notes.append("something [worth] knowing")
    probe = bench_fakes.FakeProbe("avx2")
    probe.sample()
    results.roofline = replace(probe.roofline(), caches_from="assumed")
    return results

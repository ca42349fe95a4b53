"""What the machine can do: cache sizes, ceilings and the words for their steadiness."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdigit import _core
from fastdigit.bench import machine, roofline
from fastdigit.bench.machine import cache_sizes, pinned
from fastdigit.bench.roofline import (
    FMA,
    INT8,
    MEMORY,
    Ceiling,
    Probe,
    Roofline,
    state,
    working_sets,
)
from fastdigit.errors import IsaError
from fastdigit.threads import usable_cpus

KB, MB = 1 << 10, 1 << 20


def sysfs(root: Path, caches: list[tuple[int, str, str]]) -> None:
    for index, (level, kind, size) in enumerate(caches):
        folder = root / f"cpu3/cache/index{index}"
        folder.mkdir(parents=True)
        for name, value in (("level", str(level)), ("type", kind), ("size", size)):
            (folder / name).write_text(value + "\n")


def test_cache_sizes_are_those_of_data_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "SYSFS_CPU", tmp_path)
    sysfs(
        tmp_path,
        [
            (1, "Data", "48K"),
            (1, "Instruction", "64K"),
            (2, "Unified", "1024K"),
            (3, "Unified", "32768K"),
        ],
    )
    assert cache_sizes(3) == ({"L1": 48 * KB, "L2": MB, "L3": 32 * MB}, "sysfs")


def test_cache_sizes_without_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SYSFS_CPU", tmp_path)
    known = {"SC_LEVEL1_DCACHE_SIZE": 64 * KB, "SC_LEVEL2_CACHE_SIZE": MB}
    monkeypatch.setattr(os, "sysconf", lambda name: known.get(name, 0), raising=False)
    assert cache_sizes(0) == ({"L1": 64 * KB, "L2": MB}, "sysconf")

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown, raising=False)
    sizes, source = cache_sizes(0)
    assert source == "assumed"
    assert list(sizes) == ["L1", "L2", "L3"]


@pytest.mark.parametrize(
    ("caches", "expected"),
    [
        (
            {"L1": 48 * KB, "L2": MB, "L3": 32 * MB},
            {"L1": 24 * KB, "L2": MB // 2, "L3": 8 * MB, MEMORY: 128 * MB},
        ),
        # A last level hardly larger than the one before it.
        (
            {"L1": 32 * KB, "L2": 2 * MB, "L3": 6 * MB},
            {"L1": 16 * KB, "L2": MB, "L3": 3 * MB, MEMORY: 64 * MB},
        ),
        ({"L1": 32 * KB, "L2": MB}, {"L1": 16 * KB, "L2": MB // 4, MEMORY: 64 * MB}),
        ({"L1": 32 * KB}, {"L1": 8 * KB, MEMORY: 64 * MB}),
        (
            {"L1": 32 * KB, "L2": MB, "L3": 384 * MB},
            {"L1": 16 * KB, "L2": MB // 2, "L3": 96 * MB, MEMORY: 256 * MB},
        ),
    ],
)
def test_working_sets(caches: dict[str, int], expected: dict[str, int]) -> None:
    assert working_sets(caches) == expected


def ceilings(**losses: float) -> tuple[Ceiling, ...]:
    names = {FMA: None, INT8: None, "L1": 32 * KB, "L2": MB, "L3": 8 * MB, MEMORY: None}
    return tuple(
        Ceiling(name, size, 100.0, 99.0, 100.0 * (1 - losses.get(name, 0.0)))
        for name, size in names.items()
    )


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({}, "quiet"),
        ({FMA: 0.04, "L3": 0.19}, "quiet"),
        ({FMA: 0.06}, "noisy"),
        ({INT8: 0.06}, "noisy"),
        ({"L2": 0.06}, "noisy"),
        ({"L3": 0.21}, "L3 contended"),
        ({MEMORY: 0.5}, "DRAM contended"),
        ({"L1": 0.5, "L3": 0.5, MEMORY: 0.5}, "noisy, L3 contended, DRAM contended"),
    ],
)
def test_state(losses: dict[str, float], words: str) -> None:
    assert state(ceilings(**losses)) == words
    assert Roofline("avx2", ceilings(**losses), "sysfs", 9).state == words


def test_summarize() -> None:
    samples = [{FMA: 10.0, "L1": float(rate)} for rate in (40, 10, 30, 20, 50)]
    peak, level = roofline.summarize(samples, {"L1": 32 * KB})
    assert (peak.name, peak.size, peak.best, peak.loss) == (FMA, None, 10.0, 0.0)
    assert (level.best, level.median, level.lower, level.size) == (50.0, 30.0, 20.0, 32 * KB)
    assert level.loss == pytest.approx(0.6)


def test_nearest_level_that_holds_it() -> None:
    roof = Roofline("avx2", ceilings(), "sysfs", 1)
    expected = {1: "L1", 32 * KB: "L1", 32 * KB + 1: "L2", 8 * MB: "L3", 8 * MB + 1: MEMORY}
    assert {size: roof.level_of(size).name for size in expected} == expected
    assert roof.peak() == roof.peak(INT8) == 100.0


def ticking(step: int) -> Callable[[], int]:
    """A clock that advances by `step` nanoseconds whenever it is looked at."""
    now = 0

    def clock() -> int:
        nonlocal now
        now += step
        return now

    return clock


def test_rates_are_work_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of its own, every measurement takes 1 ms, whatever the machine does."""
    caches = {"L1": 4 * KB, "L2": 16 * KB, "L3": 128 * KB}
    monkeypatch.setattr(roofline, "cache_sizes", lambda cpu: (caches, "sysfs"))
    monkeypatch.setattr(roofline, "MEMORY_AT_LEAST", 64 * KB)
    probe = Probe("generic", seconds=0.002, clock=ticking(1_000_000))
    probe.sample()
    # 2 ms were asked for, so everything is done twice.
    (sample,) = probe.samples
    assert sample["L1"] == pytest.approx(2 * 2 * KB / 1e6)
    assert sample["L2"] == pytest.approx(2 * 8 * KB / 1e6)
    assert sample["L3"] == pytest.approx(2 * 32 * KB / 1e6)
    assert sample[MEMORY] == pytest.approx(2 * 512 * KB / 1e6)
    multiply_adds = _core.probe("generic", _core.PROBE_FMA, 2)
    assert sample[FMA] == pytest.approx(2 * multiply_adds / 1e6)
    multiply_adds = _core.probe("generic", _core.PROBE_DOT, 2)
    assert sample[INT8] == pytest.approx(2 * multiply_adds / 1e6)


def test_a_pause_does_not_pass_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core is taken away during the first, tiny measurement: a million rounds are wanted."""
    caches = {"L1": 4 * KB, "L2": 16 * KB, "L3": 128 * KB}
    monkeypatch.setattr(roofline, "cache_sizes", lambda cpu: (caches, "sysfs"))
    now, pauses = 0, [50_000_000]

    def work(self: Probe, name: str, amount: int) -> int:
        nonlocal now
        now += amount + (pauses.pop() if pauses and name == FMA else 0)
        return amount

    monkeypatch.setattr(Probe, "_work", work)
    probe = Probe("generic", seconds=0.001, clock=lambda: now)
    probe.sample()
    assert not pauses and probe._amounts[FMA] == 1_000_000


@pytest.mark.parametrize("isa", [name for name, usable in _core.isas() if usable])
def test_measures_this_machine(isa: str) -> None:
    before = usable_cpus()
    probe = Probe(isa, seconds=0.0005)
    for _ in range(2):
        probe.sample()
    assert usable_cpus() == before
    roof = probe.roofline()
    assert (roof.isa, roof.samples) == (isa, 2)
    names = [ceiling.name for ceiling in roof.ceilings]
    assert names[:2] == [FMA, INT8]
    assert names[2:] == [*cache_sizes(before[0])[0], MEMORY]
    for ceiling in roof.ceilings:
        assert 0 < ceiling.lower <= ceiling.median <= ceiling.best


def test_what_cannot_be_probed_is_an_error() -> None:
    with pytest.raises(IsaError, match="isa is 'mmx', which is unknown; this build has"):
        _core.probe("mmx", _core.PROBE_FMA, 1)
    with pytest.raises(ValueError, match="kind is 7"):
        _core.probe("generic", 7, 1)
    with pytest.raises(ValueError, match="memory is NULL"):
        _core.probe("generic", _core.PROBE_READ, 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pinned_ends_even_with_an_error() -> None:
    before = usable_cpus()
    with pytest.raises(RuntimeError, match="stop"), pinned(before[:1]):
        assert usable_cpus() == before[:1]
        raise RuntimeError("stop")
    assert usable_cpus() == before

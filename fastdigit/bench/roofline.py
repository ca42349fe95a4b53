"""What one core of this machine can do: the ceilings of the roofline model, and their steadiness.

Multiply-adds in registers, of floats and of bytes, and reading from each level of the memory
hierarchy, by the kernels ``probe_fma``, ``probe_dot`` and ``probe_read`` of the ISA in use. Taken
many times during a run, between the turns of the runtimes, they also tell what state the machine
was in.

S. Williams, A. Waterman, D. Patterson: "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fastdigit import _core
from fastdigit.bench.arrays import aligned
from fastdigit.bench.machine import cache_sizes, choose_cpus, pinned

__all__ = [
    "FMA",
    "INT8",
    "MEMORY",
    "QUIET",
    "Ceiling",
    "Probe",
    "Roofline",
    "Sample",
    "state",
    "summarize",
    "working_sets",
]

FMA = "FMA"
INT8 = "INT8"
ARITHMETIC = (FMA, INT8)
MEMORY = "DRAM"

SAMPLE_SECONDS = 0.003  # of each measurement

# A moment in which another process had the CPU says nothing about caches and memory: the best of
# this many measurements is a sample. Multiply-adds are measured once, to notice such moments.
TRIES = 3

# What is four times the last cache, within bounds, can hardly be found in it.
TIMES_LAST_LEVEL = 4
MEMORY_AT_LEAST, MEMORY_AT_MOST = 64 << 20, 256 << 20  # bytes

# A ceiling was steady if three samples in four came as close to the best one as this.
CORE_LOSS = 0.05  # multiply-adds, and caches that no other core uses
SHARED_LOSS = 0.20  # the last cache, and memory

QUIET, NOISY = "quiet", "noisy"

#: One measurement: GFLOP/s under "FMA", the same of bytes, with sums of 32 bits, under "INT8", GB/s
#: (10^9 bytes) under "L1", "L2", ..., "DRAM".
Sample: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Ceiling:
    """One ceiling over all samples of a run.

    Attributes
    ----------
    name
        "FMA", "INT8", a level of the cache, or "DRAM".
    size
        Bytes of the cache level; None for the others.
    best, median, lower
        Greatest, median and lower quartile: 10^9 operations or bytes a second.
    """

    name: str
    size: int | None
    best: float
    median: float
    lower: float

    @property
    def loss(self) -> float:
        """By which part of the best the lower quartile fell short of it."""
        return 1 - self.lower / self.best


@dataclass(frozen=True)
class Roofline:
    """The ceilings of one core.

    Attributes
    ----------
    isa
        Whose instructions measured them.
    ceilings
        "FMA" and "INT8" first, then the levels of memory, the nearest first.
    caches_from
        Who told the sizes of the caches: "sysfs", "sysconf", or "assumed" if neither could.
    samples
        How many there were.
    """

    isa: str
    ceilings: tuple[Ceiling, ...]
    caches_from: str
    samples: int

    def peak(self, arithmetic: str = FMA) -> float:
        """Best rate of multiply-adds, GFLOP/s or, for "INT8", 10^9 operations a second; a
        multiply-add is two operations."""
        return next(c.best for c in self.ceilings if c.name == arithmetic)

    def level_of(self, size: int) -> Ceiling:
        """Return the nearest level of memory that holds `size` bytes; DRAM holds any."""
        levels = [c for c in self.ceilings if c.name not in ARITHMETIC]
        return next(c for c in levels if c.size is None or c.size >= size)

    @property
    def state(self) -> str:
        """What state the machine was in, in a few words; see `state`."""
        return state(self.ceilings)


class Probe:
    """Measures the ceilings of one core, again and again.

    Parameters
    ----------
    isa
        Whose kernels to measure with.
    cpu
        On which CPU; default: the one that runtimes with one thread are pinned to.
    seconds
        How long each ceiling is measured each time.
    clock
        Returns the time in nanoseconds.

    Attributes
    ----------
    samples
        What was measured so far.
    """

    def __init__(
        self,
        isa: str,
        cpu: int | None = None,
        seconds: float = SAMPLE_SECONDS,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._isa = isa
        self._cpu = choose_cpus(1)[0] if cpu is None else cpu
        self._seconds = seconds
        self._clock = clock
        self._caches, self._caches_from = cache_sizes(self._cpu)
        self._sets = working_sets(self._caches)
        self._memory = aligned((max(self._sets.values()) // 4,))
        self._memory.fill(1)
        self._amounts: dict[str, int] = {}
        self.samples: list[Sample] = []

    def sample(self) -> None:
        """Measure each ceiling once; the first time takes longer."""
        with pinned([self._cpu]):
            if not self._amounts:
                self._amounts = {name: self._calibrate(name) for name in (*ARITHMETIC, *self._sets)}
            self.samples.append({name: self._rate(name, n) for name, n in self._amounts.items()})

    def roofline(self) -> Roofline:
        """Return the ceilings over all samples; there must be one."""
        ceilings = summarize(self.samples, self._caches)
        return Roofline(self._isa, ceilings, self._caches_from, len(self.samples))

    def _calibrate(self, name: str) -> int:
        """Return how many rounds or passes take as long as wanted, at least one."""
        amount, wanted = 1, self._seconds * 1e9
        if name == MEMORY:
            return max(1, round(wanted / self._time(name, 1)))
        while True:
            elapsed = self._time(name, amount)
            # Once more: the first time, another process may have had the core.
            if elapsed >= wanted / 2 and (elapsed := self._time(name, amount)) >= wanted / 2:
                return max(1, round(amount * wanted / elapsed))
            amount *= 2

    def _time(self, name: str, amount: int) -> int:
        """Return how many nanoseconds `amount` rounds or passes take, at least one."""
        begin = self._clock()
        self._work(name, amount)
        return max(self._clock() - begin, 1)

    def _rate(self, name: str, amount: int) -> float:
        """Return 10^9 operations or bytes a second."""
        if name not in (*ARITHMETIC, MEMORY):
            self._work(name, 1)  # brings it back into its level
        best = 0.0
        for _ in range(1 if name in ARITHMETIC else TRIES):
            begin = self._clock()
            work = self._work(name, amount)
            best = max(best, work / max(self._clock() - begin, 1))
        return best

    def _work(self, name: str, amount: int) -> int:
        """Do `amount` rounds of multiply-adds or passes; return how many operations or bytes."""
        if name == FMA:
            return 2 * _core.probe(self._isa, _core.PROBE_FMA, amount)
        if name == INT8:
            return 2 * _core.probe(self._isa, _core.PROBE_DOT, amount)
        memory = self._memory[: self._sets[name] // 4]
        return _core.probe(self._isa, _core.PROBE_READ, amount, memory)


def working_sets(caches: Mapping[str, int]) -> dict[str, int]:
    """Choose how many bytes to read for each level of memory, from the sizes of the caches.

    Half of a cache; a quarter of the last one, which others share, unless that is hardly more than
    the one before it.
    """
    sets = {name: size // 2 for name, size in caches.items()}
    *before, last = caches
    shared = caches[last]
    least = 2 * max((caches[name] for name in before), default=0)
    sets[last] = min(shared // 2, max(shared // 4, least))
    memory = TIMES_LAST_LEVEL * shared
    sets[MEMORY] = min(max(memory, MEMORY_AT_LEAST), MEMORY_AT_MOST)
    return sets


def summarize(samples: Sequence[Sample], sizes: Mapping[str, int]) -> tuple[Ceiling, ...]:
    """Reduce samples, at least one, to ceilings; `sizes` of the cache levels are in bytes."""
    ceilings = []
    for name in samples[0]:
        rates = np.array([sample[name] for sample in samples])
        lower, median = np.percentile(rates, [25, 50])
        best = float(rates.max())
        ceilings.append(Ceiling(name, sizes.get(name), best, float(median), float(lower)))
    return tuple(ceilings)


def state(ceilings: Iterable[Ceiling]) -> str:
    """Say what state the machine was in.

    Returns
    -------
    str
        "quiet", or what was not: "noisy" if the core itself was slowed (another process, another
        tenant, a changing clock), "L3 contended" and "DRAM contended" if others used what cores
        share. A machine that is disturbed evenly, all the time, is not noticed.
    """
    *core, shared, memory = ceilings
    words = [NOISY] if any(ceiling.loss > CORE_LOSS for ceiling in core) else []
    words += [f"{c.name} contended" for c in (shared, memory) if c.loss > SHARED_LOSS]
    return ", ".join(words) or QUIET

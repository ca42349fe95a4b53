"""A runtime in a process of its own: isolated, pinned, and replaceable when it crashes.

The parent talks to a :class:`Worker`; the process runs :func:`_serve`, which owns a
:class:`_Session`. Requests and answers are pickled over a pipe, one at a time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.bench.adapter import Call, ModelFiles, Runtime, Variant
from fastdigit.bench.arrays import FloatArray, aligned, whole_batches
from fastdigit.bench.machine import pin
from fastdigit.bench.measure import SPIN_GAP, Turn, TurnFailed, interleave, summarize
from fastdigit.errors import FastDigitError

__all__ = ["Prepared", "Worker", "WorkerFailed"]

MIN_CALLS = 3  # timed in each turn, however long they take
ANSWER_TIMEOUT = 120.0  # seconds beyond what was asked for
CONVERT_TIMEOUT = 600.0  # seconds on top; models may have to be converted

PLACEMENT_SECONDS = 0.1

# Choosing between variants: short turns, since only the order matters.
CHOICE_ROUNDS, CHOICE_WARMUP, CHOICE_BUDGET = 5, 0.02, 0.04


class WorkerFailed(TurnFailed):
    """A request to a worker failed; `alive` tells whether the worker can be asked again."""

    def __init__(self, message: str, *, alive: bool) -> None:
        super().__init__(message)
        self.alive = alive


@dataclass(frozen=True)
class Prepared:
    """How a runtime is going to run.

    Attributes
    ----------
    variant
        Label of the variant that was fastest in a short trial, or of the only one.
    nanoseconds
        Median call of each variant in that trial; empty if there was no choice.
    rejected
        Why other variants were not even tried, by label.
    threads_placed
        Whether each of the runtime's computing threads has a CPU to itself. False where the
        system cannot pin, or it was not clear which threads those are.
    """

    variant: str
    nanoseconds: dict[str, float] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    threads_placed: bool = False


class Worker:
    """The parent's handle of a worker process. Satisfies `measure.Contestant`.

    Parameters
    ----------
    runtime
        Adapter to run; sent by reference, so it must be importable in the process.
    threads
        Intra-op threads.
    cpus
        CPUs to pin the process to; as many as `threads`.
    files
        The network.
    images
        Path of a ``.npy`` file, float32 (N, height, width, channels).
    log
        Where the process writes what the runtime prints; quoted when it crashes.
    timeout
        Seconds without an answer after which the process is killed; on top of the time that a
        request asks for.
    """

    def __init__(
        self,
        runtime: type[Runtime],
        *,
        threads: int,
        cpus: Sequence[int],
        files: ModelFiles,
        images: Path,
        log: Path,
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.name = runtime.name
        self.prepared: Prepared | None = None
        self._log = log
        self._timeout = timeout
        # Spawned, not forked: a fresh interpreter, as a user's program would be.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, runtime, threads, list(cpus), files, images, log),
            name=f"fastdigit-bench {runtime.name}",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def prepare(self, batch: int, without: Mapping[str, str] | None = None) -> Prepared:
        """Open the runtime for a batch size, replacing what was open before.

        `without` has the labels of variants that are not to be used, and why.
        """
        self.prepared = None
        timeout = self._timeout + CONVERT_TIMEOUT
        answer = self._ask("prepare", batch, dict(without or {}), timeout=timeout)
        assert isinstance(answer, Prepared)
        self.prepared = answer
        return answer

    def predict(self, count: int) -> FloatArray:
        """Return the probabilities of the first `count` images, float32 (count, classes)."""
        probabilities: FloatArray = self._ask("predict", count)
        return probabilities

    def turn(self, start: int, warmup: float, budget: float) -> Turn:
        """Take a turn; see `measure.Contestant`."""
        turn = self._ask("turn", start, warmup, budget, timeout=self._timeout + warmup + budget)
        assert isinstance(turn, Turn)
        return turn

    def close(self) -> None:
        """End the process; harmless if it has ended."""
        self._connection.close()  # it stops when it sees the end of the pipe
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, request: str, *arguments: Any, timeout: float | None = None) -> Any:
        timeout = self._timeout if timeout is None else timeout
        try:
            self._connection.send((request, arguments))
            if not self._connection.poll(timeout):
                self._process.kill()
                self._process.join()
                raise WorkerFailed(
                    f"did not answer within {timeout:.0f} s ({request}) and was "
                    f"stopped{self._log_tail()}",
                    alive=False,
                )
            succeeded, value = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise WorkerFailed(
                f"{_describe_exit(self._process.exitcode)} ({request}){self._log_tail()}",
                alive=False,
            ) from None
        if not succeeded:
            raise WorkerFailed(value, alive=True)
        return value

    def _log_tail(self, lines: int = 30) -> str:
        try:
            text = self._log.read_text(errors="replace").rstrip()
        except OSError:
            return ""
        return "; it printed:\n" + "\n".join(text.splitlines()[-lines:]) if text else ""


def _describe_exit(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode < 0:
        try:
            return f"crashed with {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"crashed with signal {-exitcode}"
    return f"ended by itself with exit status {exitcode}"


def _serve(
    connection: Connection,
    runtime: type[Runtime],
    threads: int,
    cpus: list[int],
    files: ModelFiles,
    images: Path,
    log: Path,
) -> None:
    """Run in the process: answer requests until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and then closes us
    # Runtimes print from C++ too; keep the parent's terminal for the report.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    faulthandler.enable()
    os.environ.update(runtime.environment)
    session = _Session(runtime, threads, cpus, np.load(images))
    while True:
        try:
            request, arguments = connection.recv()
        except EOFError:
            return
        try:
            if request == "prepare":
                answer: Any = session.prepare(files, *arguments)
            elif request == "predict":
                answer = session.predict(*arguments)
            else:
                answer = session.turn(*arguments)
        except Exception as error:
            traceback.print_exc()
            known = isinstance(error, FastDigitError)
            connection.send((False, str(error) if known else f"{type(error).__name__}: {error}"))
        else:
            connection.send((True, answer))


class _Session:
    """What a worker process keeps between requests."""

    def __init__(
        self, runtime: type[Runtime], threads: int, cpus: list[int], images: FloatArray
    ) -> None:
        self._runtime = runtime
        self._threads = threads
        self._cpus = cpus
        self._images = images
        self._loop: _Loop | None = None
        self._cpu_time_at_rest: float | None = None

    def prepare(self, files: ModelFiles, batch: int, without: dict[str, str]) -> Prepared:
        self._loop = self._cpu_time_at_rest = None
        gc.collect()  # end the threads of the previous one
        pin(self._cpus)
        images = whole_batches(self._images, batch)
        loops, rejected = [], dict(without)
        for variant in self._runtime.variants(files):
            if variant.label in without:
                continue
            try:
                runtime = self._runtime(variant, batch, self._threads)
                loops.append(_Loop(runtime, variant, images, batch, files.classes))
            except Exception as error:
                traceback.print_exc()
                rejected[variant.label] = f"{type(error).__name__}: {error}"
        if not loops:
            raise FastDigitError("; ".join(f"{name}: {why}" for name, why in rejected.items()))
        nanoseconds = {}
        if len(loops) > 1:
            turns, _ = interleave(
                loops,
                rounds=CHOICE_ROUNDS,
                warmup=CHOICE_WARMUP,
                budget=CHOICE_BUDGET,
                gap=SPIN_GAP if self._threads > 1 else 0.0,
                images=len(images),
            )
            nanoseconds = {name: summarize(own).rounds.median for name, own in turns.items()}
            loops.sort(key=lambda loop: nanoseconds[loop.name])
        self._loop = loops[0]
        del loops[:], runtime
        gc.collect()
        placed = self._place_threads(self._loop)
        return Prepared(self._loop.name, nanoseconds, rejected, placed)

    def predict(self, count: int) -> FloatArray:
        assert self._loop is not None
        self._cpu_time_at_rest = None
        return self._loop.predict(count)

    def turn(self, start: int, warmup: float, budget: float) -> Turn:
        assert self._loop is not None
        now = time.process_time()
        idle_cpu = 0.0 if self._cpu_time_at_rest is None else now - self._cpu_time_at_rest
        turn = self._loop.turn(start, warmup, budget)
        self._cpu_time_at_rest = time.process_time()
        return Turn(turn.nanoseconds, idle_cpu, turn.preemptions)

    def _place_threads(self, loop: _Loop) -> bool:
        """Give each computing thread its own CPU, if exactly as many compute as were asked for.

        Left to the scheduler, two threads of some runtimes stay on one CPU for seconds.
        """
        if self._threads == 1:
            return pin(self._cpus)
        before = _cpu_time_of_threads()
        loop.turn(0, 0.0, PLACEMENT_SECONDS)
        spent = {
            thread: after - before.get(thread, 0)
            for thread, after in _cpu_time_of_threads().items()
        }
        busy = sorted(thread for thread in spent if spent[thread] > max(spent.values()) / 10)
        if len(busy) != self._threads:
            return False
        return all(pin([cpu], thread) for thread, cpu in zip(busy, self._cpus, strict=True))


class _Loop:
    """A runtime bound to the whole data set. Satisfies `measure.Contestant`."""

    def __init__(
        self, runtime: Runtime, variant: Variant, images: FloatArray, batch: int, classes: int
    ) -> None:
        self.name = variant.label
        self._keep_alive = runtime, images  # bound calls may hold nothing but their addresses
        self._batch = batch
        self._out = aligned((batch, classes))
        self._calls = [
            runtime.bind(images[begin : begin + batch], self._out)
            for begin in range(0, len(images), batch)
        ]

    def predict(self, count: int) -> FloatArray:
        result = []
        for call in self._calls[: math.ceil(count / self._batch)]:
            self._out.fill(np.nan)  # a call that writes nothing must not pass for the one before
            call()
            result.append(self._out.copy())
        return np.concatenate(result)[:count]

    def turn(self, start: int, warmup: float, budget: float) -> Turn:
        calls = self._calls
        index = start // self._batch % len(calls)
        gc.collect()
        gc.disable()
        try:
            index, _ = _run(calls, index, warmup, 1)
            before = _preemptions()
            _, durations = _run(calls, index, budget, MIN_CALLS)
            preemptions = _preemptions() - before
        finally:
            gc.enable()
        return Turn(np.array(durations, np.int64), preemptions=preemptions)


def _run(calls: Sequence[Call], index: int, seconds: float, at_least: int) -> tuple[int, list[int]]:
    """Time single calls, from number `index` round and round, until `seconds` have passed.

    However long they take, there are `at_least` calls. Returns the index of the next call and
    the durations in nanoseconds.
    """
    clock = time.perf_counter_ns
    durations: list[int] = []
    deadline = clock() + round(seconds * 1e9)
    while True:
        call = calls[index]
        begin = clock()
        call()
        end = clock()
        durations.append(end - begin)
        index = (index + 1) % len(calls)
        if end >= deadline and len(durations) >= at_least:
            return index, durations


def _cpu_time_of_threads() -> dict[int, int]:
    """Return the CPU time of each thread of this process in nanoseconds; without procfs, nothing.

    The first field of ``schedstat``: https://docs.kernel.org/scheduler/sched-stats.html
    """
    times = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            times[int(path.parent.name)] = int(path.read_text().split()[0])
    return times


def _preemptions() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

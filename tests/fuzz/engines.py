"""How targets are run: ``model.c`` by libFuzzer, those in Python by Atheris, which is the same,
or without either by a plain loop, which gives the same inputs for the same seed."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastdigit.errors import FastDigitError
from tests.fuzz.corpora import kept
from tests.fuzz.networks import seeds as model_seeds
from tests.fuzz.targets import TARGETS
from tests.support import ROOT
from tests.support.c_build import Toolchain, compiled, objects, run_checked

__all__ = ["MODEL", "NAMES", "Outcome", "chosen", "fuzz", "inputs_of", "mutated", "replayer"]

#: The target in C.
MODEL = "model"
NAMES = (MODEL, *TARGETS)

#: An input may take so long, and a process so much.
SECONDS, MEGABYTES = 20, 2048

#: Of what is kept: an input for the model, and how many for each of the others.
KEPT_BYTES, KEPT_INPUTS = 1536, 40

#: Small networks are shared among threads too, and damaged sizes don't ask for seconds.
SMALL = (
    "-DFD_WAKE_WORK=1",
    "-DFD_UNIT_WORK=1024",
    "-DFD_GAIN_LOSSES=0",
    "-DFD_FUZZ_OPERATIONS=65536",
)
#: Comparisons are not traced: the mutator knows what to repair, and loops over bytes would do
#: little else. Kernels are as installed: no compiler is fast at instrumenting them. test_fuzz.py
#: runs what is kept with all of the core under gcc's sanitizers.
CLANG = Toolchain(
    compiler="clang",
    flags=(
        *("-O2", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *("-fsanitize=fuzzer-no-link", "-fno-sanitize-coverage=trace-cmp", *SMALL),
    ),
    kernels=False,
)
SOURCES = (ROOT / "tests/fuzz/model.c", ROOT / "tests/fuzz/mutate_model.c")


@dataclass(frozen=True)
class Outcome:
    """What a run of a target came to: inputs tried, places of the code that were reached (as
    libFuzzer counts them; 0: not counted), what was found, and what was said."""

    executions: int
    coverage: int
    found: tuple[Path, ...]
    said: str


def inputs_of(name: str) -> list[bytes]:
    """What a target starts from: its seeds, and what was kept."""
    first = list(model_seeds().values()) if name == MODEL else TARGETS[name].seeds()
    return [*first, *kept(name)]


def mutated(name: str, inputs: list[bytes], seed: int) -> bytes:
    """The input of a seed, of a target in Python."""
    rng = random.Random(f"{name}:{seed}")
    data = rng.choice(inputs)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = TARGETS[name].mutate(data, rng)
    return data


@functools.cache
def libfuzzer() -> Path:
    """The target in C, for libFuzzer."""
    CLANG.require()
    target, mutator = SOURCES
    parts = [path for paths in objects(CLANG).values() for path in paths]
    link = [mutator, *parts, "-fsanitize=fuzzer", "-lm"]
    return compiled("model", CLANG, target, [], link)


@functools.cache
def replayer(toolchain: Toolchain) -> Path:
    """The target in C, for files and rounds of the mutator alone."""
    parts = [path for paths in objects(toolchain).values() for path in paths]
    main = ROOT / "tests/fuzz/replay.c"
    return compiled("replay", toolchain, main, [], [*SOURCES, *parts, "-lm"])


def fuzz(name: str, seconds: int, folder: Path, seed: int = 0) -> Outcome:
    """Run a target for so long. What it finds, and new inputs of interest, are left in a folder."""
    corpus, start = folder / "corpus", folder / "start"
    for path in (corpus, start):
        path.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(inputs_of(name)):
        (start / f"{i}").write_bytes(data)
    before = set(folder.iterdir())
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
    limits.append(f"-max_len={8192 if name == MODEL else 65536}")
    ours = [str(libfuzzer())] if name == MODEL else [sys.executable, "-m", "tests.fuzz.child", name]
    options = [*limits, "-entropic=0", f"-seed={seed + 1}", "-print_final_stats=1"]
    # Linux hands the greatest size that a process ever had on to what it starts, and libFuzzer
    # takes it for the target's own: a shell, which is small, stands between.
    shell = ["sh", "-c", '"$@"; exit "$?"', "sh"]
    command = [*shell, *ours, f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", *options]
    done = subprocess.run(
        [*command, str(corpus), str(start)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=seconds + 600,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    found = tuple(sorted(set(folder.iterdir()) - before))
    if done.returncode and not found:
        raise RuntimeError(f"{name}: ended with {done.returncode}:\n{said[-4000:]}")
    executions = re.findall(r"number_of_executed_units: (\d+)", said)
    coverage = re.findall(r" cov: (\d+)", said)
    counts = [int(each[-1]) if each else 0 for each in (executions, coverage)]
    return Outcome(*counts, found, said)


def chosen(name: str, folder: Path) -> list[bytes]:
    """Of what a run left in a folder and what was kept, small inputs that end each in another way;
    of the target in C, those that reach what no smaller one does."""
    inputs = set(kept(name))
    if name == MODEL:
        with tempfile.TemporaryDirectory() as scratch:
            for number, data in enumerate(inputs):
                (folder / "corpus" / f"kept{number}").write_bytes(data)
            options = ("-merge=1", "-use_counters=0", f"-max_len={KEPT_BYTES}")
            run_checked([libfuzzer(), *options, scratch, folder / "corpus"])
            return [path.read_bytes() for path in Path(scratch).iterdir()]
    inputs |= {path.read_bytes() for path in (folder / "corpus").iterdir()}
    ends: dict[str, bytes] = {}
    for data in sorted(inputs, key=len):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                TARGETS[name].run(data)
                end = ""
            except FastDigitError as error:
                end = re.sub(r"[0-9]+|'[^']*'", "", str(error))[:200]
        ends.setdefault(end, data)
    return list(ends.values())[:KEPT_INPUTS]


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def loop(name: str, seconds: float, folder: Path, seed: int) -> int:
    """A target in Python without Atheris; returns how many inputs were tried."""
    import signal

    bound = MEGABYTES << 20
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))

    def late(signum: int, frame: object) -> None:
        raise AssertionError(f"an input took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    inputs, until, tried = inputs_of(name), time.monotonic() + seconds, 0
    for data in _endlessly(name, inputs, seed):
        if time.monotonic() > until:
            break
        signal.alarm(SECONDS)
        try:
            TARGETS[name].try_one(data)
        except BaseException:
            (folder / f"crash-{seed}-{tried}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
        tried += 1
    return tried


def _endlessly(name: str, inputs: list[bytes], seed: int) -> Iterator[bytes]:
    yield from inputs
    number = seed << 32
    while True:
        yield mutated(name, inputs, number)
        number += 1

"""Endurance of the engine in one process: every answer is compared with one known beforehand, to
the bit, and memory stays as it is.

    python benchmarks/endurance.py                     1e8 predictions, 1e5 loads; some minutes
    python benchmarks/endurance.py --predictions 1e6   fewer

Several threads share the models: `digits` and two tiny networks, each opened for 1 to 4 threads. A
call takes a run of images, of random length and at a random place, from those whose answers were
computed before, one image at a time in one thread. In between models are loaded, used once and
dropped. Prints a line of JSON now and then; fails if an answer differs, or if memory has grown
by more than --growth since every thread had done its share of a first tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastdigit
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation, Graph, Node, Pool
from fastdigit.compiler.ops import Conv2D, Dense, Op, Softmax, make_graph
from fastdigit.datasets import load_mnist_test
from fastdigit.model import shipped_file

__all__ = ["Subject", "resident", "subjects"]

THREADS = (1, 2, 3, 4)
IMAGES = 10_000


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, opened for each number of threads, with images and their answers."""

    name: str
    file: bytes
    images: np.ndarray
    answers: np.ndarray
    models: tuple[fastdigit.Model, ...]
    share: float  # of the predictions
    longest: int  # batch

    def differs(self, rng: random.Random) -> int:
        """Predict some of the images; how many that were, negative if an answer is another."""
        n = min(rng.randint(1, self.longest), rng.randint(1, self.longest))
        first = rng.randrange(len(self.images) - n + 1)
        got = rng.choice(self.models).predict_proba(self.images[first : first + n])
        same = np.array_equal(got.view(np.int32), self.answers[first : first + n])
        return n if same else -n


def subjects() -> list[Subject]:
    """`digits`, and networks so small that what a call costs is most of the time."""
    rng = np.random.default_rng(1)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))

    relu = Activation("relu")
    pictures = rng.random((IMAGES, 6, 6, 1), np.float32)
    small: list[Op] = [
        Conv2D(floats(3, 3, 1, 4), floats(4), activation=relu, pool=Pool("max", (2, 2), (2, 2))),
        Dense(floats(16, 3), floats(3)),
        Softmax(),
    ]
    vectors = rng.random((IMAGES, 8), np.float32)
    least: list[Op] = [Dense(floats(8, 3), floats(3)), Softmax()]
    digits = shipped_file("digits")
    with open(digits, "rb") as file:
        shipped = file.read()
    return [
        _subject("digits", shipped, load_mnist_test()[0], 0.01, 200),
        _subject("convolution", _file((6, 6, 1), small), pictures, 0.19, 5000),
        _subject("dense", _file((8,), least), vectors, 0.8, IMAGES),
    ]


def _file(shape: tuple[int, ...], ops: list[Op]) -> bytes:
    nodes = [Node(f"op{i}", op, (f"v{i}",), f"v{i + 1}") for i, op in enumerate(ops)]
    graph: Graph = make_graph({"v0": shape}, nodes, [f"v{len(ops)}"])
    return pack(graph, {"name": "tiny"}, input_range=(0.0, 1.0), u8_divisor=255)


def _subject(name: str, file: bytes, images: np.ndarray, share: float, longest: int) -> Subject:
    models = tuple(fastdigit.Model(file, threads=n) for n in THREADS)
    one = models[0]
    answers = np.concatenate([one.predict_proba(image[None]) for image in images])
    return Subject(name, file, images, answers.view(np.int32), models, share, longest)


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Run:
    """What the threads do, and what came of it."""

    def __init__(self, predictions: int, loads: int) -> None:
        self.subjects = subjects()
        self.wanted = {s.name: round(s.share * predictions) for s in self.subjects}
        self.loads = loads
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lock = threading.Lock()

    def share_done(self) -> float:
        """Of what is furthest behind."""
        shares = [self.done[name] / wanted for name, wanted in self.wanted.items() if wanted]
        return min([*shares, self.done["loads"] / self.loads if self.loads else 1.0])

    def work(self, seed: int) -> None:
        """Do something of what is furthest behind until all is done, or something is wrong."""
        rng = random.Random(seed)
        while not self.wrong:
            with self.lock:
                behind = {s: self.done[s.name] / max(self.wanted[s.name], 1) for s in self.subjects}
                subject = min(behind, key=behind.__getitem__)
                load = self.done["loads"] < self.loads * min(1, behind[subject])
            if not load and behind[subject] >= 1:
                return
            counted = self.load(rng) if load else self.guard(subject, subject.differs, rng)
            with self.lock:
                self.done["loads" if load else subject.name] += counted

    def guard(
        self, subject: Subject, act: Callable[[random.Random], int], rng: random.Random
    ) -> int:
        n = act(rng)
        if n < 0:
            self.wrong.append(f"{subject.name}: another answer among {-n} images")
        return abs(n)

    def load(self, rng: random.Random) -> int:
        """Open a model, a hundredth of the time `digits`, and use it once."""
        subject = self.subjects[0 if rng.random() < 0.01 else rng.choice((1, 2))]
        model = fastdigit.Model(subject.file, threads=rng.choice(THREADS))
        at = rng.randrange(len(subject.images))
        got = model.predict_proba(subject.images[at : at + 1])
        if not np.array_equal(got.view(np.int32), subject.answers[at : at + 1]):
            self.wrong.append(f"{subject.name}: another answer of a model just loaded")
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--predictions", type=float, default=1e8)
    parser.add_argument("--loads", type=float, default=1e5)
    parser.add_argument("--callers", type=int, default=4, help="threads that call")
    parser.add_argument("--growth", type=float, default=32, help="MiB that memory may grow")
    parser.add_argument("--seconds", type=float, default=30, help="between lines")
    options = parser.parse_args()
    run = Run(round(options.predictions), round(options.loads))
    began, first = time.monotonic(), 0
    threads = [threading.Thread(target=run.work, args=(seed,)) for seed in range(options.callers)]
    for thread in threads:
        thread.start()

    def tell(**more: object) -> None:
        facts = {"seconds": round(time.monotonic() - began), **run.done}
        print(
            json.dumps({**facts, "resident_mib": round(resident() / 2**20, 1), **more}), flush=True
        )

    told = began
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
        if not first and run.share_done() >= 0.1:
            first = resident()
            tell(warm=True)
        if time.monotonic() - told >= options.seconds:
            told = time.monotonic()
            tell()
    growth = (resident() - first) / 2**20 if first else 0.0
    tell(growth_mib=round(growth, 1), wrong=run.wrong)
    return int(bool(run.wrong) or growth > options.growth)


if __name__ == "__main__":
    sys.exit(main())

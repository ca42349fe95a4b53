"""Runtimes for the tests of the benchmark: one that is right, and one for each way to go wrong.

They live in a module of their own because worker processes import them.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from fastdigit.bench.adapter import Call, ModelFiles, Runtime, Variant, onnx_variants
from fastdigit.bench.arrays import FloatArray
from fastdigit.bench.roofline import FMA, INT8, MEMORY, Roofline, Sample, summarize

CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


class FakeProbe:
    """Says that the machine does 100 GFLOP/s, four times as much on bytes, and reads at 200, 100,
    50 and 10 GB/s."""

    def __init__(self, isa: str = "generic") -> None:
        self.isa = isa
        self.samples: list[Sample] = []

    def sample(self) -> None:
        rates = {FMA: 100.0, INT8: 400.0, "L1": 200.0, "L2": 100.0, "L3": 50.0, MEMORY: 10.0}
        self.samples.append(rates)

    def roofline(self) -> Roofline:
        return Roofline(self.isa, summarize(self.samples, CACHES), "sysfs", len(self.samples))


WEIGHTS = np.random.default_rng(7).normal(0, 0.1, (784, 10)).astype(np.float32)

#: Value of an image's first pixel that makes `WrongOnTagged` wrong.
TAG = np.float32(0.75)


def probabilities(images: FloatArray) -> FloatArray:
    logits = images.reshape(len(images), 784) @ WEIGHTS
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class Right(Runtime):
    name = "fastdigit"
    distribution = "numpy"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return [Variant("only", files.fdm)]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        self.variant = variant
        self.batch = batch
        self.calls = 0

    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        assert images.shape == (self.batch, 28, 28, 1)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous

        def call() -> None:
            self.calls += 1
            self.run(images, out)

        return call

    def run(self, images: FloatArray, out: FloatArray) -> None:
        out[:] = probabilities(images)


class Reference(Right):
    name = "onnxruntime"


class Peer(Right):
    name = "peer"


class NotInstalled(Right):
    name = "absent"
    distribution = "fastdigit-no-such-distribution"
    extra = "bench-peers"


class LacksFile(Right):
    name = "lacking"

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        return None if files.keras else "the network as --keras FILE"


class OffByALittle(Right):
    """Same labels, probabilities beyond the tolerance."""

    def run(self, images: FloatArray, out: FloatArray) -> None:
        super().run(images, out)
        out += np.float32(3e-5)


class WrongOnTagged(Right):
    """Another label for images that carry the tag, right for all others."""

    def run(self, images: FloatArray, out: FloatArray) -> None:
        super().run(images, out)
        tagged = images[:, 0, 0, 0] == TAG
        out[tagged] = np.roll(out[tagged], 1, axis=1)


class WrongPeer(OffByALittle):
    name = "peer"


class WritesNothing(Peer):
    def run(self, images: FloatArray, out: FloatArray) -> None:
        pass


class Segfaults(Peer):
    """Works for a while, then, at batch 1, dies and takes its process with it."""

    good_calls = 40

    def run(self, images: FloatArray, out: FloatArray) -> None:
        if self.batch == 1 and self.calls > self.good_calls:
            print("about to crash", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        super().run(images, out)


class Exits(Peer):
    def run(self, images: FloatArray, out: FloatArray) -> None:
        os._exit(3)


class BrokenReference(Exits):
    name = "onnxruntime"


class Hangs(Peer):
    def run(self, images: FloatArray, out: FloatArray) -> None:
        time.sleep(600)


class RefusesBatch2(Peer):
    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        if batch == 2:
            raise RuntimeError("no kernel for batch 2")


class ThreeVariants(Peer):
    """One slow, one fast, one that cannot be opened."""

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return [Variant(label, Path()) for label in ("slow", "fast", "broken")]

    def __init__(self, variant: Variant, batch: int, threads: int) -> None:
        super().__init__(variant, batch, threads)
        if variant.label == "broken":
            raise ValueError("cannot be opened")

    def run(self, images: FloatArray, out: FloatArray) -> None:
        if self.variant.label == "slow":
            time.sleep(0.005)
        super().run(images, out)


class FastVariantIsWrong(Peer):
    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return [Variant(label, Path()) for label in ("fast", "slow")]

    def run(self, images: FloatArray, out: FloatArray) -> None:
        super().run(images, out)
        if self.variant.label == "slow":
            time.sleep(0.002)
        else:
            out += np.float32(3e-5)


class ReadsOnnx(Right):
    """Runs what files.onnx has, the last the fastest."""

    reads_onnx = True

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        return onnx_variants(files)

    def run(self, images: FloatArray, out: FloatArray) -> None:
        if "nchw" not in self.variant.label:
            time.sleep(0.002)
        super().run(images, out)


class EightBit(Right):
    name = "fastdigit-int8-dynamic"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        assert files.reduced["int8-dynamic"].read_bytes() == b"compiled"
        return [Variant("int8", files.reduced["int8-dynamic"])]


class Quantized(OffByALittle):
    name = "quantized"

    @classmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        assert files.calibration is not None
        assert np.load(files.calibration).shape == (3, 28, 28, 1)
        return [Variant("quantised", files.calibration)]


class ReportsAffinity(Peer):
    """Classifies every image as the number of the only CPU it may run on, else as 9."""

    def run(self, images: FloatArray, out: FloatArray) -> None:
        cpus = os.sched_getaffinity(0)
        out[:] = 0
        out[:, min(min(cpus), 8) if len(cpus) == 1 else 9] = 1

"""A digest of every bit that the engine computes, so that a rebuilt house can be held to the old.

    python -m tests.support.digests            compare with tests/engine/digests.json
    python -m tests.support.digests --write    record what this tree computes

There are the shipped models, and 60 random networks that have, together, every operator, every
activation, every precision and every way to compute a convolution. Their generator stands here
alone and draws from PCG64, so the same networks come out of every tree and every machine; the
digest of each model file shows it. All ISAs with a fused multiply-add give the same bits, and have
one set of digests; ``generic`` has another. No compiler contracts or reorders sums
(``-ffp-contract=off``, no ``-ffast-math``), and no function comes from libm.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastdigit import Model, _core, datasets
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Pool, Shape
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    make_graph,
)
from fastdigit.compiler.passes.quantize_weights import quantize_weights

__all__ = ["Digests", "Draw", "computed", "computed_by_driver", "images", "networks", "recorded"]

#: Digests by ISA, then by network; the model files themselves are under "file". As they are
#: recorded, all ISAs but "generic" are under "fused".
Digests = dict[str, dict[str, str]]
DIGESTS = Path(__file__).parents[1] / "engine/digests.json"
COUNT = 60
IMAGES = 7
SHIPPED_IMAGES = 500

#: With the parameter of those that have one. Frozen, like all of this module: a new activation or
#: operator is held to the reference by other tests, and belongs in here from its first release.
ACTIVATIONS = (
    *("relu", "linear", "relu", "selu", "sigmoid", "tanh", "hard_swish", "silu", "softplus"),
    *("gelu", "gelu_tanh", "erf", "leaky_relu:0.2", "elu:0.7", "clipped_relu:6"),
    "hard_sigmoid:0.2",
)
BINARIES = ("add", "sub", "mul", "div", "max", "min", "prelu")
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")


def activation(text: str) -> Activation:
    name, _, alpha = text.partition(":")
    return Activation(name, float(alpha or 0))


class Draw:
    """Builds one network: operators on named values, each a random one that fits the shape."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([2026, seed])
        self.seed = seed
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {"v0": self.first_shape()}
        self.last = "v0"
        self.activations = itertools.cycle(ACTIVATIONS[seed % len(ACTIVATIONS) :] + ACTIVATIONS)
        self.binaries = itertools.cycle(BINARIES[seed % len(BINARIES) :] + BINARIES)

    def int(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, percent: int) -> bool:
        return self.int(0, 99) < percent

    def first_shape(self) -> Shape:
        if self.seed % 10 == 9:
            return (self.int(3, 90),)
        return (self.int(8, 20), self.int(8, 20), (1, 3, 24, 16, 8)[self.seed % 5])

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    def add(self, op: Op, *inputs: str) -> str:
        name = f"v{len(self.nodes) + 1}"
        self.nodes.append(Node(f"op{len(self.nodes)}", op, inputs or (self.last,), name))
        graph = make_graph({"v0": self.shapes["v0"]}, self.nodes, [name])
        self.shapes[name], self.last = graph.shapes[name], name
        return name

    def floats(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def activation(self) -> Activation:
        return activation(next(self.activations))

    def affine(self, shape: Shape) -> Affine | None:
        """Scales of both signs along any axis, or none."""
        axis = self.int(-1, len(shape) - 1)
        if axis < 0:
            return None
        return Affine(axis, self.floats(shape[axis]), self.floats(shape[axis], scale=0.3))

    def conv(
        self,
        kernel: tuple[int, int] | None = None,
        outputs: int = 0,
        strided: bool = True,
        dilated: bool = True,
        padded: bool = True,
        groups: int = 1,
        activation: Activation | None = None,
        pool: Pool | None = None,
    ) -> str:
        """A convolution; what is not given is drawn."""
        size, channels = self.shape[:2], self.shape[2]
        kernel = kernel or (self.int(1, 5), self.int(1, 5))
        stride = (self.int(1, 2), self.int(1, 2)) if strided else (1, 1)
        dilation = (self.int(1, 2), self.int(1, 2)) if dilated and self.chance(30) else (1, 1)
        pad = [self.int(0, 2) if padded else 0 for _ in range(4)]
        extent = [dilation[d] * (kernel[d] - 1) + 1 for d in range(2)]
        for d in range(2):  # a window that would not fit
            pad[d] += max(0, extent[d] - size[d] - pad[d] - pad[d + 2])
        out = [(size[d] + pad[d] + pad[d + 2] - extent[d]) // stride[d] + 1 for d in range(2)]
        outputs = outputs or self.int(1, 40)
        if pool and (out[0] < pool.size[0] or out[1] < pool.size[1]):
            pool = None
        depth = kernel[0] * kernel[1] * channels // groups
        return self.add(
            Conv2D(
                self.floats(*kernel, channels // groups, outputs, scale=1 / math.sqrt(depth)),
                self.floats(outputs, scale=0.1) if self.chance(80) else None,
                stride=stride,
                dilation=dilation,
                pad=(pad[0], pad[1], pad[2], pad[3]),
                activation=activation or self.activation(),
                affine=self.affine((out[0], out[1], outputs)),
                pool=pool,
                groups=groups,
            )
        )

    def pool(self, size: Shape) -> Pool:
        if self.chance(40) and min(size[:2]) > 1:
            return Pool("max", (2, 2), (2, 2))
        window = (self.int(1, min(3, size[0])), self.int(1, min(3, size[1])))
        pad = tuple(self.int(0, window[side % 2] - 1) for side in range(4))
        mode = "max" if self.chance(50) else "average"
        return Pool(mode, window, (self.int(1, 2), self.int(1, 2)), pad)

    def winograd(self, kernel: int) -> str:
        relu = Activation("clipped_relu", 6.0) if self.chance(25) else Activation("relu")
        halve = Pool("max", (2, 2), (2, 2)) if self.chance(60) else None
        return self.conv(
            (kernel, kernel),
            self.int(16, 50),
            strided=False,
            dilated=False,
            activation=relu,
            pool=halve,
        )

    def image_step(self, kind: int) -> None:
        """One more operator on an image."""
        height, width, channels = self.shape
        match kind:
            case 0:
                self.conv(pool=self.pool(self.shape) if self.chance(50) else None)
            case 1 | 16 | 17 | 18:
                self.winograd(3)
            case 2 | 19 | 20:
                self.winograd(2)
            case 3:  # depthwise, perhaps with several outputs a channel
                self.conv(groups=channels, outputs=channels * self.int(1, 2))
            case 4 | 21:  # grouped
                groups = max(g for g in (1, 2, 3, 4) if channels % g == 0)
                self.conv(groups=groups, outputs=groups * self.int(1, 12))
            case 5:  # few channels, side by side
                self.conv(outputs=self.int(1, 7), dilated=False)
            case 6:  # pointwise
                self.conv((1, 1), self.int(8, 120), strided=False, padded=False)
            case 7:
                self.add(Pool2D(self.pool(self.shape)))
            case 8:
                self.add(Eltwise(self.activation(), self.affine(self.shape)))
            case 9:
                scale = self.floats(channels) if self.chance(70) else None
                self.add(LayerNorm(1e-3, scale, self.floats(channels, scale=0.2)))
            case 10:
                self.add(Softmax())
            case 11:
                perm = [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0)]
                self.add(Transpose(perm[self.int(1, 5)]))
            case 12:
                self.add(Reshape((width, height, channels)))
            case 13:
                widths = tuple((self.int(0, 2), self.int(0, 2)) for _ in range(3))
                self.add(Pad(widths, self.int(0, 1) * 0.5))
            case 14:
                self.join(self.conv((1, 1), strided=False, padded=False))
            case _:
                self.with_constant()

    def join(self, first: str) -> None:
        """Two values of one shape: a sum, another of the binary operators, or a concatenation."""
        second = self.add(Eltwise(self.activation(), self.affine(self.shape)), first)
        if self.chance(50):
            self.add(Concat(self.int(0, 2)), first, second)
            return
        kind = next(self.binaries)
        if kind == "div":
            second = self.add(Eltwise(Activation("sigmoid")), second)
        if self.chance(30):  # by channel, from one pixel
            height, width, _ = self.shape
            second = self.add(Pool2D(Pool("max", (height, width), (1, 1))), second)
        self.add(
            Binary(kind, None, self.activation(), self.affine(self.shapes[first])), first, second
        )

    def with_constant(self) -> None:
        kind = next(self.binaries)
        lengths = [self.shape[-1], 1]
        constant = self.floats(lengths[self.int(0, 1)])
        if self.chance(30):
            constant = self.floats(*self.shape)
        if kind == "div":
            constant = np.abs(constant) + np.float32(0.5)
        self.add(Binary(kind, constant, self.activation(), self.affine(self.shape)))

    def dense(self, outputs: int) -> None:
        inputs = math.prod(self.shape)
        weights = self.floats(inputs, outputs, scale=1 / math.sqrt(inputs))
        self.add(Dense(weights, self.floats(outputs, scale=0.1), self.activation()))

    def network(self) -> Graph:
        """An image's operators, then some of a vector's."""
        if len(self.shape) == 3:
            for step in range(self.int(2, 4)):
                self.image_step((self.seed * 3 + step * 5) % 22)
        if self.seed % 7 != 6:  # otherwise fully convolutional
            self.dense(self.int(33, 260))
            if self.chance(40):
                self.with_constant()
            if self.chance(40):
                self.add(LayerNorm(1e-5, self.floats(*self.shape), None))
            self.dense(self.int(1, 60))
            if self.chance(60):
                self.add(Softmax(1.0 if self.chance(50) else 1.75))
        graph = make_graph({"v0": self.shapes["v0"]}, self.nodes, [self.last])
        return quantize_weights(graph, PRECISIONS[self.seed % len(PRECISIONS)])


def networks() -> dict[str, Graph]:
    """The random networks, by name."""
    return {f"random-{seed:02d}": Draw(seed).network() for seed in range(COUNT)}


def images(shape: Shape, n: int) -> np.ndarray:
    """Values in [0, 1], of which many are 0, as in a digit."""
    rng = np.random.default_rng([2026, *shape])
    x = rng.random((n, *shape), np.float32)
    x[rng.random(x.shape) < 0.4] = 0.0
    x[:1] = 0.0
    return x


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def _files() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Every model file, with the images it is run on."""
    digits = datasets.load_mnist_test()[0][:SHIPPED_IMAGES]
    noise = images((28, 28, 1), SHIPPED_IMAGES)
    for name in ("digits", "seed"):
        data = Path(datasets.__file__).with_name("models").joinpath(f"{name}.fdm").read_bytes()
        yield f"{name}: test digits", data, digits
        yield f"{name}: noise", data, noise
    for name, graph in networks().items():
        data = pack(graph, {"name": name}, input_range=(0.0, 1.0), u8_divisor=255)
        yield name, data, images(graph.shapes[graph.input], IMAGES)


@contextmanager
def _forced(isa: str) -> Iterator[None]:
    before = os.environ.get("FASTDIGIT_ISA")
    os.environ["FASTDIGIT_ISA"] = isa
    try:
        yield
    finally:
        del os.environ["FASTDIGIT_ISA"]
        if before is not None:
            os.environ["FASTDIGIT_ISA"] = before


def computed() -> Digests:
    """What this tree computes, on every ISA that this CPU has."""
    isas = [name for name, usable in _core.isas() if usable]
    found: Digests = {"file": {}} | {isa: {} for isa in isas}
    for name, data, x in _files():
        found["file"][name] = _digest(data)
        for isa in isas:
            with _forced(isa):
                model = Model(data)
            assert model.info()["isa"] == isa
            logits = model.logits(x)
            if not np.isfinite(logits).all():
                raise AssertionError(f"{name} on {isa}: a NaN has no bits to compare")
            found[isa][name] = _digest(logits.tobytes())
    return found


def computed_by_driver(command: Sequence[str | Path], folder: Path, isa: str) -> dict[str, str]:
    """The same of the random networks by run_model.c, as another compiler or CPU runs it."""
    stems = []
    for name, data, x in _files():
        if name.startswith("random"):
            stem = folder / name
            stem.with_suffix(".fdm").write_bytes(data)
            x.tofile(stem.with_suffix(".in"))
            stems.append(stem)
    environment = {**os.environ, "FASTDIGIT_ISA": isa}
    subprocess.run([*command, "1", *stems], env=environment, check=True, capture_output=True)
    found = {}
    for stem in stems:
        values = np.fromfile(stem.with_suffix(".out"), np.float32)
        logits = values[len(values) // 2 :]  # what the network computes comes first
        found[stem.name] = _digest(logits.tobytes())
    return found


def kind(isa: str) -> str:
    """Under what an ISA's digests are recorded."""
    return isa if isa in ("file", "generic") else "fused"


def recorded(isa: str) -> dict[str, str]:
    """What stands in tests/engine/digests.json of an ISA, or of "file"."""
    digests: Digests = json.loads(DIGESTS.read_text(encoding="utf-8"))
    return digests[kind(isa)]


def main() -> int:
    found = computed()
    if "--write" in sys.argv[1:]:
        # Of several ISAs that must be the same any will do: tests compare all.
        kinds = {kind(isa): digests for isa, digests in found.items()}
        if set(kinds) != {"file", "generic", "fused"}:
            raise SystemExit("this CPU has no fused multiply-add")
        DIGESTS.write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")
        return 0
    differ = 0
    for isa, digests in found.items():
        before = recorded(isa)
        same = [name for name, digest in digests.items() if before.get(name) == digest]
        differ += len(digests) - len(same)
        print(f"{isa}: {len(same)} of {len(digests)} as recorded")
        for name in sorted(set(digests) - set(same)):
            print(f"  differs: {name}")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())

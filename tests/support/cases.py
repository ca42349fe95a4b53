"""The shapes every kernel test uses, and buffers that notice when a kernel leaves its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Names of what the C core numbers, in its order.
ACTIVATIONS = (
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "clipped_relu",
    "hard_sigmoid",
    "hard_swish",
    "silu",
    "softplus",
    "gelu",
    "gelu_tanh",
    "erf",
    "exponential",
    "log",
    "sqrt",
    "abs",
    "softsign",
    "mish",
)  # in the order of format/format.h
BINARIES = ("add", "sub", "mul", "div", "max", "min", "prelu")  # from 1
AXES = (None, "height", "width", "channel")
POOLS = (None, "max", "average")
NARROW, PANEL = 32, 96

F32 = NDArray[np.float32]

#: Lengths around every vector width: 1, width - 1, width, width + 1, several and a tail.
LENGTHS = sorted(
    {n for width in (4, 8, 16) for n in (1, width - 1, width, width + 1, 2 * width + 3)}
    | {96, 97, 784}
)

#: Channels around vector, tile and panel widths.
CHANNELS = (1, 3, 4, 5, 8, 10, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 96, 97, 100, 200)

_CANARY = np.float32(-12345.678)
_MARGIN = 32


class Guarded:
    """A float32 array between canaries; :meth:`check` fails if one of them died.

    Parameters
    ----------
    content
        Values to start from, or a size to fill with NaN, so that what a kernel does not write
        shows.
    """

    def __init__(self, content: int | F32) -> None:
        flat = np.full(content, np.nan, np.float32) if isinstance(content, int) else content.ravel()
        self._whole = np.full(flat.size + 2 * _MARGIN, _CANARY, np.float32)
        self.data: F32 = self._whole[_MARGIN : _MARGIN + flat.size]
        self.data[:] = flat

    def check(self) -> F32:
        """Return the data if nothing around it was written."""
        for name, margin in (("before", self._whole[:_MARGIN]), ("after", self._whole[-_MARGIN:])):
            hit = np.flatnonzero(margin != _CANARY)
            assert hit.size == 0, f"wrote {name} the buffer, at {hit}"
        return self.data


@dataclass(frozen=True)
class Conv:
    """A convolution case. Sizes are (vertical, horizontal), pads (top, left, bottom, right)."""

    height: int = 9
    width: int = 9
    in_channels: int = 3
    channels: int = 16
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = "relu"
    alpha: float = 0.0
    axis: str | None = None
    pool_mode: str | None = None
    pool: tuple[int, int] = (2, 2)
    pool_stride: tuple[int, int] = (2, 2)
    pool_pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    seed: int = field(default=0, compare=False)

    def __str__(self) -> str:
        parts = [
            f"{self.height}x{self.width}x{self.in_channels}",
            f"k{self.kernel[0]}x{self.kernel[1]}x{self.channels}",
        ]
        parts += [f"s{self.stride[0]}{self.stride[1]}"] * (self.stride != (1, 1))
        parts += [f"d{self.dilation[0]}{self.dilation[1]}"] * (self.dilation != (1, 1))
        parts += ["p" + "".join(map(str, self.pad))] * any(self.pad)
        parts += [self.activation] + [f"affine-{self.axis}"] * (self.axis is not None)
        if self.pool_mode:
            parts.append(
                f"{self.pool_mode}{self.pool[0]}{self.pool[1]}s{self.pool_stride[0]}{self.pool_stride[1]}"
            )
            parts += ["pp" + "".join(map(str, self.pool_pad))] * any(self.pool_pad)
        return "-".join(parts)


#: The seed network's three.
SEED_CONVS = (
    Conv(28, 28, 1, 32, pool_mode="max"),
    Conv(13, 13, 32, 48, pad=(1, 1, 1, 1), axis="height", pool_mode="max"),
    Conv(6, 6, 48, 64, kernel=(2, 2), pad=(1, 1, 1, 1), axis="height", pool_mode="max"),
)

CONVS = (
    *SEED_CONVS,
    # Every number of channels, with and without the fused pooling.
    *(Conv(channels=n, pool_mode="max") for n in CHANNELS),
    *(Conv(channels=n) for n in CHANNELS),
    # Every width of a tile's tail.
    *(Conv(height=5, width=w, channels=20) for w in range(3, 13)),
    *(Conv(height=5, width=w, channels=20, pool_mode="max") for w in range(4, 16)),
    # A tile that goes on in the next row, by the vectors of channels that it has.
    *(Conv(6, w, 2, n, (1, 1), axis="height") for w in range(2, 19) for n in (8, 16, 24)),
    *(Conv(5, w, 2, 48, (1, 1), axis="width") for w in (5, 9, 11)),
    # 3x3 over one channel: every number of channels and width, with and without pooling.
    *(Conv(7, 11, 1, n, pool_mode=m) for n in CHANNELS for m in (None, "max")),
    *(Conv(5, w, 1, 16, pool_mode=m) for w in range(4, 29) for m in (None, "max")),
    *(Conv(6, 9, 1, 16, stride=s) for s in ((1, 2), (2, 1))),
    # Scale and shift on each axis, in both loops and through the ring.
    *(
        Conv(axis=a, channels=20, pool_mode=m)
        for a in ("height", "width", "channel")
        for m in (None, "max", "average")
    ),
    # Each activation, alone and before pooling.
    *(
        Conv(activation=a, alpha=al, channels=20, axis=axis, pool_mode=m)
        for a, al in (
            ("linear", 0.0),
            ("leaky_relu", 0.1),
            ("elu", 1.5),
            ("selu", 0.0),
            ("sigmoid", 0.0),
            ("tanh", 0.0),
            ("clipped_relu", 0.4),
        )
        for axis in (None, "height")
        for m in (None, "max")
    ),
    # Kernels, strides, dilations and paddings, also lopsided ones.
    Conv(kernel=(1, 1)),
    Conv(kernel=(5, 5), in_channels=1, channels=6),
    Conv(kernel=(1, 5), pad=(0, 2, 0, 2), pool_mode="max"),
    Conv(kernel=(9, 9), channels=120),
    Conv(stride=(2, 2), pad=(0, 0, 1, 1)),
    Conv(stride=(2, 1), pool_mode="max"),
    Conv(stride=(1, 3), kernel=(2, 4)),
    Conv(dilation=(2, 2), pool_mode="max"),
    Conv(dilation=(1, 3), pad=(1, 3, 1, 3)),
    Conv(pad=(2, 0, 1, 3), axis="width", pool_mode="max"),
    Conv(height=1, width=1, kernel=(1, 1), in_channels=7, channels=9),
    # Pooling windows that overlap, leave gaps, are lopsided or padded.
    *(
        Conv(
            height=11,
            width=10,
            channels=20,
            axis="height",
            pool_mode=m,
            pool=p,
            pool_stride=s,
            pool_pad=pp,
        )
        for m in ("max", "average")
        for p, s, pp in (
            ((3, 3), (2, 2), (0, 0, 0, 0)),
            ((3, 3), (2, 2), (1, 1, 1, 1)),
            ((2, 2), (1, 1), (0, 0, 0, 0)),
            ((2, 2), (3, 3), (0, 0, 0, 0)),
            ((1, 2), (1, 2), (0, 0, 0, 0)),
            ((2, 3), (2, 1), (0, 1, 1, 1)),
            ((9, 8), (9, 8), (0, 0, 0, 0)),
        )
    ),
)


@dataclass(frozen=True)
class Dense:
    """A dense case: rows, inputs, outputs."""

    m: int
    depth: int
    channels: int
    activation: str = "relu"
    alpha: float = 0.0
    zeros: float = 0.5

    def __str__(self) -> str:
        return f"{self.m}x{self.depth}x{self.channels}-{self.activation}-zeros{self.zeros}"


DENSES = (
    Dense(1, 576, 3168),
    Dense(5, 576, 3168),
    Dense(1, 3168, 10, "linear"),
    Dense(6, 3168, 10, "linear"),
    *(Dense(m, 37, n, "linear") for m in (1, 2, 3, 4, 5, 7, 32) for n in CHANNELS),
    *(Dense(m, d, 40) for m in (1, 3) for d in (1, 2, 3, 4, 5, 8, 9)),
    *(Dense(m, d, 10) for m in (1, 3) for d in (1, 2, 3, 4, 5, 8, 9)),
    *(Dense(2, 20, n, "tanh") for n in (10, 40)),
    *(Dense(m, 20, n, "clipped_relu", 0.5) for m in (1, 2) for n in (10, 40)),
    Dense(1, 50, 100, "elu", 0.7),
    Dense(1, 50, 100, zeros=1.0),
    Dense(1, 50, 100, zeros=0.0),
    # Deep panels go block by block, and large weights are fetched ahead.
    *(Dense(m, 1500, n) for m in (1, 2, 5, 32) for n in (33, 200)),
    *(Dense(m, 1024, 100, "tanh") for m in (3, 7)),
    *(Dense(m, 2600, 210) for m in (2, 3, 6, 32)),
    Dense(5, 5000, 430),
)

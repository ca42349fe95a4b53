"""What float32 may cost: each operator on each ISA against float64, by docs/numerics.md.

An error is a share of the greatest value of the exact result. Inputs are kinds of images that
people have, and two that they should not have.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastdigit import Model, _core
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.ops import (
    Binary,
    Conv2D,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Op,
    Pool2D,
    Resize,
    Softmax,
)
from fastdigit.datasets import load_mnist_test
from tests.support import ROOT, reference
from tests.support.networks import affine, cell, chain, conv, dense, packed, transpose

USABLE = [name for name, usable in _core.isas() if usable]
KINDS = ("digits", "noise", "0/1", "denormals", "large weights")
SIDE = 14
RNG = np.random.default_rng(8)
POSITIONS = np.linspace(0, SIDE - 1, 20).astype(np.float32)

#: The names of docs/numerics.md, and an operator on images of 14 x 14 pixels and 8 channels.
OPERATORS: dict[str, list[Op]] = {
    "convolution": [conv(RNG, (5, 5), 8, 24, dilation=(2, 2))],
    "convolution, Winograd": [conv(RNG, (3, 3), 8, 48, activation=Activation("relu"))],
    "depthwise convolution": [conv(RNG, (3, 3), 8, 8, groups=8)],
    "transposed convolution": [transpose(RNG, (3, 3), 8, 20, stride=(2, 2))],
    "dense": [dense(RNG, SIDE * SIDE * 8, 100)],
    "dense, up to 32 outputs": [dense(RNG, SIDE * SIDE * 8, 10)],
    "average pooling": [Pool2D(Pool("average", (7, 7), (7, 7)))],
    "batch normalization": [Eltwise(affine=affine(RNG, 2, 8))],
    "layer normalization": [
        LayerNorm(1e-3, np.ones(8, np.float32), np.zeros(8, np.float32)),
    ],
    "resize": [Resize(POSITIONS, POSITIONS)],
    "softmax": [Softmax()],
    "log-softmax": [LogSoftmax()],
    "tanh": [Eltwise(Activation("tanh"))],
    "sigmoid": [Eltwise(Activation("sigmoid"))],
    "gelu": [Eltwise(Activation("gelu"))],
    "product": [Binary("mul", np.linspace(-3, 3, 8).astype(np.float32))],
    "LSTM": [conv(RNG, (1, 1), 8, 24), cell(RNG, "lstm", 6)],
    "convolution, Winograd, 5x5": [conv(RNG, (5, 5), 8, 48, activation=Activation("relu"))],
    "convolution, Winograd, stride 2": [
        conv(RNG, (3, 3), 8, 48, stride=(2, 2), activation=Activation("relu"))
    ],
    "convolution, Winograd, one dimension": [
        conv(RNG, (1, 5), 8, 48, activation=Activation("relu"))
    ],
}


def _images(kind: str) -> np.ndarray:
    shape = (3, SIDE, SIDE, 8)
    if kind == "digits":
        digits = load_mnist_test()[0][:24].reshape(3, 8, 28, 28)[:, :, ::2, ::2]
        return np.ascontiguousarray(digits.transpose(0, 2, 3, 1) / np.float32(255), np.float32)
    noise = np.random.default_rng(1).random(shape, np.float32)
    if kind == "0/1":
        return np.round(noise)
    return noise * np.float32(1e-39) if kind == "denormals" else noise


def _network(name: str, kind: str) -> Graph:
    ops = OPERATORS[name]
    if kind == "large weights":
        grown = [
            type(op)(**{**vars(op), "weights": op.weights * np.float32(1e4)})  # type: ignore[attr-defined]
            for op in ops[:1]
            if hasattr(op, "weights")
        ]
        ops = [*grown, *ops[len(grown) :]]
    return chain((SIDE, SIDE, 8), ops)


def _budgets() -> dict[str, float]:
    text = (ROOT / "docs/numerics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| [^|]* \| ([0-9.e-]+) \|$", text, re.MULTILINE)
    return {name: float(budget) for name, budget in rows}


def error(name: str, kind: str) -> float:
    """Greatest error, as a share of the greatest value."""
    graph, images = _network(name, kind), _images(kind)
    got = Model(packed(graph)).run(images)
    want = reference.run_graph(graph, images)
    values = np.asarray(next(iter(got.values())) if isinstance(got, dict) else got, np.float64)
    size = max(float(np.abs(want).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(values.reshape(want.shape) - want).max()) / size


def test_the_document_has_every_operator() -> None:
    assert _budgets().keys() == OPERATORS.keys()


#: Kinds of images that are hard on the transforms of Winograd's algorithms, which add and subtract
#: neighbours: the sign turns from pixel to pixel, one pixel is lit, all are nearly the same, or
#: of ten orders of magnitude.
HARD = ("chessboard", "one pixel", "nearly white", "magnitudes")


#: Weights of its filters: what is added has one sign, or the signs of a chessboard, in all channels
#: of an image of one pixel; or any.
SIGNS = ("any", "zero sum", "one sign", "chessboard")


def _hard_bounds() -> dict[str, tuple[float, float]]:
    """With 16 channels, and with 128: the second table of the document."""
    text = (ROOT / "docs/numerics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| F\(.*?\) of ([^|]+?) \| [^|]* \| [^|]* \| (\S+), (\S+) \|$", text, re.M)
    return {
        kernel: (float(few), float(many))
        for kernels, few, many in rows
        for kernel in kernels.split(" and ")
    }


def _hard(kind: str, channels: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    noise = rng.random((2, SIDE, SIDE, channels))
    rows, cols = np.indices((SIDE, SIDE))
    if kind == "chessboard":
        noise *= (1 - 2 * ((rows + cols) % 2))[..., None]
    elif kind == "one pixel":
        noise *= ((rows == 7) & (cols == 6))[..., None]
    elif kind == "nearly white":
        noise = 1 - noise / 100
    else:
        noise *= 10.0 ** rng.integers(-5, 6, noise.shape)
    return noise.astype(np.float32)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [
        *((side, 1) for side in ((2, 2), (3, 3), (5, 5))),
        *((line, 1) for line in ((1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1))),
        ((3, 3), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [16, 128])
def test_winograd_of_hard_images(
    channels: int, kernel: tuple[int, int], stride: int, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a share of what the sums would be if no term were negative, by docs/numerics.md."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    shares = {}
    for signs in SIGNS:
        weights = np.random.default_rng(3).normal(size=(*kernel, channels, 32))
        if signs == "zero sum":
            weights -= weights.mean(axis=(0, 1, 2))
        elif signs != "any":
            weights = np.abs(weights)
        if signs == "chessboard":
            weights *= 1 - 2 * (np.indices(kernel).sum(axis=0) % 2)[..., None, None]
        bias, strides = np.zeros(32, np.float32), (stride, stride)
        layer = Conv2D(weights.astype(np.float32), bias, stride=strides)
        graph = chain((SIDE, SIDE, channels), [layer])
        model = Model(packed(graph, input_range=(-np.inf, np.inf)))
        assert model.plan()[-1]["algorithm"].startswith("F(")
        size = chain((SIDE, SIDE, channels), [Conv2D(np.abs(layer.weights), bias, stride=strides)])
        for kind in HARD:
            images = _hard(kind, channels)
            want = reference.run_graph(graph, images)
            most = reference.run_graph(size, np.abs(images)).max()
            got = np.asarray(model.logits(images), np.float64).reshape(want.shape)
            shares[kind, signs] = float(np.abs(got - want).max() / most)
    bound = _hard_bounds()["x".join(map(str, kernel)) + (", stride 2" if stride == 2 else "")]
    alike = {at: share for at, share in shares.items() if at[1] in ("one sign", "chessboard")}
    assert max(share for at, share in shares.items() if at not in alike) <= 2e-6, shares
    assert max(alike.values()) <= bound[channels > 16], shares


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("side", [56, 384])
def test_means_of_large_even_images(side: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added pixel by pixel, rounding goes the same way each time: it was 3e-4 at 384."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    model = Model(
        packed(chain((side, side, 3), [Pool2D(Pool("average", (side, side), (side, side)))]))
    )
    level = np.array([1 / 3, 0.1, 0.7], np.float32)
    images = np.broadcast_to(level, (1, side, side, 3)).copy()
    np.testing.assert_allclose(model.run(images).reshape(3), level, rtol=5e-6)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", OPERATORS)
def test_budgets(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    errors = {kind: error(name, kind) for kind in KINDS}
    budget = _budgets()[name]
    assert all(value <= budget for value in errors.values()), errors

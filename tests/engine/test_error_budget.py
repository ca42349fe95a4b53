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
    "convolution": [conv(RNG, (5, 5), 8, 24)],
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


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", OPERATORS)
def test_budgets(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    errors = {kind: error(name, kind) for kind in KINDS}
    budget = _budgets()[name]
    assert all(value <= budget for value in errors.values()), errors

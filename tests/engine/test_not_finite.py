"""NaN and infinities inside a network, by docs/numerics.md, on every ISA.

Inputs and weights are finite, so what is not is made here by a division, of 0 or 1 by 0, in front
of the operator on trial. The oracle is the operator in float64 NumPy, which is IEEE 754's
arithmetic.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastdigit import Model, _core
from fastdigit.compiler.evaluate import evaluate
from fastdigit.compiler.ir import Activation, Graph, Node, Pool
from fastdigit.compiler.ops import (
    Binary,
    Crop,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Op,
    Pad,
    Pool2D,
    Reshape,
    Resize,
    Softmax,
    Transpose,
    make_graph,
)
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.errors import InputError
from tests.support.networks import affine, cell, conv, dense, packed, transpose

USABLE = [name for name, usable in _core.isas() if usable]
SHAPE = (6, 6, 8)
RNG = np.random.default_rng(5)
POSITIONS = np.linspace(0, 5, 9).astype(np.float32)
ANY = (-math.inf, math.inf)
NAN, INF = math.nan, math.inf


def act(name: str, alpha: float = 0.0) -> list[Op]:
    return [Eltwise(Activation(name, alpha))]  # type: ignore[arg-type]


#: What is as the formula says, in IEEE 754's arithmetic.
AS_FORMULA: dict[str, list[Op]] = {
    **{
        name: act(name)
        for name in (
            *("selu", "sigmoid", "tanh", "hard_swish", "silu", "softplus", "gelu", "gelu_tanh"),
            *("erf", "exponential", "log", "sqrt", "abs", "softsign", "mish"),
        )
    },
    "leaky_relu": act("leaky_relu", 0.25),
    "elu": act("elu", 0.5),
    "hard_sigmoid": act("hard_sigmoid", 0.2),
    "batch normalization": [Eltwise(affine=affine(RNG, 2, 8))],
    "layer normalization": [LayerNorm(1e-3, np.ones(8, np.float32), np.zeros(8, np.float32))],
    "softmax": [Softmax()],
    "log-softmax": [LogSoftmax()],
    "softmax of a vector": [dense(RNG, 288, 10), Softmax()],
    "average pooling": [Pool2D(Pool("average", (3, 3), (3, 3)))],
    "sum": [Binary("add", np.linspace(-3, 3, 8).astype(np.float32))],
    "product": [Binary("mul", np.linspace(-3, 4, 8).astype(np.float32))],
    "prelu": [Binary("prelu", np.linspace(0.1, 0.8, 8).astype(np.float32))],
    "convolution": [conv(RNG, (5, 5), 8, 24)],
    "depthwise convolution": [conv(RNG, (3, 3), 8, 8, groups=8)],
    "transposed convolution": [transpose(RNG, (2, 2), 8, 4, stride=(2, 2))],
    "dense": [dense(RNG, 288, 100)],
    "dense, up to 32 outputs": [dense(RNG, 288, 10)],
    "LSTM": [conv(RNG, (1, 1), 8, 24), cell(RNG, "lstm", 6)],
    "GRU": [conv(RNG, (1, 1), 8, 18), cell(RNG, "gru", 6)],
    "moves": [Transpose((1, 2, 0)), Pad(((1, 0), (0, 2), (0, 0))), Crop(((0, 1), (1, 0), (0, 0)))],
}
#: Of -infinity these are 0, which is their limit, where the formula says -infinity times 0.
LIMITS = ("silu", "gelu", "gelu_tanh", "mish")


def behind_a_division(ops: list[Op], precision: str | None = None) -> Graph:
    nodes = [Node("quotient", Binary("div"), ("a", "b"), "q0")]
    nodes += [Node(f"op{i}", op, (f"q{i}",), f"q{i + 1}") for i, op in enumerate(ops)]
    graph = make_graph({"a": SHAPE, "b": SHAPE}, nodes, [f"q{len(ops)}"])
    return quantize_weights(graph, precision) if precision else graph  # type: ignore[arg-type]


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dividends, divisors and quotients: noise with NaN, infinities, both of these, and none."""
    rng = np.random.default_rng(2)
    specials = ((NAN,), (INF,), (-INF,), (INF, -INF), ())
    a = rng.normal(size=(len(specials), *SHAPE)).astype(np.float32)
    b = np.ones_like(a)
    for i, values in enumerate(specials):
        for place, value in enumerate(values):
            at = (i, 2 + place, 3, 4)
            a[at] = 0 if math.isnan(value) else math.copysign(1, value)
            b[at] = 0
    with np.errstate(all="ignore"):
        quotients = a / b
    assert [set(q[~np.isfinite(q)]) for q in quotients[1:]] == [set(s) for s in specials[1:]]
    return a, b, quotients


def run(graph: Graph, *inputs: np.ndarray) -> np.ndarray:
    model = Model(packed(graph, input_range=[ANY, ANY], u8_divisor=[0, 0]))
    values = np.asarray(model.run(inputs))
    alone = [model.run(tuple(x[i : i + 1] for x in inputs)) for i in range(len(values))]
    np.testing.assert_array_equal(np.concatenate(alone), values)  # dense layers skip zeros there
    return values


def test_inputs_are_finite() -> None:
    a, b, _ = images()
    for value in (NAN, INF, -INF):
        bad = a.copy()
        bad[1, 2, 3, 4] = value
        with pytest.raises(InputError, match="not finite"):
            run(behind_a_division([]), bad, b)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", AS_FORMULA)
def test_what_is_as_the_formula_says(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, quotients = images()
    graph = behind_a_division(AS_FORMULA[name])
    with np.errstate(all="ignore"):
        (want,) = evaluate(graph, [a, b])
    got = run(graph, a, b).reshape(want.shape)
    if name in LIMITS:
        assert np.isnan(want[quotients == -INF]).all()
        want[quotients == -INF] = 0
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)  # NaN and infinities in place


@pytest.mark.parametrize("isa", USABLE)
def test_a_resize_is_nan_beside_an_infinity(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a share of a difference, of one and infinity, and adds it to one of both."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, _ = images()
    graph = behind_a_division([Resize(POSITIONS, POSITIONS)])
    with np.errstate(all="ignore"):
        (want,) = evaluate(graph, [a, b])
    got = run(graph, a, b)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    np.testing.assert_allclose(got[finite], want[finite], atol=1e-5)
    assert np.isnan(got[1]).any()


@pytest.mark.parametrize("isa", USABLE)
def test_a_relu_of_nan_is_zero(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, quotients = images()
    for ops, most in ((act("relu"), INF), (act("clipped_relu", 0.7), 0.7)):
        want = np.clip(np.nan_to_num(quotients, nan=0, posinf=INF, neginf=-INF), 0, most)
        np.testing.assert_allclose(run(behind_a_division(ops), a, b).reshape(want.shape), want)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_of_two_the_second_if_one_is_nan(
    kind: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, quotients = images()
    better = np.greater if kind == "max" else np.less

    def chosen(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(better(x, y), x, y)

    constant = np.linspace(-1, 1, 8).astype(np.float32)
    graph = behind_a_division([Binary(kind, constant)])  # type: ignore[arg-type]
    np.testing.assert_array_equal(run(graph, a, b), chosen(quotients, constant))
    nodes = [Node("q", Binary("div"), ("a", "b"), "q")]
    for name, operands in (("first", ("q", "a")), ("second", ("a", "q"))):
        node = Node(name, Binary(kind), operands, name)  # type: ignore[arg-type]
        graph = make_graph({"a": SHAPE, "b": SHAPE}, [*nodes, node], [name])
        x, y = (quotients, a) if name == "first" else (a, quotients)
        np.testing.assert_array_equal(run(graph, a, b), chosen(x, y))


@pytest.mark.parametrize("isa", USABLE)
def test_the_maximum_of_a_window_is_nan_or_that_of_the_others(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, quotients = images()
    windows = quotients.reshape(-1, 3, 2, 3, 2, 8)
    want = np.where(np.isnan(windows), -INF, windows).max(axis=(2, 4))
    got = run(behind_a_division([Pool2D(Pool("max", (2, 2), (2, 2)))]), a, b)
    assert np.isnan(windows).any(axis=(2, 4))[np.isnan(got)].all()
    np.testing.assert_array_equal(np.where(np.isnan(got), want, got), want)


@pytest.mark.parametrize("isa", USABLE)
def test_winograd_spreads_what_is_not_finite(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To more of the same image than the formula does, and never to less."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, _ = images()
    graph = behind_a_division([conv(RNG, (3, 3), 8, 48, pad=(1, 1, 1, 1))])
    with np.errstate(all="ignore"):
        (want,) = evaluate(graph, [a, b])
    got = run(graph, a, b).reshape(want.shape)
    finite = np.isfinite(got)
    assert np.isfinite(want)[finite].all()
    np.testing.assert_allclose(got[finite], want[finite], atol=1e-4)
    assert finite[4].all()


@pytest.mark.parametrize("isa", USABLE)
def test_a_quantised_row_is_nan_as_a_whole(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    a, b, _ = images()
    got = run(behind_a_division([Reshape((288,)), dense(RNG, 288, 100)], "int8-dynamic"), a, b)
    assert np.isnan(got[:4]).all() and np.isfinite(got[4]).all()


@pytest.mark.parametrize("isa", USABLE)
def test_a_label_passes_over_nan(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is the first value, which nothing is greater than."""
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    nodes = [Node("q", Binary("div"), ("a", "b"), "q"), Node("s", Softmax(), ("q",), "s")]
    graph = make_graph({"a": (4,), "b": (4,)}, nodes, ["s"])
    model = Model(packed(graph, input_range=[ANY, ANY], u8_divisor=[0, 0]))
    a = np.array([[1, 0, 3, 2], [0, 1, 3, 2], [1, 4, 3, 2]], np.float32)
    b = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1]], np.float32)
    assert model.predict((a, b)).tolist() == [2, 0, 1]
    probabilities = model.predict_proba((a, b))
    assert np.isnan(probabilities).all()

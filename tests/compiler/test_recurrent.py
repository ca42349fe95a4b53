"""Recurrent layers: long sequences, the layer of front ends, the rules of the operator."""

from __future__ import annotations

import numpy as np
import pytest

from fastdigit import Model
from fastdigit.compiler.frontends.recurrent import recurrent_layer
from fastdigit.compiler.ir import LINEAR, Activation
from fastdigit.compiler.ops import Recurrent
from fastdigit.compiler.passes import optimize
from tests.support import reference
from tests.support.compiler_cases import chain
from tests.support.networks import cell, conv, packed
from tests.support.networks import chain as network

KINDS = ("simple", "lstm", "gru", "gru_reset_after")
GATES = {"simple": 1, "lstm": 4, "gru": 3, "gru_reset_after": 3}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
def test_long_sequences_stay_within_the_promise(kind: str, backwards: bool) -> None:
    rng = np.random.default_rng(3)
    columns = 64 * GATES[kind]
    bias = rng.normal(size=columns).astype(np.float32)
    graph = network(
        (1, 200, 24),
        [
            conv(rng, (1, 1), 24, columns),
            cell(rng, kind, 64, bias=bias, backwards=backwards),
        ],
    )
    batch = rng.random((3, 1, 200, 24), np.float32)
    want = reference.run_graph(graph, batch)
    model = Model(packed(graph))
    got = model.run(batch)
    assert np.abs(got - want).max() < 2e-6
    for row in range(3):
        assert model.run(batch[row : row + 1]).tobytes() == got[row : row + 1].tobytes()


def by_hand(kind, x, kernel, weights, bias, inner, activation, gates):
    """The states of one sequence, as the layers of Keras are documented."""
    units, h, c, states = len(weights), 0.0, 0.0, []
    h = c = np.zeros(len(weights))
    for step in x:
        given, state = step @ kernel + bias, h @ weights + inner
        a = np.split(given, len(given) // units)
        b = np.split(state, len(given) // units)
        if kind == "simple":
            h = activation(a[0] + b[0])
        elif kind == "lstm":
            c = gates(a[1] + b[1]) * c + gates(a[0] + b[0]) * activation(a[2] + b[2])
            h = gates(a[3] + b[3]) * activation(c)
        else:
            z, r = gates(a[0] + b[0]), gates(a[1] + b[1])
            last = r * b[2]
            if kind == "gru":
                last = (r * h) @ weights[:, 2 * units :] + inner[2 * units :]
            h = z * h + (1 - z) * activation(a[2] + last)
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_layer_of_a_front_end(kind: str, backwards: bool, sequences: bool) -> None:
    rng = np.random.default_rng(4)
    columns = 5 * GATES[kind]
    kernel, weights = rng.normal(size=(3, columns)), rng.normal(size=(5, columns))
    bias, inner = rng.normal(size=(2, columns))
    hard = Activation("hard_sigmoid", 0.2)
    ops = recurrent_layer(
        (7, 3),
        kind,
        kernel,
        weights,
        bias,
        inner,
        activation=Activation("relu"),
        gates=hard,
        backwards=backwards,
        sequences=sequences,
    )
    graph = chain((7, 3), *ops)
    x = rng.normal(size=(2, 7, 3))
    functions = (lambda v: np.maximum(v, 0), lambda v: np.clip(0.2 * v + 0.5, 0, 1))
    for row, image in enumerate(x):
        turned = image[::-1] if backwards else image
        want = by_hand(kind, turned, kernel, weights, bias, inner, *functions)
        want = (want[::-1] if backwards else want) if sequences else want[-1]
        got = reference.run_graph(graph, x)[row]
        np.testing.assert_allclose(got, want, rtol=1e-12)
    after = optimize(graph)
    same = reference.run_graph(after, x.reshape(2, *after.shapes[after.input]))
    np.testing.assert_allclose(same.reshape(2, *got.shape)[1], got, rtol=1e-12)


@pytest.mark.parametrize(
    ("op", "shape", "message"),
    [
        (Recurrent("lstm", np.ones((2, 8))), (8,), "needs .steps, channels."),
        (Recurrent("lstm", np.ones((2, 8))), (3, 6), "4 gates and an input of"),
        (Recurrent("lstm", np.ones((2, 6))), (3, 6), "4 gates"),
        (Recurrent("gru", np.ones(6)), (3, 6), "expected 2 axes"),
        (Recurrent("gru", np.ones((2, 6)), np.ones(2)), (3, 6), "bias has shape"),
        (Recurrent("indrnn", np.ones((2, 2))), (3, 2), "kind 'indrnn'"),
        (Recurrent("simple", np.ones((2, 2))), (3, 2), "has no gates"),
        (Recurrent("gru", np.ones((2, 6)), activation=Activation("relu", 1.0)), (3, 6), "alpha"),
    ],
)  # fmt: skip
def test_what_it_does_not_take(op: Recurrent, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op.infer(shape)
    assert Recurrent("simple", np.ones((2, 2)), gates=LINEAR).infer((4, 3, 2)) == (4, 3, 2)

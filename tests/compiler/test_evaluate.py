"""The evaluator of graphs, against the reference of the tests and against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.onnx import to_onnx
from fastdigit.compiler.evaluate import EVALUATORS, Arithmetic
from fastdigit.compiler.evaluate import evaluate as evaluate_all
from fastdigit.compiler.ir import Activation, Graph
from fastdigit.compiler.ops import OPS, Dense, Eltwise
from tests.support import need, random_graphs, reference
from tests.support.compiler_cases import chain, everything, images
from tests.support.networks import seed_network, small_networks

NETWORKS = {**small_networks(), "seed": seed_network(), "everything": everything()}


def evaluate(graph: Graph, batch: Any, *how: Any) -> Any:
    """Of one input and one output."""
    (output,) = evaluate_all(graph, [batch], *how)
    return output


def test_every_operator_has_a_case() -> None:
    assert set(EVALUATORS) == set(OPS)
    run = {type(node.op) for graph in NETWORKS.values() for node in graph.nodes}
    assert run == set(OPS)


@pytest.mark.parametrize("name", NETWORKS)
def test_float64_is_the_reference(name: str) -> None:
    graph = NETWORKS[name]
    batch = images(graph)
    found, want = evaluate(graph, batch), reference.run_graph(graph, batch)
    assert found.dtype == np.float64 and found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-11)


@settings(max_examples=60)
@given(random_graphs.networks())
def test_random_networks(graph: Graph) -> None:
    batch = images(graph)
    want = reference.run_graph(graph, batch)
    np.testing.assert_allclose(evaluate(graph, batch), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    function = ACTIVATIONS[activation]
    graph = chain((201,), Eltwise(Activation(activation, function.default)))
    batch = np.linspace(-30, 30, 201)[np.newaxis]
    want = reference.run_graph(graph, batch)
    np.testing.assert_allclose(evaluate(graph, batch), want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_float32_rounds_every_value(name: str, order: int) -> None:
    graph = NETWORKS[name]
    batch = images(graph).astype(np.float32)
    want = evaluate(graph, batch)
    found = evaluate(graph, batch, np.float32, order)
    assert found.dtype == np.float32 and found.shape == want.shape
    error = np.abs(found - want).max() / max(1.0, np.abs(want).max())
    assert 0 < error < 2e-5


def test_orders_differ_where_there_are_sums() -> None:
    graph = NETWORKS["seed"]
    batch = images(graph).astype(np.float32)
    found = [evaluate(graph, batch, np.float32, order) for order in range(3)]
    assert all((a != b).any() for a, b in [found[:2], found[1:], found[::2]])


@given(st.integers(1, 40), st.integers(0, 9))
def test_an_order_has_every_term_once(terms: int, order: int) -> None:
    """Powers of two, whose sum in float64 is exact in any order."""
    rows = 2.0 ** np.arange(terms)[np.newaxis]
    assert Arithmetic(order=order).product(rows, np.ones((terms, 1))) == 2.0**terms - 1


def test_images_are_evaluated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = NETWORKS["lenet"]
    batch = images(graph, 7)
    whole = evaluate(graph, batch)
    monkeypatch.setattr("fastdigit.compiler.evaluate.CHUNK", 40_000)
    np.testing.assert_allclose(evaluate(graph, batch), whole, rtol=1e-12, atol=1e-12)


def test_an_input_that_is_the_output() -> None:
    graph = Graph(("x",), ("x",), (), {"x": (3,)})
    np.testing.assert_array_equal(evaluate(graph, np.eye(3)), np.eye(3))


@pytest.mark.parametrize("name", ["seed", "residual", "lenet", "transposed convolutions"])
def test_onnx_runtime_agrees(name: str) -> None:
    need("onnx")
    runtime = need("onnxruntime")
    graph = NETWORKS[name]
    batch = images(graph).astype(np.float32)
    model = to_onnx(graph, channels_last=True).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    want = session.run(None, {session.get_inputs()[0].name: batch})[0]
    error = np.abs(evaluate(graph, batch) - want) / np.maximum(1.0, np.abs(want))
    assert error.max() < 1e-5


def test_int8_weights_are_the_numbers_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    scale = np.float32([0.5, 0.25])
    layer = Dense(rng.integers(-127, 128, (6, 2)) * scale, None, precision="int8", scale=scale)
    batch = rng.random((4, 6))
    np.testing.assert_allclose(evaluate(chain((6,), layer), batch), batch @ layer.weights)
    quantised = Dense(layer.weights, None, precision="int8-dynamic", scale=scale)
    with pytest.raises(ValueError, match="int8-dynamic computes with integers"):
        evaluate(chain((6,), quantised), batch)


@pytest.mark.parametrize("chains", [1, 4, 7])
def test_chains_are_sums_of_every_so_many_th_term(chains: int) -> None:
    """To the bit, as written out; terms of which the last are left over."""
    rng = np.random.default_rng(chains)
    rows = rng.normal(size=(3, 2, 50)).astype(np.float32)
    weights = rng.normal(size=(50, 5)).astype(np.float32)
    sums = np.zeros((chains, 3, 2, 5), np.float32)
    for k in range(50):
        sums[k % chains] += rows[..., k : k + 1] * weights[k]
    want = sums[0]
    for other in sums[1:]:
        want = want + other
    found = Arithmetic(np.float32, chains=chains).product(rows, weights)
    np.testing.assert_array_equal(found, want)

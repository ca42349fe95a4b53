"""What float32 explains is accepted, a wrong translation is not: on small inputs and on great."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler import Compiled, accuracy, compile_model, driver, verify
from fastdigit.compiler.accuracy import Exact, Network, beyond, choose_images
from fastdigit.compiler.backends.onnx import to_onnx
from fastdigit.compiler.heads import gives_probabilities
from fastdigit.compiler.ir import Activation, Graph, Node, Op
from fastdigit.compiler.ops import (
    Conv2D,
    Dense,
    Eltwise,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    make_graph,
    with_nodes,
)
from fastdigit.compiler.verify import Verification, compare, compare_outputs, make_samples
from fastdigit.errors import VerificationError
from tests.support import need, networks, reference
from tests.support.compiler_cases import affine, chain, conv, dense, engine

need("onnx")
need("onnxruntime")

RELU = Eltwise(Activation("relu"))
RANGES = [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)]


def network(*tail: Op, activation: str = "gelu") -> Graph:
    rng = np.random.default_rng(4)
    return chain(
        (12, 11, 2),
        conv(rng, (3, 3), 2, 12, pad=(0, 0, 1, 1)),
        Eltwise(Activation(activation)),
        affine(rng, 2, 12),
        Pool2D(networks.HALVE),
        conv(rng, (2, 2), 12, 16, pad=(1, 1, 0, 0)),
        Eltwise(Activation(activation)),
        dense(rng, 5 * 5 * 16, 10),
        *tail,
    )


def changed(graph: Graph, place: int, **fields: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[place] = replace(nodes[place], op=replace(nodes[place].op, **fields))  # type: ignore[type-var]
    return with_nodes(graph, nodes)


def exact(graph: Graph, images: np.ndarray) -> Exact:
    (found,) = Network(graph, [images]).exact()
    return found


def swapped_channels(graph: Graph) -> Graph:
    layer = graph.nodes[4].op
    assert isinstance(layer, Conv2D)
    return changed(graph, 4, weights=layer.weights[:, :, [1, 0, *range(2, 12)]])


def other_epsilon(graph: Graph) -> Graph:
    """1e-3 for 1e-5, of a batch normalization whose variances are 1."""
    given = graph.nodes[2].op.affine  # type: ignore[attr-defined]
    scale = given.scale * np.sqrt((1 + 1e-5) / (1 + 1e-3))
    return changed(graph, 2, affine=replace(given, scale=scale))


def padding_on_the_other_side(graph: Graph) -> Graph:
    return changed(graph, 4, pad=(0, 0, 1, 1))


def one_wrong_weight(graph: Graph) -> Graph:
    layer = graph.nodes[6].op
    assert isinstance(layer, Dense)
    weights = layer.weights.copy()
    weights[200, 3] = 0
    return changed(graph, 6, weights=weights)


def other_gelu(graph: Graph) -> Graph:
    return changed(graph, 1, activation=Activation("gelu_tanh"))


FAULTS = [
    swapped_channels,
    other_epsilon,
    padding_on_the_other_side,
    one_wrong_weight,
    other_gelu,
]


@pytest.mark.parametrize("tail", [(), (Softmax(),)], ids=["logits", "softmax"])
@pytest.mark.parametrize("input_range", RANGES, ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_translation_is_refused(
    fault: Callable[[Graph], Graph],
    input_range: tuple[float, float],
    tail: tuple[Op, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = network(*tail)
    read = driver.import_model
    monkeypatch.setattr(
        driver, "import_model", lambda *given: replace(read(*given), graph=fault(graph))
    )
    with pytest.raises(VerificationError, match=r"not read as it is meant.*--tolerance"):
        compile_model(to_onnx(graph), None, engine=engine, input_range=input_range)


@pytest.mark.parametrize("input_range", RANGES, ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_engine_is_refused(
    fault: Callable[[Graph], Graph], input_range: tuple[float, float]
) -> None:
    """Also what passes and packer make wrong: the graph that was read is the measure."""
    graph = network()

    def wrong(data: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return reference.run_outputs(fault(graph), inputs)

    with pytest.raises(VerificationError, match=r"float32 can attain .*--tolerance"):
        compile_model(to_onnx(graph), None, engine=wrong, input_range=input_range)


@pytest.mark.parametrize("input_range", RANGES, ids=str)
@pytest.mark.parametrize("tail", [(), (Softmax(),)], ids=["logits", "softmax"])
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_a_right_one_is_accepted(
    activation: str, tail: tuple[Op, ...], input_range: tuple[float, float]
) -> None:
    graph = network(*tail, activation=activation)
    result = fastdigit.compile(to_onnx(graph), None, input_range=input_range)
    found = result.verification
    assert found.evaluated == found.samples == 64
    assert found.exact_error is not None and found.attainable_error is not None
    assert found.exact_error <= 32 * max(found.attainable_error, found.reference_error or 0.0)
    assert result.meta["verification"] == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(found).items()
    }


def test_what_was_refused_for_the_size_of_its_sums() -> None:
    """Pixels 0..255 in a network of logits: 1e-5 is beyond what float32 can do."""
    rng = np.random.default_rng(1)
    layers = [conv(rng, (3, 3), 1, 8), RELU, dense(rng, 26 * 26 * 8, 32), RELU, dense(rng, 32, 10)]
    source = to_onnx(chain((28, 28, 1), *layers))
    found = fastdigit.compile(source, None, input_range=(0, 255)).verification
    assert found.max_error > 1e-5
    assert found.exact_error is not None and found.reference_error is not None
    assert found.label_agreement == 1
    with pytest.raises(VerificationError, match=r"more than the tolerance 1e-05; .*--tolerance"):
        fastdigit.compile(source, None, input_range=(0, 255), tolerance=1e-5)


def test_fewer_bits_are_compared_where_float32_is_in_order() -> None:
    rng = np.random.default_rng(1)
    graph = chain((784,), dense(rng, 784, 64), RELU, dense(rng, 64, 10))
    source = to_onnx(graph)
    made = fastdigit.compile(source, None, input_range=(0, 255), precision="fp16", tolerance=0.1)
    found = made.verification
    assert found.max_error > 1e-4
    assert found.exact_error is not None and found.reference_error is not None
    assert found.exact_error > 1e-4 > found.reference_error


def test_the_promise_is_kept_for_probabilities() -> None:
    """1e-5 for inputs in 0..1, where float32 can keep it; where it is none, float32 counts."""
    rng = np.random.default_rng(0)

    def graph_of(size: float) -> Graph:
        weights = size * rng.normal(size=(50, 1)) + rng.normal(size=(50, 5)) / 4
        return chain((50,), Dense(weights.astype(np.float32), np.zeros(5)), Softmax())

    images = rng.random((300, 50), np.float32)

    def compiled(graph: Graph, noise: np.ndarray, low: float = 0) -> Compiled:
        def runtime(data: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
            (right,) = reference.run_outputs(graph, inputs)
            return [right + noise[:, np.newaxis] * np.float64([1, -1, 0, 0, 0])]

        return compile_model(
            to_onnx(graph), None, engine=runtime, samples=images, input_range=(low, 1)
        )

    graph = graph_of(1)
    assert exact(graph, images).attainable.max() < 2.5e-6
    with pytest.raises(VerificationError, match=r"more than the tolerance 1e-05.*--tolerance"):
        compiled(graph, np.full(300, 1.1e-5))
    graph = graph_of(300)
    great = exact(graph, images).attainable
    assert great.max() > 3e-5
    assert compiled(graph, 2 * great).verification.max_error > 6e-5
    with pytest.raises(VerificationError, match=r"more than the tolerance 1e-05.*--tolerance"):
        compiled(graph, 5 * great)
    assert compiled(graph, 5 * great, low=-1).verification.max_error > 1e-4


def test_what_the_engine_adds_in_chains_is_accepted() -> None:
    """Channels of two signs, in four interleaved chains, whose sums are great and cancel."""
    rng = np.random.default_rng(0)
    signs = np.tile(np.float64([1, 1, -1, -1]), 1024)[:, np.newaxis]
    weights = signs * rng.uniform(1, 1.001, (4096, 2))
    graph = chain((4096,), Dense(weights.astype(np.float32), np.zeros(2)), Softmax())
    images = rng.uniform(0.5, 1, (16, 4096)).astype(np.float32)
    found = fastdigit.compile(to_onnx(graph), None, samples=images).verification
    assert found.max_error > 1e-5
    assert found.attainable_error is not None and found.exact_error is not None
    assert found.exact_error < 2 * found.attainable_error


def test_labels_of_sequences_are_of_their_steps() -> None:
    """Of what is nearly 1 at many steps, the largest says nothing."""
    want = np.tile(np.float64([0, 1, 0]), (2, 20, 1))
    got = want.copy()
    got[:, 3:, 1] -= 1e-7
    want[:, :9, 1] -= 1e-7
    assert compare("oracle", want, got, 1e-5).label_agreement == 1
    got[0, 3] = [1, 0, 0]
    assert compare("oracle", want, got, 2).label_agreement == 39 / 40


def test_equals_of_a_map_are_no_disagreement() -> None:
    want = np.zeros((2, 4, 4, 3))
    want[:, 1, 1, 1], want[:, 2, 2, 2] = 1 - 1e-9, 1
    got = want.astype(np.float32)
    assert compare("oracle", want, got, 1e-5).label_agreement == 1
    got[0, 2, 2, 2] = 0.5
    assert compare("oracle", want, got, 1).label_agreement == 0.5


def test_a_large_network_is_verified_with_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    assert verify.count_samples(graph) == 64
    monkeypatch.setattr(verify, "WORK", 20 * verify.multiply_adds(graph))
    assert verify.count_samples(graph) == 20
    monkeypatch.setattr(verify, "WORK", 1)
    found = fastdigit.compile(to_onnx(graph), None, input_range=(0, 255)).verification
    assert found.samples == found.evaluated == 8
    monkeypatch.setattr(accuracy, "WORK", 1)
    found = fastdigit.compile(to_onnx(graph), None, input_range=(0, 255)).verification
    assert found.samples == 8 and found.evaluated == 3


def test_a_verified_file_is_verified_again(tmp_path: object) -> None:
    graph = network(Softmax())
    made = fastdigit.compile(to_onnx(graph), None, input_range=(0, 255), temperature=2.5)
    assert made.verification.max_error > 0
    found = driver.verify_model(made.data, to_onnx(graph), engine=fastdigit._engine(None))
    assert found.evaluated == 64
    assert found.exact_error is not None and found.exact_error < 1e-4
    with pytest.raises(VerificationError, match="--tolerance"):
        driver.verify_model(
            made.data, to_onnx(graph), engine=fastdigit._engine(None), tolerance=1e-9
        )


def test_of_several_outputs_each_is_judged() -> None:
    """Probabilities of inputs in 0..1 keep the promise; logits beside them, what float32 can."""
    rng = np.random.default_rng(1)
    nodes = [
        Node("hidden", dense(rng, 784, 50), ("v0",), "v1"),
        Node("logits", dense(rng, 50, 10), ("v1",), "v2"),
        Node("softmax", Softmax(), ("v2",), "v3"),
    ]
    graph = make_graph({"v0": (784,)}, nodes, ["v3", "v2"])
    images = make_samples((784,), 0, 255)
    network = Network(graph, [images])
    want = reference.run_outputs(graph, [images])
    limit = network.exact()[1].attainable.max()
    off = [want[0], want[1] * (1 + limit)]

    def judged(factors: list[float]) -> Verification:
        names = ["probabilities", "logits"]
        given = ("oracle", names, want, off, 1e-9)
        return compare_outputs(*given, network=network, factors=factors)

    found = judged([0, 32])
    assert found.exact_error is not None
    assert found.exact_error == pytest.approx(limit, rel=0.1)
    with pytest.raises(VerificationError, match=r"output 'logits': .*--tolerance"):
        judged([32, 0])


# ---- the parts ----


def test_images_that_differ_most_are_among_those_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = network()
    differences = np.zeros(1000)
    differences[[17, 503]] = 1, np.nan
    assert choose_images(graph, differences[:20]).tolist() == list(range(20))
    monkeypatch.setattr(accuracy, "WORK", 40 * accuracy.multiply_adds(graph))
    chosen = choose_images(graph, differences).tolist()
    assert {0, 17, 503, 999} <= set(chosen)
    assert 30 <= len(chosen) <= 40
    assert chosen == sorted(set(chosen))
    monkeypatch.setattr(accuracy, "WORK", 1)
    assert {0, 503} <= set(choose_images(graph, differences).tolist())


def test_attainable_is_the_error_of_float32() -> None:
    graph = network()
    images = make_samples((12, 11, 2), 0, 1)
    found = exact(graph, images)
    want = reference.run_graph(graph, images)
    np.testing.assert_allclose(found.values, want, rtol=1e-9, atol=1e-9)
    assert (found.attainable > 0).all() and found.attainable.max() < 1e-5
    assert found.errors(want + 0.5).min() > 0.05
    larger = exact(graph, images * np.float32(255))
    assert np.median(larger.attainable) > 5 * np.median(found.attainable)


def test_what_overflows_attains_nothing() -> None:
    graph = chain((2,), Dense(np.full((2, 2), 1e30), np.zeros(2)), RELU)
    found = exact(graph, np.full((4, 2), 1e30, np.float32))
    assert np.isinf(found.attainable).all()
    assert beyond(np.full(4, 1e-3), found.attainable, 8.0, 1e-5)


def test_each_quantile_counts() -> None:
    limit = np.full(100, 1e-3)
    limit[:60] = 1e-6
    few, many = np.full(100, 1e-7), np.full(100, 1e-7)
    few[:5] = 7e-3
    many[:60] = 7e-3
    assert not beyond(few, limit, 8.0, 1e-5)
    assert beyond(many, limit, 8.0, 1e-5), "the median"
    few[0] = 9e-3
    assert beyond(few, limit, 8.0, 1e-5), "the greatest"
    assert not beyond(few, limit, 8.0, 1e-2), "the tolerance is allowed anyway"
    few[0] = np.nan
    assert beyond(few, limit, 8.0, 1e-5)


def test_what_ends_in_probabilities() -> None:
    rng = np.random.default_rng(0)
    sigmoid = Eltwise(Activation("sigmoid"))

    def found(*tail: Op) -> bool:
        graph = network(*tail)
        return gives_probabilities(graph, graph.output)

    assert found(Softmax()) and found(sigmoid)
    assert found(Softmax(), Reshape((2, 5)), Transpose((1, 0)))
    assert not found()
    assert not found(Softmax(), dense(rng, 10, 3))
    assert not found(replace(sigmoid, affine=affine(rng, 0, 10).affine))


def test_comparison_without_the_network_is_strict() -> None:
    want = np.zeros((3, 4))
    with pytest.raises(VerificationError, match=r"by 0\.1 .* more than the tolerance 1e-05"):
        compare("oracle", want, want + 0.1, 1e-5, factor=32)
    assert compare("oracle", want, want + 0.1, 0.2).exact_error is None


def test_not_a_number_is_refused() -> None:
    graph = network()
    images = make_samples((12, 11, 2), 0, 255)
    want = reference.run_graph(graph, images)
    broken = want.copy()
    broken[3, 2] = np.nan
    found = exact(graph, images)
    with pytest.raises(VerificationError, match="differs"):
        compare("oracle", want, broken, 1e-5, exact=found, factor=32)

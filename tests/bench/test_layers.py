"""The profile of layers: what each has to do, the least time for it, and the time it took."""

from __future__ import annotations

import numpy as np
import pytest

from fastdigit import _core
from fastdigit.bench import layers
from fastdigit.bench.layers import Layer, Limit, describe, limit, profile, skip_zeros
from fastdigit.bench.roofline import FMA, INT8, MEMORY, Roofline
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.ops import with_nodes
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.errors import InputError
from tests.support import networks, reference
from tests.support.bench_fakes import FakeProbe

NETWORKS = {"seed": networks.seed_network(), **networks.small_networks()}


def roof() -> Roofline:
    probe = FakeProbe()
    probe.sample()
    return probe.roofline()


def planned(data: bytes) -> tuple[Layer, ...]:
    return describe(_core.Core(data, 1))


def layer(executed: float, weight_bytes: float, arithmetic: str = FMA) -> Layer:
    sizes = (int(executed), executed, weight_bytes)
    return Layer("dense", (1,), (1,), "", *sizes, arithmetic=arithmetic)


def test_limit_of_arithmetic() -> None:
    # 10^6 multiply-adds are 2 * 10^6 operations: 20 us; 10^4 bytes from L1: 0.05 us.
    assert limit(layer(1e6, 1e4), 1, 1e4, roof()) == Limit(20_000.0, FMA)
    assert limit(layer(1e6, 1e4, INT8), 1, 1e4, roof()) == Limit(5_000.0, INT8)


def test_limit_of_reading_is_that_of_the_level_that_holds_all_weights() -> None:
    small = layer(10, 1e6)
    assert limit(small, 1, 1e6, roof()) == Limit(10_000.0, "L2")
    assert limit(small, 1, 8e6, roof()) == Limit(20_000.0, "L3")
    assert limit(small, 1, 1e9, roof()) == Limit(100_000.0, MEMORY)
    assert limit(small, 8, 8e6, roof()) == Limit(2_500.0, "L3"), "once a call, not once an image"


def test_layers_of_the_seed_network() -> None:
    _, conv1, conv2, conv3, dense1, dense2, softmax = planned(networks.packed(NETWORKS["seed"]))
    assert [conv.algorithm for conv in (conv1, conv2, conv3)] == [
        "direct",
        "F(4x4,3x3)",
        "F(2x2,2x2)",
    ]
    assert conv1.multiply_adds == conv1.executed == 26 * 26 * 9 * 32
    # Floor pooling leaves 12 of 13 rows, and 6 of 7: 9 patches of 4x4, 9 of 2x2.
    assert (conv2.multiply_adds, conv2.executed) == (12 * 12 * 9 * 32 * 48, 9 * 36 * 32 * 48)
    assert (conv3.multiply_adds, conv3.executed) == (6 * 6 * 4 * 48 * 64, 9 * 9 * 48 * 64)
    # Transformed weights, bias, and scale and shift of the rows.
    assert conv2.weight_bytes == 4 * (36 * 32 * 48 + 48 + 13 + 13)
    assert conv3.weight_bytes == 4 * (9 * 48 * 64 + 64 + 7 + 7)
    assert (dense1.multiply_adds, dense1.weight_bytes) == (576 * 3168, 4 * (576 + 1) * 3168)
    assert dense2.weight_bytes == 4 * (3168 * 16 + 10)
    assert (softmax.multiply_adds, softmax.weight_bytes) == (0, 0)


def test_weights_of_fewer_bits_are_fewer_bytes() -> None:
    graph = quantize_weights(NETWORKS["seed"], "int8")
    *_, dense1, dense2, _ = planned(networks.packed(graph))
    assert (dense1.name, dense2.name) == ("dense int8", "dense")
    # A byte each, and a scale and a bias for each column.
    assert dense1.weight_bytes == 576 * 3168 + 2 * 4 * 3168


def test_quantised_inputs_are_multiplied_as_bytes_and_none_is_skipped() -> None:
    data = networks.packed(quantize_weights(NETWORKS["seed"], "int8-dynamic"))
    program, described = unpack(data), planned(data)
    *_, dense1, dense2, _ = described
    assert (dense1.name, dense1.arithmetic) == ("dense dynamic", INT8)
    assert (dense2.name, dense2.arithmetic) == ("dense", FMA)
    assert dense1.weight_bytes == 576 * 3168 + 2 * 4 * 3168
    skipped = skip_zeros(described, program, np.zeros((2, 28, 28, 1), np.float32))
    assert skipped[4] == dense1 and skipped[5] != dense2


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_the_engine_counts(name: str) -> None:
    data = networks.packed(NETWORKS[name])
    described = planned(data)
    assert sum(x.multiply_adds for x in described) == _core.Core(data, 1).facts()["multiply_adds"]


def test_algorithms_are_those_that_the_engine_plans() -> None:
    """A padded pool, which the Winograd kernels do not know, comes after them."""
    rng = np.random.default_rng(0)
    for pad in ((0, 0, 0, 0), (1, 1, 1, 1)):
        pool = networks.Pool("max", (2, 2), (2, 2), pad)
        conv = networks.conv(rng, (3, 3), 32, 48, activation=networks.RELU, pool=pool)
        data = networks.packed(networks.chain((14, 14, 32), [conv]))
        assert planned(data)[1].algorithm == "F(4x4,3x3)"


@pytest.mark.parametrize("name", ["seed", "lenet", "separate layers", "perceptron on an image"])
def test_zeros_are_those_of_the_reference(name: str) -> None:
    data = networks.packed(NETWORKS[name])
    program = unpack(data)
    graph = program.graph
    images = np.random.default_rng(1).random((16, *graph.shapes[graph.input]), np.float32)
    described = planned(data)
    skipped = skip_zeros(described, program, images)
    for index, node in enumerate(graph.nodes):
        before, after = described[index + 1], skipped[index + 1]
        if type(node.op).__name__ != "Dense" or index == 0:
            assert after == before
            continue
        first = graph.nodes[:index]
        part = with_nodes(graph, first, outputs=[node.inputs[0]])
        share = (reference.run_graph(part, images) != 0).mean()
        assert after.nonzero == pytest.approx(share, abs=0.001)
        assert after.executed == pytest.approx(before.multiply_adds * share, rel=0.002)
        assert after.weight_bytes == pytest.approx(before.weight_bytes * share, rel=0.002)


def test_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "IMAGES", 32)
    data = networks.packed(NETWORKS["lenet"])
    images = np.random.default_rng(0).random((50, 28, 28, 1), np.float32)
    probe = FakeProbe()
    profiles = profile(data, images, [1, 5], probe, rounds=3)  # type: ignore[arg-type]
    assert len(probe.samples) == 2 * 3
    assert [p.batch for p in profiles] == [1, 5]
    for p in profiles:
        assert len(p.layers) == len(p.times) == len(NETWORKS["lenet"].nodes) + 1
        assert all(0 < t.lower <= t.median <= t.upper for t in (*p.times[1:], p.total))
        # Medians do not add up, but nearly so; the total is measured, not summed.
        assert p.total.median >= max(t.median for t in p.times)
    assert any(x.nonzero is not None for x in profiles[0].layers)
    assert all(x.nonzero is None for x in profiles[1].layers)


def test_profile_of_other_images_is_refused() -> None:
    data = networks.packed(NETWORKS["lenet"])
    with pytest.raises(InputError, match=r"\(20, 20, 1\), the model takes \(28, 28, 1\)"):
        profile(data, np.zeros((5, 20, 20, 1), np.float32), [1], FakeProbe())  # type: ignore[arg-type]


def test_binding_of_profile() -> None:
    core = _core.Core(networks.packed(NETWORKS["perceptron"]), 2)
    ops = len(NETWORKS["perceptron"].nodes) + 1
    images = np.random.default_rng(0).random((6, 784), np.float32)
    times = np.zeros((2, ops), np.uint64)
    core.profile(images, 2, 3, times)
    first = times.copy()
    assert (first[:, 1] > 0).all()
    core.profile(images, 2, 3, times)
    assert (times >= first).all() and times.sum() > first.sum(), "times are added up"
    with pytest.raises(ValueError, match="a buffer of"):
        core.profile(images, 2, 4, times)
    with pytest.raises(ValueError, match="a buffer of"):
        core.profile(images, 2, 3, times[:1])
    images[4] = 2
    with pytest.raises(InputError, match="value 2 at element 0 of image 1"):
        core.profile(images, 2, 3, times)

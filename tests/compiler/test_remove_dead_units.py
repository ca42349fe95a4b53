"""remove_dead_units: what is removed, what is left alone, and that results stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.ir import Activation, Affine, Graph
from fastdigit.compiler.ops import (
    Conv2D,
    Dense,
    Eltwise,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    with_nodes,
)
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.compiler.passes.remove_dead_units import remove_dead_units
from fastdigit.compiler.spec import verify
from fastdigit.model import Model
from tests.support import networks, reference
from tests.support.compiler_cases import (
    RELU,
    affine,
    average_pool,
    chain,
    conv,
    dense,
    images,
    max_pool,
)
from tests.support.random_graphs import networks as random_networks

rng = np.random.default_rng(5)
PAD = Pad(((1, 1), (1, 1), (0, 0)))


def widths(graph: Graph) -> list[int]:
    """Outputs of the convolutions and dense layers."""
    return [n.op.weights.shape[-1] for n in graph.nodes if isinstance(n.op, Conv2D | Dense)]


def run(*ops, shape=(6, 5, 3), expect):
    """Run the pass; results must be the same, and the layers as wide as expected."""
    before = chain(shape, *ops)
    after = remove_dead_units(before)
    verify(after)
    np.testing.assert_allclose(
        reference.run_graph(after, images(before)),
        reference.run_graph(before, images(before)),
        rtol=1e-10,
        atol=1e-10,
    )
    assert widths(after) == expect
    assert remove_dead_units(after) is after, "nothing is left to do"
    if widths(before) == expect:
        assert after is before
    return after


def unread(layer, *units):
    """The layer with the weights that read these inputs zero."""
    weights = layer.weights.copy()
    weights[..., units, :] = 0.0
    return replace(layer, weights=weights)


def blind(layer, *units, bias=None):
    """The layer with the weights of these outputs zero."""
    weights, biases = layer.weights.copy(), layer.bias.copy()
    weights[..., units] = 0.0
    if bias is not None:
        biases[list(units)] = bias
    return replace(layer, weights=weights, bias=biases)


# ---- Units that nothing reads ------------------------------------------------------------------


def test_unread_units_of_a_dense_layer():
    after = run(dense(rng, 90, 8), RELU, unread(dense(rng, 8, 4), 1, 6), expect=[6, 4])
    assert after.nodes[0].op.bias.shape == (6,)


def test_unread_channels_are_sliced_out_of_everything_between():
    ops = (
        conv(rng, (3, 3), 3, 5),
        Eltwise(RELU.activation, affine(rng, 2, 5).affine),
        Pool2D(max_pool(2)),
        affine(rng, 0, 2),
        PAD,
        unread(conv(rng, (2, 2), 5, 4), 0, 3),
    )
    after = run(*ops, expect=[3, 4])
    assert after.nodes[1].op.affine.scale.shape == (3,)
    assert after.nodes[3].op.affine.scale.shape == (2,), "scales of rows stay"
    assert after.nodes[5].op.weights.shape == (2, 2, 3, 4)


def test_an_epilogue_is_sliced_too():
    for axis, size, left in ((0, 4, 4), (1, 3, 3), (2, 5, 4)):
        layer = conv(
            rng,
            (3, 3),
            3,
            5,
            activation=RELU.activation,
            affine=affine(rng, axis, size).affine,
            pool=max_pool(2),
        )
        after = run(layer, unread(conv(rng, (1, 1), 5, 2), 4), expect=[4, 2])
        assert after.nodes[0].op.affine.scale.shape == (left,)


@pytest.mark.parametrize("flatten", [(), (Reshape((60,)),)], ids=["image", "flattened"])
def test_a_channel_is_dead_if_a_dense_layer_reads_it_nowhere(flatten):
    layer = dense(rng, 4 * 3 * 5, 4)
    weights = layer.weights.reshape(4, 3, 5, 4).copy()
    weights[:, :, 2] = 0.0
    weights[1:, :, 3] = 0.0  # read in the first row
    reader = replace(layer, weights=weights.reshape(60, 4))
    after = run(conv(rng, (3, 3), 3, 5), RELU, *flatten, reader, expect=[4, 4])
    assert after.nodes[-1].op.weights.shape == (48, 4)


def test_what_only_dead_units_read_is_dead():
    ops = (
        conv(rng, (3, 3), 3, 5),
        RELU,
        replace(
            (layer := conv(rng, (2, 2), 5, 4)),
            weights=layer.weights * (np.arange(5)[:, None] < np.array([5, 5, 5, 2])),
        ),
        Reshape((24,)),
        dense(rng, 24, 3),
    )
    # Channels 2 to 4 of the first feed channels 0 to 2 of the second.
    reader = ops[-1].weights.reshape(3, 2, 4, 3).copy()
    reader[:, :, :3] = 0.0
    run(*ops[:-1], replace(ops[-1], weights=reader.reshape(24, 3)), expect=[2, 1, 3])


# ---- Units that are constant -------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation",
    [
        Activation(),
        Activation("relu"),
        Activation("leaky_relu", 0.3),
        Activation("elu", 0.7),
        Activation("selu"),
        Activation("sigmoid"),
        Activation("tanh"),
    ],
    ids=lambda activation: activation.name,
)
@pytest.mark.parametrize("bias", [-1.5, 0.0, 1.5])
def test_constants_of_a_dense_layer_move_into_the_bias(activation, bias):
    first = blind(dense(rng, 90, 6), 0, 2, bias=bias)
    run(first, Eltwise(activation), affine(rng, 0, 6), dense(rng, 6, 4), expect=[3, 4])
    bare = replace(dense(rng, 6, 4), bias=None)
    run(replace(first, activation=activation), bare, expect=[4, 4])


def test_constants_of_a_convolution_move_into_a_dense_layer():
    """Even if they differ from row to row, and whatever the pooling makes of that."""
    for pool in (max_pool(2), max_pool(2, 1, (1, 0, 1, 1)), average_pool(2, 1, (0, 1, 1, 0))):
        ops = (
            blind(conv(rng, (3, 3), 3, 5, pad=(1, 0, 1, 0)), 1, bias=0.7),
            RELU,
            affine(rng, 0, 6),
            Pool2D(pool),
        )
        shape = chain((6, 5, 3), *ops).shapes["v4"]
        size = int(np.prod(shape))
        run(*ops, Reshape((size,)), dense(rng, size, 4), expect=[4, 4])


def test_zeros_move_into_any_convolution():
    first = blind(conv(rng, (3, 3), 3, 5), 1, 4, bias=-0.2)
    padded = conv(rng, (3, 3), 5, 4, pad=(1, 1, 1, 1), stride=(2, 1), dilation=(1, 2))
    run(first, RELU, padded, expect=[3, 4])
    run(first, RELU, Pool2D(max_pool(2)), PAD, conv(rng, (2, 2), 5, 4), expect=[3, 4])


def test_another_constant_moves_into_a_convolution_without_padding():
    first = blind(conv(rng, (3, 3), 3, 5), 2, bias=1.3)
    after = run(first, RELU, affine(rng, 2, 5), conv(rng, (2, 2), 5, 4), expect=[3, 4])
    assert after.nodes[0].op.weights.shape == (3, 3, 3, 3)  # that with a scale of 0 is constant too


@pytest.mark.parametrize("pad", [(1, 0, 0, 0), (0, 0, 0, 1)])
def test_another_constant_stays_before_padding(pad):
    first = blind(conv(rng, (3, 3), 3, 5), 2, bias=1.3)
    run(first, RELU, conv(rng, (2, 2), 5, 4, pad=pad), expect=[5, 4])
    run(first, RELU, PAD, conv(rng, (2, 2), 5, 4), expect=[5, 4])


def test_padding_that_meets_no_weight_is_none():
    first = blind(conv(rng, (3, 3), 3, 5), 2, bias=1.3)
    layer = conv(rng, (2, 2), 5, 4, pad=(1, 0, 0, 0))
    weights = layer.weights.copy()
    weights[0, :, 2] = 0.0  # the row of the kernel that reads padding
    run(first, RELU, replace(layer, weights=weights), expect=[4, 4])


def test_a_constant_that_differs_between_rows_stays_before_a_convolution():
    first = blind(conv(rng, (3, 3), 3, 5), 2, bias=-0.1)
    run(first, RELU, affine(rng, 0, 4), conv(rng, (2, 2), 5, 4), expect=[5, 4])
    # But one position of the output is every position.
    run(first, RELU, affine(rng, 0, 4), conv(rng, (4, 3), 5, 4), expect=[4, 4])
    # As are rows with the same scale and shift.
    same = Eltwise(affine=Affine(0, np.full(4, -2.0), np.full(4, 0.5)))
    run(first, RELU, same, conv(rng, (2, 2), 5, 4), expect=[4, 4])


def test_constants_travel_through_layers():
    """Two channels that only constants feed; the second layer's are found because the first's
    are."""
    second = conv(rng, (2, 2), 5, 4)
    weights = second.weights.copy()
    weights[:, :, [0, 1, 3], 1] = 0.0
    ops = (
        blind(conv(rng, (3, 3), 3, 5), 2, 4, bias=0.8),
        RELU,
        replace(second, weights=weights),
        Eltwise(Activation("tanh")),
        Reshape((24,)),
        dense(rng, 24, 3),
    )
    run(*ops, expect=[3, 3, 3])


def test_a_scale_of_zero_makes_a_constant():
    scale = np.array([1.0, 0.0, -1.0, 0.0])
    ops = (dense(rng, 90, 4), RELU, Eltwise(affine=Affine(0, scale, np.ones(4))), dense(rng, 4, 3))
    run(*ops, expect=[2, 3])
    # Of rows, it takes a scale of 0 in all of them; then only the shifts are left.
    rows = Eltwise(affine=Affine(0, np.zeros(4), rng.normal(size=4)))
    run(conv(rng, (3, 3), 3, 5), RELU, rows, dense(rng, 60, 3), expect=[1, 3])


# ---- What stays --------------------------------------------------------------------------------


def test_a_layer_keeps_one_unit():
    reader = dense(rng, 8, 4)
    run(dense(rng, 90, 8), replace(reader, weights=np.zeros((8, 4))), expect=[1, 4])
    run(blind(dense(rng, 90, 8), *range(8)), RELU, reader, expect=[1, 4])
    nothing = replace(conv(rng, (2, 2), 5, 4), weights=np.zeros((2, 2, 5, 4)))
    run(conv(rng, (3, 3), 3, 5), RELU, nothing, Reshape((24,)), dense(rng, 24, 3), expect=[1, 1, 3])


def test_what_a_dead_layer_reads():
    """Its one unit read a unit that is gone, and became a constant, to be folded the next time."""
    before = chain(
        (1, 1, 1),
        Conv2D(np.zeros((1, 1, 1, 2)), np.array([-0.6, 0.1])),
        Conv2D(np.array([[[[0.0, 0.0], [0.9, 0.7]]]]), np.array([0.7, -1.3]), pad=(0, 0, 0, 1)),
        Conv2D(np.array([[[[-0.4], [0.03]]]]), np.array([-2.3])),
        Conv2D(np.array([[[[-0.2]]]]), np.array([1.2])),
        Conv2D(np.zeros((1, 1, 1, 1)), np.array([0.5])),
    )
    after = remove_dead_units(before)
    verify(after)
    assert widths(after) == [1] * 5
    assert remove_dead_units(after) is after
    assert (reference.run_graph(after, images(after)) == 0.5).all()


def test_outputs_stay():
    run(blind(dense(rng, 90, 4), 1, 2), expect=[4])
    run(blind(dense(rng, 90, 4), 1, 2), Softmax(), expect=[4])
    run(blind(conv(rng, (3, 3), 3, 5), 0), Pool2D(max_pool(2)), expect=[5])


def test_units_that_can_fire_stay():
    run(dense(rng, 90, 8), RELU, dense(rng, 8, 4), expect=[8, 4])
    dark = replace(dense(rng, 90, 8), bias=np.full(8, -1e9))  # never seen to fire; but it could
    run(dark, RELU, dense(rng, 8, 4), expect=[8, 4])


def test_what_reads_a_value_whole_keeps_it_whole():
    ops = (blind(conv(rng, (3, 3), 3, 5), 1, bias=0.0), RELU, Transpose((2, 0, 1)))
    run(*ops, Reshape((60,)), dense(rng, 60, 4), expect=[5, 4])
    padded = Pad(((0, 0), (0, 0), (0, 1)))
    run(conv(rng, (3, 3), 3, 5), padded, unread(conv(rng, (1, 1), 6, 2), 0), expect=[5, 2])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_weights_stay_rounded(precision):
    ops = (blind(dense(rng, 90, 40), 3, 5, bias=0.5), RELU, unread(dense(rng, 40, 36), 0), RELU)
    before = quantize_weights(chain((90,), *ops, dense(rng, 36, 4)), precision)
    after = remove_dead_units(before)
    verify(after)
    assert widths(after) == [37, 36, 4]
    np.testing.assert_allclose(
        reference.run_graph(after, images(before)),
        reference.run_graph(before, images(before)),
        rtol=1e-12,
    )


# ---- Random networks ---------------------------------------------------------------------------


def kill(graph: Graph, generator: np.random.Generator) -> Graph:
    """Zero weights into and out of random units, and biases, and scales, of every layer."""
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv2D | Dense):
            weights = op.weights.copy()
            share = generator.choice([0.0, 0.3, 0.8])
            weights[..., generator.random(weights.shape[-1]) < share] = 0.0
            channels = graph.shapes[node.inputs[0]][-1]
            dead = generator.random(channels) < generator.choice([0.0, 0.3, 0.8])
            weights.reshape(-1, channels, weights.shape[-1])[:, dead] = 0.0
            bias = op.bias * generator.choice([-1.0, 0.0, 1.0], op.bias.shape)
            op = replace(op, weights=weights, bias=bias)
        elif isinstance(op, Eltwise) and op.affine is not None and generator.random() < 0.3:
            op = replace(op, affine=replace(op.affine, shift=np.zeros_like(op.affine.shift)))
        nodes.append(replace(node, op=op))
    return with_nodes(graph, nodes)


@settings(max_examples=300, deadline=None)
@given(random_networks(), st.integers(0, 2**32 - 1))
def test_random_networks_compute_the_same(network, seed):
    before = kill(network, np.random.default_rng(seed))
    batch = images(before)
    want = reference.run_graph(before, batch)
    scale = max(1.0, float(np.abs(want).max()))
    after = remove_dead_units(before)
    verify(after)
    assert remove_dead_units(after) is after
    for graph in (after, optimize(before), optimize(before, compact=False)):
        got = reference.run_graph(graph, batch.reshape(len(batch), *graph.shapes[graph.input]))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * scale)
    small, whole = widths(optimize(before)), widths(optimize(before, compact=False))
    assert all(a <= b for a, b in zip(small, whole, strict=True))


def seed_like(generator: np.random.Generator, full: tuple[int, int, int, int]) -> list:
    """The seed network's operators as a front end gives them, of other widths."""
    a, b, c, d = full
    return [
        conv(generator, (3, 3), 1, a),
        RELU,
        Pool2D(max_pool(2)),
        PAD,
        conv(generator, (3, 3), a, b),
        RELU,
        affine(generator, 0, 13),
        Pool2D(max_pool(2)),
        PAD,
        conv(generator, (2, 2), b, c),
        RELU,
        affine(generator, 0, 7),
        Pool2D(max_pool(2)),
        Reshape((9 * c,)),
        dense(generator, 9 * c, d),
        RELU,
        dense(generator, d, 10),
        Softmax(),
    ]


@pytest.mark.parametrize("inwards", [True, False], ids=["in and out", "out"])
def test_a_pruned_network_becomes_the_small_one(inwards):
    """Zeros in front of and behind a unit: layers end up as wide as what is left."""
    generator = np.random.default_rng(11)
    full, left = (8, 12, 10, 40), (5, 7, 6, 15)
    ops = seed_like(generator, full)
    layers = [i for i, op in enumerate(ops) if isinstance(op, Conv2D | Dense)]
    for place, behind, width, keep in zip(layers, layers[1:], full, left, strict=False):
        dead = np.sort(generator.permutation(width)[keep:])
        if inwards:
            ops[place] = blind(ops[place], *dead, bias=0.0)
        weights = ops[behind].weights.copy()
        weights.reshape(-1, width, weights.shape[-1])[:, dead] = 0.0
        ops[behind] = replace(ops[behind], weights=weights)
    before = chain((28, 28, 1), *ops)
    after = optimize(before)
    assert widths(after) == [*left, 10]
    batch = generator.random((20, 28, 28, 1)).astype(np.float32)
    whole = Model(networks.packed(optimize(before, compact=False)))
    small = Model(networks.packed(after))
    np.testing.assert_allclose(
        small.predict_proba(batch), whole.predict_proba(batch), rtol=0, atol=1e-6
    )
    assert small.info()["multiply_adds"] < 0.5 * whole.info()["multiply_adds"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_engine_gives_the_same_probabilities(seed):
    generator = np.random.default_rng(seed)
    before = kill(chain((28, 28, 1), *seed_like(generator, (6, 9, 8, 20))), generator)
    batch = generator.random((5, 28, 28, 1)).astype(np.float32)
    small, whole = (
        Model(networks.packed(optimize(before, compact=compact))).predict_proba(batch)
        for compact in (True, False)
    )
    np.testing.assert_allclose(small, whole, rtol=0, atol=1e-6)

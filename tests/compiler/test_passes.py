"""Each pass: the graph before and after computes the same; and does what it is for."""

from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastdigit.compiler import spec
from fastdigit.compiler.axes import unit_permutation
from fastdigit.compiler.ir import Activation, Affine, Node, Op, Pool
from fastdigit.compiler.ops import (
    OPS,
    Binary,
    Concat,
    Conv2D,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    make_graph,
    with_nodes,
)
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.passes.absorb_padding import absorb_padding
from fastdigit.compiler.passes.cancel_transposes import cancel_transposes
from fastdigit.compiler.passes.canonicalize_input import canonicalize_input
from fastdigit.compiler.passes.commute_pooling import commute_pooling
from fastdigit.compiler.passes.fit_ranks import fit_ranks
from fastdigit.compiler.passes.fold_batchnorm import fold_batchnorm
from fastdigit.compiler.passes.fuse_epilogue import fuse_epilogue
from fastdigit.compiler.passes.merge_crops import merge_crops
from fastdigit.compiler.passes.merge_eltwise import merge_eltwise
from fastdigit.compiler.passes.move_baseline import move_baseline
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.compiler.passes.remove_identities import remove_identities
from fastdigit.compiler.passes.rewrite import Pair, replace_pairs
from fastdigit.compiler.passes.sink_joined_moves import sink_joined_moves
from fastdigit.compiler.passes.sink_reshapes import sink_reshapes
from fastdigit.compiler.passes.split_moves import merge_moves, split_moves
from fastdigit.compiler.spec import verify
from fastdigit.errors import InputError, UnsupportedError
from tests.support import reference
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
from tests.support.networks import Net
from tests.support.random_graphs import TO_NCHW, TO_NHWC, networks

rng = np.random.default_rng(0)
SIGMOID = Eltwise(Activation("sigmoid"))
PAD = Pad(((1, 2), (0, 1), (0, 0)))


def kinds(graph):
    return [type(node.op).__name__ for node in graph.nodes]


def same(before, after, exact=False):
    """Assert that both graphs compute the same; the input may have been reshaped."""
    verify(after)
    batch = images(before)
    want = reference.run_graph(before, batch)
    got = reference.run_graph(after, batch.reshape(len(batch), *after.shapes[after.input]))
    if exact:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def run(step, *ops, shape=(6, 5, 3), expect, exact=False):
    before = chain(shape, *ops)
    after = step(before)
    same(before, after, exact)
    assert kinds(after) == expect.split()
    assert step(after) is after, "a pass that has nothing to do returns the graph itself"
    return after


# ---- remove_identities -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op",
    [
        Eltwise(),
        Eltwise(affine=Affine(1, np.ones(5), np.zeros(5))),
        Pad(((0, 0), (0, 0), (0, 0))),
        Crop(((0, 0), (0, 0), (0, 0))),
        Transpose((0, 1, 2)),
        Reshape((6, 5, 3)),
        Pool2D(max_pool(1)),
    ],
)
def test_identities_vanish(op):
    run(remove_identities, RELU, op, SIGMOID, op, expect="Eltwise Eltwise", exact=True)


def test_neutral_weights_vanish():
    bare = Conv2D(
        np.ones((1, 1, 3, 2)),
        bias=np.zeros(2),
        affine=Affine(0, np.ones(6), np.zeros(6)),
        pool=max_pool(1),
    )
    after = run(remove_identities, bare, expect="Conv2D", exact=True)
    assert after.nodes[0].op.bias is after.nodes[0].op.affine is after.nodes[0].op.pool is None
    after = run(remove_identities, Dense(np.ones((90, 2)), np.zeros(2)), expect="Dense", exact=True)
    assert after.nodes[0].op.bias is None


def test_a_pooling_that_skips_stays():
    run(remove_identities, Pool2D(max_pool(1, stride=2)), expect="Pool2D", exact=True)


# ---- cancel_transposes -------------------------------------------------------------------------


def test_transposes_cancel_across_what_lies_between():
    after = run(
        cancel_transposes,
        TO_NCHW,
        RELU,
        affine(rng, 1, 6),
        Pad(((0, 0), (1, 2), (0, 3))),
        TO_NHWC,
        expect="Eltwise Eltwise Pad",
        exact=True,
    )
    assert after.nodes[1].op.affine.axis == 0
    assert after.nodes[2].op.widths == ((1, 2), (0, 3), (0, 0))


def test_a_crop_is_of_either_layout():
    crop = Crop(((0, 1), (1, 2), (0, 3)))
    after = run(cancel_transposes, TO_NCHW, crop, TO_NHWC, expect="Crop", exact=True)
    assert after.nodes[0].op.widths == ((1, 2), (0, 3), (0, 1))


def test_transposes_merge():
    run(cancel_transposes, TO_NCHW, TO_NCHW, expect="Transpose", exact=True)


def test_a_dense_layer_absorbs_a_transpose():
    run(cancel_transposes, TO_NCHW, dense(rng, 90, 4), expect="Dense")
    run(cancel_transposes, Transpose((2, 1, 0)), dense(rng, 90, 4), expect="Dense")


def test_transposes_of_unit_axes_and_reshapes():
    single = {"shape": (6, 5, 1), "exact": True}
    run(cancel_transposes, TO_NCHW, Reshape((30,)), expect="Reshape", **single)
    run(cancel_transposes, Reshape((1, 6, 5)), TO_NHWC, expect="", **single)
    run(cancel_transposes, TO_NCHW, Reshape((90,)), expect="Transpose Reshape", exact=True)


def test_unit_permutation():
    assert unit_permutation((6, 5, 1), (1, 6, 5)) == (2, 0, 1)
    assert unit_permutation((1, 5, 1), (5, 1, 1)) == (1, 0, 2)
    assert unit_permutation((6, 5, 1), (5, 6, 1)) is None
    assert unit_permutation((6, 5), (6, 5, 1)) is None


# ---- canonicalize_input, fit_ranks, sink_reshapes ----------------------------------------------


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 28, 28)])
def test_the_input_becomes_the_image_it_is_reshaped_to(shape):
    before = chain(shape, RELU, Reshape((28, 28, 1)), conv(rng, (3, 3), 1, 2))
    after = optimize(before)
    same(before, after, exact=True)
    assert after.shapes[after.input] == (28, 28, 1)
    assert kinds(after) == ["Eltwise", "Conv2D"]


def test_a_matrix_becomes_an_image_of_one_channel():
    before = chain((6, 5), affine(rng, 0, 6), Reshape((30,)), dense(rng, 30, 4))
    after = sink_reshapes(fit_ranks(before))
    same(before, after, exact=True)
    assert after.shapes[after.input] == (6, 5, 1)
    assert kinds(after) == ["Eltwise", "Dense"]


def fitted(before, exact=True):
    """What fit_ranks makes of it computes the same, in values of rank 1 and 3."""
    after = fit_ranks(before)
    batch = images(before)
    want = reference.run_graph(before, batch)
    got = reference.run_graph(after, batch.reshape(len(batch), *after.shapes[after.input]))
    verify(after)
    assert {len(shape) for shape in after.shapes.values()} <= {1, 3}
    (np.testing.assert_array_equal if exact else np.testing.assert_allclose)(
        got.reshape(want.shape), want
    )
    return after


@pytest.mark.parametrize(
    "op",
    [
        affine(rng, 0, 6),
        affine(rng, 1, 5),
        Binary("add", rng.normal(size=(6, 1))),
        Binary("mul", rng.normal(size=5)),
        Pad(((1, 0), (0, 2)), 0.5),
        Crop(((1, 4), (0, 2))),
        Transpose((1, 0)),
        Softmax(),
        LayerNorm(0.1, rng.normal(size=5)),
    ],
    ids=lambda op: type(op).__name__,
)
def test_a_matrix_is_an_image_of_one_row(op):
    after = remove_identities(fitted(chain((6, 5), op)))
    assert after.shapes[after.input] == (1, 6, 5)
    assert kinds(after) == [type(op).__name__]


def test_vectors_are_padded_as_images_of_one_pixel():
    after = remove_identities(fitted(chain((4,), Pad(((1, 2),), 0.5), RELU)))
    assert kinds(after) == ["Reshape", "Pad", "Reshape", "Eltwise"]


def test_a_shuffle_of_channels_is_one_transpose():
    shuffle = (Reshape((2, 4, 3, 3)), Transpose((1, 0, 2, 3)), Reshape((8, 3, 3)))
    after = fitted(chain((8, 3, 3), RELU, *shuffle))
    assert kinds(after).count("Transpose") == 1


def test_a_transpose_of_many_axes_is_few_of_three():
    blocks = (Reshape((2, 2, 3, 4)), Transpose((2, 0, 3, 1)), Reshape((6, 8)))
    after = fitted(chain((4, 3, 4), RELU, *blocks, Transpose((1, 0)), Reshape((4, 12))))
    assert kinds(after).count("Transpose") == 3
    after = fitted(chain((2,) * 3, Reshape((2, 2, 2)), RELU))
    before = chain((64, 2, 1), Reshape((2,) * 6 + (2,)), Transpose((6, 5, 4, 3, 2, 1, 0)))
    with pytest.raises(UnsupportedError, match="n1: moves 7 axes of shape"):
        fit_ranks(before)


def test_more_than_three_groups_of_axes_are_refused():
    picky = Binary("add", rng.normal(size=(2, 1, 2, 1)))
    with pytest.raises(UnsupportedError, match="n1: Binary treats 4 groups of axes differently"):
        fit_ranks(chain((4, 4, 1), Reshape((2, 2, 2, 2)), picky))


@st.composite
def many_axes(draw):
    """A chain of operators on values of any rank, many of their axes of length 1."""
    rank = draw(st.integers(1, 3))
    shape = start = tuple(draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)))
    ops = []
    for _ in range(draw(st.integers(1, 6))):
        if not shape:
            break
        axis, generator = draw(st.integers(0, len(shape) - 1)), np.random.default_rng(len(ops))
        match draw(st.sampled_from("eeabpktslrrr")):
            case "e":
                ops.append(RELU)
            case "a":
                ops.append(affine(generator, axis, shape[axis]))
            case "b":
                other = tuple(n if draw(st.booleans()) else 1 for n in shape[axis:])
                ops.append(
                    Binary(draw(st.sampled_from(["add", "prelu"])), generator.normal(size=other))
                )
            case "p":
                widths = [(0, 0)] * len(shape)
                widths[axis] = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
                ops.append(Pad(tuple(widths), 0.5))
                shape = tuple(n + sum(w) for n, w in zip(shape, widths, strict=True))
            case "k":
                widths = [(0, 0)] * len(shape)
                before = draw(st.integers(0, shape[axis] - 1))
                widths[axis] = (before, draw(st.integers(0, shape[axis] - 1 - before)))
                ops.append(Crop(tuple(widths)))
                shape = tuple(n - sum(w) for n, w in zip(shape, widths, strict=True))
            case "t":
                perm = tuple(draw(st.permutations(range(len(shape)))))
                ops.append(Transpose(perm))
                shape = tuple(shape[axis] for axis in perm)
            case "s":
                ops.append(Softmax())
            case "l":
                ops.append(LayerNorm(0.1, generator.normal(size=shape[-1])))
            case _:
                shape = draw(factors(int(np.prod(shape))))
                ops.append(Reshape(shape))
    return chain(start, *ops)


@st.composite
def factors(draw, size):
    """A shape of so many elements, of rank 0 to 6."""
    shape = []
    for prime in (2, 3, 5, 7):
        while size % prime == 0:
            shape.append(prime)
            size //= prime
    shape += [size] * (size > 1)
    while len(shape) > 1 and (len(shape) > 5 or draw(st.booleans())):
        at = draw(st.integers(0, len(shape) - 2))
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    for _ in range(draw(st.integers(0, 2))):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape[:6])


@settings(max_examples=300, deadline=None)
@given(many_axes())
def test_values_of_any_rank_are_carried(before):
    try:
        after = fitted(before, exact=False)
    except UnsupportedError as error:
        assume("groups of axes" not in str(error) and "moves" not in str(error))
        raise
    try:
        after = optimize(before)
    except UnsupportedError as error:
        assume("no operators" not in str(error))
        raise
    batch = images(before)
    want = reference.run_graph(before, batch)
    got = reference.run_graph(after, batch.reshape(len(batch), *after.shapes[after.input]))
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-9, atol=1e-9)


def test_axes_of_length_one_move_in_the_input():
    before = chain((1, 6, 5), affine(rng, 1, 6), TO_NHWC, conv(rng, (3, 3), 1, 2))
    after = cancel_transposes(canonicalize_input(before))
    same(before, after, exact=True)
    assert after.shapes[after.input] == (6, 5, 1)
    assert kinds(after) == ["Eltwise", "Conv2D"]


@pytest.mark.parametrize("shape", [(4, 9), (4, 9, 1), (2, 6, 3), (6, 1, 6), (1, 6, 6)])
def test_an_image_that_is_reshaped_keeps_the_shape_that_batches_have(shape):
    before = chain(shape, Reshape((6, 3, 2)), conv(rng, (3, 3), 2, 2))
    after = optimize(before)
    same(before, after, exact=True)
    now = after.shapes[after.input]
    assert now == (shape if len(shape) == 3 else (1, *shape))


def test_the_first_reshape_of_a_flat_input_says_what_the_image_is():
    before = chain((36,), Reshape((4, 3, 3)), Reshape((6, 3, 2)), conv(rng, (3, 3), 2, 2))
    after = optimize(before)
    same(before, after, exact=True)
    assert after.shapes[after.input] == (4, 3, 3)


@pytest.mark.parametrize("shape", [(6, 5, 3), (30,)])
def test_an_input_that_fits_stays(shape):
    before = chain(shape, RELU)
    assert canonicalize_input(before) is before


def test_reshapes_sink_into_a_dense_layer():
    uniform = Eltwise(affine=Affine(0, np.full(90, 2.0), np.full(90, -1.0)))
    ops = (Reshape((30, 3)), Reshape((90,)), RELU, uniform, dense(rng, 90, 4))
    run(sink_reshapes, *ops, expect="Eltwise Eltwise Dense", exact=True)


def test_a_reshape_stays_before_an_affine_of_every_feature():
    ops = (Reshape((90,)), affine(rng, 0, 90), RELU)
    run(sink_reshapes, *ops, expect="Reshape Eltwise Eltwise", exact=True)


def test_an_affine_of_a_single_pixel_moves():
    ops = (Reshape((9,)), affine(rng, 0, 9))
    run(sink_reshapes, *ops, shape=(1, 1, 9), expect="Eltwise Reshape", exact=True)


# ---- absorb_padding ----------------------------------------------------------------------------


def test_convolutions_absorb_padding():
    ops = (PAD, PAD, RELU, conv(rng, (3, 3), 3, 2, pad=(1, 0, 0, 0)))
    after = run(absorb_padding, *ops, expect="Eltwise Conv2D", exact=True)
    assert after.nodes[1].op.pad == (3, 0, 4, 2)


@pytest.mark.parametrize(
    "between",
    [SIGMOID, Eltwise(Activation("softplus")), affine(rng, 2, 3), Pool2D(max_pool(2))],
    ids=["sigmoid", "softplus", "affine", "pool"],
)
def test_padding_stays_before_what_changes_zeros(between):
    after = absorb_padding(chain((6, 5, 3), PAD, between, conv(rng, (2, 2), 3, 2)))
    assert kinds(after)[0] == "Pad"


def test_other_values_are_not_zero_padding():
    ops = (Pad(PAD.widths, 1.0), conv(rng, (2, 2), 3, 2))
    run(absorb_padding, *ops, expect="Pad Conv2D", exact=True)


# ---- merge_crops -----------------------------------------------------------------------------


def test_crops_become_one():
    cut = Crop(((1, 0), (0, 2), (0, 0)))
    after = run(
        merge_crops, RELU, cut, Crop(((0, 2), (1, 1), (1, 0))), expect="Eltwise Crop", exact=True
    )
    assert after.nodes[1].op.widths == ((1, 2), (1, 3), (1, 0))


def test_a_crop_takes_back_what_was_padded():
    after = run(merge_crops, PAD, Crop(((1, 1), (0, 1), (0, 0))), expect="Pad", exact=True)
    assert after.nodes[0].op.widths == ((0, 1), (0, 0), (0, 0))
    run(merge_crops, PAD, Crop(((2, 0), (0, 0), (0, 0))), expect="Pad Crop", exact=True)


# ---- merge_eltwise -----------------------------------------------------------------------------


def test_activation_and_affines_merge():
    ops = (RELU, affine(rng, 1, 5), affine(rng, 1, 5))
    run(merge_eltwise, *ops, expect="Eltwise")


def test_uniform_affines_merge_with_any():
    uniform = Eltwise(affine=Affine(2, np.full(3, -2.0), np.full(3, 0.5)))
    run(merge_eltwise, uniform, affine(rng, 0, 6), uniform, expect="Eltwise")


def test_affines_along_different_axes_stay():
    run(merge_eltwise, affine(rng, 0, 6), affine(rng, 1, 5), expect="Eltwise Eltwise", exact=True)


def test_an_activation_behind_an_affine_stays():
    run(merge_eltwise, affine(rng, 0, 6), RELU, expect="Eltwise Eltwise", exact=True)


# ---- fold_batchnorm ----------------------------------------------------------------------------


def test_folds_backwards():
    run(fold_batchnorm, conv(rng, (3, 3), 3, 4), affine(rng, 2, 4), expect="Conv2D")
    run(fold_batchnorm, dense(rng, 90, 4), affine(rng, 0, 4), expect="Dense")
    run(fold_batchnorm, Dense(rng.normal(size=(90, 4))), affine(rng, 0, 4), expect="Dense")


def test_folds_forwards():
    run(fold_batchnorm, affine(rng, 2, 3), conv(rng, (3, 3), 3, 4), expect="Conv2D")
    for axis, size in enumerate((6, 5, 3)):
        run(fold_batchnorm, affine(rng, axis, size), dense(rng, 90, 4), expect="Dense")
    relu_affine = Eltwise(RELU.activation, affine(rng, 2, 3).affine)
    after = run(fold_batchnorm, relu_affine, conv(rng, (3, 3), 3, 4), expect="Eltwise Conv2D")
    assert after.nodes[0].op.affine is None


def test_folds_forwards_into_padding_only_without_shift():
    padded = conv(rng, (3, 3), 3, 4, pad=(1, 1, 1, 1))
    run(fold_batchnorm, affine(rng, 2, 3), padded, expect="Eltwise Conv2D", exact=True)
    scale_only = Eltwise(affine=Affine(2, rng.normal(size=3), np.zeros(3)))
    run(fold_batchnorm, scale_only, padded, expect="Conv2D")


def test_groups_fold_on_both_sides():
    grouped = conv(rng, (3, 3), 2, 6, groups=3)
    run(fold_batchnorm, grouped, affine(rng, 2, 6), shape=(6, 5, 6), expect="Conv2D")
    run(fold_batchnorm, affine(rng, 2, 6), grouped, shape=(6, 5, 6), expect="Conv2D")
    uniform = Eltwise(affine=Affine(0, np.full(6, -0.5), np.full(6, 0.25)))
    run(fold_batchnorm, uniform, grouped, shape=(6, 5, 6), expect="Conv2D")


def test_rows_do_not_fold():
    ops = (affine(rng, 0, 6), conv(rng, (3, 3), 3, 4), affine(rng, 0, 4))
    run(fold_batchnorm, *ops, expect="Eltwise Conv2D Eltwise", exact=True)


def test_nothing_folds_across_an_activation():
    ops = (conv(rng, (3, 3), 3, 4), RELU, affine(rng, 2, 4))
    run(fold_batchnorm, *ops, expect="Conv2D Eltwise Eltwise", exact=True)


def test_uniform_affines_fold_along_any_axis():
    uniform = Eltwise(affine=Affine(0, np.full(6, -0.5), np.full(6, 0.25)))
    after = Eltwise(affine=Affine(0, np.full(4, -0.5), np.full(4, 0.25)))
    run(fold_batchnorm, uniform, conv(rng, (3, 3), 3, 4), after, expect="Conv2D")


# ---- commute_pooling ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation",
    [
        Activation("relu"),
        Activation("leaky_relu", 0.1),
        Activation("elu", 1.5),
        Activation("selu"),
        Activation("sigmoid"),
        Activation("tanh"),
        Activation("clipped_relu", 0.5),
        Activation("hard_sigmoid", 0.2),
        Activation("softplus"),
        Activation("erf"),
    ],
    ids=lambda activation: activation.name,
)
def test_activations_commute_with_a_maximum(activation):
    ops = (conv(rng, (3, 3), 3, 4), Pool2D(max_pool(2)), Eltwise(activation))
    run(commute_pooling, *ops, expect="Conv2D Eltwise Pool2D", exact=True)


def test_affines_commute_with_an_average():
    ops = (conv(rng, (3, 3), 3, 4), Pool2D(average_pool(2, 1, (1, 0, 0, 1))), affine(rng, 2, 4))
    run(commute_pooling, *ops, expect="Conv2D Eltwise Pool2D")


def test_positive_scales_commute_with_a_maximum():
    positive = Eltwise(affine=Affine(2, rng.uniform(0, 2, 4), rng.normal(size=4)))
    ops = (conv(rng, (3, 3), 3, 4), RELU, Pool2D(max_pool(2)), positive)
    run(commute_pooling, *ops, expect="Conv2D Eltwise Eltwise Pool2D", exact=True)


@pytest.mark.parametrize(
    ("pool", "eltwise"),
    [
        (max_pool(2), affine(rng, 2, 4)),
        (max_pool(2), Eltwise(affine=Affine(0, np.arange(2.0), np.zeros(2)))),
        (average_pool(2), RELU),
        (average_pool(2), affine(rng, 0, 2)),
        (max_pool(2), Eltwise(Activation("silu"))),
    ],
    ids=["negative", "rows", "relu", "average of rows", "silu"],
)
def test_others_do_not_commute(pool, eltwise):
    ops = (conv(rng, (3, 3), 3, 4), Pool2D(pool), eltwise)
    run(commute_pooling, *ops, expect="Conv2D Pool2D Eltwise", exact=True)


def test_nothing_commutes_that_no_epilogue_takes():
    ops = (Pool2D(max_pool(2)), RELU)
    run(commute_pooling, *ops, expect="Pool2D Eltwise", exact=True)


# ---- fuse_epilogue -----------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_everything_fuses(axis):
    epilogue = affine(rng, axis, (4, 3, 4)[axis])
    ops = (conv(rng, (3, 3), 3, 4), RELU, epilogue, Pool2D(max_pool(2)))
    run(fuse_epilogue, *ops, expect="Conv2D", exact=True)


def test_the_order_of_the_epilogue_is_kept():
    ops = (conv(rng, (3, 3), 3, 4), affine(rng, 0, 4), RELU, Pool2D(max_pool(2)))
    run(fuse_epilogue, *ops, expect="Conv2D Eltwise Pool2D", exact=True)
    ops = (conv(rng, (3, 3), 3, 4), Pool2D(max_pool(2)), RELU)
    run(fuse_epilogue, *ops, expect="Conv2D Eltwise", exact=True)


def test_a_join_takes_an_activation_and_an_affine():
    for ops in ([RELU], [affine(rng, 0, 6)], [RELU, affine(rng, 0, 6)]):
        net = joined(Binary("add"), [SIGMOID], [Eltwise(Activation("tanh"))])
        for op in ops:
            net.add(op)
        same_graph(fuse_epilogue, net.graph(), "Eltwise Eltwise Binary")


def test_groups_take_no_pooling():
    grouped = conv(rng, (3, 3), 1, 3, groups=3)
    ops = (grouped, RELU, Pool2D(max_pool(2)))
    run(fuse_epilogue, *ops, expect="Conv2D Pool2D", exact=True)


def test_dense_takes_an_activation_only():
    both = Eltwise(RELU.activation, affine(rng, 0, 4).affine)
    run(fuse_epilogue, dense(rng, 90, 4), RELU, expect="Dense", exact=True)
    run(fuse_epilogue, dense(rng, 90, 4), both, expect="Dense Eltwise", exact=True)
    run(fuse_epilogue, dense(rng, 90, 4), RELU, SIGMOID, expect="Dense Eltwise", exact=True)


# ---- move_baseline -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "pool", "moves"),
    [
        (0, None, True),
        (1, max_pool(2), True),
        (0, max_pool(2), True),
        (0, Pool("max", (1, 1), (2, 2)), True),
        (0, max_pool(2, 2, (1, 0, 1, 0)), True),
        (2, max_pool(2), True),
        (2, average_pool(2), True),
        (0, average_pool(2), False),
        (0, max_pool(2, 1), False),
    ],
)
def test_baselines_move_into_the_bias(axis, pool, moves):
    epilogue = affine(rng, axis, (4, 3, 4)[axis]).affine
    layer = conv(rng, (3, 3), 3, 4, activation=Activation("relu"), affine=epilogue, pool=pool)
    size = int(np.prod(chain((6, 5, 3), layer).shapes["v1"]))
    after = run(move_baseline, layer, dense(rng, size, 4), expect="Conv2D Dense")
    # With a convolution that returns nothing but negative numbers, all that relu cuts off is zero.
    dark = replace(after.nodes[0].op, bias=np.full(4, -1e6))
    outputs = reference.run_graph(chain((6, 5, 3), dark), images(after))
    assert (not outputs.any()) == moves


def test_baselines_of_other_activations_stay():
    epilogue = affine(rng, 2, 4).affine
    layer = conv(rng, (3, 3), 3, 4, activation=Activation("selu"), affine=epilogue)
    run(move_baseline, layer, dense(rng, 48, 4), expect="Conv2D Dense", exact=True)


# ---- branches ----------------------------------------------------------------------------------


def same_graph(step, before, expect, exact=True):
    after = step(before)
    same(before, after, exact)
    assert kinds(after) == expect.split()
    assert step(after) is after
    return after


def test_moves_are_split_for_their_readers_and_merged_again():
    net = Net((6, 5, 3))
    x = net.add(TO_NCHW)
    y = net.add(TO_NHWC, x)
    z = net.add(Transpose((1, 2, 0)), x)
    net.add(Binary("add"), y, z)
    before = net.graph()
    split = same_graph(split_moves, before, "Transpose Transpose Transpose Transpose Binary")
    merged = same_graph(merge_moves, split, "Transpose Transpose Binary")
    assert merged.nodes[-1].inputs[0] == merged.nodes[-1].inputs[1]


def test_a_move_that_is_read_and_returned_is_split():
    graph = chain((6, 5, 3), TO_NCHW)
    nodes = (*graph.nodes, Node("dead", RELU, ("v1",), "v2"))
    before = make_graph({"v0": (6, 5, 3)}, nodes, ["v1"])
    assert len(split_moves(before).nodes) == 3


def joined(kind, *operands, shape=(6, 5, 3)):
    """A network whose branches, each a list of operators, meet."""
    net = Net(shape)
    ends = []
    for ops in operands:
        net.last = "v0"
        for op in ops:
            net.add(op)
        ends.append(net.last)
    net.add(kind, *ends)
    return net


def test_shared_transposes_sink_below_a_join():
    net = joined(Binary("sub"), [RELU, TO_NCHW], [SIGMOID, TO_NCHW])
    after = same_graph(sink_joined_moves, net.graph(), "Eltwise Eltwise Binary Transpose")
    assert after.nodes[-1].op == TO_NCHW
    net = joined(Concat(0), [RELU, TO_NCHW], [SIGMOID, TO_NCHW])
    after = same_graph(sink_joined_moves, net.graph(), "Eltwise Eltwise Concat Transpose")
    assert after.nodes[2].op.axis == 2


def test_a_gate_of_one_pixel_goes_along():
    gate = [Pool2D(Pool("average", (6, 5), (6, 5))), Reshape((3, 1, 1))]
    net = joined(Binary("mul"), [RELU, TO_NCHW], gate)
    same_graph(sink_joined_moves, net.graph(), "Eltwise Pool2D Binary Transpose")


def test_constants_are_transposed_with_their_operand():
    for shape in ((3, 6, 5), (6, 1), (5,), (3, 1, 1), (1,)):
        before = chain((6, 5, 3), TO_NCHW, Binary("prelu", rng.normal(size=shape)))
        same_graph(sink_joined_moves, before, "Binary Transpose")


def test_different_transposes_become_one():
    net = joined(Binary("add"), [TO_NCHW], [Transpose((2, 1, 0))], shape=(5, 5, 5))
    same_graph(sink_joined_moves, net.graph(), "Transpose Binary Transpose")


def test_a_transpose_stays_before_a_join_with_what_is_not_moved():
    net = joined(Binary("add"), [TO_NCHW], [RELU], shape=(5, 5, 5))
    graph = net.graph()
    assert sink_joined_moves(graph) is graph


def test_a_transpose_of_axes_of_length_one_stays_before_a_join():
    """Unless the other operand has a reshape to take that up: it would go on for ever."""
    net = joined(Binary("add"), [Transpose((2, 1, 0))], [RELU, Reshape((3, 1, 1))], shape=(1, 1, 3))
    same_graph(sink_joined_moves, net.graph(), "Eltwise Binary Transpose")
    net = Net((3, 1, 1))
    x = net.add(RELU)
    y = net.add(LayerNorm(0.1), net.add(TO_NHWC, x))
    net.add(Binary("mul"), net.add(TO_NCHW, y), x)
    graph = net.graph()
    assert sink_joined_moves(graph) is graph
    same(graph, optimize(graph))


def test_axes_of_length_one_come_to_rest():
    """Each of these networks once went round for ever."""
    net = Net((3, 1, 1))
    x = net.add(LayerNorm(0.1))
    pooled = net.add(Pool2D(Pool("average", (1, 1), (1, 1))), net.add(TO_NHWC, x))
    gate = net.add(SIGMOID, net.add(TO_NCHW, net.add(conv(rng, (1, 1), 3, 3), pooled)))
    net.add(Binary("mul"), x, gate)
    same(net.graph(), optimize(net.graph()))
    net = Net((1, 1, 2))
    x = net.add(Pad(((0, 1), (1, 0), (0, 1)), 0.25), net.add(TO_NCHW))
    net.add(TO_NHWC, net.add(Concat(0), x, x))
    net.add(Pool2D(Pool("max", (2, 2), (2, 2))))
    same(net.graph(), optimize(net.graph()))


def test_axes_of_length_one_before_an_operand_vanish():
    net = Net((3,))
    x = net.add(RELU)
    gate = net.add(Reshape((1, 1, 3)))
    y = net.add(Reshape((1, 1, 3)), x)
    net.add(Binary("mul"), y, gate)
    same_graph(sink_joined_moves, net.graph(), "Eltwise Reshape Binary")


def test_a_residual_block_in_nchw_is_one_op_a_layer():
    net = Net((6, 5, 3))
    x = net.add(TO_NCHW)

    def layer(x, op):
        net.add(TO_NHWC, x)
        net.add(op)
        return net.add(TO_NCHW)

    first = net.add(RELU, layer(x, conv(rng, (3, 3), 3, 4, pad=(1, 1, 1, 1))))
    y = net.add(RELU, layer(first, conv(rng, (3, 3), 4, 4, pad=(1, 1, 1, 1))))
    y = layer(y, conv(rng, (3, 3), 4, 4, pad=(1, 1, 1, 1)))
    pooled = layer(y, Pool2D(Pool("average", (6, 5), (6, 5))))
    gate = net.add(SIGMOID, layer(pooled, conv(rng, (1, 1), 4, 4)))
    y = net.add(Binary("mul"), y, gate)
    y = net.add(Binary("add"), y, first)
    y = net.add(RELU, y)
    y = net.add(affine(rng, 0, 4), y)
    net.add(Reshape((120,)), y)
    net.add(dense(rng, 120, 3))
    before = net.graph()
    after = optimize(before)
    same(before, after)
    assert kinds(after) == (
        ["Conv2D", "Conv2D", "Conv2D", "Pool2D", "Conv2D", "Binary", "Binary", "Dense"]
    )


def test_an_input_with_two_readers_keeps_its_shape():
    net = Net((4, 9, 1))
    x = net.add(Reshape((6, 6, 1)))
    net.add(Reshape((36,)), "v0")
    y = net.add(Reshape((6, 6, 1)))
    net.add(Binary("add"), x, y)
    graph = net.graph()
    assert canonicalize_input(graph) is graph


# ---- quantize_weights --------------------------------------------------------------------------


#: Every finite binary16 from 0 up; a value's position is its bits.
BINARY16 = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)


def nearest_binary16(values):
    """Of two that are as near, the one whose last bit is 0."""
    size = abs(values)
    above = np.clip(np.searchsorted(BINARY16, size), 1, len(BINARY16) - 1)
    low, high = BINARY16[above - 1], BINARY16[above]
    up = (high - size < size - low) | ((high - size == size - low) & (above % 2 == 0))
    return np.copysign(np.where(up, high, low), values)


def test_fp16_is_the_nearest_binary16_ties_to_even():
    exponents = rng.integers(-30, 17, (200, 40))
    weights = np.clip(rng.normal(size=(200, 40)) * 2.0**exponents, -65519, 65519)
    middles = (BINARY16[:-1] + BINARY16[1:]) / 2
    weights[:100] = rng.choice(middles, (100, 40)) * rng.choice([-1, 1], (100, 40))
    weights[0, :4] = [65519.99, -65519.99, 0.0, 2.0**-25]
    after = quantize_weights(chain((200,), Dense(weights, np.ones(40))), "fp16")
    verify(after)
    layer = after.nodes[0].op
    assert (layer.precision, layer.scale) == ("fp16", None)
    np.testing.assert_array_equal(layer.weights, nearest_binary16(weights))
    np.testing.assert_array_equal(layer.bias, np.ones(40))


def test_fp16_refuses_to_overflow():
    weights = np.zeros((2, 33))
    weights[1, 5] = -65520.0
    with pytest.raises(UnsupportedError, match="n0: weights go up to 65520, beyond the 65504"):
        quantize_weights(chain((2,), Dense(weights)), "fp16")
    weights[1, 5] = np.nextafter(-65520.0, 0)
    after = quantize_weights(chain((2,), Dense(weights)), "fp16")
    assert after.nodes[0].op.weights[1, 5] == -65504.0


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(33, 150),
    st.floats(-46, 38),
    st.integers(0, 2**32 - 1),
)
def test_int8_is_the_nearest_multiple_of_the_scale(inputs, outputs, magnitude, seed):
    generator = np.random.default_rng(seed)
    weights = generator.uniform(-3, 3, size=(inputs, outputs)) * 10**magnitude
    weights[:, generator.random(outputs) < 0.1] = 0.0
    before = chain((inputs,), Dense(weights, np.ones(outputs)))
    after = quantize_weights(before, "int8")
    verify(after)
    layer = after.nodes[0].op
    assert layer.precision == "int8"
    np.testing.assert_array_equal(layer.bias, np.ones(outputs))
    scale = layer.scale.astype(np.float64)
    integers = layer.weights / scale
    assert (integers == np.round(integers)).all()
    assert (abs(integers) <= 127).all()
    largest = abs(weights).max(axis=0)
    want = (largest / 127).astype(np.float32)
    np.testing.assert_array_equal(layer.scale, np.where(want == 0, np.float32(1), want))
    # No other of the 255 multiples is nearer, but for columns that float32 cannot scale.
    multiples = np.arange(-127, 128)[:, None, None] * scale
    best = abs(multiples - weights).min(axis=0)
    np.testing.assert_array_equal(abs(layer.weights - weights) - best, 0)
    normal = largest > 1e-36
    assert (abs(integers).max(axis=0)[normal] == 127).all()


def test_weights_of_int8_dynamic_are_those_of_int8():
    before = chain((9,), dense(rng, 9, 70))
    weights, both = (quantize_weights(before, p).nodes[0].op for p in ("int8", "int8-dynamic"))
    assert (weights.precision, both.precision) == ("int8", "int8-dynamic")
    np.testing.assert_array_equal(both.weights, weights.weights)
    np.testing.assert_array_equal(both.scale, weights.scale)


def test_a_column_of_zeros_has_scale_1():
    weights = np.ones((3, 40))
    weights[:, 7] = 0.0
    after = quantize_weights(chain((3,), Dense(weights)), "int8")
    assert after.nodes[0].op.scale[7] == 1.0
    assert not after.nodes[0].op.weights[:, 7].any()


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-dynamic"])
def test_only_wide_dense_layers_are_rounded(precision):
    layers = (conv(rng, (2, 2), 3, 40), dense(rng, 800, 33), RELU, dense(rng, 33, 32))
    before = chain((6, 5, 3), *layers)
    after = quantize_weights(before, precision)
    assert kinds(after) == kinds(before)
    rounded = [new.op is not old.op for new, old in zip(after.nodes, before.nodes, strict=True)]
    assert rounded == [False, True, False, False]
    batch = images(before)
    want, got = reference.run_graph(before, batch), reference.run_graph(after, batch)
    assert 1e-6 < abs(got - want).max() < 0.05 * abs(want).max()
    assert quantize_weights(after, precision) is after
    assert quantize_weights(after, "int8") is after
    verify(after)


def test_fp32_and_unknown_precisions():
    graph = chain((3,), dense(rng, 3, 40))
    assert quantize_weights(graph, "fp32") is graph
    with pytest.raises(InputError, match="'int4', expected one of fp32, fp16, int8, int8-dynamic"):
        quantize_weights(graph, "int4")


def test_folding_after_rounding_is_found():
    """Weights that a pass computed are not those that the precision has."""
    graph = quantize_weights(chain((3,), dense(rng, 3, 40), affine(rng, 0, 40)), "int8")
    with pytest.raises(UnsupportedError, match="weights of int8 are not integers"):
        verify(fold_batchnorm(graph), graph)


# ---- all of them -------------------------------------------------------------------------------


def test_the_usual_network_is_one_op_a_layer():
    before = chain(
        (28, 28, 1),
        Eltwise(affine=Affine(2, np.full(1, 1 / 0.3081), np.full(1, -0.1307 / 0.3081))),
        conv(rng, (3, 3), 1, 4),
        affine(rng, 2, 4),
        RELU,
        Pool2D(max_pool(2)),
        PAD,
        conv(rng, (3, 3), 4, 5),
        Pool2D(max_pool(2)),
        RELU,
        Reshape((7 * 6 * 5,)),
        dense(rng, 7 * 6 * 5, 8),
        affine(rng, 0, 8),
        RELU,
        dense(rng, 8, 3),
        Softmax(),
    )
    after = optimize(before)
    same(before, after)
    assert kinds(after) == ["Conv2D", "Conv2D", "Dense", "Dense", "Softmax"]


def test_observe_reports_each_pass_that_did_something():
    before = chain((6, 5, 3), conv(rng, (3, 3), 3, 2), RELU, Eltwise())
    seen = []
    after = optimize(before, lambda name, graph: seen.append((name, len(graph.nodes))))
    assert seen == [("fuse_epilogue", 1)]
    assert kinds(after) == ["Conv2D"]


def test_moves_that_mean_something_stay():
    before = chain((6, 5, 3), Transpose((1, 0, 2)), conv(rng, (2, 2), 3, 2))
    assert kinds(optimize(before)) == ["Transpose", "Conv2D"]
    ops = (dense(rng, 90, 8), Reshape((2, 2, 2)), conv(rng, (2, 2), 2, 2))
    assert kinds(optimize(chain((6, 5, 3), *ops))) == ["Dense", "Reshape", "Conv2D"]
    ops = (PAD, Pool2D(max_pool(2)), Reshape((36,)))
    assert kinds(optimize(chain((6, 5, 3), *ops))) == ["Pad", "Pool2D", "Reshape"]


@settings(max_examples=300, deadline=None)
@given(networks())
def test_random_networks_compute_the_same(before):
    after = optimize(before)
    verify(after)
    batch = images(before)
    want = reference.run_graph(before, batch)
    got = reference.run_graph(after, batch)
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * scale)


# ---- in time that grows with the graph ---------------------------------------------------------


class Restarting:
    """`replace_pairs` as it is defined: from the first pair again after each replacement."""

    def __init__(self, graph):
        self.graph, self.shapes = graph, graph.shapes
        self.readers = Counter(
            [*graph.outputs, *(value for node in graph.nodes for value in node.inputs)]
        )
        self.producers = {node.output: node for node in graph.nodes}

    def producer_of(self, node):
        value = node.inputs[0]
        return self.producers.get(value) if self.readers[value] == 1 else None

    def step(self, rule):
        for second in self.graph.nodes:
            first = self.producer_of(second)
            if first is None or len(second.inputs) != 1:
                continue
            replacement = rule(Pair(self, first, second))
            if replacement is not None:
                return self.spliced(first, second, replacement)
        return None

    def spliced(self, first, second, replacement):
        alias = {} if replacement else {second.output: first.inputs[0]}
        sources = [first.inputs, (first.output,)]
        targets = [first.output, second.output][-len(replacement) :]
        nodes = []
        for node in self.graph.nodes:
            if node is second:
                for (name, op), source, target in zip(replacement, sources, targets, strict=False):
                    nodes.append(Node(name, op, source, target))
            elif node is not first:
                inputs = tuple(alias.get(value, value) for value in node.inputs)
                nodes.append(replace(node, inputs=inputs))
        outputs = [alias.get(value, value) for value in self.graph.outputs]
        return with_nodes(self.graph, nodes, outputs=outputs)


#: Passes that replace pairs of neighbours.
OF_PAIRS = (
    *("cancel_transposes", "sink_reshapes", "merge_crops", "absorb_padding", "merge_eltwise"),
    *("fold_batchnorm", "commute_pooling", "fuse_epilogue"),
)


@given(networks(), st.permutations(OF_PAIRS))
@settings(deadline=None, max_examples=60)
def test_pairs_are_replaced_first_to_last(graph, order):
    """What is not looked at again would not have been replaced."""
    for name in order:
        rule = import_module(f"fastdigit.compiler.passes.{name}")._rule
        got, want = replace_pairs(graph, rule), graph
        while (after := Restarting(want).step(rule)) is not None:
            want = after
        assert [(n.name, type(n.op), n.inputs, n.output) for n in got.nodes] == [
            (n.name, type(n.op), n.inputs, n.output) for n in want.nodes
        ]
        assert (got.outputs, got.shapes) == (want.outputs, want.shapes)
        graph = got


def test_pairs_are_looked_at_a_few_times():
    """A long chain that becomes one operator: it took minutes, for each was a new beginning."""
    looked = 0

    def rule(pair):
        nonlocal looked
        looked += 1
        return [(pair.second.name, pair.second.op)]

    graph = chain((4,), *[RELU] * 3000)
    assert len(replace_pairs(graph, rule).nodes) == 1
    assert looked < 3 * 3000


def test_moves_that_never_meet_are_refused(monkeypatch):
    """Each round of the passes splits one more of them for each reader."""
    monkeypatch.setattr("fastdigit.compiler.passes.MAX_WORK", 1000)
    with pytest.raises(UnsupportedError, match="too many to simplify; export it with fewer"):
        optimize(chain((8, 8, 3), *[conv(rng, (1, 1), 3, 3), RELU] * 50))


# ---- an operator that no pass has heard of -----------------------------------------------------


@dataclass(frozen=True)
class Stranger(Op):
    """Turns an image upside down, and treats each channel differently: nothing commutes with it."""

    def infer(self, *shapes):
        return shapes[0]


def turned(x):
    return x[:, ::-1] * (1.0 + np.arange(x.shape[-1])) + 0.5


#: Operators of images (6, 4, 4) that passes move, fold, fuse or remove.
NEIGHBOURS = {
    "nothing": [],
    "transpose": [Transpose((1, 0, 2)), Transpose((1, 0, 2))],
    "layout": [Transpose((2, 0, 1)), RELU, Transpose((1, 2, 0))],
    "reshape": [Reshape((96,)), Reshape((6, 4, 4))],
    "pad": [Pad(((1, 1), (0, 0), (0, 0))), Pool2D(Pool("max", (3, 1), (1, 1)))],
    "relu": [RELU],
    "affine of channels": [affine(rng, 2, 4)],
    "affine of rows": [affine(rng, 0, 6)],
    "constant": [Binary("add", np.arange(4.0))],
    "pooling": [Pool2D(Pool("average", (3, 3), (1, 1), (1, 1, 1, 1)))],
    "convolution": [conv(rng, (1, 1), 4, 4), RELU, affine(rng, 2, 4)],
    "dead channels": [
        Conv2D(np.eye(4)[np.newaxis, np.newaxis] * [1, 0, 1, 0], np.array([0, -1, 0, 2.0])),
        RELU,
    ],
    "dense": [dense(rng, 96, 96), Reshape((6, 4, 4))],
    "layer norm": [LayerNorm(1e-3)],
}


@pytest.mark.parametrize("behind", NEIGHBOURS)
@pytest.mark.parametrize("before", NEIGHBOURS)
def test_passes_leave_alone_what_they_do_not_know(before, behind, monkeypatch):
    run_op = reference.run_op
    monkeypatch.setattr(spec, "OPS", (*OPS, Stranger))
    monkeypatch.setattr(
        reference,
        "run_op",
        lambda op, *given: turned(*given) if isinstance(op, Stranger) else run_op(op, *given),
    )
    head = [conv(rng, (1, 1), 4, 4), *NEIGHBOURS[before]]
    graph = chain((6, 4, 4), *head, Stranger(), *NEIGHBOURS[behind], conv(rng, (3, 3), 4, 5))
    after = optimize(graph)
    assert kinds(after).count("Stranger") == 1
    same(graph, after)

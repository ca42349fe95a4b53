"""What a front end takes along axes of a value, by crops and resizes: as NumPy takes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.frontends.common import taken
from fastdigit.compiler.passes import optimize
from tests.support import reference
from tests.support.compiler_cases import RELU, chain, images


def check(shape, indices):
    """The operators take the same as NumPy, before the passes and behind them."""
    graph = chain(shape, *taken(shape, indices), RELU)
    batch = images(graph)
    want = batch
    for axis, chosen in indices.items():
        want = want.take(list(chosen), axis + 1)
    want = np.maximum(want, 0)
    np.testing.assert_array_equal(reference.run_graph(graph, batch), want)
    after = optimize(graph)
    got = reference.run_graph(after, batch.reshape(len(batch), *after.shapes[after.input]))
    np.testing.assert_array_equal(got.reshape(want.shape), want)
    return [type(op).__name__ for op in taken(shape, indices)]


@st.composite
def selections(draw):
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axes = draw(st.sets(st.integers(0, len(shape) - 1)))
    return shape, {
        axis: draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=7))
        for axis in sorted(axes)
    }


@settings(max_examples=100, deadline=None)
@given(selections())
def test_anything_is_taken(given):
    check(*given)


def test_neighbours_are_a_crop():
    assert check((6, 5, 3), {0: range(1, 4), 2: range(2, 3)}) == ["Crop"]
    assert check((7,), {0: range(7)[-3:]}) == ["Crop"]


def test_rows_and_columns_are_one_resize():
    mirrored = np.pad(np.arange(6), (2, 1), mode="reflect")
    assert check((6, 5, 3), {0: mirrored, 1: range(5)[::-1]}) == ["Resize"]
    assert check((6, 5, 3), {0: range(6)[::2], 1: range(1, 4)}) == ["Crop", "Resize"]
    assert check((6, 5, 3), {2: [2, 1, 0]}) == ["Reshape", "Resize", "Reshape"]


@pytest.mark.parametrize("chosen", [[], [5], [-1]])
def test_what_is_not_there_is_refused(chosen):
    with pytest.raises(ValueError, match="axis 0 of shape"):
        taken((5, 2), {0: chosen})

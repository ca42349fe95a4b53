"""What the steps of normalize are made of, held to definitions: filters, marks, flat paper."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.datasets import load_mnist_test
from fastdigit.images import arrays, ink, normalize
from fastdigit.images.components import marks_of

DIGITS, _ = load_mnist_test()
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**32 - 1)


def noise(size: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(size)


@settings(deadline=None)
@given(sizes, seeds, st.integers(1, 9), st.sampled_from([0, 1]))
def test_sliding_max(size: tuple[int, int], seed: int, window: int, axis: int) -> None:
    values = noise(size, seed)
    window = min(window, size[axis])
    views = np.lib.stride_tricks.sliding_window_view(values, window, axis)
    np.testing.assert_array_equal(arrays.sliding_max(values, window, axis), views.max(-1))


@settings(deadline=None)
@given(sizes, seeds, st.integers(0, 9), st.integers(0, 9))
def test_framed_and_surrounded(size: tuple[int, int], seed: int, before: int, after: int) -> None:
    values = noise(size, seed)
    wider = arrays.framed(values, before, after)
    np.testing.assert_array_equal(wider, np.pad(values, (before, after), "edge"))
    np.testing.assert_array_equal(arrays.surrounded(values, before), np.pad(values, before))


@settings(deadline=None)
@given(sizes, seeds, st.integers(1, 12))
def test_box_mean(size: tuple[int, int], seed: int, window: int) -> None:
    values = noise(size, seed)
    before = window // 2
    wider = np.pad(values, (before, window - before - 1), "edge")
    views = np.lib.stride_tricks.sliding_window_view(wider, (window, window))
    np.testing.assert_allclose(arrays.box_mean(values, window), views.mean((2, 3)), atol=1e-12)


@settings(deadline=None)
@given(sizes, seeds, st.integers(1, 12), st.sampled_from([0, 1, 3]), st.booleans())
def test_averaged(
    size: tuple[int, int], seed: int, block: int, channels: int, bytes_: bool
) -> None:
    values = noise((*size, channels) if channels else size, seed)
    if bytes_:
        values = np.rint(255 * values).astype(np.uint8)
    got = arrays.averaged(values, block)
    ys, xs = (range(0, n, block) for n in size)
    assert got.shape[:2] == (len(ys), len(xs))
    for (i, y), (j, x) in itertools.product(enumerate(ys), enumerate(xs)):
        want = values[y : y + block, x : x + block].astype(float).mean((0, 1))
        np.testing.assert_allclose(got[i, j], want, atol=1e-10)


@given(st.integers(1, 200), seeds, st.floats(0, 1))
def test_quantile(count: int, seed: int, part: float) -> None:
    values = noise((count,), seed)
    assert abs(arrays.quantile(values, part) - np.quantile(values, part)) < 1e-12


@settings(deadline=None)
@given(sizes, seeds, st.floats(0, 1))
def test_run_lengths(size: tuple[int, int], seed: int, density: float) -> None:
    mask = noise(size, seed) < density
    want = np.zeros(size, int)
    for x in range(size[1]):
        for inked, run in itertools.groupby(range(size[0]), key=lambda y: mask[y, x]):
            ys = list(run)
            want[ys, x] = len(ys) * inked
    np.testing.assert_array_equal(arrays.run_lengths(mask), want)


@settings(deadline=None)
@given(sizes, seeds, st.floats(0, 1))
def test_marks_are_what_touches(size: tuple[int, int], seed: int, density: float) -> None:
    values = np.where(noise(size, seed) < density, noise(size, seed + 1) / 2 + 0.5, 0)
    marks = marks_of(values)
    left = {(int(y), int(x)) for y, x in np.argwhere(values > 0)}
    found = 0
    while left:
        mark, todo = set(), [left.pop()]
        while todo:
            y, x = todo.pop()
            mark.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        ys, xs = np.array(sorted(mark)).T
        (number,) = set(marks.labels[ys, xs].tolist())
        assert (marks.labels == number).sum() == len(mark)
        assert marks.boxes[number].tolist() == [ys.min(), ys.max() + 1, xs.min(), xs.max() + 1]
        assert abs(marks.ink[number] - values[ys, xs].sum()) < 1e-9
        found += 1
    assert found == len(marks.ink) == marks.labels.max() + 1


# ---- Flat paper ----


def pictures() -> list[np.ndarray]:
    """Of flat paper: digits, bright and dark, larger, tight, in a frame, with noise on the ink."""
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    for digit in DIGITS[:100]:
        large = digit.repeat(4, 0).repeat(4, 1)
        framed = large.copy()
        framed[4:108, 4:108] = np.maximum(framed[4:108, 4:108], 150)
        framed[6:106, 6:106] = large[6:106, 6:106]
        speckled = large // 2 + (rng.integers(0, 128, large.shape) * (large > 0)).astype(np.uint8)
        found += [digit, 255 - digit, 255 - large, framed, speckled, digit[3:25, 3:25]]
    return found


def test_the_short_way_for_flat_paper_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    got = [normalize(picture) for picture in pictures()]
    taken = [ink._ink_on_flat_paper(picture / 255) is not None for picture in pictures()]
    assert np.mean(taken) > 0.5
    monkeypatch.setattr(ink, "_ink_on_flat_paper", lambda grey: None)
    for picture, short in zip(pictures(), got, strict=True):
        np.testing.assert_array_equal(normalize(picture), short)

"""The loops over pixels in C, held to the same in NumPy (tests/support/image_reference.py)."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastdigit.images import _pixels
from tests.support import image_reference as reference
from tests.support.planes import planes, seeds, sizes

windows = st.integers(1, 41)

KIND: dict[str, Any] = {
    "length": 0.55,
    "covered": 0.85,
    "alone": 0.4,
    "votes": 0.275,
    "fewest": 0.275,
    "thickest": 3.0,
    "slope": 0.07,
    "level": 1.0,
    "quantile": 0.4,
    "gap": 2,
    "aside": 2,
    "beyond": 1,
    "most": 8,
    "tries": 1000,
    "ends": 0,
    "all": 0.6,
}


def same(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(planes(), st.floats(0, 1))
def test_values(values: np.ndarray, part: float) -> None:
    assert _pixels.extremes(values) == (values.min(), values.max())
    assert _pixels.count_above(values, part) == (values > part).sum()
    same(_pixels.coverage(values), (values > values.max() / 2).mean())
    same(_pixels.quantile(values.ravel(), part), np.quantile(values, part))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5000), seeds, st.floats(0, 1), st.sampled_from([0.0, 1e-300, 1.0, 1e9]))
def test_quantiles_of_many(count: int, seed: int, part: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    values = spread * rng.standard_normal(count) ** 3 * (rng.random(count) > rng.random())
    want = float(np.quantile(values, part))
    assert abs(_pixels.quantile(values, part) - want) <= 1e-12 * max(abs(want), spread)


@settings(deadline=None, max_examples=40)
@given(planes(), windows)
def test_filters(values: np.ndarray, window: int) -> None:
    same(_pixels.box_mean(values, window), reference.box_mean(values, window))
    for axis in (0, 1):
        wide = min(window, values.shape[axis])
        got = _pixels.sliding_max(values, wide, axis)
        np.testing.assert_array_equal(got, reference.sliding_max(values, wide, axis))
    closed = reference.closing(np.pad(values, window - 1, "edge"), window)
    np.testing.assert_array_equal(_pixels.closing(values, window), closed)
    np.testing.assert_array_equal(
        _pixels.flattened(values, window, 0.15), (values + 0.15) / (closed + 0.15)
    )


@settings(deadline=None, max_examples=40)
@given(planes(), st.floats(0, 1), st.integers(1, 9))
def test_runs_and_squares(values: np.ndarray, threshold: float, side: int) -> None:
    mask = values > threshold
    np.testing.assert_array_equal(_pixels.run_lengths(mask), reference.run_lengths(mask))
    same(_pixels.stroke_width(values, threshold), reference.stroke_width(values, threshold))
    between = mask & (values < threshold + 0.4)
    count = _pixels.count_squares(values, threshold, threshold + 0.4, side)
    assert count == np.count_nonzero(reference.squares(between, side))
    if side <= min(values.shape):
        got = _pixels.squares(values, threshold, threshold + 0.4, side)
        np.testing.assert_array_equal(got, reference.squares(between, side))


@settings(deadline=None, max_examples=40)
@given(planes(), windows, st.booleans())
def test_paper(grey: np.ndarray, window: int, dark: bool) -> None:
    flat = _pixels.flat_paper(grey)
    want = reference.flat_paper(grey)
    assert (flat and flat[0]) == want
    np.testing.assert_array_equal(
        _pixels.paper(grey, window), reference.paper_of_dark_ink(grey, window)
    )
    paper = reference.paper_of_dark_ink(grey, window)
    same(_pixels.away(grey, window, 0.15), (paper - grey) / (paper + 0.15))
    sides = (0.8 - grey, 0.95) if dark else ((1 - 0.8) - (1 - grey), 0.35)
    same(_pixels.away_from(grey, 0.8, dark, 0.15), sides[0] / sides[1])


@settings(deadline=None, max_examples=40)
@given(planes(), windows, st.integers(1, 3))
def test_structure_and_polarity(grey: np.ndarray, window: int, every: int) -> None:
    low, high = grey.min(), grey.max()
    same(_pixels.border_vote(grey, (low + high) / 2), reference.border_vote(grey, (low + high) / 2))
    got, want = _pixels.skew(grey, (3, window)), reference.skew(grey, (3, window))
    assume(high - low > 1e-3)  # else rounding is all there is
    assert abs(got - want) < 1e-9
    for mine, theirs in zip(
        _pixels.opposites(grey, low, high), reference.opposites(grey, low, high), strict=True
    ):
        same(mine, theirs)
    if min(grey.shape) >= 16:
        rows, columns = (np.ascontiguousarray(reference.polynomials(n)) for n in grey.shape)
        same(
            _pixels.structure(grey, rows, columns, 5, every),
            reference.structure_of(grey, 5, every),
        )


@settings(deadline=None, max_examples=40)
@given(planes())
def test_stretched(away: np.ndarray) -> None:
    for got, want in zip(_pixels.stretched(away), reference.stretched(away), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(planes())
def test_of_flat_paper_ink_alone_is_stretched(away: np.ndarray) -> None:
    away = np.abs(away)
    page = np.zeros((2 * len(away) + 1, 3 * away.shape[1]))
    page[1 : 1 + len(away), 2 : 2 + away.shape[1]] = away
    ink, *told = _pixels.stretched(away, True)
    everywhere, *others = _pixels.stretched(page)
    assert told[:2] == others[:2]
    np.testing.assert_array_equal(ink, everywhere[1 : 1 + len(away), 2 : 2 + away.shape[1]])


@settings(deadline=None, max_examples=40)
@given(planes(), st.integers(1, 5), st.floats(0, 1))
def test_marks_that_are_kept(values: np.ndarray, cell: int, density: float) -> None:
    rng = np.random.default_rng(int(1e6 * density))
    ink = np.where(rng.random(values.shape) < density, values, 0)
    labels, boxes, amounts, area = _pixels.marks(ink, cell, reference.INK)
    rows, columns = labels.shape
    assert (rows, columns) == tuple(-(-n // cell) for n in ink.shape)
    for i in range(rows):
        for j in range(columns):
            block = ink[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell]
            assert (labels[i, j] >= 0) == (block.max() > reference.INK)
    assert labels.max() + 1 == len(boxes)
    for number, box in enumerate(boxes.tolist()):
        ys, xs = np.nonzero(labels == number)
        assert box == [ys.min(), ys.max() + 1, xs.min(), xs.max() + 1]
        assert area[number] == len(ys)
        own = (labels == number).repeat(cell, 0).repeat(cell, 1)[: ink.shape[0], : ink.shape[1]]
        same(amounts[number], ink[own].sum())
    if not len(boxes):
        return
    kept = _pixels.kept_marks(boxes, amounts, rows, columns, reference.SPECK)
    np.testing.assert_array_equal(kept, reference.kept_marks(boxes, amounts, rows, columns))
    digit = _pixels.kept_ink(ink, labels, cell, kept)
    np.testing.assert_array_equal(digit, reference.kept_ink(ink, labels, cell, kept))


@settings(deadline=None, max_examples=40)
@given(planes(), st.floats(0, 1))
def test_box(values: np.ndarray, threshold: float) -> None:
    ys, xs = np.nonzero(values > threshold)
    want = (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1) if len(ys) else None
    assert _pixels.box(values, threshold) == want


def ruled(height: int, width: int, seed: int) -> np.ndarray:
    """Lines with a slope, gaps, strokes across, and dirt."""
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.choice([0, 0.02, 0.2])
    x = np.arange(width)
    for _ in range(rng.integers(0, 4)):
        slope = rng.uniform(-0.08, 0.08)
        centre = rng.integers(0, height) + np.rint(slope * (x - width / 2)).astype(int)
        for thick in range(rng.integers(1, 4)):
            there = (rng.random(width) < 0.97) & (centre + thick >= 0) & (centre + thick < height)
            mask[(centre + thick)[there], x[there]] = True
    if rng.random() < 0.5:
        at = rng.integers(0, width)
        mask[:, at : at + 3] = True
    return mask


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.sampled_from([0, 2]), st.integers(0, 3), st.sampled_from([1, 2, 1000]))
def test_level_lines(size: tuple[int, int], seed: int, ends: int, aside: int, tries: int) -> None:
    mask = ruled(*size, seed)
    kind = {**KIND, "ends": ends, "aside": aside, "gap": aside, "tries": tries}
    for upright in (False, True):
        turned = mask.T if upright else mask
        want = reference.level_lines(turned, kind)
        got = _pixels.level_lines(mask, upright, tuple(kind.values()))
        assert len(got) == len(want)
        for mine, theirs in zip(got, want, strict=True):
            start, end = mine[:2]
            assert (start, end) == theirs[:2]
            same(mine[2], theirs[2])
            np.testing.assert_array_equal(mine[3][start:end], theirs[3][start:end])
            np.testing.assert_array_equal(mine[4][start:end], theirs[4][start:end])


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.booleans(), st.integers(0, 30), st.integers(0, 200), st.integers(0, 3))
def test_spans(
    size: tuple[int, int], seed: int, upright: bool, columns: int, pixels: int, ends: int
) -> None:
    mask = ruled(*size, seed)
    inked = mask.any(1 if upright else 0)
    want = mask.sum() >= pixels and inked.sum() >= columns
    want = want and (not ends or (inked[:ends].any() and inked[-ends:].any()))
    assert _pixels.spans(mask, upright, pixels, columns, ends) == want


@settings(deadline=None, max_examples=40)
@given(planes(), st.integers(1, 80), st.integers(1, 80))
def test_resampled(values: np.ndarray, rows: int, columns: int) -> None:
    down, across = (
        reference.resampling(n, m) for n, m in zip(values.shape, (rows, columns), strict=True)
    )
    same(_pixels.resampled(values, rows, columns), down @ values @ across.T)


@settings(deadline=None, max_examples=40)
@given(planes(), seeds, st.integers(1, 28))
def test_drawn(values: np.ndarray, seed: int, box: int) -> None:
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(0, n)) for n in values.shape)
    bottom, right = (
        int(rng.integers(a + 1, n + 1)) for a, n in zip((top, left), values.shape, strict=True)
    )
    part = values[top:bottom, left:right]
    assume(part.max() > 0.1)
    small = _pixels.fitted(values, (top, bottom, left, right), box)
    same(small, reference.fitted(part, box))
    same(_pixels.mean_width(small), reference.mean_width(small))
    got, want = _pixels.placed(small, 28), reference.placed(small, 28)
    # A centre just between two pixels is rounded by what rounding left of it.
    centres = [small.sum(1 - i) @ np.arange(n) / small.sum() for i, n in enumerate(small.shape)]
    assume(all(abs(2 * c - round(2 * c)) > 1e-9 or round(2 * c) % 2 == 0 for c in centres))
    assert np.abs(got.astype(int) - want).max() <= 1


def test_the_middle_is_the_middle() -> None:
    """Of what is the same on both sides, no rounding decides where it lies."""
    image = _pixels.placed(_pixels.fitted(np.ones((1, 1)), (0, 1, 0, 1), 20), 28)
    np.testing.assert_array_equal(image, np.pad(np.full((20, 20), 255, np.uint8), 4))


def test_what_is_refused() -> None:
    plane = np.zeros((4, 5))
    for wrong in (plane.astype(np.float32), plane.T, plane[0], plane[:0], plane[:, ::2]):
        with pytest.raises((ValueError, BufferError)):
            _pixels.extremes(wrong)
    with pytest.raises(ValueError):
        _pixels.sliding_max(plane, 6, 1)
    with pytest.raises(ValueError):
        _pixels.closing(plane, 1 << 17)
    with pytest.raises(ValueError):
        _pixels.flattened(plane, 0, 0.15)
    with pytest.raises(ValueError):
        _pixels.fitted(plane, (0, 5, 0, 5), 20)
    with pytest.raises(ValueError, match="no ink"):
        _pixels.placed(plane, 28)
    with pytest.raises(ValueError):
        _pixels.kept_ink(plane, np.zeros((4, 4), np.int32), 1, np.ones(1, bool))
    with pytest.raises(ValueError):
        _pixels.kept_ink(plane, np.full((4, 5), 1, np.int32), 1, np.ones(1, bool))
    with pytest.raises(ValueError):
        _pixels.averaged(np.zeros((2, 2, 1), np.int32), 1, 1.0)
    for steepest, thickest in ((math.inf, 3.0), (0.1, math.inf), (0.1, math.nan), (0.1, -1.0)):
        kind = tuple((KIND | {"slope": steepest, "thickest": thickest}).values())
        with pytest.raises(ValueError, match="no such lines"):
            _pixels.level_lines(plane > 0, False, kind)


def test_threads() -> None:
    """Nothing is shared between calls."""
    rng = np.random.default_rng(0)
    values = [rng.random((200, 100 + i)) for i in range(8)]
    want = [_pixels.paper(v, 31) for v in values]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(5):
            for i, v in enumerate(values):
                if not np.array_equal(_pixels.paper(v, 31), want[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

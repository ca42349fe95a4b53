"""The reader's loops in C, held to the same in NumPy (tests/support/reader_reference.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.images import _pixels
from fastdigit.reader import _loops
from fastdigit.reader.candidates import Candidates, candidates_of
from fastdigit.reader.cuts import Piece
from tests.support import reader_reference as reference
from tests.support.planes import planes, seeds


@settings(deadline=None, max_examples=60)
@given(planes(), st.booleans(), st.integers(1, 17))
def test_page_ink(grey: np.ndarray, dark: bool, block: int) -> None:
    ink, *told = _loops.page_ink(grey, dark, block)
    want, *wanted = reference.page_ink(grey, dark, block)
    contrast = told[0]
    # Where the range is about the one that is pale, rounding decides whether it is.
    if abs(contrast - 0.25) > 1e-9:
        np.testing.assert_allclose(told, wanted, atol=1e-9)
    # Where there is next to nothing, rounding decides between paper and ink.
    if contrast > 1e-9:
        np.testing.assert_allclose(ink, want, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(planes(), st.integers(1, 5), st.sampled_from([-1.0, 0.2, 0.5]))
def test_runs(ink: np.ndarray, step: int, threshold: float) -> None:
    got = [found.tolist() for found in _loops.runs(ink, step, threshold)]
    assert list(zip(*got, strict=True)) == reference.runs(ink, step, threshold)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), seeds, st.integers(1, 9))
def test_sharpness(count: int, seed: int, many: int) -> None:
    random = np.random.default_rng(seed)
    down, across = random.integers(0, 90, count) + 0.0, random.integers(-200, 200, count) / 3
    slopes = random.uniform(-0.2, 0.2, many)
    want = reference.sharpness(down, across, slopes, 15.0)
    assert _loops.sharpness(down, across, slopes, 15.0).tolist() == want


def test_what_lies_on_no_page_has_no_sharpness() -> None:
    down, across, slopes = np.array([1.0, 2.0]), np.array([-50.0, 9.0]), np.array([0.1])
    assert _loops.sharpness(down, across, slopes, 4.0).tolist() == [2]
    for low in (3.9, -np.inf, np.inf, np.nan, 1e9):
        with pytest.raises(ValueError, match="do not lie inside"):
            _loops.sharpness(down, across, slopes, low)
    with pytest.raises(ValueError, match="2 rows and 1 columns"):
        _loops.sharpness(down, across[1:], slopes, 4.0)


@settings(deadline=None, max_examples=40)
@given(planes(), seeds)
def test_sheared(values: np.ndarray, seed: int) -> None:
    moved = np.random.default_rng(seed).uniform(0, 9, len(values))
    got = _loops.sheared(values, moved)
    assert got.shape == (len(values), values.shape[1] + int(moved.max()) + 2)
    for row, own, by in zip(got, values, moved, strict=True):
        whole, part = int(by), by - int(by)
        want = (1 - part) * np.pad(own, (whole, len(row) - whole - len(own)))
        want += part * np.pad(own, (whole + 1, len(row) - whole - len(own) - 1))
        np.testing.assert_allclose(row, want, rtol=0, atol=1e-15)


def test_what_cannot_be_sheared() -> None:
    values = np.ones((2, 3))
    for moved in ([0.0], [0.0, -0.1], [0.0, np.nan], [0.0, 1e9]):
        with pytest.raises(ValueError, match="2 rows can't be moved"):
            _loops.sheared(values, np.array(moved))


@settings(deadline=None, max_examples=40)
@given(planes(), st.booleans(), st.sampled_from([0.0, 0.03, 0.5]))
def test_cheapest_paths(ink: np.ndarray, upwards: bool, sideways: float) -> None:
    totals, steps = _loops.cheapest_paths(ink, upwards, 0.002, sideways)
    want, back = reference.cheapest_paths(ink[::-1] if upwards else ink, 0.002, sideways)
    np.testing.assert_array_equal(totals, want[::-1] if upwards else want)
    np.testing.assert_array_equal(steps, back[::-1] if upwards else back)
    # A path costs what its pixels and its steps cost.
    x = int(np.argmin(totals[0 if upwards else -1]))
    cost, rows = 0.0, range(len(ink)) if upwards else range(len(ink) - 1, -1, -1)
    for y in rows:
        cost += ink[y, x] + 0.002 + sideways * abs(steps[y, x])
        x += int(steps[y, x])
    assert abs(cost - totals[0 if upwards else -1].min()) < 1e-9


@settings(deadline=None, max_examples=60)
@given(planes(), st.integers(1, 9), st.integers(0, 5), st.sampled_from([0.0, 0.6, 3.0]))
def test_cut(ink: np.ndarray, window: int, paths: int, apart: float) -> None:
    kind = (0.002, 0.2, 0.25, 0.5, 0.75, 4.0, 1.5, apart, window, paths)
    got, want = _loops.cut(ink, kind, 0.2, 3), reference.cut(ink, kind, 0.2, 3)
    if got is None or want is None:
        assert got is want
        return
    assert len(got) == len(want)
    for part, part_wanted in zip(got, want, strict=True):
        assert part[:2] == part_wanted[:2]
        np.testing.assert_array_equal(part[2], part_wanted[2])


@settings(deadline=None, max_examples=40)
@given(st.lists(planes(), min_size=1, max_size=4), seeds, st.integers(1, 28))
def test_candidates_are_drawn(inks: list[np.ndarray], seed: int, box: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [Piece(*rng.integers(0, 40, 2).tolist(), ink, 0) for ink in inks if ink.max() > 0]
    if not pieces:
        return
    ends = range(1, len(pieces) + 1)
    spans = [span for end in ends for span in ((0, end), (end - 1, end))]
    rows = [(*span, *around(pieces[slice(*span)]), 0, 0) for span in spans]
    candidates = Candidates(np.array(rows, np.int32), pieces)
    got = _loops.drawn(pieces, candidates.table, box, 28)
    assert got.shape == (len(candidates), 28, 28)
    for image, candidate in zip(got, candidates, strict=True):
        top, bottom, left, right = candidate.box
        joined = np.zeros((bottom, right))
        for piece in candidate.pieces:
            for (y, x), value in np.ndenumerate(piece.ink):
                joined[piece.top + y, piece.left + x] = max(
                    joined[piece.top + y, piece.left + x], value
                )
        joined = joined[top:, left:]
        np.testing.assert_array_equal(candidate.ink, joined)
        rows, columns = (max(1, round(n * (box / max(joined.shape)))) for n in joined.shape)
        want = _pixels.placed(_pixels.resampled(np.ascontiguousarray(joined), rows, columns), 28)
        np.testing.assert_array_equal(image, want)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 14), seeds, st.floats(5, 60))
def test_candidates(count: int, seed: int, height: float) -> None:
    """Of pieces anywhere, and of marks whose pieces need not stand side by side."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(count):
        high, wide = rng.integers(1, 30, 2)
        top, left = rng.integers(0, 60, 2).tolist()
        pieces.append(Piece(top, left, np.ones((high, wide)), int(rng.integers(0, 5))))
    got = list(candidates_of(pieces, height))
    assert got == reference.candidates_of(pieces, height)


def test_what_has_no_candidates() -> None:
    for piece in (Piece(-1, 0, np.ones((2, 2)), 0), Piece(0, 1 << 40, np.ones((2, 2)), 0)):
        with pytest.raises(ValueError, match="no such place"):
            candidates_of([piece], 10.0)
    assert not len(candidates_of([Piece(0, 0, np.ones((2, 2)), 0)], 10.0))


@settings(deadline=None, max_examples=60)
@given(planes(), st.integers(1, 9), seeds)
def test_height_of_most(ink: np.ndarray, lowest: int, seed: int) -> None:
    _, boxes, _, areas = _pixels.marks(ink, 1, 0.5)
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(rng.random(len(boxes)) < 0.5)
    for chosen in (None, some):
        numbers = range(len(boxes)) if chosen is None else chosen.tolist()
        # A height for each cell of what is high enough: their lower median.
        cells = sorted(
            height
            for number in numbers
            if (height := int(boxes[number, 1] - boxes[number, 0])) >= lowest
            for _ in range(areas[number])
        )
        want = cells[(len(cells) - 1) // 2] if cells else 0
        assert _loops.height_of_most(boxes, areas, chosen, lowest) == want


@settings(deadline=None, max_examples=60)
@given(planes(), st.sampled_from([1, 3, 8]), st.sampled_from([0.5, 0.85]))
def test_closed_marks(ink: np.ndarray, smallest: int, whole: float) -> None:
    labels, boxes, _, areas = _pixels.marks(ink, 1, 0.5)
    want = []
    for number, (top, bottom, left, right) in enumerate(boxes.tolist()):
        own = labels[top:bottom, left:right] == number
        closed = True
        for turned in (own, own.T):
            band = max(2, round(0.15 * len(turned)))
            for part in (turned[:band], turned[-band:]):
                closed &= np.count_nonzero(part.any(0)) >= whole * turned.shape[1]
        if closed and min(own.shape) >= smallest and own.sum() <= 0.5 * own.size:
            want.append(number)
    assert _loops.closed_marks(labels, boxes, areas, smallest, 0.5, 0.15, whole) == want


@settings(deadline=None, max_examples=60)
@given(planes(), st.integers(1, 60))
def test_points(ink: np.ndarray, most: int) -> None:
    got = _loops.points(ink, 0.5, most)
    rows, columns = np.nonzero(ink > 0.5)
    if got is None:
        assert not len(rows)
        return
    every = -(-len(rows) // most)
    down, across, first, last = got
    np.testing.assert_array_equal(down, rows[::every])
    np.testing.assert_allclose(across, columns[::every] - columns[::every].mean(), atol=1e-9)
    assert (first, last) == (columns.min(), columns.max())


def test_what_are_no_marks() -> None:
    labels, boxes = np.zeros((3, 4), np.int32), np.array([[0, 3, 0, 4]])
    areas = np.array([12])
    for box in ((0, 4, 0, 4), (0, 3, 0, 5), (1, 1, 0, 4), (-1, 3, 0, 4)):
        with pytest.raises(ValueError, match="no box"):
            _loops.closed_marks(labels, np.array([box]), areas, 1, 1, 0.15, 0.85)
    for few, given_areas in ((boxes, np.array([12, 12])), (boxes[:, 1:].copy(), areas)):
        with pytest.raises(ValueError, match="a box and an area"):
            _loops.closed_marks(labels, few, given_areas, 1, 1, 0.1, 0.8)
        with pytest.raises(ValueError, match="a box and an area"):
            _loops.height_of_most(few, given_areas, None, 1)
    for number in (-1, 1):
        with pytest.raises(ValueError, match="there is no mark"):
            _loops.height_of_most(boxes, areas, np.array([number]), 1)


def table_of(spans: list[tuple[int, int, int]]) -> np.ndarray:
    """Candidates of nothing but start, end and cut."""
    rows = [(start, end, 0, 1, 0, 1, cut, 0) for start, end, cut in spans]
    return np.array(rows, np.int32).reshape(len(rows), 8)


@settings(deadline=None, max_examples=40)
@given(planes())
def test_ink_of_marks(ink: np.ndarray) -> None:
    labels, boxes, _, _ = _pixels.marks(ink, 1, 0.5)
    found = _loops.ink_of_marks(ink, labels, range(len(boxes)), boxes.tolist())
    for number, (own, (top, bottom, left, right)) in enumerate(zip(found, boxes, strict=True)):
        inside = labels[top:bottom, left:right] == number
        np.testing.assert_array_equal(own, np.where(inside, ink[top:bottom, left:right], 0))


def test_of_what_is_no_mark_there_is_no_ink() -> None:
    ink, labels = np.ones((3, 4)), np.zeros((3, 4), np.int32)
    for box in ((0, 4, 0, 4), (0, 3, 0, 5), (1, 1, 0, 4), (0, 3, 2, 2)):
        with pytest.raises(ValueError, match="no box"):
            _loops.ink_of_marks(ink, labels, [0], [box])
    with pytest.raises(ValueError, match="3 x 4 pixels, 2 x 4 labels"):
        _loops.ink_of_marks(ink, labels[:2], [0], [(0, 2, 0, 2)])


def around(pieces: list[Piece]) -> tuple[int, int, int, int]:
    tops, lefts = [piece.top for piece in pieces], [piece.left for piece in pieces]
    bottoms, rights = [piece.bottom for piece in pieces], [piece.right for piece in pieces]
    return min(tops), max(bottoms), min(lefts), max(rights)


def test_what_is_not_drawn() -> None:
    ink = np.ones((3, 4))
    for pieces in (
        [Piece(-1, 0, ink, 0)],
        [Piece(0, 1 << 40, ink, 0)],
        [Piece(0, 0, 0 * ink, 0)],
        [Piece(0, 0, ink, 0), Piece(1 << 20, 1 << 20, ink, 0)],
        [],
    ):
        with pytest.raises(ValueError, match=r"no such place|no ink|is not in|no such candidate"):
            _loops.drawn(pieces, table_of([(0, max(1, len(pieces)), 0)]), 20, 28)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), seeds, st.integers(1, 9), st.sampled_from([None, 0, 1, 3, 20]))
def test_search(pieces: int, seed: int, most: int, length: int | None) -> None:
    """Of few different gains, so that many ways are as good as others."""
    rng = np.random.default_rng(seed)
    spans = [(start, end) for end in range(1, pieces + 1) for start in range(end)]
    spans = [span for span in spans if rng.random() < 0.4]
    table = table_of([(*span, int(rng.integers(0, 3))) for span in spans])
    gains = rng.integers(-2, 6, (len(spans), 10)) / 4
    gains[rng.random(gains.shape) < 0.8] = np.nan
    losses = rng.integers(0, 5, pieces) / 4
    got = _loops.search(table, gains, losses, 0.5, most, length)
    candidates = Candidates(table, [])
    assert got == reference.search(candidates, gains, losses, 0.5, most, length)


def test_what_is_not_searched() -> None:
    gains, losses = np.zeros((1, 10)), np.zeros(2)
    for start, end in ((0, 3), (1, 1), (-1, 1), (2, 1)):
        with pytest.raises(ValueError, match="no such candidate"):
            _loops.search(table_of([(start, end, 0)]), gains, losses, 1, 8, None)
    one = table_of([(0, 1, 0)])
    with pytest.raises(ValueError, match="0 is not in 1"):
        _loops.search(one, gains, losses, 1, 0, None)
    with pytest.raises(ValueError, match="10 gains"):
        _loops.search(one, gains[:, 1:], losses, 1, 8, None)
    with pytest.raises(ValueError, match="8 numbers"):
        _loops.search(one[:, 1:].copy(), gains, losses, 1, 8, None)
    with pytest.raises(ValueError, match="no such candidate"):
        _loops.search(table_of([(1, 2, 0), (0, 1, 0)]), gains, losses, 1, 8, None)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), seeds, st.integers(1, 40), st.booleans())
def test_likely_texts(count: int, seed: int, most: int, equal: bool) -> None:
    """Also of few different probabilities, so that many texts are as good as others."""
    random = np.random.default_rng(seed)
    steps = (
        random.integers(0, 3, (count, 11)) / 2 if equal else random.dirichlet(np.ones(11), count)
    )
    steps[:, 0] += 0.01  # something is always there
    assert _loops.likely_texts(steps, 1e-3, most) == reference.likely_texts(steps, 1e-3, most)


def test_what_is_no_text() -> None:
    steps = np.full((3, 11), 1 / 11)
    with pytest.raises(ValueError, match="no digits: '1a'"):
        _loops.text_logs(steps, ["1a"], 1e-30)
    with pytest.raises(ValueError, match="11 probabilities"):
        _loops.likely_texts(steps[:, :10].copy(), 1e-3, 8)
    with pytest.raises(ValueError, match="0 is not in 1"):
        _loops.likely_texts(steps, 1e-3, 0)
    # Between two of the same there is nothing, for a step.
    assert _loops.places(steps, "11", 1e-30).tolist() == [0, 2]
    for text in ("1234", "111"):
        with pytest.raises(ValueError, match="3 steps are too few"):
            _loops.places(steps, text, 1e-30)

"""What is read of a field that is not cut: strips, what a network sees in them, and their texts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.model import load, shipped_file
from fastdigit.reader.cuts import Piece
from fastdigit.reader.joined import (
    BLANK,
    NO_DIGIT,
    boxes_of,
    likely_texts,
    log_probabilities,
    places,
    steps_of,
)
from fastdigit.reader.strips import STRIP, WINDOW, Strip, strip_of
from tests.support.fields import make

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES, LABELS = load_mnist_test()


def bar(left: int, wide: int = 6, top: int = 10, high: int = 30) -> Piece:
    return Piece(top, left, np.ones((high, wide)), 0)


def strip_with(pixels: NDArray[np.uint8]) -> Strip:
    return Strip(pixels, np.arange(STRIP) + 0.5, np.arange(pixels.shape[1]) + 0.5)


# ---- Strips ----


def test_a_strip_shows_all_pieces_at_the_height_of_its_digits() -> None:
    strip = strip_of([bar(100), bar(112, high=15)], 30)
    assert strip.pixels.shape == (STRIP, round(18 * 24 / 30))
    inked = strip.pixels > 128
    assert inked.any(1).sum() == 24 and inked[:, -2].sum() == 12
    # Where a row and a column lie in the page.
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    assert np.allclose(strip.rows[[rows[0], rows[-1]]], (10, 40), atol=1)
    assert np.allclose(strip.columns[[columns[0], columns[-1]]], (100, 118), atol=1)


def test_wide_gaps_are_shortened_and_columns_know_where_they_were() -> None:
    near, far = strip_of([bar(100), bar(118)], 30), strip_of([bar(100), bar(400)], 30)
    assert np.array_equal(near.pixels, far.pixels)
    assert near.pixels.max() == 255 and abs(near.columns[-1] - 124) < 1
    assert abs(far.columns[0] - 100) < 1 and abs(far.columns[-1] - 406) < 1
    assert (np.diff(far.columns) > 0).all()


def test_a_field_higher_than_its_digits_fits() -> None:
    strip = strip_of([bar(0), bar(10, top=50)], 30)
    assert strip.pixels.shape[0] == STRIP and strip.pixels[[0, -1]].any(1).all()


# ---- Steps ----


@pytest.mark.parametrize("wide", [1, 2, 31, WINDOW - 1, WINDOW, WINDOW + 1, 300, 471])
def test_windows_make_one_sequence(wide: int) -> None:
    """As many windows as it takes, and each step is that of a window that sees it whole."""
    random = np.random.default_rng(wide)
    pixels = random.integers(0, 256, (STRIP, wide), dtype=np.uint8)
    steps = steps_of(strip_with(pixels))
    assert steps.shape == (-(-wide // 2), 11) and np.allclose(steps.sum(1), 1)
    network = load(shipped_file("joined"))
    padded = np.pad(pixels, ((0, 0), (0, 2 * WINDOW)))
    for start in range(0, wide, 50):
        scores = network.run(padded[None, :, start : start + WINDOW, None])[0].astype(np.float64)
        expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        expected[:, BLANK] += expected[:, NO_DIGIT]
        # The first and last steps of a window lack what is beside it.
        inner = slice(0 if start == 0 else 7, WINDOW // 2 - 7)
        own = steps[: max(1, len(steps) - 7)][start // 2 : start // 2 + WINDOW // 2][inner]
        assert np.allclose(own, expected[inner, :NO_DIGIT][: len(own)], atol=1e-6)


# ---- Texts ----


@st.composite
def sequences(draw: st.DrawFn) -> NDArray[np.float64]:
    """A few steps in which nothing or one of three digits is seen."""
    count = draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = np.zeros((count, 11))
    steps[:, [0, 2, 5, 10]] = random.dirichlet(np.full(4, 0.7), count).clip(2e-3)
    return steps


def every_alignment(steps: NDArray[np.float64]) -> dict[str, list[tuple[float, tuple[int, ...]]]]:
    """Of each text the probability of each way to see it, by trying all."""
    found: dict[str, list[tuple[float, tuple[int, ...]]]] = {}
    for labels in itertools.product((0, 2, 5, 10), repeat=len(steps)):
        text = "".join(str(label - 1) for label, _ in itertools.groupby(labels) if label)
        chance = float(np.prod(steps[np.arange(len(steps)), list(labels)]))
        found.setdefault(text, []).append((chance, labels))
    return found


@settings(deadline=None, max_examples=80)
@given(sequences())
def test_texts_have_the_probability_of_all_their_alignments(steps: NDArray[np.float64]) -> None:
    expected = {text: sum(p for p, _ in ways) for text, ways in every_alignment(steps).items()}
    found = log_probabilities(steps, list(expected))
    assert np.allclose(np.exp(found), list(expected.values()))
    # The others beside it make no difference.
    assert [log_probabilities(steps, [text])[0] for text in expected] == pytest.approx(found)
    assert log_probabilities(steps, ["12345678"])[0] < -25


@settings(deadline=None, max_examples=80)
@given(sequences())
def test_the_most_probable_texts_are_found(steps: NDArray[np.float64]) -> None:
    chances = {text: sum(p for p, _ in ways) for text, ways in every_alignment(steps).items()}
    assert set(likely_texts(steps, 10_000)) == set(chances)
    order = [chances[text] for text in likely_texts(steps, 10_000)]
    assert order == sorted(order, reverse=True)
    assert len(likely_texts(steps, 2)) == 2


@settings(deadline=None, max_examples=80)
@given(sequences())
def test_digits_are_where_the_best_alignment_sees_them(steps: NDArray[np.float64]) -> None:
    for text, ways in every_alignment(steps).items():
        found = places(steps, text)
        assert len(found) == len(text) and (np.diff(found) > 0).all()
        best = max(chance for chance, _ in ways)
        equals = [labels for chance, labels in ways if chance >= best * (1 - 1e-9)]
        assert any(
            all(labels[at] == int(digit) + 1 for at, digit in zip(found, text, strict=True))
            for labels in equals
        )


def test_boxes_are_around_what_is_seen() -> None:
    pixels = np.zeros((STRIP, 60), np.uint8)
    pixels[4:28, 5:15] = pixels[8:20, 18:30] = pixels[6:26, 40:50] = 255
    pixels[12:14, 15:18] = 120  # two of them touch
    steps = np.full((30, 11), 1e-3)
    steps[:, 0] = 0.99
    for at, digit in ((5, 7), (12, 0), (22, 3)):
        steps[at, [0, digit + 1]] = 1e-3, 0.99
    boxes = boxes_of(strip_with(pixels), steps, "703")
    expected = [(4, 28, 5, 16), (8, 20, 16, 30), (6, 26, 40, 50)]
    assert np.abs(np.array(boxes) - expected).max() <= 2


# ---- Fields ----


def test_of_touching_digits_each_has_a_box_and_a_probability() -> None:
    right = 0
    for image, text in make("touching", 12, IMAGES, LABELS, seed=5):
        for field in fastdigit.read(image).fields:
            right += field.text == text
            assert len(field.digits) == len(field.text)
            lefts = [digit.box[2] for digit in field.digits]
            assert lefts == sorted(lefts)
            for digit in field.digits:
                top, bottom, left, right_edge = digit.box
                assert field.box[0] <= top < bottom <= field.box[1]
                assert field.box[2] <= left < right_edge <= field.box[3]
                assert image[top:bottom, left:right_edge].min() < 120
                told = digit.probability + sum(p for _, p in digit.alternatives)
                assert field.probability - 1e-9 <= digit.probability <= told <= 1 + 1e-6
    assert right >= 6


def test_of_joined_digits_what_is_known_of_the_text_is_used() -> None:
    for image, text in make("touching", 4, IMAGES, LABELS, seed=6):
        for field in fastdigit.read(image, length=len(text)).fields:
            assert len(field.text) == len(text)

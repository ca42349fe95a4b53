"""Creases of folded paper and thin lines, from edge to edge of a picture: digits keep their ink."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support.fields import make

IMAGES, LABELS = load_mnist_test()
FIELDS = list(make("spaced", 6, IMAGES, LABELS, 12, length=(4, 6)))
TEXTS = [text for _, text in FIELDS]


def crease(
    shape: tuple[int, ...],
    depth: float,
    wide: float,
    degrees: float,
    *,
    level: bool = False,
    at: float = 0.5,
) -> np.ndarray:
    """Light along a soft line from one edge to the other."""
    down, across = np.indices(shape[:2])
    if level:
        down, across = across, down
    middle = at * shape[level ^ 1] + (down - shape[level] / 2) * np.tan(np.radians(degrees))
    light: np.ndarray = 1 - depth * np.exp(-(((across - middle) / wide) ** 2))
    return light


def grey(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def misread(change: Callable[[np.ndarray], np.ndarray]) -> int:
    return sum(fastdigit.read(change(image)).text != text for image, text in FIELDS)


@pytest.mark.parametrize("degrees", [0, 2])
@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize(("depth", "wide"), [(0.2, 2), (0.35, 4), (0.5, 3), (0.5, 8)])
def test_a_crease_is_no_stroke(depth: float, wide: float, degrees: float, level: bool) -> None:
    def folded(image: np.ndarray) -> np.ndarray:
        return grey(image * crease(image.shape, depth, wide, degrees, level=level))

    assert misread(folded) <= 1


def test_several_creases() -> None:
    def folded(image: np.ndarray) -> np.ndarray:
        light = crease(image.shape, 0.35, 3, 1, at=0.3) * crease(image.shape, 0.4, 4, -1, at=0.7)
        return grey(image * light * crease(image.shape, 0.3, 3, 1, level=True))

    assert misread(folded) <= 1


@pytest.mark.parametrize("value", [0, 40, 120, 160])
def test_a_line_drawn_through_a_field(value: int) -> None:
    def lined(image: np.ndarray) -> np.ndarray:
        image = image.copy()
        rows = np.arange(len(image))
        image[rows, image.shape[1] // 2 + rows * 4 // len(image)] = value
        return image

    assert misread(lined) <= 1


def test_bright_ink() -> None:
    def inverted(image: np.ndarray) -> np.ndarray:
        return 255 - grey(image * crease(image.shape, 0.35, 3, 1))

    assert misread(inverted) <= 1


def test_a_folded_page() -> None:
    high, wide = (max(image.shape[axis] for image, _ in FIELDS) + 60 for axis in (0, 1))
    paper = np.full((3 * high, 2 * wide), 240.0)
    for number, (image, _) in enumerate(FIELDS):
        top, left = number // 2 * high + 30, number % 2 * wide + 30
        paper[top : top + image.shape[0], left : left + image.shape[1]] = image
    plain = fastdigit.read(grey(paper)).text
    assert len(set(plain.split()) & set(TEXTS)) >= len(TEXTS) - 1
    for depth, soft in ((0.2, 3), (0.5, 3), (0.35, 8)):
        folds = [(0.8, False, 0.25), (-0.7, True, 1 / 3), (0.5, True, 2 / 3)]
        light = np.ones(paper.shape)
        for degrees, level, at in folds:
            light *= crease(paper.shape, depth, soft, degrees, level=level, at=at)
        assert fastdigit.read(grey(paper * light)).text == plain


@pytest.mark.parametrize("shape", [(100, 200), (300, 400), (1200, 850)])
@pytest.mark.parametrize("wide", [1, 4, 12])
@pytest.mark.parametrize("level", [False, True])
def test_a_crease_of_noisy_empty_paper_is_no_one(
    shape: tuple[int, int], wide: float, level: bool
) -> None:
    noise = np.random.default_rng(1).normal(0, 2, shape)
    for depth in (0.2, 0.5):
        light = crease(shape, depth, wide, 1.5, level=level, at=0.45)
        assert fastdigit.read(grey((230 + noise) * light)).text == ""


def test_a_one_from_edge_to_edge_is_read() -> None:
    """As high as its picture, alone or in a field of which each digit is."""
    for number in np.flatnonzero(LABELS == 1)[:20]:
        image = np.kron(255 - IMAGES[number].astype(float), np.ones((5, 5)))
        inked = np.flatnonzero(image.min(1) < 150)
        part = grey(image[inked[0] : inked[-1] + 1])
        assert fastdigit.read(part).text == "1"


def test_a_field_as_high_as_its_picture_is_read() -> None:
    for image, text in make("spaced", 10, IMAGES, LABELS, 8, length=(4, 4)):
        inked = np.flatnonzero(image.min(1) < 128)
        part = image[inked[0] : inked[-1] + 1]
        assert fastdigit.read(part).text == fastdigit.read(image).text, text


def test_creases_that_cross_on_the_digits() -> None:
    def folded(image: np.ndarray) -> np.ndarray:
        light = crease(image.shape, 0.35, 3, 1, at=0.3)
        return grey(image * light * crease(image.shape, 0.4, 4, -1, level=True))

    assert misread(folded) <= 2

"""Folds, creases and noise of paper: a page keeps its digits, and an empty one has none."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from tests.support import need
from tests.support.fields import make

IMAGES, LABELS = load_mnist_test()


def page(rows: int = 3, columns: int = 2) -> tuple[np.ndarray, list[str]]:
    """Fields of handwritten digits in lines, on paper of one brightness, and what they say."""
    fields = list(make("spaced", rows * columns, IMAGES, LABELS, 5, length=(4, 4)))
    high, wide = (max(image.shape[axis] for image, _ in fields) + 60 for axis in (0, 1))
    paper = np.full((rows * high, columns * wide), 240.0)
    for number, (image, _) in enumerate(fields):
        top, left = number // columns * high + 30, number % columns * wide + 30
        paper[top : top + image.shape[0], left : left + image.shape[1]] = image
    return paper, [text for _, text in fields]


def fold(
    shape: tuple[int, ...], across: float, down: float, depth: float, wide: float
) -> np.ndarray:
    """Light along a soft line through the middle."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = across * (columns - 0.45 * shape[1]) + down * (rows - 0.45 * shape[0])
    light: np.ndarray = 1 - depth * np.exp(-((away / wide) ** 2))
    return light


def grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("line", "depth", "wide"),
    [
        (line, *kind)
        for line in [(1, 0), (0, 1), (0.7, 0.7)]
        for kind in [(0.2, 15), (0.3, 30), (0.5, 30), (0.5, 80)]
        # Askew, so dark a fold hides what it crosses.
        if (line[0], *kind) != (0.7, 0.5, 30)
    ],
)
def test_a_fold_costs_no_digits(line: tuple[float, float], depth: float, wide: float) -> None:
    paper, texts = page()
    image = grey(paper * fold(paper.shape, *line, depth, wide))
    assert sorted(fastdigit.read(image).text.split()) == sorted(texts)


@pytest.mark.parametrize("noise", [0, 4])
def test_folds_that_cross(noise: int) -> None:
    paper, texts = page()
    paper *= fold(paper.shape, 1, 0, 0.3, 30) * fold(paper.shape, 0, 1, 0.3, 20)
    paper += np.random.default_rng(0).normal(0, noise, paper.shape)
    assert sorted(fastdigit.read(grey(paper)).text.split()) == sorted(texts)


@pytest.mark.parametrize("line", [(1, 0), (0, 1)])
@pytest.mark.parametrize(("depth", "wide"), [(0.14, 8), (0.14, 30), (0.36, 8), (0.36, 30)])
@pytest.mark.parametrize("shape", [(300, 400), (600, 800)])
def test_a_fold_of_empty_paper_is_no_one(
    shape: tuple[int, int], depth: float, wide: float, line: tuple[float, float]
) -> None:
    assert fastdigit.read(grey(220 * fold(shape, *line, depth, wide))).text == ""


@pytest.mark.parametrize("quality", [20, 50, 75])
@pytest.mark.parametrize("noise", [2, 4, 8])
def test_noise_of_empty_paper_is_no_digit(noise: int, quality: int) -> None:
    pillow = need("PIL.Image")
    random = np.random.default_rng(noise)
    for light in (np.full((550, 850), 225.0), np.linspace(150, 230, 850) * np.ones((550, 1))):
        paper = grey(light + random.normal(0, noise, light.shape))
        file = io.BytesIO()
        pillow.fromarray(paper).save(file, "JPEG", quality=quality)
        image = np.asarray(pillow.open(file))
        fields = fastdigit.read(image).fields
        assert all(field.probability <= 0.5 for field in fields)
        assert len(fields) <= 1


def test_a_mask_is_not_ignored() -> None:
    paper, _ = page(1, 1)
    image = grey(paper)
    for run in (fastdigit.read, fastdigit.normalize):
        with pytest.raises(InputError, match=r"mask.*filled\(255\)"):
            run(np.ma.masked_array(image, image < 100))
    whole = np.ma.masked_array(image, False)
    assert fastdigit.read(whole).text == fastdigit.read(image).text

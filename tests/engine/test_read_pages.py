"""Pages beyond 2048 pixels: what is too small once averaged down is read from the pixels given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.reader.reading import PAGE_SIDE
from tests.support import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

Image = need("PIL.Image")
IMAGES, LABELS = load_mnist_test()


def page(
    shape: tuple[int, int], height: int, places: list[tuple[int, int]], length: int = 6
) -> tuple[NDArray[np.uint8], list[str]]:
    """Fields of MNIST's digits, so many pixels high, with their top left corners there."""
    random = np.random.default_rng(height)  # the same page whichever tests ran before
    scale = height / 20
    side = round(28 * scale)
    ink = np.zeros(shape)
    texts = []
    for top, left in places:
        chosen = random.integers(0, len(IMAGES), length)
        texts.append("".join(str(label) for label in LABELS[chosen]))
        for place, image in enumerate(IMAGES[chosen].reshape(-1, 28, 28)):
            drawn = Image.fromarray(np.uint8(image)).resize((side, side), Image.Resampling.BICUBIC)
            at = left + round(22 * scale * place)
            part = ink[top : top + side, at : at + side]
            np.maximum(part, np.asarray(drawn) / 255, out=part)
    noise = random.normal(0, 2, shape)
    return np.uint8(np.clip(245 - 200 * ink + noise, 0, 255)), texts


def right(image: NDArray[np.uint8], texts: list[str]) -> int:
    reading = fastdigit.read(image)
    assert not reading.left_out
    assert len(reading.fields) <= len(texts) + 2
    return sum(field.text == text for field, text in zip(reading.fields, texts, strict=False))


@pytest.mark.parametrize(("rows", "height"), [(3508, 14), (3508, 24), (4960, 18), (4960, 30)])
def test_small_digits_of_a_large_page_are_read(rows: int, height: int) -> None:
    places = [(top, left) for top in range(100, rows - 200, 500) for left in (100, 900, 1600)]
    image, texts = page((rows, 2480), height, places)
    assert right(image, texts) >= 0.9 * len(texts)


def test_they_are_read_as_from_a_region_and_boxes_are_of_the_page() -> None:
    image, texts = page((2600, 2400), 18, [(300, 200), (300, 1500), (2100, 900)])
    whole = fastdigit.read(image).fields
    assert len(whole) == len(texts)
    for field in whole:
        top, bottom, left, right = field.box
        region = (top - 12, bottom + 12, left - 12, right + 12)
        (alone,) = fastdigit.read(image, region=region).fields
        assert alone.text == field.text
        assert np.abs(np.subtract(alone.box, field.box)).max() <= 2


def test_a_line_longer_than_a_page_may_be_is_one_field() -> None:
    image, texts = page((120, 6500), 20, [(40, 40)], length=280)
    assert image.shape[1] > 3 * PAGE_SIDE
    (field,) = fastdigit.read(image).fields
    assert len(field.text) == pytest.approx(len(texts[0]), abs=4)


def test_options_hold_for_them() -> None:
    image, texts = page((2600, 1200), 18, [(300, 200), (900, 200)])
    found = fastdigit.read(image, length=6).fields
    assert [field.text for field in found] == texts
    assert all(len(field.text) == 7 for field in fastdigit.read(image, length=7).fields)
    assert not fastdigit.read(image, reject_below=1.0).fields

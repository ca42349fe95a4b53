"""Circles around a digit or a field: they are no zeros, and zeros with something in them are."""

from __future__ import annotations

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support.fields import make

IMAGES, LABELS = load_mnist_test()


def ring(
    image: np.ndarray, box: tuple[float, ...], wide: float = 3, gap: float = 0.0
) -> np.ndarray:
    """With a dark ellipse in a box, of whose turn a part is missing."""
    top, bottom, left, right = box
    y, x = np.indices(image.shape)
    down, across = (y - (top + bottom) / 2), (x - (left + right) / 2)
    radius = np.hypot(down / (bottom - top), across / (right - left)) * 2
    own = np.abs(radius - 1) * min(bottom - top, right - left) / 2 < wide / 2
    own &= np.abs(np.arctan2(down, across)) >= gap * np.pi
    drawn: np.ndarray = np.where(own, 40, image).astype(np.uint8)
    return drawn


def digit(number: int) -> np.ndarray:
    large = np.kron(IMAGES[number].astype(float), np.ones((3, 3)))
    return np.pad(235 - 0.8 * large, 20, constant_values=235)


@pytest.mark.parametrize("gap", [0, 0.1])
def test_a_circled_digit(gap: float) -> None:
    misread = 0
    for number in range(20):
        side = len(digit(number))
        image = ring(digit(number), (6, side - 6, 6, side - 6), gap=gap)
        misread += fastdigit.read(image).text != str(LABELS[number])
    assert misread <= 1


@pytest.mark.parametrize("wide", [2, 4])
def test_an_ellipse_around_a_field(wide: float) -> None:
    for image, text in make("spaced", 8, IMAGES, LABELS, 3, length=(3, 5)):
        high, across = image.shape
        around = np.pad(image, ((60, 60), (30, 30)), mode="edge")
        box = (4, high + 116, 4, across + 56)
        assert fastdigit.read(image).text == text
        assert fastdigit.read(ring(around, box, wide)).text == text


def test_what_is_in_a_zero_or_beside_it_is_no_reason_to_take_it_out() -> None:
    paper = np.full((120, 300), 235, np.uint8)
    plain = paper
    for left in (20, 90, 160, 230):
        plain = ring(plain, (30, 90, left, left + 40), 6)
    assert fastdigit.read(plain).text == "0000"
    dotted, slashed = plain.copy(), plain.copy()
    for left in (20, 90, 160, 230):
        dotted[55:65, left + 16 : left + 24] = 40
        for row in range(36, 84):
            column = left + 20 + (60 - row) // 3
            slashed[row, column : column + 4] = 40
    # What is read in its place is for the networks to say; there are four marks.
    assert len(fastdigit.read(dotted, length=4).fields) == 1
    assert fastdigit.read(slashed, length=4).text != ""

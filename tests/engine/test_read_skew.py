"""``fastdigit.read`` of lines that are not level, and of digits of several sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.reader.skew import STEEPEST, Straightened, slope_of
from tests.support import need
from tests.support.fields import make

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES, LABELS = load_mnist_test()
PAPER = 240
SIDE, PITCH = 28, 60

Box = tuple[int, int, int, int]


def page_of(lines: list[str]) -> tuple[NDArray[np.uint8], list[Box]]:
    """Test digits of their own size, about 20 pixels high, and where each of them is."""
    page = np.full((PITCH * len(lines) + 40, 700), PAPER, np.uint8)
    boxes = []
    for number, line in enumerate(lines):
        x, y = 30, 30 + PITCH * number
        for letter in line:
            if letter == " ":
                x += 60
                continue
            digit = IMAGES[np.flatnonzero(int(letter) == LABELS)[3 + number % 3]]
            rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
            digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            high, wide = digit.shape
            below = page[y : y + high, x : x + wide]
            np.minimum(below, PAPER - (digit * 0.85).astype(np.uint8), out=below)
            boxes.append((y, y + high, x, x + wide))
            x += wide + 6
    return page, boxes


def turned(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Clockwise about the middle, and none of it cut off."""
    Image = need("PIL.Image")
    how = Image.Resampling.BICUBIC
    drawn = Image.fromarray(image).rotate(-degrees, how, expand=True, fillcolor=PAPER)
    return np.asarray(drawn)


def middle_after(box: Box, image: NDArray[np.uint8], degrees: float) -> tuple[float, float]:
    """Where the middle of a box is in the turned image."""
    top, bottom, left, right = box
    y, x = (top + bottom - image.shape[0]) / 2, (left + right - image.shape[1]) / 2
    angle = math.radians(degrees)
    shape = turned(image, degrees).shape
    return (
        y * math.cos(angle) + x * math.sin(angle) + shape[0] / 2,
        x * math.cos(angle) - y * math.sin(angle) + shape[1] / 2,
    )


LINES = ["3141 592 65", "358 97932", "38 462 6433", "8327 95 028"]


@pytest.mark.parametrize("degrees", [0, 1, 3, -5, 8, -11])
def test_a_page_that_is_askew(degrees: float) -> None:
    """It is read as if it were level, and boxes are where the digits are in the picture."""
    page, boxes = page_of(LINES)
    image = turned(page, degrees)
    reading = fastdigit.read(image)
    assert reading.text.split() == " ".join(LINES).split()
    assert len(reading.lines) == len(LINES)
    digits = [digit for field in reading.fields for digit in field.digits]
    for digit, box in zip(digits, boxes, strict=True):
        y, x = middle_after(box, page, degrees)
        top, bottom, left, right = digit.box
        assert abs((top + bottom) / 2 - y) < 3 and abs((left + right) / 2 - x) < 3
        assert abs((bottom - top) - (box[1] - box[0])) < 7
        assert image[top:bottom, left:right].min() < 120


@pytest.mark.parametrize("kind", ["spaced", "baseline", "boxes", "comb", "frame"])
@pytest.mark.parametrize("degrees", [-10, 4])
def test_fields_that_are_askew(kind: str, degrees: float) -> None:
    made = list(make(kind, 6, IMAGES, LABELS, seed=3))
    right = sum(fastdigit.read(turned(image, degrees)).text == text for image, text in made)
    assert right >= 5


def test_what_is_level_stays_as_it_is() -> None:
    page, _ = page_of(LINES)
    ink = (PAPER - page) / PAPER
    assert slope_of(ink, 20) == 0
    assert slope_of(np.zeros((50, 90)), 20) == 0
    assert slope_of(ink[:60, :60], 20) == 0


@pytest.mark.parametrize("slope", [-0.2, -0.05, 0.02, 0.11])
def test_slopes_are_found_and_taken_out(slope: float) -> None:
    page, _ = page_of(LINES)
    image = turned(page, math.degrees(math.atan(slope)))
    ink = (PAPER - image.astype(np.float64)).clip(0) / PAPER
    found = slope_of(ink, 20)
    assert abs(found - slope) < 0.01 and abs(found) <= STEEPEST
    assert slope_of(Straightened(ink, found).ink, 20) == 0


@pytest.mark.parametrize("slope", [-0.17, 0.03])
def test_boxes_of_a_straightened_page_lead_back(slope: float) -> None:
    """A mark's box in it, back on the page, is that mark's."""
    random = np.random.default_rng(5)
    for _ in range(20):
        ink = np.zeros((120, 300))
        top, left = random.integers(5, 90), random.integers(5, 270)
        high, wide = random.integers(8, 25, 2)
        ink[top : top + high, left : left + wide] = 1
        straightened = Straightened(ink, slope)
        assert abs(straightened.ink.sum() - ink.sum()) < 1e-6 * ink.sum()
        rows, columns = np.nonzero(straightened.ink > 0.3)
        box = straightened.box((rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
        want = (top, top + high, left, left + wide)
        assert np.abs(np.subtract(box, want)).max() <= 2


@pytest.mark.parametrize("size", [60, 160])
def test_digits_under_a_heading_of_large_letters(size: int) -> None:
    """They are small beside what has most ink, and lines all the same."""
    Image, ImageDraw, ImageFont = map(need, ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"))
    page, _ = page_of(LINES)
    heading = Image.new("L", (page.shape[1], size + 60), PAPER)
    ImageDraw.Draw(heading).text((20, 10), "FORM", 30, font=ImageFont.load_default(size))
    reading = fastdigit.read(np.concatenate([np.asarray(heading), page]))
    assert [" ".join(f.text for f in line) for line in reading.lines][-len(LINES) :] == LINES

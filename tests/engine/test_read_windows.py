"""``fastdigit.read`` of bright digits in dark windows, as meters and counters have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.reader.windows import window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES, LABELS = load_mnist_test()
PANEL, GROUND = 190, 40
HIGH, WIDE = 66, 48


def meter(
    text: str, gap: int = 10, turned: int = 0, scale: int = 1
) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]]]:
    """Windows side by side on a panel, and where each is; the last roller is turned by pixels."""
    page = np.full((HIGH + 80, len(text) * (WIDE + gap) + 100), PANEL, np.uint8)
    if not gap:  # one window
        page[40 : 40 + HIGH, 50:-50] = GROUND
    boxes = []
    for number, letter in enumerate(text):
        digit = IMAGES[np.flatnonzero(int(letter) == LABELS)[4]].repeat(2, 0).repeat(2, 1)
        roller = np.full((3 * HIGH, WIDE), GROUND, np.uint8)
        digit = (GROUND + digit * 0.8)[:, (56 - WIDE) // 2 :][:, :WIDE].astype(np.uint8)
        top = HIGH + (HIGH - 56) // 2 - (turned if number == len(text) - 1 else 0)
        roller[top : top + 56] = digit
        left = 50 + number * (WIDE + gap) + gap // 2
        page[40 : 40 + HIGH, left : left + WIDE] = roller[HIGH : 2 * HIGH]
        boxes.append((40, 40 + HIGH, left, left + WIDE))
    page = page.repeat(scale, 0).repeat(scale, 1)
    return page, [tuple(scale * edge for edge in box) for box in boxes]  # type: ignore[misc]


@pytest.mark.parametrize("scale", [1, 8])
@pytest.mark.parametrize("gap", [0, 10])
def test_a_meter_is_read_in_its_windows(gap: int, scale: int) -> None:
    """Each box is inside its window, in pixels of the picture, also if that is averaged down."""
    image, windows = meter("047253", gap, scale=scale)
    reading = fastdigit.read(image)
    assert "".join(reading.text.split()) == "047253" and len(reading.lines) == 1
    digits = [digit for field in reading.fields for digit in field.digits]
    for digit, window in zip(digits, windows, strict=True):
        slack = 3 * scale
        assert window[0] <= digit.box[0] < digit.box[1] <= window[1] + slack
        assert window[2] - slack <= digit.box[2] < digit.box[3] <= window[3] + slack


def test_boxes_in_a_region_are_in_pixels_of_the_picture() -> None:
    image, _ = meter("047253")
    wider = np.pad(image, ((100, 20), (30, 200)), constant_values=PANEL)
    height, width = image.shape
    region = (100, 100 + height, 30, 30 + width)
    there, here = fastdigit.read(wider, region=region), fastdigit.read(image)
    assert there.text == here.text
    for one, other in zip(there.fields, here.fields, strict=True):
        assert np.array_equal(np.subtract(one.box, other.box), (100, 100, 30, 30))


def test_a_roller_that_is_turning_stands_in_the_line() -> None:
    image, _ = meter("047253", turned=22)
    reading = fastdigit.read(image)
    assert len(reading.lines) == 1 and "".join(reading.text.split()).startswith("04725")


def test_what_has_no_windows() -> None:
    for number in (0, 3, 9):
        digit = 255 - IMAGES[number].repeat(4, 0).repeat(4, 1)
        assert window_of(np.pad(digit, 40, constant_values=255) / 255) is None
    assert window_of(np.full((60, 90), 0.3)) is None
    random = np.random.default_rng(0)
    assert window_of(random.uniform(0, 0.1, (60, 90))) is None
    black = np.ones((90, 120))
    black[20:70, 30:90] = 0
    assert window_of(black) is None  # a window with nothing in it
    # Bold letters have light between their strokes, and are no boxes.
    black[35:70, 38:50] = black[35:70, 70:82] = black[20:50, 54:66] = black[40:60, 84:90] = 1
    assert window_of(black) is None
    assert not fastdigit.read(black).text

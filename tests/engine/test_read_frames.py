"""Frames around fields and digits are judged by what they frame, not by the size of the page."""

from __future__ import annotations

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support import need

IMAGES, LABELS = load_mnist_test()
PAPER, INK, HIGH, PITCH = 235, 40, 54, 34


def digit(label: str, number: int) -> np.ndarray:
    """A test digit, 0 to 1, 42 pixels high and wide."""
    image = IMAGES[np.flatnonzero(int(label) == LABELS)[3 + number]] / 255
    at = (np.arange(42) + 0.5) * 28 / 42 - 0.5
    rows = np.array([np.interp(at, np.arange(28), column) for column in image.T]).T
    return np.array([np.interp(at, np.arange(28), row) for row in rows])


def framed(page: np.ndarray, box: tuple[int, int, int, int], width: int, ink: int) -> None:
    """Draw a frame, in place."""
    top, bottom, left, right = box
    for part in (
        page[top : top + width, left:right],
        page[bottom - width : bottom, left:right],
        page[top:bottom, left : left + width],
        page[top:bottom, right - width : right],
    ):
        part[:] = ink


def form(rows: list[list[str]], gap: int, width: int, right: int = 40) -> np.ndarray:
    """Fields of up to six digits, a frame of 230 x 54 around each."""
    page = np.full((60 + 84 * len(rows), 40 + len(rows[0]) * (230 + gap) - gap + right), PAPER)
    page = page.astype(np.float64)
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            top, left = 30 + 84 * i, 40 + j * (230 + gap)
            if width:
                framed(page, (top, top + HIGH, left, left + 230), width, 90)
            for number, label in enumerate(text):
                start = left + 8 + PITCH * number
                page[top + 6 : top + 48, start : start + 42] -= (PAPER - INK) * digit(label, number)
    return page.clip(0, 255).round().astype(np.uint8)


def cells(text: str, gap: int, width: int, ink: int) -> np.ndarray:
    """A frame of 50 x 50 around each digit."""
    page = np.full((170, 120 + len(text) * (50 + gap)), float(PAPER))
    for number, label in enumerate(text):
        left = 60 + number * (50 + gap)
        framed(page, (60, 110, left, left + 50), width, ink)
        page[64:106, left + 4 : left + 46] -= (PAPER - INK) * digit(label, number)
    return page.clip(0, 255).round().astype(np.uint8)


def turned(page: np.ndarray, degrees: float) -> np.ndarray:
    image = need("PIL.Image")
    picture = image.fromarray(page)
    return np.asarray(
        picture.rotate(degrees, image.Resampling.BICUBIC, expand=True, fillcolor=PAPER)
    )


def texts(page: np.ndarray) -> list[str]:
    return [field.text for field in fastdigit.read(page).fields]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("right", [40, 60, 140, 500])
def test_a_frame_is_none_however_much_paper_there_is(width: int, right: int) -> None:
    assert texts(form([["5539"]], 0, width, right)) == ["5539"]


@pytest.mark.parametrize("gap", [10, 30, 60])
def test_frames_part_fields(gap: int) -> None:
    rows = [["553901", "634910"], ["402177", "117171"]]
    assert texts(form(rows, gap, 2)) == [text for row in rows for text in row]


@pytest.mark.parametrize("gap", [0, 6, 15, 25])
@pytest.mark.parametrize(("width", "ink"), [(1, 90), (2, 40)])
def test_a_frame_a_digit_is_one_field(gap: int, width: int, ink: int) -> None:
    for text in ("47265", "11711"):
        assert texts(cells(text, gap, width, ink)) == [text]


@pytest.mark.parametrize("degrees", [2, 5, -8])
def test_frames_that_are_askew(degrees: float) -> None:
    assert texts(turned(form([["5539", "6349"]], 60, 2), degrees)) == ["5539", "6349"]
    assert texts(turned(cells("47265", 15, 2, 40), degrees)) == ["47265"]


def test_a_small_table_is_taken_out() -> None:
    page = np.full((400, 900), float(PAPER))
    wanted = [["47", "11"], ["52", "906"]]
    for i, row in enumerate(wanted):
        for j, text in enumerate(row):
            top, left = 100 + 60 * i, 80 + 150 * j
            framed(page, (top, top + 62, left, left + 152), 2, 60)
            for number, label in enumerate(text):
                start = left + 20 + PITCH * number
                page[top + 10 : top + 52, start : start + 42] -= 195 * digit(label, number)
    assert texts(page.clip(0, 255).astype(np.uint8)) == ["47", "11", "52", "906"]


def test_empty_frames_are_nothing() -> None:
    page = form([["5539", ""]], 60, 2)
    assert texts(page) == ["5539"]
    assert texts(cells("", 0, 2, 40)) == []
    blank = np.full((300, 600), PAPER, np.uint8)
    framed(blank, (100, 154, 100, 330), 2, 60)
    framed(blank, (100, 150, 400, 450), 2, 60)
    assert texts(blank) == []


@pytest.mark.parametrize("thick", [3, 4, 5])
def test_strokes_that_close_a_rectangle_are_a_digit(thick: int) -> None:
    """A zero as displays have it: its strokes are thick for its size."""
    page = np.full((140, 400), PAPER, np.uint8)
    framed(page, (40, 90, 60, 90), thick, INK)
    assert texts(page) == ["0"]


@pytest.mark.parametrize("degrees", [0, 1])
@pytest.mark.parametrize("text", ["5139", "7164", "3211", "6815"])
def test_strokes_from_line_to_line_are_no_lines(text: str, degrees: float) -> None:
    """Digits as high as their frame, whose ones touch it above and below, or nearly."""
    page = np.full((160, 100 + 34 * len(text)), float(PAPER))
    framed(page, (58, 102, 44, 60 + 34 * len(text)), 2, 90)
    for number, label in enumerate(text):
        left = 50 + 34 * number
        if label == "1":
            page[60:100, left + 14 : left + 19] = INK
            continue
        rows = np.flatnonzero(digit(label, number).max(1) > 0.3)
        own = digit(label, number)[rows[0] + 1 : rows[-1]]
        high = len(own)
        page[80 - high // 2 : 80 - high // 2 + high, left : left + 42] -= (PAPER - INK) * own
    image = page.clip(0, 255).round().astype(np.uint8)
    assert texts(turned(image, degrees) if degrees else image) == [text]


@pytest.mark.parametrize("aside", [-4, -2, 0])
@pytest.mark.parametrize("text", ["1594", "7261", "6351"])
def test_ones_on_the_sides_of_a_frame_are_read(text: str, aside: int) -> None:
    """Of a side that is thicker in a part, that part is a stroke."""
    page = np.full((160, 100 + 34 * len(text)), float(PAPER))
    sides = 60, 40 + 34 * len(text)
    framed(page, (52, 112, sides[0], sides[1] + 2), 2, 90)
    for number, label in enumerate(text):
        left = 44 + 34 * number
        if number in (0, len(text) - 1) and label == "1":
            start = sides[0] + aside if number == 0 else sides[1] - 4 - aside
            page[62:102, start : start + 6] = INK
            continue
        page[62:104, left : left + 42] -= (PAPER - INK) * digit(label, number)
    assert texts(page.clip(0, 255).round().astype(np.uint8)) == [text]


@pytest.mark.parametrize(("level", "upright"), [(2, 5), (5, 2)])
def test_sides_of_a_frame_may_be_of_two_widths(level: int, upright: int) -> None:
    page = form([["5539"]], 60, 0)
    top, bottom, left, right = 20, 94, 30, 270
    for part in (
        page[top : top + level, left:right],
        page[bottom - level : bottom, left:right],
        page[top:bottom, left : left + upright],
        page[top:bottom, right - upright : right],
    ):
        part[:] = 90
    assert texts(page) == ["5539"]

"""How much work it takes to read a picture, counted and not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.reader import judge, reading
from tests.support import need
from tests.support.fields import make

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.reader.candidates import Candidates

IMAGES, LABELS = load_mnist_test()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """What a network is asked of, call by call."""
    calls: list[NDArray[np.uint8]] = []
    drawn = judge.images_of

    def images_of(candidates: Candidates, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        images = drawn(candidates, chosen)
        calls.append(images)
        return images

    monkeypatch.setattr(judge, "images_of", images_of)
    return calls


def test_parts_of_what_is_a_digit_are_not_asked_for(asked: list[NDArray[np.uint8]]) -> None:
    digits = 0
    for image, text in make("spaced", 20, IMAGES, LABELS, seed=3):
        digits += len(text)
        assert fastdigit.read(image).text == text
    assert digits <= sum(map(len, asked)) <= 2.5 * digits


def test_all_parts_of_digits_that_touch_are(asked: list[NDArray[np.uint8]]) -> None:
    digits = 0
    for image, text in make("overlapping", 20, IMAGES, LABELS, seed=3):
        digits += len(text)
        fastdigit.read(image)
    assert sum(map(len, asked)) >= 5 * digits


def lines_of(fields: list[list[str]], pitch: int = 90) -> NDArray[np.uint8]:
    """A page of fields of test digits, far apart."""
    width = max(sum(28 * len(text) + 90 for text in line) for line in fields)
    page = np.zeros((pitch * len(fields) + 40, width + 40), np.uint8)
    for row, line in enumerate(fields):
        left = 30
        for text in line:
            for digit in text:
                image = IMAGES[np.flatnonzero(int(digit) == LABELS)[7]]
                page[30 + pitch * row : 58 + pitch * row, left : left + 28] = image
                left += 28
            left += 90
    return 255 - page


def test_of_too_much_the_longest_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    page = lines_of([["1203", "4"], ["9876543210123456"], ["71"]])
    whole = fastdigit.read(page)
    assert whole.text == "1203 4\n9876543210123456\n71" and whole.left_out == ()
    monkeypatch.setattr(reading, "MOST_LOOKS", 60)
    found = fastdigit.read(page)
    assert found.text == "1203 4\n71"
    (box,) = found.left_out
    assert np.abs(np.array(box) - whole.lines[1][0].box).max() <= 2
    assert fastdigit.read(page, region=box).text == "9876543210123456"
    # Where the page is a region, or is averaged down.
    (moved,) = fastdigit.read(page, region=(20, page.shape[0], 10, page.shape[1])).left_out
    assert np.abs(np.array(moved) - box).max() <= 2
    large = np.kron(page, np.ones((5, 5), np.uint8))
    (larger,) = fastdigit.read(large).left_out
    assert np.abs(np.array(larger) - 5 * np.array(box)).max() <= 20


def noise() -> NDArray[np.uint8]:
    cells = np.random.default_rng(3).random((250, 250)) < 0.1
    return np.kron(255 - 255 * cells, np.ones((3, 3))).astype(np.uint8)


def grid() -> NDArray[np.uint8]:
    page = np.full((800, 800), 255, np.uint8)
    page[10::20] = page[11::20] = 0
    page[:, 10::20] = page[:, 11::20] = 0
    return page


def hatching(step: int = 14, slope: float = 1) -> NDArray[np.uint8]:
    page = need("PIL.Image").new("L", (800, 800), 255)
    draw = need("PIL.ImageDraw").Draw(page)
    for offset in range(-800, 1600, step):
        draw.line([(offset, 0), (offset + 800, 800 * slope)], fill=0, width=3)
    return np.asarray(page)


def print_of_letters() -> NDArray[np.uint8]:
    page = need("PIL.Image").new("L", (900, 900), 255)
    draw = need("PIL.ImageDraw").Draw(page)
    font = need("PIL.ImageFont").load_default(18)
    for row in range(10, 880, 24):
        draw.text(
            (10, row), "jumps over the lazy dog and so forth until the page is full" * 2, 0, font
        )
    return np.asarray(page)


@pytest.mark.parametrize(
    "page",
    [noise(), grid(), hatching(), hatching(30, 0.3), hatching(22, 0.2), print_of_letters()],
    ids=["noise", "grid", "steep", "sloping", "steepest", "letters"],
)
def test_work_is_bounded(
    page: NDArray[np.uint8], asked: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a page shows, and however it is drawn."""
    monkeypatch.setattr(reading, "MOST_LOOKS", 3000)
    found = fastdigit.read(page)
    # The last field may be a long one.
    longest = 8 * page.shape[1] // 6
    assert sum(map(len, asked)) <= 3000 + longest
    for top, bottom, left, right in found.left_out:
        assert 0 <= top < bottom <= page.shape[0] and 0 <= left < right <= page.shape[1]


def test_of_letters_most_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_LOOKS", 3000)
    assert len(fastdigit.read(print_of_letters()).left_out) > 10


def test_searching_for_what_is_wanted_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    page = print_of_letters()
    monkeypatch.setattr(reading, "MOST_LOOKS", 6000)
    plain, wanted = fastdigit.read(page), fastdigit.read(page, length=12, check="luhn")
    assert len(wanted.left_out) > len(plain.left_out) + 3

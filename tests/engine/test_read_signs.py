"""``fastdigit.read`` of printed lines with strokes, bars and brackets, which look like ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.images.components import marks_of
from fastdigit.reader.layout import rows_of, signs_of
from tests.support import need
from tests.support.fields import make

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]


@pytest.mark.parametrize("size", [24, 90])
@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("25/06/2084", "25062084"),
        ("(030) 523-45", "03052345"),
        ("5|9|23", "5923"),
        ("[58] 2304", "582304"),
        ("20580624", "20580624"),
    ],
)
def test_signs_among_printed_digits_are_no_ones(text: str, digits: str, size: int) -> None:
    Image, ImageDraw, ImageFont = map(need, ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"))
    page = Image.new("L", (9 * size, 2 * size), 240)
    ImageDraw.Draw(page).text((20, size // 3), text, 30, font=ImageFont.load_default(size))
    assert "".join(fastdigit.read(np.asarray(page)).text.split()) == digits


def line_of(*boxes: Box) -> NDArray[np.float64]:
    ink = np.zeros((80, 400))
    for top, bottom, left, right in boxes:
        ink[top:bottom, left:right] = 1
    return ink


EVEN: list[Box] = [(20, 50, 20 + 30 * n, 38 + 30 * n) for n in range(5)]
WRITTEN = [(a + 4 * (n % 3), b + 3 * (n % 2), c, d) for n, (a, b, c, d) in enumerate(EVEN)]


@pytest.mark.parametrize(
    ("others", "last", "sign"),
    [
        (EVEN, (18, 56, 200, 206), True),  # a bar
        (EVEN, (20, 50, 200, 206), False),  # as high as the others: a 1
        (EVEN, (12, 50, 200, 206), False),  # it stands on the line: among small letters, a 1
        (EVEN, (18, 56, 200, 230), False),  # wide
        (EVEN[:3], (18, 56, 200, 206), False),  # too few others
        (WRITTEN, (18, 58, 200, 206), False),
    ],
)
def test_what_is_a_sign(others: list[Box], last: Box, sign: bool) -> None:
    marks = marks_of(line_of(*others, last), cell=1)
    (row,) = rows_of(marks, 30)
    found = signs_of(marks, row)
    assert len(found) == sign
    for number in found:
        assert tuple(marks.boxes[number]) == last


def test_a_ring_is_no_sign() -> None:
    """Nor is anything else with two runs of ink in a row, such as a 4 that goes below the line."""
    ink = line_of(*EVEN, (18, 56, 200, 216))
    ink[22:52, 205:211] = 0
    marks = marks_of(ink, cell=1)
    (row,) = rows_of(marks, 30)
    assert not signs_of(marks, row)


def test_written_ones_are_digits() -> None:
    images, labels = load_mnist_test()
    ones = images[labels == 1][:60]
    others = images[labels != 1][:200]
    both = np.concatenate([ones, others])
    told = np.concatenate([np.ones(60, int), labels[labels != 1][:200]])
    made = list(make("spaced", 20, both, told, seed=5))
    read = [fastdigit.read(image).text for image, _ in made]
    want = "".join(text for _, text in made).count("1")
    assert abs("".join(read).count("1") - want) <= 1

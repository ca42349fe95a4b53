"""What lies around digits does no harm: an edge that is close, the table, shadows, lines."""

from __future__ import annotations

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from tests.support.fields import make

IMAGES, LABELS = load_mnist_test()


def cropped(number: int, margin: int) -> np.ndarray:
    """A digit, dark on white, its box and so many pixels around it."""
    inked = IMAGES[number] > 40
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    digit = IMAGES[number][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return 255 - np.pad(digit, margin)


def field(text: str, margin: int = 40, seed: int = 0) -> np.ndarray:
    """Test digits side by side, 28 pixels high, black on white."""
    random = np.random.default_rng(seed)
    chosen = [IMAGES[random.choice(np.flatnonzero(int(one) == LABELS)[:20])] for one in text]
    return 255 - np.pad(np.concatenate(chosen, axis=1), margin)


@pytest.mark.parametrize("margin", [0, 1, 3])
def test_one_digit_is_read_however_close_it_is_cut(margin: int) -> None:
    texts = [fastdigit.read(cropped(number, margin)).text for number in range(25)]
    right = [text == str(label) for text, label in zip(texts, LABELS, strict=False)]
    assert sum(right) >= 24, texts


def test_the_box_of_one_digit_is_where_it_is() -> None:
    page = np.full((300, 500), 255, np.uint8)
    page[120:148, 330:358] = 255 - IMAGES[0]
    (found,) = fastdigit.read(page).fields
    inked = np.argwhere(page < 155)
    (top, left), (bottom, right) = inked.min(0), inked.max(0) + 1
    assert found.text == "7" and len(found.digits) == 1
    np.testing.assert_allclose(found.box, (top, bottom, left, right), atol=2)


def test_a_region_close_to_a_digit() -> None:
    page = np.full((200, 400), 255, np.uint8)
    page[50:78, 100:128] = 255 - IMAGES[0]
    page[50:78, 200:228] = 255 - IMAGES[1]
    inked = np.argwhere(page[:, :150] < 155)
    (top, left), (bottom, right) = inked.min(0).tolist(), (inked.max(0) + 1).tolist()
    reading = fastdigit.read(page, region=(top, bottom, left, right))
    assert reading.text == "7"
    assert reading.fields[0].box == (top, bottom, left, right)


@pytest.mark.parametrize("length", [20, 60, 120])
def test_a_line_alone_is_no_digit(length: int) -> None:
    page = np.full((100, 160), 230, np.uint8)
    page[45:48, 20 : 20 + length] = 40
    assert fastdigit.read(page).text == ""


@pytest.mark.parametrize("width", [3, 12, 40])
@pytest.mark.parametrize("side", range(4))
def test_a_dark_strip_along_an_edge(width: int, side: int) -> None:
    pads = [[(0, 0), (width, 0)], [(0, 0), (0, width)], [(width, 0), (0, 0)], [(0, width), (0, 0)]]
    page = np.pad(np.concatenate([field("31415"), field("92653", seed=1)]), pads[side])
    assert fastdigit.read(page).text == "31415\n92653"


def test_upright_lines_from_edge_to_edge() -> None:
    page = np.concatenate([field(text, seed=2) for text in ("207", "314", "606")])
    page[:, [12, 13, -13, -12]] = 0
    assert fastdigit.read(page).text == "207\n314\n606"


@pytest.mark.parametrize(("table", "around"), [(20, 15), (60, 40), (100, 20), (130, 60), (170, 60)])
def test_paper_on_a_darker_table(table: int, around: int) -> None:
    page = np.pad(field("804055"), around, constant_values=table)
    assert fastdigit.read(page).text == "804055"


@pytest.mark.parametrize("light", [0.8, 0.6, 0.5, 0.35])
def test_a_shadow_with_a_sharp_edge(light: float) -> None:
    page = field("941118", margin=80, seed=3)
    half = page.shape[1] // 2
    page[:, :half] = page[:, :half] * light
    assert fastdigit.read(page).text == "941118"


def test_digits_that_go_as_far_as_the_picture_stay() -> None:
    """A one at the edge is as long as a line from edge to edge."""
    bar = np.zeros((28, 4), np.uint8)
    bar[:, 1:] = 255
    for image, text in make("spaced", 6, IMAGES, LABELS, 1):
        inked = np.argwhere(image < 150)
        (top, left), (bottom, right) = inked.min(0), inked.max(0) + 1
        close = image[top:bottom, left:right]
        assert fastdigit.read(close).text == text
    row = 255 - np.concatenate([bar, np.zeros((28, 6), np.uint8), IMAGES[0], IMAGES[1]], axis=1)
    row = row[4:24]
    assert fastdigit.read(row).text == "172"

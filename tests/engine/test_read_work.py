"""How much work it takes to read a picture, counted and not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.reader import judge
from tests.support.fields import make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastdigit.reader.candidates import Candidate

IMAGES, LABELS = load_mnist_test()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Candidate]]:
    """What a network is asked of, call by call."""
    calls: list[Sequence[Candidate]] = []
    drawn = judge.images_of

    def images_of(candidates: Sequence[Candidate]) -> NDArray[np.uint8]:
        calls.append(candidates)
        return drawn(candidates)

    monkeypatch.setattr(judge, "images_of", images_of)
    return calls


def test_parts_of_what_is_a_digit_are_not_asked_for(asked: list[Sequence[Candidate]]) -> None:
    digits = 0
    for image, text in make("spaced", 20, IMAGES, LABELS, seed=3):
        digits += len(text)
        assert fastdigit.read(image).text == text
    assert digits <= sum(map(len, asked)) <= 2.5 * digits


def test_all_parts_of_digits_that_touch_are(asked: list[Sequence[Candidate]]) -> None:
    digits = 0
    for image, text in make("overlapping", 20, IMAGES, LABELS, seed=3):
        digits += len(text)
        fastdigit.read(image)
    assert sum(map(len, asked)) >= 5 * digits

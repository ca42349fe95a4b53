"""The probabilities of fields and of their digits: one meaning, from the same ways to read them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.images.ink import checked, grey_of, reduced
from fastdigit.reader.judge import NOT_A_DIGIT, judged
from fastdigit.reader.proposals import propose
from fastdigit.reader.reading import PAGE_SIDE
from fastdigit.reader.ways import Way, Ways, ways_of
from tests.support.fields import KINDS, make

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES, LABELS = load_mnist_test()


@pytest.mark.parametrize("kind", KINDS)
def test_a_digit_is_at_least_as_probable_as_its_field(kind: str) -> None:
    for image, _ in make(kind, 4, IMAGES, LABELS, seed=8):
        for field in fastdigit.read(image).fields:
            for digit in field.digits:
                assert field.probability <= digit.probability <= 1
                shares = [share for _, share in digit.alternatives]
                assert all(share > 0 for share in shares)
                assert digit.probability + sum(shares) <= 1 + 1e-9
                assert all(more >= less for more, less in pairwise(shares))


def ways_with(shares: dict[str, float]) -> Ways:
    return Ways([Way(share, text, None) for text, share in shares.items()], None, None, False)


@pytest.mark.parametrize(
    ("shares", "text", "want"),
    [
        ({"12": 1.0}, "12", [1, 1]),
        ({"12": 0.7, "17": 0.2, "62": 0.1}, "12", [0.9, 0.8]),
        ({"123": 0.6, "13": 0.3, "": 0.1}, "123", [0.9, 0.6, 0.9]),  # one is missing
        ({"123": 0.6, "1423": 0.4}, "123", [1, 1, 1]),  # one is too many
        ({"11": 0.6, "1": 0.4}, "11", [1, 0.6]),  # there is but one of both
        ({"5": 0.5, "77": 0.5}, "5", [0.5]),
        ({"12": 0.4, "": 0.6}, "12", [0.4, 0.4]),
    ],
)
def test_of_a_digit_count_all_ways_that_have_it_there(
    shares: dict[str, float], text: str, want: Sequence[float]
) -> None:
    own = ways_with(shares).labels(text)
    assert np.allclose(own[np.arange(len(text)), [int(digit) for digit in text]], want)


@given(
    st.dictionaries(
        st.text("0123456789", max_size=6), st.floats(0.001, 1), min_size=1, max_size=12
    ).filter(lambda shares: any(shares))
)
def test_digits_of_any_ways(weights: dict[str, float]) -> None:
    total = sum(weights.values())
    shares = {text: weight / total for text, weight in weights.items()}
    ways = ways_with(shares)
    for text in filter(None, shares):
        own = ways.labels(text)
        assert own.shape == (len(text), NOT_A_DIGIT)
        assert (own >= 0).all() and (own.sum(1) <= 1 + 1e-9).all()
        told = own[np.arange(len(text)), [int(digit) for digit in text]]
        assert (told >= shares[text] - 1e-9).all()


def test_that_there_is_no_digit_is_looked_at_uncut() -> None:
    """Pieces of digits that overlap may look like none, surely; seen whole, they are some."""
    ((image, _),) = make("spaced", 1, IMAGES, LABELS, seed=2)
    ((proposals,),) = propose(grey_of(reduced(checked(image), PAGE_SIDE)))
    told, _ = judged(proposals.candidates, proposals.height)
    assert ways_of(proposals, told).steps is None
    doubtful = told * 1e-6
    doubtful[:, NOT_A_DIGIT] = 1 - 1e-6
    found = ways_of(proposals, doubtful)
    assert found.steps is not None and any(way.text for way in found.found)

"""Best path decoding, held to loops over all steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastdigit
from fastdigit.errors import InputError


def read(row: np.ndarray, blank: int) -> list[int]:
    """What one image says: runs of equal classes, one of each, without the blank."""
    best = [max(range(len(step)), key=lambda label: step[label]) for step in row.tolist()]
    return [label for label, _ in itertools.groupby(best) if label != blank]


@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 4)),
        elements=st.integers(-3, 3).map(float),
    ),
    data=st.data(),
)
def test_it_reads_what_the_steps_say(values: np.ndarray, data: st.DataObject) -> None:
    count = values.shape[2]
    blank = data.draw(st.integers(-count, count - 1))
    want = [read(row, blank % count) for row in values]
    got = fastdigit.decode_ctc(values, blank=blank)
    assert [row.tolist() for row in got] == want
    assert all(row.dtype == np.int64 for row in got)
    names = [chr(ord("a") + label) for label in range(count)]
    texts = ["".join(names[label] for label in row) for row in want]
    assert fastdigit.decode_ctc(values, blank=blank, classes=names) == texts
    del names[blank]
    assert fastdigit.decode_ctc(values, blank=blank, classes=names) == texts


def steps(*labels: int, count: int = 4) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[np.array(labels)][np.newaxis]


def test_a_letter_twice_needs_a_blank_between() -> None:
    assert fastdigit.decode_ctc(steps(0, 0, 3, 0, 1, 1), blank=-1, classes="abc") == ["aab"]
    assert fastdigit.decode_ctc(steps(0, 1, 1, 0, 1, 2), blank=0, classes="abc") == ["aab"]
    assert fastdigit.decode_ctc(steps(3, 3), blank=3, classes="abc-") == [""]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((5, 4)), {"blank": 0}, r"shape \(5, 4\), expected \(N, steps, classes\)"),
        (np.zeros((1, 5, 4)), {"blank": 4}, "blank=4, expected the index of one of 4"),
        (np.zeros((1, 5, 4)), {"blank": -5}, "blank=-5"),
        (np.full((1, 5, 4), np.nan), {"blank": 0}, "NaN"),
        (np.zeros((1, 5, 4)), {"blank": 0, "classes": "ab"}, "2 classes given, expected 4, or 3"),
    ],
)
def test_what_does_not_fit_is_refused(values: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fastdigit.decode_ctc(values, **options)

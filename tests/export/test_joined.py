"""Strips of fields, and the network that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdigit.datasets import load_mnist_test
from tests.support import need

pytestmark = pytest.mark.slow

DIGITS = load_mnist_test()


def test_strips_say_what_their_fields_say() -> None:
    need("scipy")
    from export.joined import NO_DIGIT, examples
    from fastdigit.reader.strips import STRIP

    strips, classes = examples(DIGITS, 30, np.random.default_rng(3))
    again, _ = examples(DIGITS, 30, np.random.default_rng(3))
    assert len(strips) == len(classes) > 20
    assert all(np.array_equal(a, b) for a, b in zip(strips, again, strict=True))
    for strip, told in zip(strips, classes, strict=True):
        assert strip.dtype == np.uint8 and strip.shape[0] == STRIP
        assert 1 <= len(told) <= 7 and set(told) <= set(range(1, NO_DIGIT + 1))
    # A digit more is some columns more.
    wide = np.corrcoef([strip.shape[1] for strip in strips], [len(told) for told in classes])
    assert wide[0, 1] > 0.5


@pytest.mark.parametrize("gap", [-4, 0, 5])
def test_two_strips_are_joined_where_ink_meets_ink(gap: int) -> None:
    from export.joined import joined

    left, right = np.zeros((32, 20), np.uint8), np.zeros((32, 10), np.uint8)
    left[5:25, 2:12] = 255
    left[20:25, 12:18] = 255  # a foot, below the right one
    right[4:16, 3:9] = 200
    both = joined(left, right, gap)
    columns = np.flatnonzero((both == 200).any(0))
    assert columns[-1] == 11 + gap + 6 and (both[20:25, 2:18] == 255).all()


def test_a_small_training_gives_a_model_that_the_reader_could_use(tmp_path: Path) -> None:
    need("scipy", "tensorflow")
    import fastdigit
    from export.joined import Recipe, compiled, examples, train
    from fastdigit.reader.joined import BLANK, NO_DIGIT
    from fastdigit.reader.strips import STRIP, WINDOW

    strips = examples(DIGITS, 24, np.random.default_rng(3))
    history = train(Recipe(epochs=1, batch_size=4), strips, strips, tmp_path)
    assert len(history["loss"]) == len(history["right"]) == 1
    compiled(tmp_path, {"recipe": "small"})
    model = fastdigit.load(tmp_path / "joined.fdm")
    assert model.input_shape == (STRIP, WINDOW, 1)
    assert model.output_shape == (WINDOW // 2, NO_DIGIT + 1)
    assert model.info()["ctc_blank"] == BLANK
    assert model.info()["meta"]["provenance"] == {"recipe": "small"}

"""Fields made of single digits, and what of a field cut up is a digit: what the reader's network
learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdigit.datasets import load_mnist_test
from tests.support import need

pytestmark = pytest.mark.slow

DIGITS = load_mnist_test()


def test_fields_are_a_function_of_the_seed_and_know_their_owners() -> None:
    need("scipy")
    from export.fields import NOTHING, OTHER, field

    for seed in range(20):
        one, same = (field(*DIGITS, np.random.default_rng(seed)) for _ in range(2))
        assert one.grey.dtype == np.uint8 and np.array_equal(one.grey, same.grey)
        assert one.labels == same.labels and set(one.labels) <= set(range(OTHER + 1))
        assert one.owner.shape == one.grey.shape
        assert set(np.unique(one.owner)) <= {NOTHING, *range(len(one.labels))}
        dark = one.grey[one.owner != NOTHING].mean()
        assert dark < one.grey[one.owner == NOTHING].mean()


def test_what_is_whole_gets_its_label_and_the_rest_none() -> None:
    need("scipy")
    import fastdigit
    from export.segments import OTHER, examples

    images, labels = examples(DIGITS, 40, 1.0, np.random.default_rng(7))
    assert images.shape[1:] == (28, 28) and images.dtype == np.uint8
    assert len(images) == len(labels) > 400
    digits = labels < OTHER
    assert 0.05 < digits.mean() < 0.6
    # Another network, which saw no fields, agrees on what is said to be a digit.
    agree = fastdigit.predict(images[digits]) == labels[digits]
    assert agree.mean() > 0.9


def test_a_small_training_gives_a_model_that_the_reader_could_use(tmp_path: Path) -> None:
    need("scipy", "tensorflow")
    import fastdigit
    from export.segments import Recipe, compiled, train

    recipe = Recipe(fields=6, validation_fields=3, digits=300, epochs=1, batch_size=32)
    history = train(recipe, (DIGITS, DIGITS), tmp_path)
    assert len(history["val_accuracy"]) == 1
    compiled(tmp_path, {"recipe": "small"})
    model = fastdigit.load(tmp_path / "segments.fdm")
    assert model.input_shape == (28, 28, 1)
    assert model.classes is not None and model.classes[-1] == "no digit"
    assert model.info()["meta"]["provenance"] == {"recipe": "small"}

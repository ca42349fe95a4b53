"""Augmentation, soft targets, the writers' split and pruning, against plain statements of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import prune, split
from export.augment import augment, displacements, resample
from export.batches import Batches, network_input, one_hot
from export.outliers import KINDS, draw_outliers
from export.recipes import RECIPES, SEED_WIDTHS, Augmentation, Recipe, build_model
from export.sharpness import sharpness_aware
from export.train import train
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError
from tests.support import need

NOTHING = Augmentation(rotation=0, zoom=0, shear=0, shift=0)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_mnist_test()[0][:64]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return load_mnist_test()[1][:64]


# Augmentation


def bilinear(image: np.ndarray, row: float, column: float) -> float:
    """One pixel, in float64, as the textbook has it."""
    total = 0.0
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                total += (1 - abs(row - r)) * (1 - abs(column - c)) * float(image[r, c])
    return total


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_resample_is_bilinear_with_zeros_outside(
    seed: int, n: int, height: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, height, width), np.uint8)
    rows, columns = random.uniform(-3, 12, (2, n, 3, 2)).astype(np.float32)
    got = resample(images, rows, columns)
    for index in np.ndindex(got.shape):
        expected = bilinear(images[index[0]], float(rows[index]), float(columns[index]))
        assert got[index] == pytest.approx(expected, abs=2e-3)


def test_no_distortion_is_the_image(images: np.ndarray) -> None:
    result = augment(images, NOTHING, np.random.default_rng(0))
    np.testing.assert_allclose(result, images / 255, atol=2e-6)


def test_rotation_turns_about_the_centre() -> None:
    rows, columns = displacements((50, 29, 29), dataclasses.replace(NOTHING, rotation=40.0), rng(1))
    np.testing.assert_allclose(rows[:, 14, 14], 14, atol=1e-5)
    np.testing.assert_allclose(columns[:, 14, 14], 14, atol=1e-5)
    down, right = rows - 14, columns - 14
    grid = np.arange(29) - 14.0
    radius = np.hypot(grid[:, None], grid[None, :])
    np.testing.assert_allclose(
        np.hypot(down, right), np.broadcast_to(radius, rows.shape), atol=1e-4
    )
    angle = np.degrees(np.arctan2(down[:, 14, 28], right[:, 14, 28]))
    assert abs(angle).max() <= 40
    assert angle.min() < -20 < 20 < angle.max()


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_shift_zoom_and_shear_stay_within_their_limits() -> None:
    shape = (400, 28, 28)
    own = np.arange(28, dtype=np.float32)
    rows, columns = displacements(shape, dataclasses.replace(NOTHING, shift=2.5), rng(2))
    for moved in (rows - own[:, None], columns - own):
        assert abs(moved).max() <= 2.5 + 1e-5
        assert moved.min() < -2 < 2 < moved.max()
        assert np.ptp(moved, axis=(1, 2)).max() < 1e-5  # the same for the whole image

    rows, columns = displacements(shape, dataclasses.replace(NOTHING, zoom=0.12), rng(3))
    scale = np.float32(27) / (rows[:, -1, 0] - rows[:, 0, 0])
    assert 0.88 - 1e-5 <= scale.min() < 0.9 < 1.1 < scale.max() <= 1.12 + 1e-5
    assert np.std(scale - 27 / (columns[:, 0, -1] - columns[:, 0, 0])) > 0.05  # drawn separately

    rows, columns = displacements(shape, dataclasses.replace(NOTHING, shear=0.1), rng(4))
    np.testing.assert_allclose(rows, np.broadcast_to(own[:, None], shape), atol=1e-5)
    slope = (columns[:, -1, 0] - columns[:, 0, 0]) / 27
    assert -0.1 - 1e-5 <= slope.min() < -0.08 < 0.08 < slope.max() <= 0.1 + 1e-5


def test_elastic_displacement_is_smooth_and_as_large_as_it_says() -> None:
    elastic = dataclasses.replace(NOTHING, elastic=0.8, elastic_sigma=4.0)
    rows, columns = displacements((500, 28, 28), elastic, rng(5))
    own = np.arange(28, dtype=np.float32)
    for moved in (rows - own[:, None], columns - own):
        assert moved.std() == pytest.approx(0.8, rel=0.1)
        # A field smoothed with sigma steps by 1 / (sqrt(2) sigma) from pixel to pixel.
        assert np.diff(moved, axis=1).std() == pytest.approx(0.8 / (2**0.5 * 4), rel=0.15)
    # Neither direction nor image repeats another.
    assert abs(np.corrcoef((rows - own[:, None]).ravel(), (columns - own).ravel())[0, 1]) < 0.1


def test_augmentation_is_a_function_of_the_generator(images: np.ndarray) -> None:
    everything = Augmentation(elastic=0.8)
    one = augment(images, everything, rng(6))
    np.testing.assert_array_equal(one, augment(images, everything, rng(6)))
    assert not np.array_equal(one, augment(images, everything, rng(7)))
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert one.max() <= 1.000001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotation": -1.0}, "rotation is -1.0"),
        ({"shift": float("nan")}, "shift is nan"),
        ({"zoom": 1.0}, "zoom is 1.0"),
        ({"elastic_sigma": 0.0}, "elastic_sigma 0.0"),
    ],
)
def test_impossible_augmentation(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": "random"}, "validation is 'random'"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"distillation": 0.5}, "0.5 with 0 teachers"),
        ({"teachers": ("plain-1", "plain-2")}, "0.0 with 2 teachers"),
        ({"distillation": 0.5, "teachers": ("plain",)}, "teacher 'plain': expected RECIPE-SEED"),
        ({"network": "shallow"}, "network is 'shallow'"),
        ({"sharpness": -0.1}, "sharpness is -0.1"),
        ({"sharpness": float("inf")}, "sharpness is inf"),
        ({"outliers": -0.1}, "outliers is -0.1"),
        ({"weight_decay": 0.1}, "weight_decay is for adamw"),
        ({"warmup_epochs": 50}, "warmup_epochs is 50"),
        ({"widths": (33, 48, 64, 3168)}, "widths are"),
        ({"widths": (32, 48, 64)}, "widths are"),
    ],
)
def test_impossible_recipe(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(name="impossible", **change)


# Batches


class FakeTeacher:
    def __init__(self, favourite: int) -> None:
        self.favourite = favourite
        self.seen: list[np.ndarray] = []

    def predict_proba(self, images: np.ndarray, /) -> np.ndarray:
        self.seen.append(images)
        result = np.full((len(images), 10), 0.05, np.float32)
        result[:, self.favourite] = 0.55
        return result


def test_targets_mix_labels_smoothing_and_teachers(images: np.ndarray, labels: np.ndarray) -> None:
    recipe = Recipe(
        "mixed", batch_size=10, label_smoothing=0.1, distillation=0.6,
        teachers=("plain-1", "plain-2"), augmentation=Augmentation(),
    )  # fmt: skip
    teachers = FakeTeacher(3), FakeTeacher(7)
    order = np.arange(64)[::-1]
    x, y = Batches(recipe, images, labels, teachers).batch(2, order, 1)
    assert x.shape == (10, 28, 28, 1)
    own = labels[order[10:20]]
    expected = np.full((10, 10), 0.4 * 0.01 + 0.6 * 0.05)
    expected[np.arange(10), own] += 0.4 * 0.9
    expected[:, [3, 7]] += 0.6 * 0.25
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    for teacher in teachers:  # they see what the student sees
        np.testing.assert_array_equal(teacher.seen[0], x)
    with pytest.raises(ValueError, match="1 teachers, but the recipe has 2"):
        Batches(recipe, images, labels, teachers[:1])


def test_an_epoch_is_its_batches_in_order(images: np.ndarray, labels: np.ndarray) -> None:
    recipe = Recipe("epoch", batch_size=10, augmentation=Augmentation(elastic=0.5))
    batches = Batches(recipe, images, labels)
    order = rng(8).permutation(64)
    assert batches.steps == 7
    got = list(batches.epoch(3, order))
    assert [len(x) for x, _ in got] == [10] * 6 + [4]
    for k, (x, y) in enumerate(got):
        again = batches.batch(3, order, k)
        np.testing.assert_array_equal(x, again[0])
        np.testing.assert_array_equal(y, again[1])
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), one_hot(labels[order]))
    assert not np.array_equal(got[0][0], batches.batch(4, order, 0)[0])


# The writers' split


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_writers_are_on_one_side(tmp_path: Path) -> None:
    writer = np.repeat(np.arange(10), 5)
    mask = writer < 3
    path = write(tmp_path / "writers.npz", train_writer=writer, suggested_val_mask=mask)
    recipe = dataclasses.replace(RECIPES["plain"])
    chosen = split.held_out(recipe, 50, split.read_writers(path, 50))
    np.testing.assert_array_equal(chosen, mask)

    mask[0] = False
    path = write(tmp_path / "both.npz", train_writer=writer, suggested_val_mask=mask)
    with pytest.raises(FastDigitError, match="1 writers are on both sides"):
        split.read_writers(path, 50)
    with pytest.raises(FastDigitError, match="expected one of each for 60"):
        split.read_writers(path, 60)
    with pytest.raises(FastDigitError, match="can't read writers"):
        split.read_writers(tmp_path / "missing.npz", 50)
    with pytest.raises(FastDigitError, match="can't read writers"):
        split.read_writers(write(tmp_path / "other.npz", writer=writer), 50)


def test_split_without_writers() -> None:
    end = split.held_out(RECIPES["seed"], 100)
    assert end[80:].all()
    assert not end[:80].any()
    drawn = split.held_out(RECIPES["plain"], 1000)
    assert drawn.sum() == 170
    assert drawn[:500].any() and drawn[500:].any()
    other = dataclasses.replace(RECIPES["plain"], seed=9)
    np.testing.assert_array_equal(drawn, split.held_out(other, 1000))


# Pruning


def randomized(model: Any, seed: int) -> Any:
    random = rng(seed)
    for layer in model.layers:
        weights = [
            random.normal(0, 0.3, weight.shape).astype(np.float32) for weight in layer.get_weights()
        ]
        if layer.name.startswith("bn"):
            weights[3] = abs(weights[3]) + np.float32(0.5)  # the variance
        layer.set_weights(weights)
    return model


@pytest.mark.slow
class TestPruning:
    narrow = dataclasses.replace(RECIPES["seed"], widths=(5, 7, 6, 40))

    def test_embedding_changes_nothing(self, images: np.ndarray) -> None:
        need("keras")
        narrow = randomized(build_model(self.narrow), 1)
        full = randomized(build_model(RECIPES["seed"]), 2)
        prune.embed(narrow, full)
        x = network_input(images)
        np.testing.assert_allclose(
            full.predict(x, verbose=0), narrow.predict(x, verbose=0), atol=1e-6
        )
        assert full.count_params() == 1_886_250
        assert np.count_nonzero(full.get_layer("dense1").get_weights()[0]) == 9 * 6 * 40

    def test_units_that_do_nothing_are_the_weakest(self, images: np.ndarray) -> None:
        need("keras")
        narrow = randomized(build_model(self.narrow), 3)
        full = build_model(RECIPES["seed"])
        prune.embed(narrow, full)
        # Hide the living units among the dead: reverse the order of the hidden ones.
        kernel, bias = full.get_layer("dense1").get_weights()
        full.get_layer("dense1").set_weights([kernel[:, ::-1], bias[::-1]])
        kernel, bias = full.get_layer("dense2").get_weights()
        full.get_layer("dense2").set_weights([kernel[::-1], bias])
        again = build_model(self.narrow)
        kept = prune.take_strongest(full, again, images)
        assert [len(units) for units in kept] == [5, 7, 6, 40]
        x = network_input(images)
        np.testing.assert_allclose(
            again.predict(x, verbose=0), narrow.predict(x, verbose=0), atol=1e-6
        )

    def test_the_strength_of_a_channel(self, images: np.ndarray) -> None:
        need("keras")
        full = randomized(build_model(RECIPES["seed"]), 4)
        kernel, bias = full.get_layer("conv3").get_weights()
        kernel[..., 11] *= 50  # varies most
        full.get_layer("conv3").set_weights([kernel, bias])
        kernel, bias = full.get_layer("dense2").get_weights()
        kernel[17] *= 50  # is read most
        full.get_layer("dense2").set_weights([kernel, bias])
        kept = prune.strongest(full, images, (32, 48, 1, 1))
        np.testing.assert_array_equal(kept[0], np.arange(SEED_WIDTHS[0]))
        assert kept[2] == [11]
        assert kept[3] == [17]


# Sharpness-aware steps


@pytest.mark.slow
def test_a_sharpness_aware_step_is_what_the_paper_says() -> None:
    """Softmax regression by hand, in float64: w - rate * gradient(w + radius * g / |g|)."""
    keras = need("keras")

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    rate, radius = 0.5, 0.3
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="categorical_crossentropy")
    random = rng(8)
    x = random.normal(size=(6, 3)).astype(np.float32)
    y = random.dirichlet(np.ones(4), 6).astype(np.float32)

    def probabilities(w: np.ndarray, b: np.ndarray) -> np.ndarray:
        e = np.exp(x.astype(np.float64) @ w + b)
        return e / e.sum(1, keepdims=True)

    def gradient(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error = (probabilities(w, b) - y) / len(x)
        return x.T @ error, error.sum(0)

    step = sharpness_aware(model, radius)
    w, b = (a.astype(np.float64) for a in model.get_weights())
    for _ in range(3):
        p = probabilities(w, b)
        means = step(x, y)
        assert means["loss"] == pytest.approx(-(y * np.log(p)).sum(1).mean(), rel=1e-5)
        assert means["accuracy"] == pytest.approx((p.argmax(1) == y.argmax(1)).mean())
        up_w, up_b = gradient(w, b)
        norm = np.sqrt((up_w**2).sum() + (up_b**2).sum())
        down_w, down_b = gradient(w + radius * up_w / norm, b + radius * up_b / norm)
        w, b = w - rate * down_w, b - rate * down_b
        np.testing.assert_allclose(model.get_weights()[0], w, atol=1e-6)
        np.testing.assert_allclose(model.get_weights()[1], b, atol=1e-6)
    assert int(model.optimizer.iterations.numpy()) == 3


@pytest.mark.slow
def test_a_sharpness_aware_run_continues_where_it_stopped(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray
) -> None:
    need("keras")
    small = dataclasses.replace(
        RECIPES["sharp"], start=None, epochs=3, warmup_epochs=1, batch_size=32, widths=(2, 2, 2, 4)
    )
    data = ((images, labels), (images, labels))
    nobody = np.zeros(len(images), bool)
    assert small.sharpness > 0
    whole = train(small, data, tmp_path / "whole", validation=nobody)

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small, data, tmp_path / "parts", validation=nobody, after_epoch=stop)
    resumed = train(small, data, tmp_path / "parts", validation=nobody)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Images without a digit


@pytest.mark.slow
def test_outliers_are_a_function_of_the_generator() -> None:
    need("scipy")
    first = draw_outliers(200, 28, rng(3))
    assert first.shape == (200, 28, 28)
    assert first.dtype == np.float32
    assert first.min() == 0.0
    assert first.max() == 1.0
    np.testing.assert_array_equal(first, draw_outliers(200, 28, rng(3)))
    assert not np.array_equal(first, draw_outliers(200, 28, rng(4)))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(8, 40))
def test_every_kind_of_outlier_is_within_its_limits(seed: int, side: int) -> None:
    need("scipy")
    for kind in KINDS:
        image = kind(side, rng(seed))
        assert image.shape == (side, side)
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.slow
def test_one_grey_is_often_black() -> None:
    need("scipy")
    images = draw_outliers(3000, 28, rng(5))
    flat = images[(images == images[:, :1, :1]).all(axis=(1, 2))]
    assert 0.1 < len(flat) / len(images) < 0.3
    assert 0.05 < (flat[:, 0, 0] == 0).mean() < 0.4


def test_a_field_has_lines_at_its_edges_alone() -> None:
    lines = np.stack([KINDS[-1](28, rng(seed)) for seed in range(300)])
    assert not lines[:, 6:22, 6:22].any()
    assert lines.any(axis=(1, 2)).mean() > 0.97
    for edge in (lines[:, :6, 14], lines[:, -6:, 14], lines[:, 14, :6], lines[:, 14, -6:]):
        assert 0.6 < edge.any(axis=1).mean() < 0.9


def test_outliers_come_last_and_are_of_no_class(images: np.ndarray, labels: np.ndarray) -> None:
    recipe = Recipe(
        "exposed", batch_size=20, outliers=0.1, distillation=0.5, teachers=("plain-1",),
        augmentation=Augmentation(),
    )  # fmt: skip
    teacher, other = FakeTeacher(3), FakeTeacher(3)
    order = np.arange(64)
    x, y = Batches(recipe, images, labels, [teacher]).batch(1, order, 0)
    without = dataclasses.replace(recipe, outliers=0.0)
    digits, targets = Batches(without, images, labels, [other]).batch(1, order, 0)
    assert x.shape == (22, 28, 28, 1)
    np.testing.assert_array_equal(x[:20], digits)
    np.testing.assert_array_equal(y[:20], targets)
    np.testing.assert_array_equal(y[20:], np.full((2, 10), 0.1, np.float32))
    np.testing.assert_array_equal(teacher.seen[0], digits)  # it is not asked about the others
    assert len(Batches(recipe, images, labels, [teacher]).batch(1, order, 3)[0]) == 4

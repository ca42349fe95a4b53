"""Pictures for training: what is drawn, how it is labelled, and how a model is scored on them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from export.batches import Batches
from export.pictures import collection, drawn, others, paper, printed, report
from export.pictures.collection import NO_DIGIT
from export.recipes import RECIPES
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError
from tests.support import need

STYLES = [(digit, style) for digit, styles in enumerate(drawn.DIGITS) for style in styles]


@pytest.fixture(autouse=True)
def _pillow() -> None:
    need("PIL")


@pytest.fixture(scope="module")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_mnist_test()
    return images[:200], labels[:200]


@pytest.mark.parametrize(("digit", "style"), STYLES)
def test_every_style_is_drawn_whole_and_looks_like_its_digit(digit: int, style: str) -> None:
    """The mean of some drawings has its ink where the points of the style say."""
    inks = [drawn.draw(style, np.random.default_rng(seed)) for seed in range(3)]
    for ink in inks:
        assert ink.shape == (drawn.SIDE, drawn.SIDE) and ink.min() == 0 and ink.max() == 1
        border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert not border.any(), "the pen left the page"
    assert not np.array_equal(inks[0], inks[1])
    np.testing.assert_array_equal(inks[0], drawn.draw(style, np.random.default_rng(0)))


def test_a_curve_goes_through_its_points() -> None:
    random = np.random.default_rng(5)
    points = random.uniform(0, 100, (6, 2))
    curve = drawn._curve(points)
    np.testing.assert_allclose(curve[:: drawn.FINE], points, atol=1e-9)


def test_no_style_or_letter_of_validation_is_in_training() -> None:
    for styles in drawn.DIGITS:
        assert len(set(styles)) == len(styles) > 4
    assert not set(printed.TRAINING) & set(printed.HELD_OUT)
    for train, held in itertools.product(printed.TRAINING, printed.HELD_OUT):
        assert not train.startswith(held) and not held.startswith(train)
    assert set(collection.SIGNS_HELD_OUT) < set(collection.SIGNS) | set(drawn.LETTERS)
    maker = collection.Maker(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8), [])
    held = dataclasses.replace(maker, validation=True)
    random = np.random.default_rng(0)
    for _ in range(200):
        assert maker.letter(random, collection.SIGNS) not in collection.SIGNS_HELD_OUT
        assert held.letter(random, collection.SIGNS) in collection.SIGNS_HELD_OUT


def test_segments_have_the_forms_of_displays() -> None:
    """A digit has as many lit segments as everybody's calculator."""
    lit = [{form.count("1") for form in forms} for forms in printed.SEGMENTS]
    assert lit == [{6}, {2}, {5}, {5}, {4}, {5}, {5, 6}, {3, 4}, {7}, {5, 6}]
    forms = [form for forms in printed.SEGMENTS for form in forms]
    assert len(set(forms)) == len(forms), "two digits look alike"
    for digit in range(10):
        ink = printed.segments(digit, np.random.default_rng(digit))
        assert ink.max() == 1 and 0.02 < ink.mean() < 0.6


def test_fonts_that_are_missing_are_named_with_their_packages(tmp_path: Path) -> None:
    (tmp_path / "Hack-Regular.ttf").touch()
    assert printed.find_fonts(tmp_path, ("Hack-",)) == [[tmp_path / "Hack-Regular.ttf"]]
    with pytest.raises(
        FastDigitError, match=r"lacks the fonts Lato; .* apt-get install .*fonts-lato"
    ):
        printed.find_fonts(tmp_path, ("Hack-", "Lato"))


def test_swollen_is_wider_by_so_many_pixels() -> None:
    ink = np.zeros((40, 40))
    ink[:, 18:22] = 1
    for pixels, wide in ((3, 10), (1, 6), (0, 4), (-1, 2)):
        assert (paper.swollen(ink, pixels)[20] > 0.5).sum() == wide


def test_pieces_that_are_digits_are_left_out(mnist: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = mnist
    one = paper.enlarged(images[np.flatnonzero(labels == 1)[0]])
    five = paper.enlarged(images[np.flatnonzero(labels == 5)[0]])
    made = [others.piece(one, 1, np.random.default_rng(k)) for k in range(20)]
    assert all(piece is None for piece in made)
    halves = [others.piece(five, 5, np.random.default_rng(k)) for k in range(20)]
    shares = [half.sum() / five.sum() for half in halves if half is not None]
    assert shares and max(shares) < 0.9


def test_a_found_picture_is_told_from_another(mnist: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = mnist
    three = paper.enlarged(images[np.flatnonzero(labels == 3)[0]])
    zero = paper.enlarged(images[np.flatnonzero(labels == 0)[0]])
    seen = paper.seen(np.uint8(255 - 255 * three))
    assert seen is not None
    assert paper.is_found(seen, three) and not paper.is_found(seen, zero)
    assert paper.seen(np.zeros((30, 30), np.uint8)) is None


@pytest.mark.parametrize("kind", [k for k in collection.KINDS if "printed" not in k])
def test_kinds_are_deterministic_and_labelled(
    kind: str, mnist: tuple[np.ndarray, np.ndarray]
) -> None:
    maker = collection.Maker(*mnist, [])
    if kind == "pair":  # one in five is printed
        maker = dataclasses.replace(maker, fonts=[[_any_font()]])
    image, label = maker.picture(kind, np.random.default_rng([1, 2]))
    again, _ = maker.picture(kind, np.random.default_rng([1, 2]))
    np.testing.assert_array_equal(image, again)
    assert image.shape == (28, 28) and image.dtype == np.uint8 and image.any()
    digit = kind in ("worn", "drawn", "segments")
    assert label < 10 if digit else label == NO_DIGIT


def _any_font() -> Path:
    need("matplotlib")
    from matplotlib import font_manager

    return Path(font_manager.findfont("DejaVu Sans"))


def test_characters_of_a_font() -> None:
    """As large as its ink, and another for each character."""
    font = _any_font()
    inks = [printed.character(font, text) for text in "0123456789"]
    for ink in inks:
        assert ink is not None and ink.max() == 1 and not ink[0].any() and not ink[:, -1].any()
    assert printed.character(font, " ") is None


def test_collection_is_the_same_with_any_number_of_processes(
    tmp_path: Path, mnist: tuple[np.ndarray, np.ndarray]
) -> None:
    maker = collection.Maker(*mnist, [[_any_font()]])
    made = collection.collect(maker, 40, 7, processes=1)
    again = collection.collect(maker, 40, 7, processes=2)
    for name in made:
        np.testing.assert_array_equal(made[name], again[name])
    np.savez(tmp_path / "a.npz", **made)
    images, labels = collection.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(images, made["images"])
    assert ((labels == NO_DIGIT) == (made["kinds"] >= 4)).all()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((3, 28, 28), np.uint8)}, "can't read pictures"),
        ({"images": np.zeros((3, 28, 28)), "labels": np.zeros(3, np.uint8)}, "float64"),
        ({"images": np.zeros((3, 28, 28), np.uint8), "labels": np.zeros(2, np.uint8)}, "shape"),
        ({"images": np.zeros((1, 28, 28), np.uint8), "labels": np.array([11])}, "label 11"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FastDigitError, match=said):
        collection.read(tmp_path / "a.npz")


def test_batches_have_their_share_of_pictures(mnist: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = mnist
    recipe = dataclasses.replace(
        RECIPES["digits"], teachers=(), distillation=0, augmentation=None, batch_size=20
    )
    recipe = dataclasses.replace(recipe, pictures=0.5, outliers=0.1, label_smoothing=0.1)
    shown = np.repeat(np.arange(1, 12, dtype=np.uint8), 784).reshape(-1, 28, 28)
    told = np.arange(11, dtype=np.uint8)  # image k + 1 everywhere: label k
    batches = Batches(recipe, images, labels, (), (shown, told))
    x, y = batches.batch(3, np.arange(200), 1)
    assert x.shape == (20 + 10 + 2, 28, 28, 1) and y.shape == (32, 10)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(y[:20].argmax(axis=1), labels[20:40])
    for image, target in zip(x[20:30], y[20:30], strict=True):
        label = round(float(image[0, 0, 0]) * 255) - 1
        expected = np.full(10, 0.1 if label == NO_DIGIT else 0.01)
        if label != NO_DIGIT:
            expected[label] = 0.91
        np.testing.assert_allclose(target, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="share of pictures is"):
        Batches(recipe, images, labels)
    with pytest.raises(ValueError, match="share of pictures is"):
        Batches(dataclasses.replace(recipe, pictures=0.0), images, labels, (), (shown, told))


def test_score_counts_what_is_labelled_and_misread() -> None:
    probabilities = np.full((6, 10), 0.01, np.float32)
    for row, (label, sure) in enumerate(
        [(0, 0.995), (1, 0.995), (2, 0.95), (3, 0.3), (4, 0.995), (5, 0.2)]
    ):
        probabilities[row, label] = sure
    labels = np.array([0, 9, 2, 3, NO_DIGIT, NO_DIGIT])
    kinds = np.array([0, 0, 0, 0, 12, 12], np.uint8)
    result = report.score(probabilities, labels, kinds)
    assert result["worn"] == {
        "images": 4,
        "accuracy": 0.75,
        "labelled at 0.9": 0.75,
        "misread at 0.9": pytest.approx(1 / 3),
        "labelled at 0.99": 0.5,
        "misread at 0.99": 0.5,
    }
    assert result["mark"] == {"images": 2, "labelled at 0.9": 0.5, "labelled at 0.99": 0.5}
    assert list(result) == ["worn", "mark", "all digits", "all that is none"]
    assert "| mark | 2 |  | 50.0 |  | 50.0 |  |" in report.table(result)


@pytest.mark.slow
def test_restored_network_computes_what_the_compiled_one_does(tmp_path: Path) -> None:
    need("keras", "tensorflow")
    from export.batches import network_input
    from export.restore import restore

    images, _ = load_mnist_test()
    file = Path(fastdigit.__file__).parent / "models/digits.fdm"
    model = restore(file, images)
    compiled = fastdigit.compile(model, None, temperature=RECIPES["digits"].temperature)
    x = network_input(images[:300])
    got = fastdigit.Model(compiled.data).predict_proba(x)
    np.testing.assert_allclose(got, fastdigit.load(file).predict_proba(x), atol=1e-5)

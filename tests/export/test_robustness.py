"""Perturbations do what their names say; the report is what the model answers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import fastdigit
from export import robustness
from export.robustness import PERTURBATIONS, draw, evaluate, load_optdigits, load_pieces, table
from fastdigit.datasets import load_mnist_test
from tests.support import need

pytestmark = pytest.mark.slow

need("scipy", "sklearn")

BY_NAME = {perturbation.name: perturbation for perturbation in PERTURBATIONS}
SEED_FDM = Path(fastdigit.__file__).parent / "models" / "seed.fdm"


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_mnist_test()[0][:200].astype(np.float32) / np.float32(255)


def changed(images: np.ndarray, name: str, severity: float, seed: int = 0) -> np.ndarray:
    return BY_NAME[name].apply(images, severity, np.random.default_rng(seed))


# ---- Perturbations -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_NAME)
def test_every_perturbation(digits: np.ndarray, name: str) -> None:
    perturbation = BY_NAME[name]
    assert list(perturbation.severities) == sorted(perturbation.severities)
    assert perturbation.neutral in perturbation.severities
    before = digits.copy()
    np.testing.assert_allclose(changed(digits, name, perturbation.neutral), digits, atol=1e-6)
    distances = []
    for severity in perturbation.severities:
        got = changed(digits, name, severity)
        assert got.shape == digits.shape and got.dtype == np.float32
        assert got.min() > -1e-5 and got.max() < 1 + 1e-5
        np.testing.assert_array_equal(got, changed(digits, name, severity), "repeats")
        distances.append(np.abs(got - digits).mean())
    # Further from neutral, further from the digits, on either side.
    centre = perturbation.severities.index(perturbation.neutral)
    assert distances[centre:] == sorted(distances[centre:])
    assert distances[: centre + 1] == sorted(distances[: centre + 1], reverse=True)
    np.testing.assert_array_equal(digits, before, "what was given is left alone")


def test_shift_moves_whole_pixels(digits: np.ndarray) -> None:
    got = changed(digits, "shift", 3)
    directions = set()
    for before, after in zip(digits, got, strict=True):
        padded = np.pad(before, 3)
        ways = {
            (dy, dx): padded[3 - dy : 31 - dy, 3 - dx : 31 - dx]
            for dy, dx in ((3, 0), (-3, 0), (0, 3), (0, -3))
        }
        found = [way for way, image in ways.items() if np.array_equal(image, after)]
        assert found
        directions.update(found)
    assert len(directions) == 4


def test_quarter_turns(digits: np.ndarray) -> None:
    got = changed(digits, "rotation", 90)
    turns = set()
    for before, after in zip(digits, got, strict=True):
        found = [k for k in (1, 3) if np.allclose(np.rot90(before, k), after, atol=1e-4)]
        assert found
        turns.update(found)
    assert turns == {1, 3}


def test_scale_is_about_the_centre() -> None:
    square = np.zeros((1, 28, 28), np.float32)
    square[0, 10:18, 10:18] = 1
    half, double = (changed(square, "scale", factor)[0] for factor in (0.5, 2.0))
    assert half.sum() == pytest.approx(16, rel=0.05)
    assert double.sum() == pytest.approx(256, rel=0.05)
    for image in (half, double):
        np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-6)


def test_noise_has_its_deviation() -> None:
    grey = np.full((50, 28, 28), 0.5, np.float32)
    got = changed(grey, "Gaussian noise", 0.1)
    assert got.std() == pytest.approx(0.1, rel=0.02)
    got = changed(grey, "salt and pepper", 0.2)
    assert (got == 1).mean() == pytest.approx(0.1, abs=0.01)
    assert (got == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (got == 0.5).mean() == pytest.approx(0.8, abs=0.01)


def test_blur_spreads_a_point() -> None:
    point = np.zeros((2, 28, 28), np.float32)
    point[0, 14, 14] = 1
    got = changed(point, "blur", 1.5)
    assert got[0].sum() == pytest.approx(1, rel=1e-4)
    rows = np.arange(28) - 14
    assert (got[0].sum(axis=1) * rows**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert not got[1].any(), "images stay apart"


@pytest.mark.parametrize("pixels", [-2, -1, 1, 3])
def test_strokes_change_by_pixels(pixels: int) -> None:
    bar = np.zeros((2, 28, 28), np.float32)
    bar[0, 5:23, 10:14] = 0.8
    got = changed(bar, "thickness", pixels)
    assert (got[0, 14] > 0).sum() == 4 + pixels
    assert (got[0, :, 12] > 0).sum() == 18 + pixels
    assert set(np.unique(got[0])) == {0, np.float32(0.8)}
    assert not got[1].any()


def test_contrast_and_polarity(digits: np.ndarray) -> None:
    np.testing.assert_allclose(changed(digits, "contrast", 0.2), 0.4 + 0.2 * digits, atol=1e-6)
    np.testing.assert_array_equal(changed(digits, "inverted polarity", 1), 1 - digits)


# ---- Other digits ------------------------------------------------------------------------------


def test_optdigits_look_like_mnist() -> None:
    images, labels = load_optdigits()
    assert images.shape == (1797, 28, 28) and images.dtype == np.float32
    assert labels.shape == (1797,) and set(labels) == set(range(10))
    assert images.min() == 0 and images.max() <= 1
    rows = np.arange(28)
    for axis in (1, 2):
        mass = images.sum(axis=axis)
        centre = (mass * rows).sum(axis=1) / mass.sum(axis=1)
        assert np.abs(centre - 13.5).max() <= 1.0
        assert ((mass > 0).sum(axis=1) <= 20).all()
    # Blocks of ink stay where they were: shrunk again, it is the digit that scikit-learn has.
    from sklearn.datasets import load_digits

    small = load_digits().images / 16
    assert np.corrcoef(images.sum(axis=(1, 2)), small.sum(axis=(1, 2)))[0, 1] > 0.99
    assert (fastdigit.predict(images) == labels).mean() > 0.8


def test_pieces_are_of_photographs() -> None:
    pieces = load_pieces(100, 28, np.random.default_rng(0))
    assert pieces.shape == (100, 28, 28) and pieces.dtype == np.float32
    assert 0 <= pieces.min() < 0.1 and 0.8 < pieces.max() <= 1
    assert len(np.unique(pieces.mean(axis=(1, 2)))) == 100  # each of another place
    near = np.abs(np.diff(pieces)).mean()
    far = np.abs(pieces - np.roll(pieces, 1, axis=0)).mean()
    assert near < far / 2  # neighbours are alike, as in noise they are not
    np.testing.assert_array_equal(pieces, load_pieces(100, 28, np.random.default_rng(0)))


def test_centring() -> None:
    images = np.zeros((2, 20, 20), np.float32)
    images[0, 3, 5] = 1
    images[1, 9:11, 9:11] = 0.5
    got = robustness._centred(images, 28)
    assert got[0].sum() == 1 and got[0, 3 + 8, 5 + 8] == 1  # no further than it fits
    assert got[1, 13:15, 13:15].sum() == 2


# ---- The report --------------------------------------------------------------------------------


def test_evaluation_is_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = load_mnist_test()
    images, labels = images[:300], labels[:300]
    monkeypatch.setattr(robustness, "NOISE", 50)
    model = fastdigit.load()
    seen = []

    def predict(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return model.predict_proba(x)

    result = evaluate(predict, images, labels, seed=3)
    assert json.loads(json.dumps(result)) == result
    assert [curve["name"] for curve in result["perturbations"]] == list(BY_NAME)
    clean = float((model.predict(images) == labels).mean())
    calls = iter(seen)
    for curve in result["perturbations"]:
        at = curve["severities"].index(curve["neutral"])
        assert curve["accuracy"][at] == clean
        for accuracy, confidence in zip(curve["accuracy"], curve["confidence"], strict=True):
            p = model.predict_proba(next(calls))
            assert accuracy == (p.argmax(axis=1) == labels).mean()
            assert confidence == pytest.approx(p.max(axis=1).mean(), rel=1e-6)
    assert len(next(calls)) == 1797
    noise, greys, pieces = next(calls), next(calls), next(calls)
    assert len(pieces) == robustness.PIECES
    assert len(noise) == 50 and noise.std() == pytest.approx(1 / np.sqrt(12), rel=0.05)
    assert (np.ptp(greys, axis=(1, 2)) == 0).all() and len(np.unique(greys)) == 256
    top = model.predict_proba(greys).max(axis=1)
    facts = result["without_digits"]["one grey"]
    assert facts["above_0.9"] == (top > 0.9).mean()
    assert facts["quantiles"]["0.5"] == pytest.approx(np.median(top))
    again = evaluate(model.predict_proba, images, labels, seed=3)
    assert again == result
    assert evaluate(model.predict_proba, images, labels, seed=4) != result


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("matplotlib")
    images, labels = load_mnist_test()
    monkeypatch.setattr(robustness, "load_mnist_test", lambda: (images[:100], labels[:100]))
    monkeypatch.setattr(robustness, "NOISE", 50)
    monkeypatch.setattr(robustness, "PERTURBATIONS", PERTURBATIONS[:4])
    out = tmp_path / "report"
    assert robustness.main([str(SEED_FDM), "--output", str(out)]) == 0
    result = json.loads((out / "seed-robustness.json").read_text())
    assert result["images"] == 100
    markdown = (out / "seed-robustness.md").read_text()
    assert markdown == table(result)
    assert markdown in capsys.readouterr().out
    for curve in result["perturbations"]:
        row = next(line for line in markdown.splitlines() if line.startswith(f"| {curve['name']}"))
        assert f"{curve['severities'][1]:g}: {100 * curve['accuracy'][1]:.2f}" in row
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    tables = [row.count("|") for row in rows]
    assert set(tables) == {3, 5, 9}
    texts = "".join(ElementTree.parse(out / "seed-robustness.svg").getroot().itertext())
    assert all(perturbation.name in texts for perturbation in PERTURBATIONS[:4])
    draw({"a": result, "b": result}, out / "two.svg")
    assert "b" in "".join(ElementTree.parse(out / "two.svg").getroot().itertext())
    draw({"a": result, "b": result}, out / "again.svg")
    assert (out / "two.svg").read_bytes() == (out / "again.svg").read_bytes()
    assert robustness.main([str(tmp_path / "none.fdm"), "--output", str(out)]) == 1
    assert "none.fdm" in capsys.readouterr().err

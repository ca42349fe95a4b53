"""A model card says what the model does, in figures that can be computed another way."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import fastdigit
from export import calibration, card, figures
from export.card import over_seeds, wilson_interval, write_card
from fastdigit.compiler.ops import Dense, Softmax
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from tests.support import need, networks

need("matplotlib")

SEED_FDM = Path(fastdigit.__file__).parent / "models" / "seed.fdm"


def result(seed: int, accuracy: float, kind: str = "test") -> dict[str, Any]:
    """As export.train leaves it."""
    evaluation = {"accuracy": accuracy, "loss": 0.03}
    return {
        "recipe": {
            "name": "seed",
            "optimizer": "adadelta",
            "learning_rate": 0.002,
            "warmup_epochs": None,
            "augmentation": {"rotation": 12.0, "elastic_sigma": 4.0},
            "widths": [16, 32, 64, 256],
            "seed": seed,
        },
        "data_sha256": {"train-images-idx3-ubyte": "ba89", "t10k-labels-idx1-ubyte": "ff7b"},
        "held_out": {"images": 10269, "sha256": "8234"},
        "teachers_sha256": ["aaaa", "bbbb"],
        "start_sha256": None,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "machine": "x86_64",
        "epochs": 20,
        "seconds": 1295.1,
        kind: {"seed.keras": evaluation, "seed.h5": evaluation},
    }


@pytest.fixture(scope="module")
def test_digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_mnist_test()
    return images[:3000], labels[:3000]


def beyond() -> dict[str, Any]:
    curve = {"name": "shift", "unit": "pixels", "neutral": 0, "severities": [0, 1]}
    where = {"images": 5, "quantiles": {str(q): 0.5 for q in (0.05, 0.25, 0.5, 0.75, 0.95)}}
    return {
        "images": 10,
        "seed": 0,
        "perturbations": [{**curve, "accuracy": [1.0, 0.75], "confidence": [0.9, 0.8]}],
        "optdigits": {"images": 7, "accuracy": 0.5, "confidence": 0.25},
        "without_digits": {"uniform noise": {**where, "above_0.9": 0.25}},
    }


def links_of(path: Path) -> list[Path]:
    return [path.parent / link for link in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8"))]


def test_card_of_the_shipped_model(tmp_path: Path, test_digits: tuple) -> None:
    images, labels = test_digits
    runs = [result(2017, 0.9935), result(1, 0.9945), result(2, 0.9925)]
    path = write_card(
        tmp_path,
        SEED_FDM,
        test_digits,
        runs,
        commit="0123abc",
        summary="A summary.",
        beyond=beyond(),
        limits=["A limit of its own."],
    )
    assert path == tmp_path / "models" / "seed.md"
    text = path.read_text(encoding="utf-8")
    model = fastdigit.load(SEED_FDM)
    p, predictions = model.predict_proba(images), model.predict(images)
    wrong = predictions != labels
    n = int(wrong.sum())
    assert text.startswith("# seed\n\nA summary.\n")
    assert f"**{100 * (1 - n / 3000):.2f} %**, {n} of 3,000 misread" in text
    ece = calibration.expected_calibration_error(p, labels)
    assert f"| expected calibration error, 15 bins | {ece:.4f} |" in text
    for threshold in (0.9, 0.99):
        kept = model.predict(images, reject_below=threshold) != -1
        row = f"| {threshold} | {100 * kept.mean():.2f} | {100 * wrong[kept].mean():.3f} |"
        assert row in text
    assert f"All {n} misread digits" in text
    assert hashlib.sha256(SEED_FDM.read_bytes()).hexdigest() in text
    assert f"{model.info()['multiply_adds']:,}" in text and "1,886,170" in text
    assert "CONV2D   6x6x48" in text
    assert "- A limit of its own." in text and "US Census" not in text
    assert "| 2017 (this model) | 99.35 | 0.0300 | 20 | 1,295 |" in text
    assert "standard deviation 0.100, from 99.25 to 99.45 %" in text
    assert "test accuracy 99.350 %" in text
    assert "| learning rate | 0.002 |" in text and "| warmup epochs | none |" in text
    assert "| augmentation | rotation 12, elastic sigma 4 |" in text
    assert "| widths | 16, 32, 64, 256 |" in text and "| seed |" in text
    for fact in ("`0123abc`", "keras 3.15.1 (x86_64)", "`ba89`", "10,269 images", "`bbbb`"):
        assert fact in text
    assert "shift (pixels) | 0: 100.00 · 1: 75.00 |" in text

    pictures = links_of(path)
    assert len(pictures) == 5 and all(picture.is_file() for picture in pictures)
    assert {picture.name for picture in pictures} == {
        file.name for file in (tmp_path / "images").iterdir()
    }
    confusion = ElementTree.parse(tmp_path / "images" / "seed-confusion.svg").getroot()
    texts = [element.text for element in confusion.iter() if element.text]
    for digit in range(10):
        right = int(((labels == digit) & ~wrong).sum())
        assert str(right) in " ".join(texts)
    before = {file: file.read_bytes() for file in [path, *pictures]}
    write_card(
        tmp_path,
        SEED_FDM,
        test_digits,
        runs,
        commit="0123abc",
        summary="A summary.",
        beyond=beyond(),
        limits=["A limit of its own."],
    )
    assert before == {file: file.read_bytes() for file in [path, *pictures]}, "repeats"


def test_one_seed_and_held_out_digits(tmp_path: Path, test_digits: tuple) -> None:
    run = result(2017, 0.9935, "validation")
    for key in ("held_out", "teachers_sha256", "start_sha256", "versions"):
        del run[key]
    path = write_card(tmp_path, SEED_FDM, test_digits, [run], commit="c", name="other")
    text = path.read_text(encoding="utf-8")
    assert path.name == "other.md" and text.startswith("# other\n\n|")
    assert "validation accuracy, %" in text and "One run with one seed" in text
    assert "held out" not in text and "teacher" not in text and "versions" not in text
    assert "Beyond the test digits" not in text
    assert all(link.is_file() and link.name.startswith("other-") for link in links_of(path))


@pytest.mark.parametrize(
    ("outliers", "said"),
    [(None, card.NO_DIGIT), (0.0, card.NO_DIGIT), (0.1, card.NO_DIGIT_EXPOSED)],
)
def test_limits_are_those_of_the_recipe(
    tmp_path: Path, test_digits: tuple, outliers: float | None, said: str
) -> None:
    run = result(1, 0.99)
    if outliers is not None:
        run["recipe"]["outliers"] = outliers
    path = write_card(tmp_path, SEED_FDM, test_digits, [run], commit="c")
    text = path.read_text(encoding="utf-8")
    assert f"## Limits\n\n- {said}\n- {card.LIMITS[0]}\n" in text


def test_a_model_that_misreads_nothing(tmp_path: Path) -> None:
    """And one whose temperature, precision and classes are not the usual."""
    images = np.zeros((20, 28, 28), np.uint8)
    labels = np.arange(20) % 2
    images[labels == 1] = 255
    weights = np.zeros((784, 2), np.float32)
    weights[0] = -1, 1
    layer = Dense(weights, np.array([0.5, -0.5], np.float32))
    file = tmp_path / "two.fdm"
    graph = networks.chain((28, 28, 1), [layer, Softmax(0.25)])
    file.write_bytes(networks.packed(graph))
    path = write_card(tmp_path, file, (images, labels), [result(1, 1.0)], commit="c")
    text = path.read_text(encoding="utf-8")
    assert "**100.00 %**, 0 of 20 misread" in text
    assert "misread digits, with label" not in text
    assert not list(tmp_path.glob("images/*misread*"))
    assert len(links_of(path)) == 3 and all(link.is_file() for link in links_of(path))


def test_runs_that_cannot_be_compared(tmp_path: Path, test_digits: tuple) -> None:
    other = copy.deepcopy(result(1, 0.99))
    other["recipe"]["widths"] = [1, 2, 3, 4]
    for runs, message in (
        ([], "needs the result of one training"),
        ([result(0, 0.99), other], r"widths is \[16, 32, 64, 256\] and \[1, 2, 3, 4\]"),
        ([result(0, 0.99), {**result(1, 0.99), "data_sha256": {}}], "different data"),
        ([result(0, 0.99), result(1, 0.99, "validation")], "evaluated on different images"),
    ):
        with pytest.raises(InputError, match=message):
            write_card(tmp_path, SEED_FDM, test_digits, runs, commit="c")


def test_summary_over_seeds() -> None:
    seeds = over_seeds([1.0, 2.0, 4.0])
    assert seeds.mean == pytest.approx(7 / 3)
    assert seeds.deviation == pytest.approx(np.sqrt(((1 - 7 / 3) ** 2 + 1 / 9 + 25 / 9) / 2))
    assert (seeds.least, seeds.greatest) == (1.0, 4.0)
    assert over_seeds([3.0]).deviation is None


@pytest.mark.parametrize(("right", "n"), [(9935, 10_000), (10, 10), (0, 7), (1, 2)])
def test_the_interval_is_where_the_score_test_does_not_reject(right: int, n: int) -> None:
    """Its bounds are the shares q at which |right / n - q| is 1.96 standard errors of q."""
    low, high = wilson_interval(right, n)
    assert -1e-12 <= low < high <= 1 + 1e-12
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(right / n - bound)
            assert distance == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / n), rel=1e-6)


def test_contact_sheet_is_of_the_surest(
    tmp_path: Path, test_digits: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr(figures, "draw_misread", lambda *arguments: seen.append(arguments))
    monkeypatch.setattr(card, "SHEET", 5)
    path = write_card(tmp_path, SEED_FDM, test_digits, [result(1, 0.99)], commit="c")
    (images, labels, predictions, confidences, _), *_ = seen
    assert len(images) == 5 and confidences == sorted(confidences, reverse=True)
    model = fastdigit.load(SEED_FDM)
    assert [str(label) for label in model.predict(images)] == predictions != labels
    wrong = int((model.predict(test_digits[0]) != test_digits[1]).sum())
    assert f"5 of the {wrong} misread digits" in path.read_text(encoding="utf-8")


def test_command(
    tmp_path: Path, test_digits: tuple, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(card, "load_mnist_test", lambda: test_digits)
    monkeypatch.setattr(card, "describe_commit", lambda: "fedc")
    for index in (1, 2):
        (tmp_path / f"run{index}").mkdir()
        text = json.dumps(result(index, 0.99))
        (tmp_path / f"run{index}" / "result.json").write_text(text, encoding="utf-8")
    (tmp_path / "beyond.json").write_text(json.dumps(beyond()), encoding="utf-8")
    runs = ["--runs", str(tmp_path / "run1"), str(tmp_path / "run2")]
    arguments = [str(SEED_FDM), *runs, "--docs", str(tmp_path)]
    assert card.main([*arguments, "--robustness", str(tmp_path / "beyond.json")]) == 0
    path = Path(capsys.readouterr().out.strip())
    text = path.read_text(encoding="utf-8")
    assert "`fedc`" in text and "Over 2 seeds" in text and "Beyond" in text
    assert card.main([*arguments[:-2], "--runs", str(tmp_path / "none")]) == 1
    assert "result.json" in capsys.readouterr().err
    (tmp_path / "run1" / "result.json").write_text("{", encoding="utf-8")
    assert card.main(arguments) == 1
    assert "is no JSON" in capsys.readouterr().err

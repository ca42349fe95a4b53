"""From a recipe to a shipped model: what is trained for it, in which order, and what comes out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from export import build, train
from export.recipes import RECIPES, SEED_WIDTHS, Recipe
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError
from tests.support import need


def test_what_a_recipe_needs() -> None:
    teachers, start = build.needed(dataclasses.replace(RECIPES["digits"], seed=7))
    assert (teachers, start) == ([RECIPES["small"]], dataclasses.replace(RECIPES["small"], seed=7))
    teachers, start = build.needed(dataclasses.replace(RECIPES["small"], seed=7))
    assert [f"{t.name}-{t.seed}" for t in teachers] == list(RECIPES["small"].teachers)
    assert teachers[1] == dataclasses.replace(RECIPES["sharp"], seed=2)
    assert start == dataclasses.replace(RECIPES["best"], seed=7)
    assert build.needed(RECIPES["sharp"]) == ([], dataclasses.replace(RECIPES["plain"], seed=1))
    assert build.needed(RECIPES["deep"]) == ([], None)
    assert build.needed(RECIPES["seed"]) == ([], None)


def test_what_recipes_need_are_recipes_and_ends() -> None:
    def follow(recipe: Recipe, above: tuple[str, ...]) -> None:
        assert recipe.name not in above
        teachers, start = build.needed(recipe)
        for other in [*teachers, *([start] if start else [])]:
            follow(other, (*above, recipe.name))

    for recipe in RECIPES.values():
        follow(recipe, ())


def test_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        calls.append(arguments)
        run = Path(arguments[arguments.index("--output") + 1])
        run.mkdir(exist_ok=True)
        (run / f"{arguments[1]}.keras").touch()
        return 0

    def compiled(source: Path, output: Path, name: str) -> None:
        assert source.exists() and name == output.parent.name
        output.touch()

    monkeypatch.setattr(train, "main", main)
    monkeypatch.setattr(fastdigit, "compile", compiled)
    pictures = tmp_path / "pictures.npz"
    run = build.train_chain(RECIPES["digits"], tmp_path, ["--all"], pictures=pictures)
    assert run == tmp_path / "digits-1"
    outputs = [Path(call[call.index("--output") + 1]).name for call in calls]
    first = list(dict.fromkeys(outputs))
    assert first == [
        *(f"{name}-{seed}" for seed in (1, 2, 3) for name in ("plain", "sharp")),
        *("deep-1", "deep-2", "best-1", "small-1", "digits-1"),
    ]
    starts = {"deep": None, "sharp": "plain", "best": "sharp", "small": "best", "digits": "small"}
    for name, start in starts.items():
        call = calls[outputs.index(f"{name}-1")]
        assert call[:4] == ["--recipe", name, "--seed", "1"] and call[-1] == "--all"
        teachers = [
            str(tmp_path / teacher / f"{teacher.partition('-')[0]}.fdm")
            for teacher in RECIPES[name].teachers
        ]
        assert ("--teachers" in call) == bool(teachers)
        if teachers:
            assert call[call.index("--teachers") + 1 : call.index("--start")] == teachers
        assert ("--start" in call) == (start is not None)
        if start:
            assert call[call.index("--start") + 1] == str(tmp_path / f"{start}-1/{start}.keras")
        assert (call[-3:-1] == ["--pictures", str(pictures)]) == (name == "digits")


def test_a_compiled_model_stands_for_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def restored(arguments: list[str]) -> int:
        Path(arguments[1]).parent.mkdir()
        Path(arguments[1]).touch()
        assert arguments == ["old.fdm", str(tmp_path / "small-1/small.keras"), "--data", "here"]
        return 0

    def main(arguments: list[str]) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(build.restore, "main", restored)
    monkeypatch.setattr(train, "main", main)
    monkeypatch.setattr(fastdigit, "compile", lambda source, output, name: output.touch())
    options = ["--all", "--data", "here"]
    build.train_chain(
        RECIPES["digits"],
        tmp_path,
        options,
        pictures=Path("some.npz"),
        restored={"small-1": Path("old.fdm")},
    )
    assert [call[1] for call in calls] == ["digits"]


def test_pictures_must_be_there(tmp_path: Path) -> None:
    small = {"small-1": tmp_path / "small.fdm"}
    (tmp_path / "small-1").mkdir()
    for name in ("small.keras", "small.fdm"):
        (tmp_path / "small-1" / name).touch()
    with pytest.raises(FastDigitError, match=r"'digits' has pictures, but there are none"):
        build.train_chain(RECIPES["digits"], tmp_path, [], restored=small)


def test_a_failed_training_ends_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "main", lambda arguments: 1)
    with pytest.raises(FastDigitError, match=r"plain-1 failed"):
        build.train_chain(RECIPES["best"], tmp_path, [])


@pytest.mark.slow
def test_a_start_must_be_given(tmp_path: Path) -> None:
    need("tensorflow")
    data = (np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(FastDigitError, match=r"starts from a network of recipe 'sharp'"):
        train.train(RECIPES["best"], (data, data), tmp_path)


@pytest.mark.slow
def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it with 500 digits and one epoch each: bad models, but whole ones."""
    need("keras", "tf2onnx", "matplotlib", "scipy", "sklearn")
    images, labels = load_mnist_test()
    digits = ((images[:500], labels[:500]), (images[500:600], labels[500:600]))
    monkeypatch.setattr(train, "load_mnist", lambda path: digits)
    short: dict[str, Any] = {"epochs": 2, "warmup_epochs": 1, "temperature": 0.5}
    random = np.random.default_rng(3)
    for part in ("pictures", "pictures-validation"):
        shown = random.integers(0, 256, (90, 28, 28), np.uint8)
        kinds = np.arange(90, dtype=np.uint8) % 13
        np.savez(
            tmp_path / f"{part}.npz",
            images=shown,
            labels=np.where(kinds < 4, kinds, 10),
            kinds=kinds,
        )
    for name in ("plain", "sharp", "deep", "best", "small", "digits"):
        changes = short
        if RECIPES[name].teachers:
            changes = {**short, "teachers": ("sharp-2", "deep-1"), "learning_rate": 1e-3}
        monkeypatch.setitem(RECIPES, name, dataclasses.replace(RECIPES[name], **changes))
    places = ("--runs", "--models", "--exported", "--docs")
    options = [word for place in places for word in (place, str(tmp_path))]
    assert build.main(["digits", "--seeds", "2", *options]) == 0

    printed = capsys.readouterr().out
    assert printed.count("labels of all test digits as ONNX Runtime has them") == 2
    runs = {path.parent.name for path in tmp_path.glob("*/result.json")}
    chain = ("plain", "sharp", "best", "small", "digits")
    assert runs == {"deep-1", *(f"{name}-{seed}" for name in chain for seed in (1, 2))}
    assert json.loads((tmp_path / "digits-1/result.json").read_text())["held_out"]["images"] == 0
    model = fastdigit.load(tmp_path / "digits.fdm")
    meta = model.info()["meta"]
    assert (meta["name"], meta["temperature"]) == ("digits", 0.5)
    assert meta["provenance"]["recipe"]["widths"] == [16, 32, 64, 256]
    assert len(meta["provenance"]["teachers_sha256"]) == 2
    assert meta["verification"]["samples"] == 10_000
    assert meta["verification"]["accuracy"] == pytest.approx(
        (model.predict(images) == labels).mean()
    )
    assert (tmp_path / "digits-compact.onnx").stat().st_size < 1e6
    assert (tmp_path / "digits.onnx").stat().st_size > 7e6
    card = (tmp_path / "models/digits.md").read_text(encoding="utf-8")
    assert "Over 2 seeds" in card and "(this model)" in card and "optdigits" in card.lower()
    assert "## Pictures" in card and "| letter-printed | 7 |" in card
    assert len(meta["provenance"]["pictures_sha256"]) == 64
    assert SEED_WIDTHS == (32, 48, 64, 3168)

"""Pictures of the figures that fastdigit-bench writes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fastdigit.bench import report
from fastdigit.bench.layers import Layer, Profile
from fastdigit.bench.measure import Spread
from fastdigit.bench.plot import main
from tests.support import need
from tests.support.bench_fakes import FakeProbe
from tests.support.bench_results import MACHINE, slow_and_noisy

need("matplotlib")


def of_runtimes() -> dict[str, Any]:
    return report.to_json(slow_and_noisy(), MACHINE, {})


def of_layers() -> dict[str, Any]:
    probe = FakeProbe()
    probe.sample()
    layers = (
        Layer("check input", (), (28, 28, 1), "", 0, 0, 0),
        Layer("conv 3x3", (28, 28, 1), (13, 13, 32), "direct", 10**6, 10**6, 1000),
        Layer("dense", (576,), (10,), "", 1000, 500.0, 1.2e6, 0.5),
    )
    times = tuple(Spread(median, median, median) for median in (100.0, 40_000.0, 25_000.0))
    total = Spread(65_100.0, 65_000.0, 65_200.0)
    return report.layers_to_json(
        [Profile(1, layers, times, total)], probe.roofline(), MACHINE, "digits"
    )


def texts(figures: Any, folder: Path, name: str = "picture.svg") -> str:
    (folder / "figures.json").write_text(json.dumps(figures))
    assert main([str(folder / "figures.json"), str(folder / name)]) == 0
    # matplotlib draws text as paths, with the text in a comment before each.
    return "\n".join(re.findall(r"<!-- (.*) -->", (folder / name).read_text()))


def test_runtimes(tmp_path: Path) -> None:
    found = texts(of_runtimes(), tmp_path)
    for expected in (
        "Some CPU, avx2, the machine was quiet",
        "batch 1, 1 thread",
        "batch 512, 2 threads",
        "onnxruntime",
        "(4.19x)",
        "µs per image, less is better",
    ):
        assert expected in found


def test_layers(tmp_path: Path) -> None:
    found = texts(of_layers(), tmp_path)
    for expected in (
        "batch 1: 65.1 µs per image, 68% of the limit",
        "conv 3x3 direct",
        "40.00  (50%, FMA)",
        "25.00  (96%, L3)",
        "0.10",
    ):
        assert expected in found


def test_shares_by_kind(tmp_path: Path) -> None:
    first, second = of_layers(), of_layers()
    # The same limit in half of the time: 50 % and 100 % are 2/3 of both times together.
    second["layers"][0]["ops"][1]["time_ns"]["median"] /= 2
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, figures in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(figures))
    picture = tmp_path / "shares.svg"
    assert main([*map(str, paths), str(picture)]) == 0
    found = "\n".join(re.findall(r"<!-- (.*) -->", picture.read_text()))
    for expected in (
        "2 networks, one thread",
        "batch 1",
        "conv, direct",
        "67%  (2 layers, 55% of the time)",
        "96%  (2 layers, 45% of the time)",
    ):
        assert expected in found
    assert "check input" not in found, "it has no limit"


def test_shares_are_of_layers_of_one_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = of_layers()
    other["machine"] = {**other["machine"], "isa": "generic"}
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, figures in zip(paths, (of_layers(), of_runtimes(), other), strict=True):
        path.write_text(json.dumps(figures))
    picture = str(tmp_path / "shares.svg")
    assert main([str(paths[0]), str(paths[1]), picture]) == 2
    assert "each must be of --layers" in capsys.readouterr().err
    assert main([str(paths[0]), str(paths[2]), picture]) == 2
    assert "not of one CPU" in capsys.readouterr().err


@pytest.mark.parametrize("make", [of_runtimes, of_layers])
def test_same_figures_same_picture(tmp_path: Path, make: Any) -> None:
    texts(make(), tmp_path, "a.svg")
    texts(make(), tmp_path, "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"schema": "something/9"}', "is not a report of schema fastdigit-bench/1"),
        ('{"schema": "fastdigit-bench/1", "measurements": []}', "no measurements to draw"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures.json").write_text(content)
    assert main([str(tmp_path / "figures.json"), str(tmp_path / "picture.svg")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "picture.svg").exists()


def test_unknown_format_and_missing_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures.json").write_text(json.dumps(of_layers()))
    assert main([str(tmp_path / "figures.json"), str(tmp_path / "picture.xyz")]) == 2
    assert "xyz" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json"), str(tmp_path / "picture.svg")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_missing_matplotlib_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "figures.json").write_text(json.dumps(of_layers()))
    assert main([str(tmp_path / "figures.json"), str(tmp_path / "picture.svg")]) == 2
    assert 'pip install "fastdigit[bench-peers]"' in capsys.readouterr().err

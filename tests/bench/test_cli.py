"""The fastdigit-bench command: exit status, messages, report and JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.bench import cli, layers, report, scenarios, tables
from fastdigit.bench.adapter import ModelFiles, Runtime, require, shipped_files
from fastdigit.bench.measure import Spread, verdict
from fastdigit.bench.results import Results
from fastdigit.bench.runtimes import RUNTIMES
from fastdigit.bench.scenarios import Images
from fastdigit.errors import MissingExtraError
from tests.support import ROOT, bench_fakes, need, networks
from tests.support.bench_results import MACHINE, slow_and_noisy

DOCUMENT = ROOT / "docs" / "benchmarking.md"
QUICK = ["--quick", "--rounds", "2", "--batch", "4,64"]


@pytest.fixture(autouse=True)
def small_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    pixels = random.random((600, 28, 28, 1), np.float32)
    data = Images("test images", pixels, random.integers(0, 10, 600))
    monkeypatch.setattr(scenarios, "digits", lambda: data)
    monkeypatch.setattr(scenarios, "noise", lambda shape: data)
    path = tmp_path / "model"
    path.symlink_to(shipped_files().fdm)
    files = ModelFiles(fdm=path, onnx=(path,))
    monkeypatch.setattr(cli, "shipped_files", lambda name: files)
    monkeypatch.setattr(cli, "Probe", bench_fakes.FakeProbe)


def known(*runtimes: type[Runtime]) -> dict[str, type[Runtime]]:
    return {runtime.name: runtime for runtime in (bench_fakes.Reference, *runtimes)}


def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(QUICK, known(bench_fakes.Right, bench_fakes.NotInstalled)) == 0
    output = capsys.readouterr().out
    assert "Parity holds" in output
    assert "Not installed: absent" in output
    assert "100 GFLOP/s of multiply-adds" in output
    assert "The machine was quiet" in output
    assert re.search(r"^ *64 +onnxruntime .* \d+\.\d\dx", output, re.MULTILINE)


def test_parity_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(QUICK, known(bench_fakes.OffByALittle)) == 1
    output = capsys.readouterr().out
    assert "Parity FAILED" in output
    assert "wrong results, so not timed" in output
    assert "3.0e-05" in output


def test_no_parity_compares_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--no-parity"], known(bench_fakes.OffByALittle)) == 0
    assert "not compared" in capsys.readouterr().out


def test_crashed_peer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUICK, "--runtimes", "fastdigit,peer"]
    assert cli.main(arguments, known(bench_fakes.Right, bench_fakes.Exits)) == 2
    output = capsys.readouterr().out
    assert "peer (batch 4 and from then on): failed: ended by itself" in output
    assert "Parity holds" in output


def test_failed_reference_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    fakes = {**known(bench_fakes.Right), "onnxruntime": bench_fakes.BrokenReference}
    assert cli.main([*QUICK, "--runtimes", "fastdigit"], fakes) == 2
    assert "onnxruntime ended by itself with exit status 3" in capsys.readouterr().err


def test_json_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    assert cli.main([*QUICK, "--json", str(target)], known(bench_fakes.Right)) == 0
    figures = json.loads(target.read_text())
    assert figures["schema"] == report.SCHEMA
    assert [(m["runtime"], m["batch"]) for m in figures["measurements"]] == [
        (name, batch) for batch in (4, 64) for name in ("fastdigit", "onnxruntime")
    ]
    for m in figures["measurements"]:
        assert len(m["rounds"]) == 2
        assert m["calls"] == sum(r["calls"] for r in m["rounds"])
        assert m["min_ns"] == min(r["min_ns"] for r in m["rounds"])
        assert m["images_per_second"] == pytest.approx(m["batch"] / m["median_ns"] * 1e9)
    assert figures["parity"]["passed"] is True
    assert figures["settings"]["data"] == "test images"


def test_json_to_stdout_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*QUICK, "--json", "-"], known(bench_fakes.OffByALittle)) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["parity"]["passed"] is False
    assert "Parity FAILED" in captured.err


def test_all_means_every_runtime_that_can_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    fakes = known(bench_fakes.Right, bench_fakes.NotInstalled, bench_fakes.LacksFile)
    assert cli.main([*QUICK, "--runtimes", "all"], fakes) == 0
    assert "Installed, not asked for: lacking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", r'absent is not installed.*pip install "fastdigit\[bench-peers\]"'),
        ("lacking", "lacking needs the network as --keras FILE"),
    ],
)
def test_runtime_that_cannot_run(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes = known(bench_fakes.Right, bench_fakes.NotInstalled, bench_fakes.LacksFile)
    assert cli.main(["--runtimes", name], fakes) == 2
    assert re.search(message, capsys.readouterr().err)


def test_missing_rich_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert cli.main(QUICK, known(bench_fakes.Right)) == 2
    assert 'pip install "fastdigit[bench]"' in capsys.readouterr().err


def test_missing_reference_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    fakes = {**known(bench_fakes.Right), "onnxruntime": bench_fakes.NotInstalled}
    assert cli.main(["--runtimes", "fastdigit"], fakes) == 2
    assert "is not installed" in capsys.readouterr().err


def test_require() -> None:
    assert require("json", "bench") is json
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[bench\]"'):
        require("no_such_module_at_all", "bench")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--runtimes", "nothing"],
        ["--runtimes", ""],
        ["--batch", "0"],
        ["--batch", "1,x"],
        ["--threads", "-1"],
        ["--rounds", "0"],
        ["--model", "a.fdm"],
        ["--data", "photographs"],
        ["--precision", "4bit"],
        ["--runtimes", "openvino", "--precision", "8bit"],
        ["--runtimes", "all,fastdigit"],
        ["--layers", "--runtimes", "fastdigit"],
        ["--layers", "--threads", "2"],
        ["--layers", "--onnx", "a.onnx"],
        ["--layers", "--precision", "8bit"],
        ["--calibration", "somewhere"],
    ],
)
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: fastdigit-bench" in capsys.readouterr().err


def test_8_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = []

    def compile(source: Path, target: Path, precision: str) -> None:
        compiled.append(precision)
        target.write_bytes(b"compiled")

    calibration = np.zeros((3, 28, 28, 1), np.float32)
    monkeypatch.setattr(cli.fastdigit, "compile", compile)
    monkeypatch.setattr(cli, "calibration_digits", lambda directory: (calibration, f"{directory}"))
    target = tmp_path / "figures.json"
    fakes = {r.name: r for r in (bench_fakes.EightBit, bench_fakes.Quantized)}
    arguments = [*QUICK, "--precision", "8bit", "--calibration", "digits", "--json", str(target)]
    assert cli.main(arguments, known(), fakes) == 0
    assert compiled == ["int8-dynamic", "int8", "fp16"]
    figures = json.loads(target.read_text())
    assert figures["parity"]["subject"] == "fastdigit-int8-dynamic"
    assert figures["parity"]["tolerance_labels"] == 0.01
    assert figures["settings"]["images_checked"] == 600
    assert [note.split(".")[0] for note in figures["notes"]] == ["Calibrated with digits"]
    for m in figures["measurements"]:
        assert m["check"]["label_disagreements"] == 0
        assert 0 < m["accuracy"] < 1
        assert (m["ratio"] is None) == (m["runtime"] == "fastdigit-int8-dynamic")
    output = capsys.readouterr().out
    assert re.search(r"^ *64 +quantized .* \d+\.\d\dx +\d+\.\d\d%", output, re.MULTILINE)
    assert "Parity holds: at most 1% of the labels differ" in output


def test_8_bits_without_a_compiler_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compile(source: Path, target: Path, precision: str) -> None:
        raise MissingExtraError("onnx is not installed")

    monkeypatch.setattr(cli.fastdigit, "compile", compile)
    monkeypatch.setattr(
        cli, "calibration_digits", lambda directory: (np.zeros((1, 28, 28, 1), np.float32), "none")
    )
    assert cli.main(["--precision", "8bit"], known()) == 2
    assert "onnx is not installed" in capsys.readouterr().err


def test_onnx_readers_also_get_a_plain_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need("onnx")
    model = tmp_path / "net.fdm"
    model.write_bytes(networks.packed(networks.seed_network()))
    onnx = tmp_path / "net.onnx"
    onnx.touch()
    arguments = ["--quick", "--rounds", "1", "--batch", "4", "--runtimes", "fastdigit"]
    arguments += ["--model", str(model), "--onnx", str(onnx)]
    assert cli.main(arguments, known(bench_fakes.ReadsOnnx)) == 0
    output = capsys.readouterr().out
    assert "net-nchw.onnx was made from net.fdm" in output
    assert "fastdigit ran the fastest of its variants: net-nchw.onnx at batch 4." in output

    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(arguments, known(bench_fakes.ReadsOnnx)) == 0
    output = capsys.readouterr().out
    assert "Without onnx, no plain NCHW form" in output


def test_layers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers, "IMAGES", 16)
    model = tmp_path / "net.fdm"
    model.write_bytes(networks.packed(networks.seed_network()))
    target = tmp_path / "figures.json"
    arguments = ["--layers", "--rounds", "2", "--model", str(model), "--json", str(target)]
    assert cli.main(arguments) == 0
    figures = json.loads(target.read_text())
    assert [entry["batch"] for entry in figures["layers"]] == [1, 64]
    for entry in figures["layers"]:
        assert len(entry["ops"]) == 7
        assert entry["limit_ns"] == pytest.approx(sum(op["limit_ns"] for op in entry["ops"]))
        for op in entry["ops"][1:6]:
            assert op["gflops"] == pytest.approx(2 * op["multiply_adds"] / op["time_ns"]["median"])
    output = capsys.readouterr().out
    assert all(len(line) <= 80 for line in output.splitlines())
    assert "…" not in output
    for expected in ("conv F(4x4,3x3)", "batch 64, one thread", "The machine was quiet", "total"):
        assert expected in output


def test_layers_of_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--layers", "--model", "no/such.fdm"]) == 2
    assert "there is no model file no/such.fdm" in capsys.readouterr().err


def test_missing_model_file(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "no/such.fdm", "--onnx", "no/such.onnx"]
    assert cli.main(arguments, known(bench_fakes.Right)) == 2
    assert "there is no model file no/such.fdm" in capsys.readouterr().err


def test_json_into_no_directory_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise AssertionError("measured in vain")

    monkeypatch.setattr(cli.scenarios, "run", run)
    target = str(tmp_path / "no" / "such" / "figures.json")
    assert cli.main([*QUICK, "--json", target], known(bench_fakes.Right)) == 2
    assert re.search("no directory .*such", capsys.readouterr().err)


def printed(results: Results, width: int) -> str:
    from rich.console import Console

    text = io.StringIO()
    versions = {name: "1.0" for name in RUNTIMES}
    tables.print_report(results, MACHINE, versions, Console(file=text, width=width))
    return text.getvalue()


def test_report_fits_a_narrow_terminal() -> None:
    text = printed(slow_and_noisy(), 80)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_report_with_accuracies_fits_a_narrow_terminal() -> None:
    results = slow_and_noisy()
    results.measurements = [
        replace(m, accuracy=0.9935, runtime=m.runtime.replace("onnxruntime", "onnxruntime-dynamic"))
        for m in results.measurements
    ]
    text = printed(results, 80)
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"onnxruntime-dynamic .*99\.35%", text)


def test_report_says_everything() -> None:
    text = printed(slow_and_noisy(), 500)
    for expected in (
        "Some CPU, 2 CPUs (quota 1.5), fastdigit uses avx2, load average 1.90",
        "1 thread on CPU 0",
        "2 threads on CPU 0, 1",
        "4.19x",
        "Noise: noisy",
        "already busy before the run",
        "onnxruntime ran the fastest of its variants: first at batch 1, 512, 1 on 2 threads",
        "fastdigit did not use third: no",
        "used 50 ms of CPU time after a turn, while idle",
        "Threads left to the scheduler: fastdigit, onnxruntime.",
        "mnn (batch 8 and from then on): failed: crashed [with] SIGSEGV",
        "99.35%",
        "nan",
        "something [worth] knowing",
        "avx2: 100 GFLOP/s of multiply-adds, 400 GOP/s of 8-bit ones; reads L1 200, L2 100, L3 "
        "50, DRAM 10 GB/s (cache sizes assumed)",
        "The machine was quiet: a quarter of 1 samples during the run were below the best by "
        "FMA 0%, INT8 0%, L1 0%",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("spread", "word"),
    [(0, "steady"), (0.03, "steady"), (0.05, "some noise"), (0.11, "noisy"), (9, "noisy")],
)
def test_verdict(spread: float, word: str) -> None:
    assert verdict(spread) == word


def keys(value: Any, path: str = "") -> Iterator[str]:
    """All paths of a JSON value, list items as ``[]``."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{path}.{key}".lstrip(".")
            yield from keys(child, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for child in value:
            yield from keys(child, f"{path}[]")


def test_json_schema_is_documented() -> None:
    versions = {name: None for name in RUNTIMES}
    results = slow_and_noisy()
    assert results.roofline is not None
    one = Spread(2.0, 1.0, 3.0)
    layer = layers.Layer("conv 3x3", (28, 28, 1), (26, 26, 8), "direct", 48672, 48672, 320)
    profiles = [layers.Profile(1, (layer,), (one,), one)]
    reports = [
        report.to_json(results, MACHINE, versions),
        report.layers_to_json(profiles, results.roofline, MACHINE, "digits"),
    ]
    named_by_data = re.compile(
        r"(runtimes|settings\.cpus|measurements\[\]\.variants_(ns|rejected))\.[^.]+"
    )
    written = set()
    for figures in reports:
        json.dumps(figures, allow_nan=False)
        written |= {named_by_data.sub(r"\1.*", path) for path in keys(figures)}
    section = DOCUMENT.read_text().partition("## The JSON report")[2]
    documented = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    assert written == documented

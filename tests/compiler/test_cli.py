"""The ``fastdigit`` command, as scripts use it: what it writes, prints and exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit import cli
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import UnsupportedError
from fastdigit.model import shipped_file
from tests.support import EXPORTED, need
from tests.support.compiler_cases import OnnxNet

ONNX = EXPORTED / "seed.onnx"
FDM = Path(fastdigit.model.shipped_file("seed"))

onnx = need("onnx")
need("onnxruntime")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_mnist_test()
    np.save(folder / "images.npy", images[:300])
    np.save(folder / "labels.npy", labels[:300])
    return folder / "images.npy", folder / "labels.npy"


def test_compile_writes_a_model_that_predicts(
    tmp_path: Path, digits: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    output = tmp_path / "mine.fdm"
    arguments = ["compile", str(ONNX), "-o", str(output), "--name", "mine"]
    arguments += ["--calibrate", str(images), "--labels", str(labels)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "300 images, compared with onnxruntime" in printed
    assert "labels agree on 100.00%" in printed
    assert "  against float64: " in printed and "; float32 can attain " in printed
    model = fastdigit.load(output)
    np.testing.assert_array_equal(
        model.predict(np.load(images)), fastdigit.predict(np.load(images))
    )
    meta = model.info()["meta"]
    assert meta["name"] == "mine"
    stored = meta["verification"]
    assert stored["samples"] == 300
    assert stored["accuracy"] == stored["source_accuracy"] > 0.95
    quantiles = stored["error_quantiles"]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] <= stored["max_error"] <= 1e-5


def test_verbose_shows_each_pass_and_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", str(ONNX), "-o", str(tmp_path / "m.fdm"), "-v"]) == 0
    printed = capsys.readouterr().out
    assert "fuse_epilogue: " in printed
    # What a pass removed and what it made of it.
    fused = printed[printed.index("fuse_epilogue: ") :].splitlines()[1:]
    assert any(line.startswith("  - ") and "Pool2D" in line for line in fused)
    assert any(line.startswith("  + ") and "Conv2D" in line and "pool=" in line for line in fused)
    assert "multiply-adds" in printed


def test_output_is_beside_the_source_by_default(tmp_path: Path) -> None:
    source = tmp_path / "copy.onnx"
    source.write_bytes(ONNX.read_bytes())
    assert cli.main(["compile", str(source)]) == 0
    assert fastdigit.load(tmp_path / "copy.fdm").predict(load_mnist_test()[0][:1]) == [7]


@pytest.mark.parametrize("in_file", [False, True])
def test_classes(in_file: bool, tmp_path: Path) -> None:
    names = [f"{name} ß" for name in "abcdefghij"]
    given = ",".join(names)
    if in_file:
        names[0] = "a, or not"  # which a list between commas cannot say
        (tmp_path / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        given = f"@{tmp_path / 'classes.txt'}"
    output = tmp_path / "m.fdm"
    assert cli.main(["compile", str(ONNX), "-o", str(output), "--classes", given]) == 0
    assert fastdigit.load(output).classes == tuple(names)


@pytest.mark.parametrize(
    ("words", "shown", "bounds"),
    [
        (["SOURCE"], "0 to 1, bytes / 255 (assumed; ", (0, 1)),
        (
            ["SOURCE", "--input-range", "0", "255"],
            "0 to 255, bytes as they are (as given)",
            (0, 255),
        ),
        (
            ["--input-range", "0", "255", "SOURCE"],
            "0 to 255, bytes as they are (as given)",
            (0, 255),
        ),
        (["--input-range", "-1", "1", "SOURCE"], "-1 to 1, no bytes (as given)", (-1, 1)),
        (["--input-range", "none", "SOURCE"], "any finite values, no bytes (as given)", None),
        (["SOURCE", "--input-range", "auto"], "0 to 1, bytes / 255 (assumed; ", (0, 1)),
        (
            ["SOURCE", "--mean", "0.1307", "--std", "0.3081"],
            "0 to 1, bytes / 255 (the network begins with x * 3.246 - 0.4242)",
            (0, 1),
        ),
        (
            ["--scale", "1/255", "SOURCE"],
            "0 to 255, bytes as they are (the network begins with x / 255)",
            (0, 255),
        ),
    ],
)
def test_inputs(
    words: list[str],
    shown: str,
    bounds: tuple[float, float] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "m.fdm"
    words = [str(ONNX) if word == "SOURCE" else word for word in words]
    assert cli.main(["compile", "-o", str(output), "--tolerance", "1e-3", *words]) == 0
    assert f"inputs: {shown}" in capsys.readouterr().out
    least, greatest = fastdigit.load(output).info()["range"]
    assert (least, greatest) == bounds if bounds else greatest > 3e38


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-range", "0", "SOURCE"], "0, expected two numbers, none or auto"),
        (["--input-range", "none"], "arguments are required: source"),
        (["SOURCE", "--input-range", "0", "255", "3"], "expected two numbers, none or auto"),
        (["SOURCE", "--input-range", "all"], "expected two numbers, none or auto"),
        (["SOURCE", "--mean", "a,b"], "is not numbers with commas"),
        (["SOURCE", "--std", "1/0"], "is not numbers with commas"),
    ],
)
def test_wrong_inputs(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["compile", *(str(ONNX) if word == "SOURCE" else word for word in words)])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_what_differs_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "none.fdm"
    assert cli.main(["compile", str(ONNX), "-o", str(output), "--tolerance", "1e-12"]) == 1
    error = capsys.readouterr().err
    assert "more than the tolerance 1e-12" in error
    assert "nothing was written" in error
    assert not output.exists()


def test_verify(digits: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(FDM), str(ONNX), "--calibrate", str(digits[0])]) == 0
    assert "computes what" in capsys.readouterr().out
    assert cli.main(["verify", str(FDM), str(ONNX), "--tolerance", "1e-12"]) == 1
    assert "differs from onnxruntime" in capsys.readouterr().err


def test_temperature_changes_probabilities_and_no_label(
    tmp_path: Path, digits: tuple[Path, Path]
) -> None:
    output = tmp_path / "warm.fdm"
    assert cli.main(["compile", str(ONNX), "-o", str(output), "--temperature", "2"]) == 0
    assert cli.main(["verify", str(output), str(ONNX), "--calibrate", str(digits[0])]) == 0
    images = np.load(digits[0])
    cold, warm = (fastdigit.load(file).predict_proba(images) for file in (FDM, output))
    assert warm.max(axis=1).mean() < cold.max(axis=1).mean()
    np.testing.assert_array_equal(warm.argmax(axis=1), cold.argmax(axis=1))


def test_verify_finds_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(ONNX)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("dense2_1/BiasAdd/ReadVariableOp:0"):
            values = numpy_helper.to_array(tensor).copy()
            values[3] += 0.01
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert cli.main(["verify", str(FDM), str(tmp_path / "other.onnx")]) == 1
    assert "differs from" in capsys.readouterr().err


def test_inspect_takes_the_name_of_a_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "--json", "seed"]) == 0
    named = capsys.readouterr().out
    assert cli.main(["inspect", "--json", shipped_file("seed")]) == 0
    assert capsys.readouterr().out == named


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(FDM)]) == 0
    text = capsys.readouterr().out
    assert "CONV2D" in text
    assert "multiply-adds an image" in text
    assert "as planned for" in text and "winograd_4x4_3x3  F(4x4,3x3)" in text
    assert cli.main(["inspect", "--json", str(FDM)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file_bytes"] == FDM.stat().st_size
    assert facts["meta"]["classes"] == [str(digit) for digit in range(10)]
    assert facts["plan"][-1]["kernel"] == "softmax"
    assert sum(op["multiply_adds"] for op in facts["plan"]) == facts["multiply_adds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.fdm"], "missing.fdm"),
        (["inspect", str(ONNX)], "not a .fdm file"),
        (["compile", "missing.onnx"], "there is no file missing.onnx"),
        (["compile", str(FDM)], "compiled already; use it"),
        (["compile", str(ONNX), "--classes", "a,b"], "2 classes given, the network has 10"),
        (["compile", str(ONNX), "--classes", "@missing.txt"], "missing.txt"),
        (["verify", str(FDM), str(ONNX), "--labels", "LABELS"], "labels given without samples"),
        (["verify", str(FDM), str(ONNX), "--calibrate", str(ONNX)], "not a .npy file"),
    ],
)
def test_other_errors(
    arguments: list[str],
    message: str,
    digits: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(digits[1]) if argument == "LABELS" else argument for argument in arguments]
    assert cli.main(given) == 2
    assert message in capsys.readouterr().err


def test_pickles_are_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    arguments = ["verify", str(FDM), str(ONNX), "--calibrate", str(tmp_path / "objects.npy")]
    assert cli.main(arguments) == 2
    assert "not a .npy file of numbers" in capsys.readouterr().err


def test_usage() -> None:
    for arguments in ([], ["frobnicate"], ["compile"]):
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        assert exit_.value.code == 2


def test_as_a_process() -> None:
    command = [sys.executable, "-m", "fastdigit.cli", "inspect", str(FDM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DENSE" in done.stdout


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a\r\nb\r\nc\r\n\r\n", ("a", "b", "c")),
        (b"\xef\xbb\xbfa\nb\nc", ("a", "b", "c")),
        ("é\nß\n中\n".encode(), ("é", "ß", "中")),
        (bytes(range(256)), None),
        ("a\nb\nc".encode("utf-16"), None),
        (b"a\0\nb\nc", None),
    ],
    ids=["blank lines", "mark", "utf-8", "binary", "utf-16", "nul"],
)
def test_files_of_names(
    content: bytes,
    names: tuple[str, ...] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    onnx.save(OnnxNet(("N", 4)).gemm(4, 3).model(), tmp_path / "m.onnx")
    arguments = ["compile", str(tmp_path / "m.onnx"), "--classes", f"@{tmp_path / 'names.txt'}"]
    status = cli.main(arguments)
    if names is None:
        assert status == cli.ERROR
        assert "names.txt is not a text file in UTF-8" in capsys.readouterr().err
    else:
        assert status == 0
        assert fastdigit.load(tmp_path / "m.fdm").classes == names


@pytest.mark.parametrize(
    ("output", "message"),
    [("missing/m.fdm", "there is no directory "), (".", "is a directory; expected the name")],
)
def test_where_nothing_can_be_written(
    output: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(ONNX), "-o", str(tmp_path / output)]
    assert cli.main(arguments) == cli.ERROR
    assert message in capsys.readouterr().err


def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those of other libraries, which tell a network's whole configuration."""
    from fastdigit.commands import compile as command

    def fail(*_: object) -> int:
        raise UnsupportedError("unknown layer:\n" + 3000 * " {'class_name': 'Odd'}\n")

    monkeypatch.setattr(command, "run", fail)
    assert cli.main(["compile", str(ONNX)]) == cli.ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fastdigit compile: unknown layer: {'class_name'")
    assert len(line) < 1300 and line.endswith(" characters)")

    def exhaust(*_: object) -> int:
        raise MemoryError("Unable to allocate 268. GiB")

    monkeypatch.setattr(command, "run", exhaust)
    assert cli.main(["compile", str(ONNX)]) == cli.ERROR
    assert capsys.readouterr().err.startswith("fastdigit compile: out of memory: Unable")

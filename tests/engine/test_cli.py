"""The `fastdigit` command."""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit.cli import COMMANDS, main
from fastdigit.datasets import load_mnist_test
from tests.support import ROOT, need


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    Image = need("PIL.Image")
    paths = []
    for i, digit in enumerate(load_mnist_test()[0][:3]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(255 - digit.repeat(6, 0).repeat(6, 1)).save(paths[-1])
    return paths


def test_predict(pictures: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *map(str, pictures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2] for line in lines] == ["7", "2", "1"]
    assert all(line.startswith(f"{path}: ") for line, path in zip(lines, pictures, strict=True))

    assert main(["predict", "--json", str(pictures[0])]) == 0
    record = json.loads(capsys.readouterr().out)
    want = fastdigit.predict_proba(fastdigit.normalize(pictures[0]))[0]
    assert (record["label"], record["class"]) == (7, "7")
    assert np.array(record["probabilities"], np.float32).tobytes() == want.tobytes()


def test_predict_goes_on_after_a_file_it_cannot_read(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no picture")
    files = [str(tmp_path / "text"), str(tmp_path / "nothing"), str(pictures[1])]
    assert main(["predict", *files]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{pictures[1]}: 2")
    assert "no PNG, JPEG" in shown.err and "No such file" in shown.err


def test_predict_takes_no_page_in_silence(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image = need("PIL.Image")
    first, *others = map(Image.open, pictures)
    path = tmp_path / "scan.tif"
    first.save(path, save_all=True, append_images=others)
    steps = tmp_path / "steps"
    assert main(["predict", "--page", "3", "--save-steps", str(steps), str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 1") and len(list(steps.iterdir())) == 1
    assert main(["predict", str(path), str(pictures[0])]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{pictures[0]}: 7")
    assert shown.err.startswith(f"{path}: the file has 3 pages") and "--page" in shown.err


def test_errors_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", str(tmp_path / "nothing.fdm"), "x"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("fastdigit predict: ") and "Traceback" not in shown


@pytest.mark.parametrize("command", [["inspect"], ["predict", "x.png", "--model"]])
def test_a_model_that_is_not_compiled(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    path = str(tmp_path / "model.h5")
    assert main([*command, path]) == 2
    assert f"compiled first: fastdigit compile {path}\n" in capsys.readouterr().err


def test_files_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = str(tmp_path / "nothing")
    for arguments in (["predict", nothing], ["predict", "--labels", nothing, nothing]):
        assert main(arguments) in (1, 2)
        shown = capsys.readouterr().err
        assert f"{nothing}: No such file or directory\n" in shown and "Errno" not in shown


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["serve", "--port", "x"], ["predict"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage: fastdigit" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS) or "options" in shown


def test_help_needs_no_extra() -> None:
    """Subcommands are imported when asked for, and their extras later still."""
    code = (
        "import sys\nfrom fastdigit.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "extras = {'PIL', 'pypdfium2', 'rich', 'starlette', 'tensorflow', 'uvicorn'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    for arguments in (["--help"], ["serve", "--help"], ["predict", "--help"], ["read", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "uvicorn" else real(name)
    )
    assert main(["serve"]) == 2
    assert 'pip install "fastdigit[serve]"' in capsys.readouterr().err


#: Commands of others, which messages say how to call.
FOREIGN = re.compile(
    r"(?:tensorflowjs_converter|python -m tf2onnx\.convert|pip install|curl) [^;`]*"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def test_messages_name_options_that_there_are() -> None:
    """What tells a person to give an option names one that a subcommand has."""
    options = {"--help", "--version"}
    for module, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        import_module(module).add_arguments(parser)
        options |= {option for action in parser._actions for option in action.option_strings}
    # The benchmark and fastdigit-config are commands of their own; datasets.py calls npm.
    others = {"bench", "sdk.py", "datasets.py"}
    unknown, seen = set(), set()
    for path in sorted((ROOT / "fastdigit").rglob("*.py")):
        if path.relative_to(ROOT / "fastdigit").parts[0] in others:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(OPTION.findall(FOREIGN.sub("", node.value)))
                seen |= named
                unknown |= {(path.name, option) for option in named - options}
    assert unknown == set()
    assert {"--tolerance", "--input-range", "--calibrate", "--keep", "--limit"} <= seen

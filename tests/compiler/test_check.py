"""`fastdigit check`: all that is not supported, and what is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastdigit import cli
from fastdigit.compiler.check import check_source
from fastdigit.compiler.frontends import import_model
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import need
from tests.support.compiler_cases import OnnxNet

onnx = need("onnx")


def net(*shape: int) -> OnnxNet:
    return OnnxNet(("N", *shape))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    made = net(1, 8, 6).conv(1, 3, (3, 3)).add("Relu").add("Flatten").gemm(72, 4)
    onnx.save(made.model("tiny"), tmp_path / "good.onnx")
    return tmp_path / "good.onnx"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    made = net(2, 6, 6).add("Sin").add("Relu").add("Softmax", axis=0).add("Cosh").add("Sin")
    onnx.save(made.model("bad"), tmp_path / "bad.onnx")
    return tmp_path / "bad.onnx"


def test_what_is_supported(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_source(good)
    assert found.compilable and found.reasons == ()
    assert (found.front_end, found.name) == ("ONNX", "good.onnx")
    assert found.inputs == {"input": (1, 8, 6)}
    assert list(found.outputs.values()) == [(4,)]
    assert found.kinds == {"Conv": 1, "Relu": 1, "Flatten": 1, "Gemm": 1}
    assert cli.main(["check", str(good)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "good.onnx: ONNX"
    assert lines[1] == "  input 'input': 1x8x6"
    assert lines[2].startswith("  output ") and lines[2].endswith(": 4")
    assert lines[3:] == ["  read: Conv 1, Relu 1, Flatten 1, Gemm 1", "All of it is supported."]
    assert [path.name for path in good.parent.iterdir()] == ["good.onnx"], "nothing is written"


def test_all_that_is_not_supported(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what comes behind, where ONNX's own inference tells its shape."""
    found = check_source(bad)
    assert not found.compilable
    assert found.reasons == (
        "node 'sin0' (Sin) is not supported",
        "node 'softmax2' (Softmax): axis=0; supported is an axis behind the batch",
        "node 'cosh3' (Cosh) is not supported",
        "node 'sin4' (Sin) is not supported",
    )
    assert found.inputs == {"input": (2, 6, 6)}
    assert found.kinds == {"Relu": 1}
    assert cli.main(["check", str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("Not supported (4):")
    assert lines[at + 1] == f"  {found.reasons[0]} (and 1 more like this, which --json lists)"
    assert lines[at + 2 :] == [f"  {found.reasons[1]}", f"  {found.reasons[2]}"]


def test_json(good: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(good), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compilable"] is True and found["inputs"] == {"input": [1, 8, 6]}
    assert len(found["layers"]) == 4
    assert cli.main(["check", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["compilable"] is False and len(found["reasons"]) == 4


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.onnx").write_text("<html>")
    assert cli.main(["check", str(tmp_path / "x.onnx")]) == 1
    assert "this is an HTML page" in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path / "missing.onnx")]) == cli.ERROR
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelFormatError):
        check_source(tmp_path / "empty.onnx")


def test_what_a_model_file_cannot_express_is_told_too(tmp_path: Path) -> None:
    """The front end reads it; a kernel of 300 rows does not fit the file."""
    made = net(1, 600, 4).conv(1, 2, (300, 1)).conv(2, 2, (300, 1))
    found = check_source(made.model())
    assert len(found.reasons) == 2
    assert all("go up to 255, got 300" in reason for reason in found.reasons)
    assert found.inputs == {"input": (1, 600, 4)}
    assert len(found.layers) == 2


def test_a_stand_in_without_a_shape_is_no_error_of_its_own(monkeypatch: Any) -> None:
    """Where a shape is not known, kinds are told all the same, and options are not guessed."""
    from fastdigit.compiler.frontends.onnx import importer

    monkeypatch.setattr(importer.Importer, "_inferred", {})
    made = net(2, 6, 6).add("Sin").add("Softmax", axis=0).add("Cosh")
    with pytest.raises(UnsupportedError) as caught:
        import_model(made.model())
    assert caught.value.reasons == (
        "node 'sin0' (Sin) is not supported",
        "node 'cosh2' (Cosh) is not supported",
    )

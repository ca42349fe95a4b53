"""What has to know of a front end learns it from its record."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastdigit import cli
from fastdigit.compiler.frontends import FRONT_ENDS, FrontEnd, front_end_of, open_source
from fastdigit.compiler.frontends.keras import SUPPORTED_LAYERS
from fastdigit.compiler.frontends.onnx import SUPPORTED_OPERATORS
from fastdigit.errors import UnsupportedError, pip_install
from tests.support import ROOT


def row(front_end: FrontEnd) -> str:
    """The row of the table in docs/compiler.md."""
    takes = ", ".join(f"`{suffix}`" for suffix in front_end.suffixes)
    if front_end.marker is not None:
        takes = f"a directory with `{front_end.marker}`"
    takes += f"; {front_end.model}" if front_end.model else ""
    return f"| {front_end.title} | {takes} | {front_end.summary} | {front_end.verified_by} |"


def test_the_documents_have_every_front_end() -> None:
    text = (ROOT / "docs" / "compiler.md").read_text(encoding="utf-8")
    table = text.partition("## Front ends")[2].partition("\n| front end")[2].partition("\n\n")[0]
    assert table.splitlines()[2:] == [row(front_end) for front_end in FRONT_ENDS]
    for name in (*SUPPORTED_OPERATORS, *SUPPORTED_LAYERS):
        short = name.removesuffix("1D").removesuffix("2D")
        assert (
            short in text
            or name in ("InputLayer", "ActivityRegularization")
            or any(word in name for word in ("Dropout", "Noise", "Random"))
        ), f"docs/compiler.md has no {name}"


def test_help_has_every_front_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["compile", "--help"])
    assert done.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for front_end in FRONT_ENDS:
        assert front_end.files in text
        assert (
            f"{front_end.title}: {front_end.summary} held against {front_end.verified_by}" in text
        )
        assert pip_install(front_end.extra) in text


def test_errors_have_every_front_end(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    with pytest.raises(UnsupportedError) as unknown_file:
        open_source(tmp_path / "model.bin")
    with pytest.raises(UnsupportedError) as unknown_directory:
        open_source(tmp_path)
    with pytest.raises(UnsupportedError) as unknown_model:
        front_end_of(SimpleNamespace())
    for front_end in FRONT_ENDS:
        assert front_end.files in str(unknown_file.value)
        assert front_end.files in str(unknown_directory.value)
        assert front_end.files in str(unknown_model.value)
        assert front_end.model in str(unknown_model.value)
    assert "a directory without saved_model.pb" in str(unknown_directory.value)
    assert "cannot compile a SimpleNamespace" in str(unknown_model.value)


def test_records_are_told_apart() -> None:
    assert len({front_end.name for front_end in FRONT_ENDS}) == len(FRONT_ENDS)
    suffixes = [suffix for front_end in FRONT_ENDS for suffix in front_end.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in suffixes)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for front_end in FRONT_ENDS:
        assert front_end.extra in extras["project"]["optional-dependencies"]
        assert front_end.suffixes or front_end.marker

"""What ``fastdigit serve`` refuses before it listens: one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdigit import cli


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "80.5", "٨٠", ""])
def test_ports(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", f"--port={port}"])
    assert ended.value.code == 2
    assert f"{port!r} is no port: 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x93NUMPY\xff\xfe", "holds no token: it is not UTF-8 text"), (None, "No such file")],
)
def test_token_files(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["serve", "--port=0", f"--token-file={path}"]) != 0
    said = capsys.readouterr().err.strip()
    assert message in said and "Traceback" not in said
    assert len(said.splitlines()) == 1

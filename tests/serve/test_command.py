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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timeout", "inf"], "timeout is inf, expected up to 86400 seconds"),
        (["--read-timeout", "nan"], "read_timeout is nan, expected up to 86400 seconds"),
        (["--reading-timeout", "-1"], "reading_timeout is -1.0, expected up to"),
        (["--page-timeout", "0"], "page_timeout is 0.0, expected up to"),
        (["--drain-delay", "inf"], "drain_delay is inf, expected up to 86400 seconds"),
        (["--client-rate", "inf"], "client_rate is inf, expected 0 to 1000000"),
        (["--client-burst", "0"], "client_burst is 0, expected at least 1"),
        (["--trusted-proxy", "proxy"], "trusted_proxies: 'proxy' does not appear to be"),
        (["--workers", "-1"], "--workers is negative"),
        (["--model", "a=b", "--model", "a=c"], "a name is given twice"),
    ],
)
def test_limits(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--port=0", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_threads_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTDIGIT_NUM_THREADS", "abc")
    assert cli.main(["serve", "--port=0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fastdigit serve: FASTDIGIT_NUM_THREADS is 'abc', expected 1 to 256 or 'auto'"

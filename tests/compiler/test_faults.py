"""What the machine refuses while a model is compiled: each ends in one sentence, and what was there
under the name of the output, or nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastdigit.compiler import files
from tests.support import need
from tests.support.repository import ROOT

need("onnx")
need("onnxruntime")

ONNX = ROOT / "tests/support/exported/digits-compact.onnx"
OLD = b"what was there before"


def run(
    output: str | Path, file_bytes: int | None = None, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`fastdigit compile` in a process of its own, which can write no more than so many bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it: an error of write
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [sys.executable, "-B", "-m", "fastdigit.cli", "compile", ONNX, "-o", output, *options],
        env={**os.environ, **environment},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert line.startswith("fastdigit compile: ")
    return line


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "m.fdm"
    output.write_bytes(OLD)
    assert "File too large" in one_line(run(output, 1 << 16))
    assert output.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such file here")
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    """Root would replace a device for all programs."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="no regular file"):
        files.write_whole(tmp_path / "pipe", b"model")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> tuple[int, str]:
        handle, name = made(**options)
        os.dup2(device, handle)
        return handle, name

    made = files.tempfile.mkstemp
    device = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(files.tempfile, "mkstemp", full)
    with pytest.raises(OSError, match="No space left on device"):
        files.write_whole(tmp_path / "m.fdm", bytes(1 << 16))
    os.close(device)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step of the writing: under the name is what was there, or all that is new."""
    output, new = tmp_path / "m.fdm", os.urandom(1 << 16)
    for step in ("fdopen", "fsync", "chmod", "replace"):
        output.write_bytes(OLD)
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            files.write_whole(output, new)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert output.read_bytes() == OLD
    files.write_whole(output, new)
    assert output.read_bytes() == new


def test_nothing_is_written_but_the_output(tmp_path: Path) -> None:
    """ONNX Runtime keeps an identifier of the machine below the home directory, if it is let."""
    home = tmp_path / "home"
    home.mkdir()
    nowhere = {"XDG_CACHE_HOME": "", "TMPDIR": str(home)}
    done = run(tmp_path / "m.fdm", HOME=str(home), **nowhere)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    done = run(tmp_path / "m.c", None, "--emit=c", HOME=str(home), **nowhere)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "m.c", "m.fdm", "m.h"]


def test_a_full_disk_leaves_what_was_there_of_a_program_in_c(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_bytes(OLD)
    assert "File too large" in one_line(run(tmp_path / "m.c", 1 << 16, "--emit=c"))
    assert (tmp_path / "m.c").read_bytes() == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["m.c"]


def test_no_home_and_no_temporary_directory(tmp_path: Path) -> None:
    """Neither is needed, and nothing is written there: they are not there, and cannot be made."""
    (tmp_path / "file").write_bytes(b"")
    nowhere = str(tmp_path / "file/home")
    output = tmp_path / "m.fdm"
    done = run(output, HOME=nowhere, TMPDIR=nowhere, XDG_CACHE_HOME=nowhere)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "m.fdm"]

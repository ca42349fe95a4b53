"""`fastdigit read`: what it prints, and what it says of files that it cannot read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.cli import main
from fastdigit.reader import read
from tests.support import need
from tests.support.written import written

Image = need("PIL.Image")
need("rich")

TEXT = "7210 4149\n5906 9015"
PAGE = written(TEXT)
#: By Luhn: the first does, the second does not.
CARDS = written("4539578763621486\n4539578763621487", first=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page, a TIFF and a PDF of two pages, one without digits, text, and a damaged picture."""
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    page = Image.fromarray(PAGE)
    page.save(folder / "a.png")
    others = {"save_all": True, "append_images": [Image.fromarray(written("356"))]}
    Image.fromarray(written("2024 117")).save(folder / "deep" / "b.TIF", "TIFF", **others)
    Image.fromarray(np.full((40, 60), 255, np.uint8)).save(folder / "c.bmp")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    return folder


def run(*arguments: object) -> int:
    return main(["read", *map(str, arguments)])


def test_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = [line.split() for line in shown.out.splitlines() if line.strip(" ─")]
    assert rows[0] == ["file", "page", "line", "field", "text", "probability"]
    assert rows[1][:5] == [f"{folder}/a.png", "1", "1", "1", "7210"]
    assert [row[-4:-1] for row in rows[2:5]] == [
        ["1", "2", "4149"],
        ["2", "1", "5906"],
        ["2", "2", "9015"],
    ]
    assert rows[5] == [f"{folder}/c.bmp", "1", "no", "digits"]
    assert rows[6][:5] == [f"{folder}/deep/b.TIF", "1", "1", "1", "2024"]
    assert rows[8][:4] == ["2", "1", "1", "356"]
    want = [f"{field.probability:.1%}" for field in read(PAGE).fields]
    assert [row[-1] for row in rows[1:5]] == want

    assert run(folder / "a.png") == 0
    assert "page" not in capsys.readouterr().out.splitlines()[1]


def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[red]a.png"
    Image.fromarray(PAGE).save(path)
    assert run(path) == 0 and str(path) in capsys.readouterr().out


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", folder) == 0
    first, second, *others = map(json.loads, capsys.readouterr().out.splitlines())
    want = json.loads(json.dumps(asdict(read(PAGE))))
    height, width = PAGE.shape
    assert first == {
        **{"file": f"{folder}/a.png", "page": 1, "pages": 1, "height": height, "width": width},
        **{"text": TEXT, **want},
    }
    (field, _), _ = first["lines"]
    assert [digit["label"] for digit in field["digits"]] == [7, 2, 1, 0]
    assert (second["text"], second["lines"]) == ("", [])
    found = [(page["file"], page["page"], page["pages"], page["text"]) for page in others]
    path = f"{folder}/deep/b.TIF"
    assert found == [(path, 1, 2, "2024 117"), (path, 2, 2, "356")]


def test_parts_that_are_left_out_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdigit.reader.reading.MOST_LOOKS", 1)
    assert run("--json", folder / "a.png") == 1
    told = capsys.readouterr()
    left_out = json.loads(told.out)["left_out"]
    assert len(left_out) == len(TEXT.split()) - 1
    region = ",".join(map(str, left_out[0]))
    assert f"a.png: too much here may be digits, so {len(left_out)} of its fields" in told.err
    assert f"--region {region}" in told.err


def test_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--csv", folder / "a.png", folder / "c.bmp") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["text"] for row in rows] == ["7210", "4149", "5906", "9015", ""]
    assert [(row["line"], row["field"]) for row in rows[:4]] == [
        *(("1", "1"), ("1", "2")),
        *(("2", "1"), ("2", "2")),
    ]
    for row, field in zip(rows, read(PAGE).fields, strict=False):
        box = tuple(int(row[name]) for name in ("top", "bottom", "left", "right"))
        assert box == field.box
        assert abs(float(row["probability"]) - field.probability) < 1e-6


def test_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--text", folder / "a.png", folder / "deep") == 0
    assert capsys.readouterr().out == f"{TEXT}\n2024 117\n\n356\n"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PAGE).save(path)
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "fastdigit.cli", "read", "--json", "-"],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["file"], record["text"]) == ("-", TEXT)


def test_standard_input_is_there_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("-", "-")
    assert stop.value.code == 2 and "once" in capsys.readouterr().err


def test_pdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("pypdfium2")
    first, second = (Image.fromarray(written(text)) for text in ("20742", "60614\n98101"))
    first.save(tmp_path / "zip.pdf", save_all=True, append_images=[second])
    assert run("--json", "--length", 5, tmp_path / "zip.pdf") == 0
    pages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [page["text"] for page in pages] == ["20742", "60614\n98101"]
    top, bottom, left, right = pages[0]["lines"][0][0]["box"]
    assert 0 <= top < bottom <= pages[0]["height"] and 0 <= left < right <= pages[0]["width"]


def test_overlay(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawings = tmp_path / "drawn" / "here"
    assert run("--overlay", drawings, folder) == 0
    assert sorted(path.name for path in drawings.iterdir()) == [
        "001-a.png.png",
        "002-c.bmp.png",
        "003-b.TIF-page1.png",
        "003-b.TIF-page2.png",
    ]
    with Image.open(drawings / "001-a.png.png") as opened:
        drawn = np.asarray(opened)
    assert drawn.shape == (*PAGE.shape, 3)
    coloured = (drawn[..., 0] != drawn[..., 1]) | (drawn[..., 1] != drawn[..., 2])
    inside = np.zeros(PAGE.shape, bool)
    for field in read(PAGE).fields:
        top, bottom, left, right = field.box
        # Its frame, and the labels above.
        inside[top - 20 : bottom + 3, left - 3 : right + 3] = True
        for digit in field.digits:
            top, bottom, left, right = digit.box
            assert coloured[top, left:right].all() and coloured[bottom - 1, left:right].all()
            assert coloured[top:bottom, left].all() and coloured[top:bottom, right - 1].all()
    assert not (coloured & ~inside).any()
    np.testing.assert_array_equal(drawn[~inside][:, 0], PAGE[~inside])


def test_check_pattern_and_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cards.png"
    Image.fromarray(CARDS).save(path)
    page = tmp_path / "page.png"
    Image.fromarray(written("117 2024")).save(page)
    for options, pattern, want in (
        (("--length", "3"), r"\d{3}", "117"),
        (("--pattern", r"2\d+"), r"2\d+", "2024"),
        (("--length", "3", "--pattern", r"\d{4}"), "", ""),
    ):
        assert run("--text", *options, page) == 0
        found = capsys.readouterr().out.split()
        # A field that is something else may be read so that it fits.
        assert want in ["", *found] and all(re.fullmatch(pattern, text) for text in found)
    # Of what does not pass, another way to read it may: never what does not.
    assert run("--text", "--check", "luhn", path) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "4539578763621486" and "4539578763621487" not in others


def test_what_is_not_sure_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PAGE).save(path)
    probabilities = sorted(field.probability for field in read(PAGE).fields)
    between = sum(probabilities[:2]) / 2
    assert run("--csv", "--reject-below", between, path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(probabilities) - 1


def test_region(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PAGE).save(path)
    height, width = PAGE.shape
    assert run("--text", "--region", f"{height // 2},{height},0,{width}", path) == 0
    assert capsys.readouterr().out == "5906 9015\n"
    assert run("--text", "--region", f"0,{height + 1},0,{width}", path) == 1
    assert "not inside an image" in capsys.readouterr().err
    for wrong in ("1,2,3", "1,2,3,x", ""):
        with pytest.raises(SystemExit) as stop:
            run("--region", wrong, path)
        assert stop.value.code == 2 and "TOP,BOTTOM" in capsys.readouterr().err
    for wrong in ("5,2,1,7", "2,5,7,1", "2,2,1,7", "-1,5,1,7"):
        with pytest.raises(SystemExit) as stop:
            run(f"--region={wrong}", path)
        assert stop.value.code == 2 and "has no pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pattern", "("], "no regular expression"),
        (["--pattern", ""], "the pattern is empty"),
        (["--length", "0"], "length=0"),
        (["--reject-below", "2"], "reject_below=2.0"),
        (["--threads", "0"], "expected 1 to 256"),
    ],
)
def test_wrong_options_are_told_first(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options, "nothing.png") == 2
    shown = capsys.readouterr()
    assert message in shown.err and "nothing.png" not in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""


def test_it_goes_on_after_what_it_cannot_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.jpg").write_bytes(b"no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = tmp_path / "nothing.png"
    assert run("--text", empty, nothing, folder / "notes.txt", folder) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{TEXT}\n")
    folderless, missing, notes, damaged = shown.err.splitlines()
    assert folderless.startswith(f"{empty}: no .png") and "folder" in folderless
    assert missing == f"{nothing}: No such file or directory"
    assert notes.startswith(f"{folder}/notes.txt: this is no PNG")
    assert damaged.startswith(f"{folder}/b.jpg: this is no PNG") and damaged.endswith("or PDF file")


def test_a_page_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.tif"
    small = Image.fromarray(written("117"))
    Image.fromarray(PAGE).save(path, save_all=True, append_images=[small, Image.fromarray(PAGE)])
    height, width = PAGE.shape
    assert run("--text", "--region", f"0,{height},0,{width}", path) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{TEXT}\n\n{TEXT}\n"
    assert shown.err.startswith(f"{path}: page 2: the region")


def test_threads_change_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("--json", "--csv"):
        printed = []
        for threads in ("1", "3", "auto"):
            assert run(form, "--threads", threads, folder, folder / "a.png") == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] == printed[2]


def test_without_rich_there_is_no_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert run(folder / "a.png") == 2
    shown = capsys.readouterr().err
    assert 'pip install "fastdigit[images]"' in shown and "--json" in shown
    assert run("--text", folder / "a.png") == 0
    assert capsys.readouterr().out == f"{TEXT}\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_on_a_terminal_a_bar_shows_progress(folder: Path) -> None:
    """On standard error, and not among what is printed."""
    control, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "fastdigit.cli", "read", "--csv", str(folder)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        timeout=120,
    )
    os.close(terminal)
    shown = os.read(control, 1 << 20).decode()
    os.close(control)
    assert done.returncode == 0
    assert "pages" in shown and "4/4" in shown
    assert len(done.stdout.decode().splitlines()) == 1 + 4 + 1 + 2 + 1


# ---- Folders and names ----


def test_hidden_folders_are_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = folder / "deep" / ".hid"
    hidden.mkdir()
    (hidden / "z.png").write_bytes((folder / "a.png").read_bytes())
    assert run("--csv", folder) == 0
    assert ".hid" not in capsys.readouterr().out
    # A name that is given is no name that is found.
    assert run("--text", hidden) == 0
    assert capsys.readouterr().out == f"{TEXT}\n"


def test_folders_that_cannot_be_read_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = str(folder / "deep")
    scandir = os.scandir

    def refused(path: str) -> Any:
        if path == deep:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert run("--text", folder) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{TEXT}\n\n" and shown.err == f"{deep}: Permission denied\n"
    assert run("--text", deep) == 1
    assert capsys.readouterr().err == f"{deep}: Permission denied\n"


def test_an_empty_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("")
    assert stop.value.code == 2 and "empty" in capsys.readouterr().err


def test_what_moves_the_cursor_is_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[2J\r\x9b.png"
    Image.fromarray(PAGE).save(tmp_path / name)
    (tmp_path / "b\x1b[2J.png").write_text("no picture")
    assert run(tmp_path) == 1
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert set(text) & {"\x1b", "\r", "\x9b"} == set()
    assert r"a\x1b[2J\r\x9b.png" in shown.out and r"b\x1b[2J.png: this is no" in shown.err
    # What programs read has the name as it is.
    assert run("--json", tmp_path / name) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / name)


# ---- A process of its own ----


def command(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "fastdigit.cli", "read", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, **{**pipes, **options})


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_names_need_not_be_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    Image.fromarray(PAGE).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", path)
    with command("--csv", tmp_path, env={**os.environ, "PYTHONIOENCODING": "utf-8"}) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"") and out.splitlines()[1].startswith(path)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """Also while a match that never ends holds the interpreter."""
    path = tmp_path / "a.png"
    Image.fromarray(written("72104149590690157210414959069015")).save(path)
    arguments = ("--text", "--pattern", r"([0-9]+)*[A-Z]", tmp_path / "no.png", path)
    # Who runs these tests in the background may ignore the signal, and children inherit that.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with command(*arguments, **heard) as process:
        try:
            assert process.stderr is not None and b"no.png" in process.stderr.readline()
            time.sleep(0.5)  # the next file
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    # As a shell tells it: 130.
    assert (process.returncode, out, err) == (-signal.SIGINT, b"", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_nobody_reads(folder: Path) -> None:
    for form in ("--csv", "--json", "--text", None):
        reading, writing = os.pipe()
        os.close(reading)
        with command(*[form] * (form is not None), folder, stdout=writing) as process:
            os.close(writing)
            _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_the_disk_is_full(folder: Path) -> None:
    for form in ("--text", None):
        arguments = (*[form] * (form is not None), folder)
        with open("/dev/full", "wb") as full, command(*arguments, stdout=full) as process:
            _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert err == (
            b"fastdigit read: standard output cannot be written: No space left on device\n"
        )


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
@pytest.mark.parametrize(
    ("closed", "status", "message"),
    [(0, 1, b"-: standard input is closed\n"), (1, 2, b"standard output is closed\n"), (2, 1, b"")],
)
def test_a_stream_is_closed(closed: int, status: int, message: bytes) -> None:
    with command("--text", "-", stdin=subprocess.DEVNULL, preexec_fn=lambda: os.close(closed)) as (
        process
    ):
        out, err = process.communicate(timeout=120)
    assert process.returncode == status and err.endswith(message) and err.count(b"\n") <= 1
    assert out == b""


# ---- Drawings ----


def test_a_folder_of_drawings_that_cannot_be_is_told_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--overlay", folder / "notes.txt", folder) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert f"--overlay {folder}/notes.txt: this folder cannot be written: " in shown.err


def test_a_drawing_that_cannot_be_loses_no_reading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("fastdigit.commands.read.save_overlay", full)
    assert run("--text", "--overlay", folder / "drawn", folder / "a.png") == 1
    shown = capsys.readouterr()
    assert shown.out == f"{TEXT}\n" and "No space left on device" in shown.err


def test_of_a_damaged_file_the_other_pages_are_read(tmp_path: Path) -> None:
    """And what Pillow warns of is kept from who reads its error."""
    path = tmp_path / "three.tif"
    page = Image.fromarray(PAGE)
    page.save(path, save_all=True, append_images=[Image.fromarray(written("356")), page])
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    struct.pack_into("<H", data, second + 2, 65000)  # the tag of its width
    path.write_bytes(data)
    with command("--text", path) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and out.decode() == f"{TEXT}\n\n{TEXT}\n"
    assert err.decode().startswith(f"{path}: page 2: the image file is damaged")
    assert err.count(b"\n") == 1
    # Of one that ends in its second page, the first.
    path.write_bytes(data[: second + 20])
    with command("--text", path) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and out.decode() == f"{TEXT}\n\n"
    assert err.decode().startswith(f"{path}: page 2: the image file is damaged")
    assert err.count(b"\n") == 1

"""The command ``fastdigit read``: every digit of pictures and pages."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from fastdigit.commands.overlay import save_overlay
from fastdigit.commands.readings import (
    COLUMNS,
    PageRead,
    console,
    print_csv,
    print_json,
    print_table,
    print_text,
)
from fastdigit.commands.shell import (
    check_folder,
    ending_on_interrupt,
    without_warnings_of_pillow,
    writing,
)
from fastdigit.errors import FastDigitError, InputError, in_words, printable
from fastdigit.images.pages import Pages, open_pages
from fastdigit.reader import Reading, read
from fastdigit.reader.checks import CHECKS
from fastdigit.threads import Threads, resolve_threads

__all__ = ["add_arguments", "run"]

STANDARD_INPUT: Final = "-"

#: Of a folder, files that end so are read.
SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".pdf"),
)

Box = tuple[int, int, int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="PNG, JPEG, BMP, GIF, PPM, TIFF, WebP, AVIF, HEIF or PDF file, of which all pages are "
        "read; a folder of such files, at any depth; - for standard input",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a page, with boxes")
    form.add_argument("--csv", action="store_true", help="a header, and one row a field")
    form.add_argument("--text", action="store_true", help="the digits alone")
    add("--length", metavar="N", type=int, help="how many digits each field has")
    add(
        "--pattern",
        metavar="REGEX",
        help=r"a regular expression that each whole field matches, such as '\d{5}'",
    )
    add("--check", choices=tuple(CHECKS), help="the check digit that each field ends in")
    add(
        "--region",
        metavar="TOP,BOTTOM,LEFT,RIGHT",
        type=_region,
        help="the part of each page to look at, in pixels; bottom and right are exclusive",
    )
    add("--reject-below", metavar="P", type=float, help="leave fields of a probability below P out")
    add(
        "--overlay",
        metavar="DIR",
        type=Path,
        help="draw what was read over each page: a PNG file in DIR",
    )
    add(
        "--threads",
        metavar="N",
        type=_threads,
        help="files that are read at the same time, or auto for as many as there are CPUs "
        "(default: FASTDIGIT_NUM_THREADS, or 1)",
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print what was read on each page; return 1 if one could not be read."""
    with ending_on_interrupt(), without_warnings_of_pillow():
        return _run(options, parser)


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    names = ("length", "pattern", "check", "reject_below")
    wanted = {name: getattr(options, name) for name in names}
    # What is wrong with the options is said before a file is looked at.
    threads = resolve_threads(options.threads)
    read(np.full((8, 8), 255, np.uint8), **wanted)
    if options.files.count(STANDARD_INPUT) > 1:
        parser.error("standard input, -, is there once")
    if "" in options.files:
        parser.error("the name of a file is empty; . is the current folder")
    if sys.stdout is None:
        raise InputError("standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be text: what came in goes out.
        sys.stdout.reconfigure(errors="surrogateescape")
    check_folder("--overlay", options.overlay)
    table = None if options.json or options.csv or options.text else console()
    if options.csv:
        with writing():
            print(*COLUMNS, sep=",")
    show = print_json if options.json else print_csv if options.csv else print_text
    files, failed = _files_of(options.files)
    read_pages: list[PageRead] = []
    # Lines that appear on a terminal are progress enough.
    with _progress(len(files), hidden=table is None and sys.stdout.isatty()) as progress:
        jobs = _Jobs({**wanted, "region": options.region}, options.overlay, progress)
        for found in jobs.run(files, threads):
            read_pages += found.pages if table is not None else ()
            if table is None:
                with writing():
                    for page in found.pages:
                        show(page)
            for problem in found.problems:
                progress.complain(problem)
                failed = True
    if read_pages:
        with writing():
            print_table(read_pages, table)
    return int(failed)


def _files_of(paths: Sequence[str]) -> tuple[list[str], bool]:
    """Files, and those of folders; and whether a folder had none or could not be read, which is
    said."""
    files: list[str] = []
    failed = False
    for path in paths:
        if path == STANDARD_INPUT or not os.path.isdir(path):
            files.append(path)
            continue
        problems: list[str] = []
        below = _below(path, problems)
        if not below and not problems:
            problems.append(f"{path}: no {', '.join(SUFFIXES)} file is in this folder")
        for problem in problems:
            print(printable(problem), file=sys.stderr)
            failed = True
        files += below
    return files, failed


def _below(folder: str, problems: list[str]) -> list[str]:
    """Files of a folder at any depth, but for hidden ones; and which folders cannot be read."""
    found: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=lambda e: problems.append(in_words(e))):
        folders[:] = [name for name in folders if name[0] != "."]
        files = (Path(where, name) for name in names if name[0] != ".")
        found += (file for file in files if file.suffix.lower() in SUFFIXES and _may_be_file(file))
    return [str(file) for file in sorted(found)]


def _may_be_file(path: Path) -> bool:
    """Whether it is no pipe or device, which would be waited for."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # who reads it will tell
        return True


@dataclass
class _Found:
    """What was read of a file, and what could not be."""

    pages: list[PageRead] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Jobs:
    """Reads files, some at the same time.

    Parameters
    ----------
    wanted
        What :func:`fastdigit.read` is told.
    overlay
        Folder of drawings, or None.
    progress
        Is told of pages.
    """

    def __init__(self, wanted: dict[str, Any], overlay: Path | None, progress: _Progress) -> None:
        self._wanted = wanted
        self._overlay = overlay
        self._progress = progress
        self._stopped = threading.Event()

    def run(self, files: Sequence[str], threads: int) -> Iterator[_Found]:
        """Yield what was found in each file, in their order."""
        pool = ThreadPoolExecutor(threads, "fastdigit-read")
        try:
            jobs = deque(pool.submit(self._file, n, path) for n, path in enumerate(files, 1))
            while jobs:
                yield jobs.popleft().result()
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)

    def _file(self, number: int, path: str) -> _Found:
        found = _Found()
        try:
            opened = open_pages(_standard_input() if path == STANDARD_INPUT else path)
        except (FastDigitError, OSError) as error:
            found.problems.append(_problem(path, 0, error))
            self._progress.step(1)
            return found
        with closing(opened):
            self._progress.more(opened.count - 1)
            for page in range(1, opened.count + 1):
                if self._stopped.is_set():
                    break
                try:
                    self._page(number, path, opened, page, found)
                except (FastDigitError, OSError) as error:
                    where = page if opened.count > 1 else 0
                    found.problems.append(_problem(path, where, error))
                self._progress.step(1)
        return found

    def _page(self, number: int, path: str, opened: Pages, page: int, found: _Found) -> None:
        pixels = opened.pixels(page)
        reading = read(pixels, **self._wanted)
        height, width = pixels.shape[:2]
        found.pages.append(PageRead(path, page, opened.count, (height, width), reading))
        if reading.left_out:
            where = page if opened.count > 1 else 0
            found.problems.append(_problem(path, where, _left_out(reading)))
        if self._overlay is not None:
            name = "standard-input" if path == STANDARD_INPUT else Path(path).name
            name += f"-page{page}" * (opened.count > 1)
            save_overlay(self._overlay / f"{number:03}-{name}.png", pixels, reading)


def _left_out(reading: Reading) -> InputError:
    count = len(reading.left_out)
    first = ",".join(map(str, reading.left_out[0]))
    return InputError(
        f"too much here may be digits, so {count} of its fields were not read; read parts of it, "
        f"such as --region {first}"
    )


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return sys.stdin.buffer.read()


def _problem(path: str, page: int, error: Exception) -> str:
    """One line about what could not be read; page 0: the file."""
    said = in_words(error) if isinstance(error, OSError) else str(error)
    where = f"{path}: page {page}" if page else path
    return printable(" ".join(f"{where}: {said.removeprefix(f'{path}: ')}".split()))


# ---- Progress ----


class _Progress:
    """Counts pages; this one shows nothing."""

    def more(self, pages: int) -> None:
        """There are so many pages more."""

    def step(self, pages: int) -> None:
        """So many pages are done."""

    def complain(self, text: str) -> None:
        print(text, file=sys.stderr)


class _Bar(_Progress):
    """A bar of rich."""

    def __init__(self, bar: Any, pages: int) -> None:
        self._bar = bar
        self._task = bar.add_task("pages", total=pages)
        self._pages = pages
        self._lock = threading.Lock()

    def more(self, pages: int) -> None:
        with self._lock:
            self._pages += pages
            self._bar.update(self._task, total=self._pages)

    def step(self, pages: int) -> None:
        self._bar.advance(self._task, pages)

    def complain(self, text: str) -> None:
        self._bar.console.print(text, markup=False, soft_wrap=True)


@contextmanager
def _progress(files: int, *, hidden: bool) -> Iterator[_Progress]:
    """Show a bar on standard error if that is a terminal and rich is installed."""
    if hidden or not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield _Progress()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(
        *(*columns, TimeRemainingColumn()),
        console=console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bars:
        # Ctrl-C ends the process at once, and must not leave the terminal without one.
        bars.console.show_cursor(True)
        yield _Bar(bars, files)


# ---- Values of options ----


def _region(text: str) -> Box:
    try:
        top, bottom, left, right = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TOP,BOTTOM,LEFT,RIGHT, four numbers of pixels"
        ) from None
    if not (0 <= top < bottom and 0 <= left < right):
        raise argparse.ArgumentTypeError(
            f"{text!r} has no pixels: bottom is below top, and right is right of left, exclusive"
        )
    return top, bottom, left, right


def _threads(text: str) -> Threads:
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'auto'") from None

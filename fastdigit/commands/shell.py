"""What a command owes the shell that runs it: Ctrl-C, broken pipes, full disks, folders to write
in."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastdigit.errors import InputError, in_words

__all__ = [
    "OutputError",
    "abandon_output",
    "check_folder",
    "ending_on_interrupt",
    "without_warnings_of_pillow",
    "writing",
]


class OutputError(Exception):
    """What a command prints cannot be written."""


@contextmanager
def ending_on_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once, as it ends programs in C: also within a loop in C, or
    while a thread holds the interpreter, where Python would wait."""
    ours = threading.current_thread() is threading.main_thread()
    # It stays ignored where the shell has it ignored.
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def without_warnings_of_pillow() -> Iterator[None]:
    """What it warns of files is of no use to who reads them: where they are damaged, an error
    says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def writing() -> Iterator[None]:
    """Print, and bring it out; errors are :class:`OutputError`, but for a broken pipe."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {in_words(error)}") from error


def abandon_output() -> None:
    """Lose what is still to be printed, so that the end of the process does not try again."""
    with suppress(OSError, ValueError, AttributeError):  # it is no file, or is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def check_folder(option: str, folder: Path | None) -> None:
    """Make a folder for drawings, if one is asked for.

    Raises
    ------
    InputError
        It cannot be made, or nothing can be written in it.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{option} {folder}: this folder cannot be written: {reason}") from error

"""Files of names, which several subcommands take."""

from __future__ import annotations

from pathlib import Path

from fastdigit.errors import InputError

__all__ = ["read_names"]


def read_names(path: Path) -> list[str]:
    """Read names, one a line; empty lines at the end don't count.

    Raises
    ------
    InputError
        If the file is no text in UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is not a text file in UTF-8; expected a name a line")
    return text.rstrip("\r\n").splitlines()

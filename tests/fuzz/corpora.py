"""Inputs that are kept: a small archive for each target, in tests/fuzz/corpora."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["keep", "kept", "path_of"]


def path_of(target: str) -> Path:
    """The archive of a target."""
    return Path(__file__).with_name("corpora") / f"{target}.zip"


def kept(target: str) -> list[bytes]:
    """Return the inputs of a target, none if it has no archive."""
    path = path_of(target)
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist())]


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Write the archive of a target: the same bytes for the same inputs."""
    named = {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs}
    path_of(target).parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path_of(target), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(named.items()):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)

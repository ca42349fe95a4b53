"""Builds that tests share: what was built once from the same contents is built for all.

Whatever it is made of, and how, is hashed; the result lies under build/tests by that hash, for all
workers of a run and for later runs. Locks see to it that no two processes build the same thing.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support import ROOT

FOLDER = ROOT / "build/tests"
CSRC = ROOT / "csrc"

#: What nobody asked for so long is deleted.
KEPT_SECONDS = 7 * 24 * 3600


def once(name: str, ingredients: Iterable[str | Path], make: Callable[[Path], None]) -> Path:
    """The file or folder that `make` writes to the path it is given, made if it is not there yet.

    `ingredients` are all it depends on: words as they are, files by their contents. `name` is the
    end of its path: a suffix stays what it is.
    """
    digest = hashlib.sha256(name.encode())
    for ingredient in ingredients:
        data = ingredient.read_bytes() if isinstance(ingredient, Path) else ingredient.encode()
        digest.update(b"%s%d:" % (type(ingredient).__name__.encode(), len(data)))
        digest.update(data)
    folder = FOLDER / digest.hexdigest()[:20]
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(folder / "lock")  # for forget_old
        if not target.exists():
            # Beside it, so that moving it there is one step: half of a file is never seen.
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / name
                make(made)
                os.replace(made, target)
    return target


def forget_old() -> None:
    """Delete what was not asked for in a week."""
    if not FOLDER.is_dir():
        return
    for folder in FOLDER.iterdir():
        lock = folder / "lock"
        try:
            if time.time() - lock.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder)
        except FileNotFoundError:  # another process was first
            continue


@functools.cache
def compiler_version(compiler: str) -> str:
    """Which compiler that is, to the last digit, so that another one builds anew."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60)
    return f"{shutil.which(compiler)} {done.stdout}"


@functools.cache
def sources(file: Path) -> tuple[Path, ...]:
    """A C file and all files of the repository that it includes, however they are found.

    More than what is really compiled, for conditions are not looked at. An include by a macro may
    be any file of csrc.
    """
    found: dict[Path, None] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        text = path.read_text(encoding="utf-8")
        for word in re.findall(r"^[ \t]*#[ \t]*include[ \t]*(.+)$", text, re.MULTILINE):
            quoted = re.match(r'["<](.+?)[">]', word)
            if quoted is None:
                waiting += [p for p in CSRC.rglob("*") if p.suffix in (".c", ".h", ".def")]
                continue
            for base in (path.parent, CSRC, CSRC / "include"):
                if (base / quoted[1]).is_file():
                    waiting.append((base / quoted[1]).resolve())
                    break
    return tuple(sorted(found))

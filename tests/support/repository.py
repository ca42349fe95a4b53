"""What the repository holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT


def git(*arguments: str) -> str:
    """What a git command prints; the test is skipped where there is no checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    # A search that finds nothing ends with 1.
    assert done.returncode in (0, 1) and not done.stderr, done
    return done.stdout.decode()


def repository_files() -> list[Path]:
    """Files under version control, and those about to be."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [path for path in (ROOT / name for name in names if name) if path.is_file()]

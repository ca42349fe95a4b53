"""What holds for the whole run.

``slow`` means that `make test` leaves a test to `make test-all`. A file whose tests are all slow is
then not even imported, for it imports what only `make test-all` installs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import build, wholly_slow


def pytest_sessionstart(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        build.forget_old()


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr == "not slow":
        return "tests marked slow are left to make test-all"
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.option.markexpr == "not slow" and collection_path.match("test_*.py"):
        return wholly_slow(collection_path) or None
    return None

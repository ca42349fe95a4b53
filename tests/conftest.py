"""What holds for the whole run."""

from __future__ import annotations

import os

import pytest

from tests.support import build


def pytest_sessionstart(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        build.forget_old()

"""Data shared by the benchmarks, which are for comparing two builds of fastdigit with each other.

``pytest benchmarks/`` runs them; pytest-benchmark's ``--benchmark-save`` and
``--benchmark-compare`` keep and compare results. To compare runtimes, use ``fastdigit-bench``:
it interleaves them and isolates each in a process of its own.
"""

from __future__ import annotations

import pytest

from fastdigit.bench.adapter import ModelFiles, shipped_files
from fastdigit.bench.scenarios import Images, digits


@pytest.fixture(scope="session")
def data() -> Images:
    """The 10,000 test digits, float32 (10000, 28, 28, 1)."""
    return digits()


@pytest.fixture(scope="session")
def files() -> ModelFiles:
    """The shipped model."""
    return shipped_files()

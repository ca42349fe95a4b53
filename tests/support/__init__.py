"""What the tests share: cases, networks, the float64 reference, builds of the core, fakes."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

__all__ = ["EXPORTED", "ROOT", "missing", "need", "wholly_slow"]

#: The root of the repository.
ROOT = Path(__file__).resolve().parents[2]

#: The shipped models as tf2onnx exported them, `digits` also compacted: what they were compiled
#: from is what they are held against.
EXPORTED = Path(__file__).with_name("exported")

#: Packages that do not install on these and later Pythons yet.
NOT_YET = {"kserve": (3, 14)}


def need(*modules: str) -> Any:
    """Import what a test, or the file that calls this, cannot do without; the first is returned.

    A module that is not installed skips the test. Where nothing may be missing, because `make test`
    or `make test-all` has installed what pyproject.toml names, it fails.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if error.name and error.name.split(".")[0] != name.split(".")[0]:
                raise  # it is installed, and broken
            if sys.version_info >= NOT_YET.get(name, (4,)):
                pytest.skip(f"{name} does not install on this Python", allow_module_level=True)
            missing(name)
    return sys.modules[modules[0]]


def missing(package: str) -> NoReturn:
    """Skip the test, or file, for want of a package; or fail it where nothing may be missing."""
    if os.environ.get("FASTDIGIT_TEST_COMPLETE"):
        pytest.fail(f"{package} is not installed; do only tests marked slow have it?")
    pytest.skip(f"{package} is not installed", allow_module_level=True)


def wholly_slow(file: Path) -> bool:
    """Whether a file's `pytestmark` has ``slow``."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            return "pytest.mark.slow" in ast.unparse(node.value)
    return False

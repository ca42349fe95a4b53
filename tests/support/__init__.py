"""What the tests share: cases, networks, the float64 reference, builds of the core, fakes."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["EXPORTED", "ROOT", "need"]

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
            there = NOT_YET.get(name, sys.version_info) >= sys.version_info
            if os.environ.get("FASTDIGIT_TEST_COMPLETE") and there:
                pytest.fail(f"{name} is not installed, and this test is not marked slow")
            pytest.skip(f"{name} is not installed", allow_module_level=True)
    return sys.modules[modules[0]]

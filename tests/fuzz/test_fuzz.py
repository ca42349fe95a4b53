"""A short fuzz of every target, and what is kept under sanitizers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzz.corpora import kept
from tests.fuzz.engines import MODEL, NAMES, fuzz, has_atheris, replayer
from tests.support.c_build import run, run_checked
from tests.support.sanitizers import MEMORY, OPTIONS, sanitizer

pytestmark = pytest.mark.slow

#: Of each target: two minutes in all.
SECONDS = 15


@pytest.fixture(scope="module", autouse=True)
def libfuzzer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where clang comes without it (Debian: libclang-rt-dev)."""
    folder = tmp_path_factory.mktemp("libfuzzer")
    source = folder / "nothing.c"
    source.write_text("int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }\n")
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    done = run(["clang", "-fsanitize=fuzzer,address", source, "-o", folder / "nothing"])
    if done.returncode:
        pytest.skip(f"clang has no libFuzzer: {done.stderr.strip()[-300:]}")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    outcome = fuzz(name, SECONDS, tmp_path)
    assert not outcome.found, outcome.said[-6000:]
    assert outcome.executions > 10
    # Without Atheris, a target in Python has no coverage to tell.
    assert outcome.coverage or (name != MODEL and not has_atheris())


def test_what_is_kept_under_sanitizers(tmp_path: Path) -> None:
    prefix = sanitizer(MEMORY, tmp_path)
    paths = []
    for number, data in enumerate(kept("model")):
        paths.append(tmp_path / f"{number}.fdm")
        paths[-1].write_bytes(data)
    run_checked([*prefix, replayer(MEMORY), "0", "0", *paths], **OPTIONS)

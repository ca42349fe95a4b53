"""What the tests rely on is tested too."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import ROOT, build, need, wholly_slow


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "FOLDER", tmp_path / "built")
    return tmp_path / "built"


def test_what_many_ask_for_is_built_once() -> None:
    made: list[Path] = []

    def make(target: Path) -> None:
        made.append(target)
        target.write_text("done")

    with ThreadPoolExecutor(8) as pool:
        targets = set(pool.map(lambda _: build.once("a.txt", ["b"], make), range(40)))
    assert len(made) == len(targets) == 1
    target = targets.pop()
    assert (target.name, target.read_text()) == ("a.txt", "done")
    assert target != made[0], "made beside it and moved there"


def test_each_ingredient_counts(tmp_path: Path) -> None:
    file = tmp_path / "source"
    file.write_text("one")

    def make(target: Path) -> None:
        target.mkdir()

    first = build.once("a", ["x", "yz", file], make)
    assert build.once("a", ["x", "yz", file], make) == first
    others = [build.once(*of, make) for of in (("b", ["x", "yz", file]), ("a", ["xy", "z", file]))]
    others += [build.once("a", ["x", "yz", "one"], make), build.once("a", ["x", "yz"], make)]
    file.write_text("two")
    others.append(build.once("a", ["x", "yz", file], make))
    assert len({first, *others}) == 6


def test_a_build_that_fails_leaves_nothing(folder: Path) -> None:
    def fail(target: Path) -> None:
        target.write_text("half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build.once("a", ["b"], fail)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["lock"]
    assert build.once("a", ["b"], lambda target: target.write_text("all") and None).exists()


def test_what_nobody_asks_for_is_forgotten(folder: Path) -> None:
    build.forget_old()  # there is nothing yet
    old, new = (build.once(name, [], lambda target: target.touch()) for name in ("old", "new"))
    long_ago = (folder.stat().st_mtime - build.KEPT_SECONDS - 60,) * 2
    for target in (old, new):
        os.utime(target.with_name("lock"), long_ago)
    assert build.once("new", [], lambda target: pytest.fail("built again")) == new
    build.forget_old()
    assert (old.exists(), new.exists()) == (False, True)


def test_sources_are_all_that_a_file_includes(tmp_path: Path) -> None:
    file = tmp_path / "a.c"
    (tmp_path / "b.h").write_text("int b;")
    file.write_text('#include "b.h"\n#  include <fastdigit.h>\n#include <stdio.h>\n')
    found = build.sources(file)
    assert set(found) == {file, tmp_path / "b.h", build.CSRC / "include/fastdigit.h"}
    isa = build.sources(build.CSRC / "isa/isa_generic.c")
    assert {path.name for path in isa} >= {"kernels.def", "simd_generic.h", "conv2d.inl.h"}
    (tmp_path / "c.c").write_text("#include FD_ANYTHING\n")
    assert set(build.sources(tmp_path / "c.c")) > set(isa)


@pytest.mark.parametrize("complete", [False, True])
def test_what_is_missing_skips_or_fails(complete: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDIGIT_TEST_COMPLETE", raising=False)
    if complete:
        monkeypatch.setenv("FASTDIGIT_TEST_COMPLETE", "1")
    assert need("json.decoder", "json").JSONDecoder
    outcome = pytest.fail.Exception if complete else pytest.skip.Exception
    with pytest.raises(outcome, match="no_such_package is not installed"):
        need("json", "no_such_package")


def test_what_is_installed_and_broken_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="no_such_package"):
        need("broken_package")


def test_files_of_slow_tests_are_left_out_unseen(tmp_path: Path) -> None:
    """They import what only `make test-all` installs."""
    file = tmp_path / "test_a.py"
    for text, slow in (
        ("pytestmark = pytest.mark.slow", True),
        ("pytestmark = [\n    pytest.mark.slow,\n    pytest.mark.skipif(True)]", True),
        ("pytestmark = pytest.mark.skipif(True)", False),
        ("@pytest.mark.slow\ndef test_a():\n    pytestmark = pytest.mark.slow", False),
    ):
        file.write_text(text)
        assert wholly_slow(file) == slow


def test_tests_name_what_they_need_by_need() -> None:
    """Or a package that is missing would be a skip that nobody sees."""
    for file in (ROOT / "tests").rglob("*.py"):
        assert "importor" + "skip" not in file.read_text("utf-8"), file

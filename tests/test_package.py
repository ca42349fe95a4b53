"""What is installed: wheels, source distributions, a tree built in place, and one not built."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.c_build import MACHINE, NATIVE, Toolchain, run, run_checked, setup_py
from tests.support.sdk import ABI, DECLARED, HEADER, build_and_run, exported, wanted

#: What a wheel may weigh.
LIMIT = 21 << 19

STABLE_ABI: bool = setup_py()["ABI3"]
OBJECTS: Path = setup_py()["OBJECTS"]
#: Of the names that begin with an underscore, those that the stable ABI has.
STABLE_NAMES = {"_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct", "_Py_Dealloc"}
STABLE_NAMES |= {"_PyObject_CallFunction_SizeT", "_PyObject_GC_New"}


def repository_files() -> list[str]:
    """Files under version control, and those about to be."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z", "--cached"]
    names = run_checked([*command, "--others", "--exclude-standard"]).split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def copy_repository(folder: Path) -> Path:
    """The files of the repository alone, with their times."""
    for name in repository_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, with the objects of the last build, which are taken where nothing has changed."""
    folder = copy_repository(tmp_path_factory.mktemp("package") / "fastdigit")
    if (ROOT / OBJECTS).is_dir():
        shutil.copytree(ROOT / OBJECTS, folder / OBJECTS)
    return folder


@dataclass
class Wheel:
    """An archive, what it holds by name and bytes it takes there, and where it is unpacked."""

    archive: Path
    sizes: dict[str, int]
    site: Path
    log: str


def pip_wheel(what: Path, folder: Path, **environment: str) -> Wheel:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose"]
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(what))
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (archive,) = folder.glob("fastdigit-*.whl")
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder / "site")
        sizes = {info.filename: info.compress_size for info in files.infolist()}
    return Wheel(archive, sizes, folder / "site", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Built from a clone in which older versions have left their files."""
    platform = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for name in (
        f"build/lib.{platform}/fastdigit/_testing.so",
        f"build/lib.{platform}/fastdigit/models/digits.onnx",
        "fastdigit/_testing.so",
        "fastdigit/lib/libfastdigit.a",
        "fastdigit/models/digits.onnx",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("old")
    return pip_wheel(source, tmp_path_factory.mktemp("wheel"))


def python(code: str, *path: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code that finds packages in `path` first, and not the one that is being tested."""
    start = (
        "import sys; sys.meta_path[:] = [finder for finder in sys.meta_path "
        f"if 'editable' not in repr(finder)]; sys.path[:0] = {list(map(str, path))!r}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=cwd, capture_output=True, text=True, timeout=300
    )


PREDICT = """
import numpy, fastdigit
from fastdigit.datasets import load_mnist_test
images, labels = load_mnist_test()
for name in ("digits", "seed"):
    assert (fastdigit.load(name).predict(images[:100]) == labels[:100]).mean() > 0.95
print(fastdigit.__file__, fastdigit._core.__file__, fastdigit.get_library(), sep="\\n")
"""


# ---- The wheel ----


@pytest.mark.slow
def test_a_wheel_holds_what_is_used_once(wheel: Wheel) -> None:
    tag = "abi3" if STABLE_ABI else sysconfig.get_config_var("SOABI")
    header, pc = "fastdigit/include/fastdigit.h", "fastdigit/lib/pkgconfig/fastdigit.pc"
    tracked = {
        name
        for name in repository_files()
        if name.startswith("fastdigit/") and not name.endswith((".pyx", ".pxd", ".pxi"))
    }
    held = {name for name in wheel.sizes if name.startswith("fastdigit/")}
    made = {Path(name).name for name in held - tracked - {header, pc}}
    assert tracked | {header, pc} <= held
    assert len(made) == 4 and len(held - tracked) == 6, held - tracked
    extensions = {name for name in made if name.startswith(("_core", "_pixels", "_loops"))}
    assert len(extensions) == 3 and all(str(tag).split("-")[0] in name for name in extensions)
    assert all(re.fullmatch(r"libfastdigit\..+", name) for name in made - extensions)
    others = {name.split("/")[0] for name in wheel.sizes} - {"fastdigit"}
    assert all(name.endswith(".dist-info") for name in others)


@pytest.mark.slow
def test_a_wheel_is_small(wheel: Wheel) -> None:
    size = wheel.archive.stat().st_size
    largest = sorted(wheel.sizes.items(), key=lambda item: -item[1])[:8]
    assert size <= LIMIT, f"{size:,} bytes, of which {largest}"


@pytest.mark.slow
def test_a_wheel_is_for_every_python(wheel: Wheel) -> None:
    if not STABLE_ABI:
        pytest.skip("this Python has no stable ABI")
    NATIVE.require("nm")
    assert re.fullmatch(r"fastdigit-[\d.]+-cp311-abi3-\w+\.whl", wheel.archive.name)
    names = ("_core", "images/_pixels", "reader/_loops")
    extensions = [wheel.site / f"fastdigit/{name}.abi3.so" for name in names]
    used = {
        line.split()[-1].partition("@")[0]
        for path in extensions
        for line in run_checked(["nm", "--dynamic", "--undefined-only", path]).splitlines()
    }
    assert "PyObject_GetBuffer" in used
    assert {name for name in used if name.startswith("_Py")} <= STABLE_NAMES


@pytest.mark.slow
def test_a_wheel_runs(wheel: Wheel) -> None:
    done = python(PREDICT, wheel.site)
    assert done.returncode == 0, done.stderr
    package = wheel.site / "fastdigit"
    assert all(Path(line).is_relative_to(package) for line in done.stdout.split())


@pytest.mark.slow
def test_the_build_says_what_it_does(wheel: Wheel) -> None:
    (begins,) = re.findall(r"fastdigit for (\w+): .+, (\d+) at a time", wheel.log)
    assert begins[0] == MACHINE and int(begins[1]) >= 1
    rows = dict(re.findall(r"^ *(\w+) +\d+ files? +(as it was|[\d.]+ s)$", wheel.log, re.M))
    done = python("from fastdigit import _core; print(*dict(_core.isas()))", wheel.site)
    assert set(rows) == {"core", "image", *done.stdout.split()}
    assert re.search(r"libfastdigit\S+: [\d,]+ bytes", wheel.log)
    assert re.search(r"in all [\d.]+ s", wheel.log)


@pytest.mark.slow
def test_a_wheel_has_the_c_library(wheel: Wheel, tmp_path: Path) -> None:
    """Of its own package, unpacked elsewhere: header, library, command, entry points."""
    NATIVE.require("nm")
    site = wheel.site
    package = site / "fastdigit"
    library = package / f"lib/libfastdigit.so.{ABI}"
    assert (package / "include/fastdigit.h").read_bytes() == HEADER.read_bytes()
    assert not any(path.suffix in (".pyx", ".pxd", ".pxi") for path in package.rglob("*"))
    assert not (site / "csrc").exists()
    assert exported(library, "--dynamic") == DECLARED

    def config(*arguments: str) -> str:
        done = python(f"import fastdigit.sdk; fastdigit.sdk.main({list(arguments)})", site)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert config("--library") == str(library)
    words = shlex.split(config("--cflags", "--libs"))
    assert all(str(site) in word or not word.startswith("/") for word in words)
    assert build_and_run(tmp_path, words) == wanted()
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    text = entry_points.read_text()
    assert "fastdigit-config = fastdigit.sdk:main" in text
    assert "[pkg_config]\nfastdigit = fastdigit.lib.pkgconfig" in text


@pytest.mark.slow
def test_a_wheel_is_the_same_to_the_last_byte_wherever_and_whenever_it_is_built(
    tmp_path: Path,
) -> None:
    """Unoptimised, for what the compiler is told, and what else gets in, is the same then."""
    NATIVE.require()
    quick = tmp_path / "quick"
    quick.write_text(f'#!/bin/sh\nexec {NATIVE.compiler} "$@" -O0 -Wno-error\n')
    quick.chmod(0o755)
    archives = []
    for folder, name in ((tmp_path / "a", "fastdigit"), (tmp_path / "elsewhere", "clone")):
        tree = copy_repository(folder / name)
        for path in tree.rglob("*.py"):
            path.touch()
        built = pip_wheel(tree, folder, CC=str(quick), SOURCE_DATE_EPOCH="1700000000")
        archives.append(built.archive)
    assert archives[0].name == archives[1].name
    assert archives[0].read_bytes() == archives[1].read_bytes()


# ---- A source distribution, and another compiler ----


@pytest.mark.slow
def test_a_source_distribution_is_enough_also_for_clang(source: Path, tmp_path: Path) -> None:
    Toolchain(compiler="clang").require()
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("fastdigit-*.tar.gz")
    # Not optimised, which takes a tenth of the time: what clang makes of the kernels, and whether
    # it warns, test_cross knows.
    clang = tmp_path / "clang"
    clang.write_text('#!/bin/sh\nexec clang "$@" -O0 -Wno-error\n')
    clang.chmod(0o755)
    built = pip_wheel(archive, tmp_path, CC=str(clang))
    assert re.search(r"fastdigit for \w+: .*clang", built.log)
    assert "as it was" not in built.log
    done = python(PREDICT, built.site)
    assert done.returncode == 0, done.stderr


# ---- The root of a clone ----


def test_a_tree_that_is_not_built_says_so(tmp_path: Path) -> None:
    """In one sentence, with the command to type; and no other exception is shown."""
    tree = copy_repository(tmp_path / "clone")
    done = python("import fastdigit", tree, cwd=tree)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {tree} is the source of fastdigit, and its C part is not built for this "
        "Python: type `pip install --editable .` there"
    )
    (tree / "fastdigit/_core.pyx").unlink()
    done = python("import fastdigit", tree, cwd=tree)
    assert "was built for another Python or platform: install fastdigit again" in done.stderr
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (tree / f"fastdigit/_core{suffix}").write_text("not a shared object")
    done = python("import fastdigit", tree, cwd=tree)
    assert done.returncode == 1 and "another Python" not in done.stderr


@pytest.mark.slow
def test_a_tree_built_in_place_works_in_its_root(source: Path, tmp_path: Path) -> None:
    """And is rid of what an older build had left, which Python would prefer."""
    old = source / f"fastdigit/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    old.write_text("old")
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=1800)
    if STABLE_ABI:
        assert not old.exists()
    (source / "use.py").write_text(PREDICT)
    done = python("import runpy; runpy.run_path('use.py')", source, cwd=source)
    assert done.returncode == 0, done.stderr
    package = source / "fastdigit"
    assert all(Path(line).is_relative_to(package) for line in done.stdout.split())
    assert [path.name for path in (package / "lib").glob("lib*")] == [
        Path(done.stdout.split()[2]).name
    ]
    done = run([sys.executable, "-m", "fastdigit.cli", "--version"])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_only_what_has_changed_is_built_again(source: Path) -> None:
    """By a file that is included, by the command, and by the compiler's version."""
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]

    def rows(**environment: str) -> dict[str, str]:
        done = subprocess.run(
            command,
            cwd=source,
            check=True,
            capture_output=True,
            text=True,
            timeout=1800,
            env={**os.environ, **environment},
        )
        return dict(re.findall(r"^ *(\w+) +\d+ files? +(as it was|[\d.]+ s)$", done.stdout, re.M))

    rows()
    assert set(rows().values()) == {"as it was"}
    pool = source / "csrc/model/pool.c"
    pool.write_text(pool.read_text() + "\n")
    again = rows()
    assert again.pop("core") != "as it was"
    assert set(again.values()) == {"as it was"}
    (source / "csrc/model/more.c").write_text('#include "more.h"\nint fd_more = FD_MORE;\n')
    (source / "csrc/model/more.h").write_text("#define FD_MORE 7\n")
    assert rows()["core"] != "as it was"
    assert rows()["core"] == "as it was"
    (source / "csrc/model/more.h").write_text("#define FD_MORE 1007\n")
    assert rows()["core"] != "as it was"
    (source / "csrc/model/more.h").write_text("#define FD_MORE more\n")
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=1800)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert " -c csrc/model/more.c " in done.stderr and "error:" in done.stderr
    (source / "csrc/model/more.c").unlink()
    (source / "csrc/model/more.h").unlink()
    assert rows()["core"] == "as it was"

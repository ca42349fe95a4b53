"""The C library for other programs: header, installation by CMake, and what the package carries."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import fastdigit
from fastdigit import _core, sdk
from tests.support import c_networks, need
from tests.support.c_build import (
    AARCH64,
    MACHINE,
    NATIVE,
    ROOT,
    Toolchain,
    driver,
    objects,
    qemu,
    run,
    run_checked,
    setup_py,
)
from tests.support.networks import packed
from tests.support.sanitizers import MEMORY, OPTIONS, sanitizer
from tests.support.sdk import (
    ABI,
    DECLARED,
    HEADER,
    PEDANTIC,
    PROGRAM,
    SEED,
    build_and_run,
    exported,
    wanted,
)

#: ISAs whose kernels take longest to compile.
LARGE = [isa for isa in setup_py()["ISAS"] if "avx512" in isa.name]


def versions(path: Path | str) -> set[str]:
    """Versions of the symbols of ours that a shared object exports or asks for."""
    table = run_checked(["readelf", "--dyn-syms", "--wide", path])
    found = re.findall(r" (fd_\w+)(?:@+(\S+))?", table)
    assert found
    return {version for _, version in found}


# ---- The header ----


@pytest.mark.parametrize(
    "compiler, standard",
    [
        *((compiler, std) for compiler in ("gcc", "clang") for std in ("c99", "c11", "c17")),
        *((compiler, std) for compiler in ("g++", "clang++") for std in ("c++11", "c++20")),
    ],
)
def test_the_header_compiles_alone(compiler: str, standard: str, tmp_path: Path) -> None:
    Toolchain(compiler=compiler).require()
    source = tmp_path / ("alone.cpp" if "++" in compiler else "alone.c")
    source.write_text('#include "fastdigit.h"\n#include "fastdigit.h"\n')
    options = (f"-std={standard}", *PEDANTIC, "-fsyntax-only", f"-I{HEADER.parent}")
    run_checked([compiler, *options, source])


def test_the_header_declares_what_it_documents() -> None:
    """Every function has a comment before it, or shares the one of the function before."""
    assert {"fd_model_open", "fd_context_create_in", "fd_run"} <= DECLARED
    text = HEADER.read_text(encoding="utf-8")
    for name in DECLARED:
        before = text[: re.search(rf"^FD_API .*\b{name}\(", text, re.M).start()]  # type: ignore[union-attr]
        assert before.rstrip().endswith("*/"), f"{name} has no comment"
    guide = (ROOT / "docs/c-api.md").read_text(encoding="utf-8")
    assert {name for name in DECLARED if name not in guide} == set()
    assert {name for name in re.findall(r"\bfd_[a-z_]+\b(?=\()", guide)} <= DECLARED


@pytest.mark.slow
def test_contexts(tmp_path: Path) -> None:
    """Memory of the caller will do, and no run allocates: natively, and under the sanitizers."""
    wrapped = ("malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign")
    link = ("-Wl," + ",".join(f"--wrap={name}" for name in wrapped),)
    model = tmp_path / "lenet.fdm"
    model.write_bytes(packed(c_networks.networks()["lenet"]))
    NATIVE.require()
    for path in (SEED, model):
        run_checked([driver("contexts", NATIVE, link), path])
    run_checked([*sanitizer(MEMORY, tmp_path), driver("contexts", MEMORY, link), model], **OPTIONS)


@pytest.mark.parametrize(
    "memory", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["native", "sanitized"]
)
def test_what_memory_and_threads_refuse(memory: bool, tmp_path: Path) -> None:
    """Every allocation failing once, and every thread: a stated error, or the caller alone."""
    wrapped = ("malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "pthread_create")
    link = ("-Wl," + ",".join(f"--wrap={name}" for name in wrapped),)
    model = tmp_path / "lenet.fdm"
    model.write_bytes(packed(c_networks.networks()["lenet"]))
    NATIVE.require()
    if memory:
        command = [*sanitizer(MEMORY, tmp_path), driver("faults", MEMORY, link), model]
        run_checked(command, **OPTIONS)
    else:
        assert int(run_checked([driver("faults", NATIVE, link), model]).split()[0]) >= 8


@pytest.mark.slow
def test_what_can_change_is_the_pool() -> None:
    """The library has no mutable state but the threads' pool, and no run of one thread needs it."""
    NATIVE.require("objdump")
    mutable = {}
    for path in [path for paths in objects(NATIVE).values() for path in paths]:
        for line in run_checked(["objdump", "--syms", path]).splitlines():
            if match := re.search(r" O (\.data|\.bss|\*COM\*)\t(\w+)[ \t]+(\S+)$", line):
                assert int(match[2], 16) > 0
                mutable[match[3]] = path.stem
    assert mutable == {"pool": "pool", "once": "pool"}


# ---- What the package carries ----


def test_get_include() -> None:
    header = Path(fastdigit.get_include()) / "fastdigit.h"
    assert header.read_bytes() == HEADER.read_bytes(), "fastdigit was not built since"


def test_get_library_is_one_that_loads() -> None:
    library = ctypes.CDLL(fastdigit.get_library())
    library.fd_version.restype = ctypes.c_char_p
    assert library.fd_version().decode() == fastdigit.__version__


def test_the_shared_library_exports_the_header_and_nothing_else() -> None:
    NATIVE.require("nm", "readelf")
    assert exported(fastdigit.get_library(), "--dynamic") == DECLARED
    dynamic = run_checked(["readelf", "--dynamic", "--wide", fastdigit.get_library()])
    assert f"Library soname: [libfastdigit.so.{ABI}]" in dynamic
    assert "NODELETE" in dynamic
    assert not re.search(r"R(UN)?PATH", dynamic)
    assert versions(fastdigit.get_library()) == {f"FASTDIGIT_{ABI}"}
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)
    assert {re.sub(r"[-.].*", "", name) for name in needed} <= {"libc", "libpthread", "ld"}


def test_the_extension_runs_on_that_library() -> None:
    """It finds it beside itself, whatever LD_LIBRARY_PATH says, and has no kernels of its own."""
    NATIVE.require("nm", "readelf")
    extension = _core.__file__
    dynamic = run_checked(["readelf", "--dynamic", "--wide", extension])
    assert f"[libfastdigit.so.{ABI}]" in dynamic
    assert re.findall(r"\((R(?:UN)?PATH)\).*\[(.*)\]", dynamic) == [("RPATH", "$ORIGIN/lib")]
    assert exported(extension, "--dynamic") == {"PyInit__core"}
    assert versions(extension) == {f"FASTDIGIT_{ABI}"}
    maps = Path("/proc/self/maps")
    if maps.exists():
        loaded = set(re.findall(r"/\S*libfastdigit\S*", maps.read_text()))
        assert loaded == {os.path.realpath(fastdigit.get_library())}


FAKE = """
#include <stdlib.h>
const char *fd_version(void) { return "0.0.9"; }
"""


@pytest.mark.parametrize(
    "soname, loaded, environment, said",
    [
        # A program that is linked with another one, and runs Python.
        ("libfastdigit.so.0.0", True, False, f"{ABI} [0]"),
        # One in the folders that the environment names.
        (f"libfastdigit.so.{ABI}", False, True, f"{ABI} [0]"),
        # The dynamic loader takes it for ours: that must not go unnoticed.
        (f"libfastdigit.so.{ABI}", True, False, "has loaded libfastdigit 0.0.9 before"),
    ],
)
def test_another_version_in_the_process(
    soname: str, loaded: bool, environment: bool, said: str, tmp_path: Path
) -> None:
    NATIVE.require()
    functions = "".join(f"void {name}(void) {{ abort(); }}\n" for name in DECLARED - {"fd_version"})
    (tmp_path / "fake.c").write_text(FAKE + functions)
    version = "FASTDIGIT_" + soname.removeprefix("libfastdigit.so.")
    (tmp_path / "fake.map").write_text(f"{version} {{ global: fd_*; }};")
    options = ("-shared", "-fPIC", f"-Wl,-soname,{soname},--version-script,{tmp_path}/fake.map")
    run_checked(["gcc", tmp_path / "fake.c", *options, "-o", tmp_path / soname])
    code = f"import ctypes; ctypes.CDLL({str(tmp_path / soname)!r}, ctypes.RTLD_GLOBAL); "
    code = (code if loaded else "") + (
        "import fastdigit, numpy\n"
        "label = fastdigit.load('seed').predict(numpy.zeros((28, 28), numpy.uint8))[0]\n"
        f"print({ABI!r}, [int(label) - {wanted().split()[-1]}])"
    )
    folder = {"LD_LIBRARY_PATH": str(tmp_path)} if environment else {}
    done = run([sys.executable, "-c", code], **folder)
    assert done.returncode in (0, 1)
    assert said in (done.stdout if done.returncode == 0 else done.stderr)


@pytest.mark.parametrize("compiler", ["gcc", "g++", "clang", "clang++"])
def test_fastdigit_config(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Toolchain(compiler=compiler).require("readelf")
    assert sdk.main(["--cflags", "--libs"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert build_and_run(tmp_path, words, compiler) == wanted()
    dynamic = run_checked(["readelf", "--dynamic", tmp_path / "program"])
    assert f"libfastdigit.so.{ABI}" in dynamic


def test_fastdigit_config_says_where_things_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert sdk.main(["--version", "--includedir", "--library", "--pkgconfigdir"]) == 0
    version, include, library, pkgconfig = capsys.readouterr().out.splitlines()
    assert (version, include) == (fastdigit.__version__, fastdigit.get_include())
    assert library == fastdigit.get_library()
    assert (Path(pkgconfig) / "fastdigit.pc").is_file()


@pytest.mark.parametrize("arguments", [[], ["--shared"], ["--cflags", "--shared"], ["--ldflags"]])
def test_fastdigit_config_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        sdk.main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_package_without_the_library_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sdk, "_PACKAGE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="install fastdigit again"):
        fastdigit.get_include()
    with pytest.raises(FileNotFoundError, match="lib does not exist"):
        fastdigit.get_library()
    (tmp_path / "lib/pkgconfig").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"libfastdigit\.so\.\* does not exist"):
        fastdigit.get_library()


def pkg_config_words(command: list[str], **environment: str) -> list[str]:
    out = run_checked([*command, "--cflags", "--libs", "fastdigit"], **environment)
    return shlex.split(out)


def test_pkg_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NATIVE.require("pkg-config")
    sdk.main(["--pkgconfigdir"])
    folder = capsys.readouterr().out.strip()
    words = pkg_config_words(["pkg-config"], PKG_CONFIG_PATH=folder)
    assert build_and_run(tmp_path, words) == wanted()
    version = run_checked(["pkg-config", "--modversion", "fastdigit"], PKG_CONFIG_PATH=folder)
    assert version.strip() == fastdigit.__version__


def test_pkg_config_entry_point(tmp_path: Path) -> None:
    """PyPI's pkgconf asks the installed packages for their pkg-config files."""
    need("pkgconf")
    words = pkg_config_words([sys.executable, "-m", "pkgconf"])
    assert build_and_run(tmp_path, words) == wanted()


# ---- Plain CMake ----


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, configured, built and installed, and then moved elsewhere."""
    NATIVE.require("cmake")
    folder = tmp_path_factory.mktemp("cmake")
    install(folder / "build", folder / "first", "-DFASTDIGIT_WERROR=ON")
    shutil.move(folder / "first", folder / "prefix")
    return folder / "prefix"


def install(build: Path, prefix: Path, *options: str) -> None:
    configure(ROOT / "csrc", build, *options, f"-DCMAKE_INSTALL_PREFIX={prefix}")
    run_checked(["cmake", "--install", build])


def configure(source: Path, build: Path, *options: str) -> None:
    run_checked(["cmake", "-S", source, "-B", build, "-DCMAKE_INSTALL_LIBDIR=lib", *options])
    run_checked(["cmake", "--build", build, "--parallel", str(os.cpu_count())])


@pytest.mark.slow
def test_cmake_installs(installed: Path) -> None:
    NATIVE.require("nm", "readelf")
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    version = fastdigit.__version__
    assert files >= {
        "include/fastdigit.h",
        "lib/libfastdigit.a",
        "lib/libfastdigit.so",
        f"lib/libfastdigit.so.{ABI}",
        f"lib/libfastdigit.so.{version}",
        "lib/cmake/fastdigit/fastdigitConfig.cmake",
        "lib/pkgconfig/fastdigit.pc",
    }
    library = installed / "lib/libfastdigit.so"
    assert library.resolve().name == f"libfastdigit.so.{version}"
    dynamic = run_checked(["readelf", "--dynamic", "--wide", library])
    assert f"Library soname: [libfastdigit.so.{ABI}]" in dynamic and "NODELETE" in dynamic
    assert exported(library, "--dynamic") == DECLARED
    assert versions(library) == {f"FASTDIGIT_{ABI}"}
    static = exported(installed / "lib/libfastdigit.a")
    assert static >= DECLARED and all(name.startswith("fd_") for name in static)


@pytest.mark.slow
def test_cmake_builds_the_isas_that_setup_py_builds(installed: Path) -> None:
    def names(path: Path | str) -> list[str]:
        library = ctypes.CDLL(str(path))
        library.fd_isa_name.restype = ctypes.c_char_p
        found = iter(lambda: library.fd_isa_name(ctypes.c_size_t(len(seen)), None), None)
        seen: list[str] = []
        for name in found:
            seen.append(name.decode())
        return seen

    assert names(installed / "lib/libfastdigit.so") == names(fastdigit.get_library())


@pytest.mark.slow
@pytest.mark.parametrize("static", ["OFF", "ON"])
def test_find_package(installed: Path, static: str, tmp_path: Path) -> None:
    options = (f"-DCMAKE_PREFIX_PATH={installed}", f"-DEXAMPLES_STATIC={static}")
    configure(ROOT / "examples/c", tmp_path, *options)
    done = run([tmp_path / "classify", SEED, tmp_path / "missing.pgm"])
    assert (done.returncode, done.stdout) == (1, "") and "No such file" in done.stderr
    dynamic = run_checked(["readelf", "--dynamic", tmp_path / "classify"])
    assert (f"libfastdigit.so.{ABI}" in dynamic) == (static == "OFF")


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked, found", [(ABI, True), ("0.0", False), ("0.99", False), ("2", False)]
)
def test_find_package_refuses_other_versions(
    installed: Path, asked: str, found: bool, tmp_path: Path
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.19)\nproject(p LANGUAGES C)\n"
        f"find_package(fastdigit {asked} REQUIRED)\n"
    )
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={installed}"]
    assert (run(command).returncode == 0) == found


@pytest.mark.slow
def test_pkg_config_after_cmake(installed: Path, tmp_path: Path) -> None:
    """The paths follow what was moved."""
    NATIVE.require("pkg-config")
    words = pkg_config_words(["pkg-config"], PKG_CONFIG_PATH=str(installed / "lib/pkgconfig"))
    library = str(installed / "lib")
    assert build_and_run(tmp_path, words, LD_LIBRARY_PATH=library) == wanted()


@pytest.mark.slow
def test_cmake_static_only_inside_another_project(tmp_path: Path) -> None:
    """And without the ISAs that the other project has no use for."""
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.19)\nproject(p LANGUAGES C)\n"
        "set(FASTDIGIT_SHARED OFF)\nset(CMAKE_POLICY_DEFAULT_CMP0077 NEW)\n"
        f'add_subdirectory("{ROOT / "csrc"}" fastdigit)\n'
        "add_executable(program program.c)\n"
        "target_link_libraries(program PRIVATE fastdigit::fastdigit)\n"
    )
    without = [f"-DFASTDIGIT_HAVE_{isa.name.upper()}=OFF" for isa in LARGE]
    configure(tmp_path, tmp_path / "b", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *without)
    assert run_checked([tmp_path / "b/program", SEED]).strip() == wanted()
    assert not list((tmp_path / "b").rglob("*.so*"))
    words = run_checked(["strings", tmp_path / "b/program"])
    assert "generic" in words and "avx512" not in words


@pytest.mark.slow
@pytest.mark.skipif(MACHINE == "aarch64", reason="this is an AArch64 CPU")
def test_cmake_for_another_cpu(tmp_path: Path) -> None:
    AARCH64.require("cmake")
    emulator = qemu("aarch64")
    install(
        tmp_path / "b",
        tmp_path / "p",
        f"-DCMAKE_C_COMPILER={AARCH64.compiler}",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DFASTDIGIT_SHARED=OFF",
        "-DFASTDIGIT_WERROR=ON",
    )
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    words = ["-static", f"-I{tmp_path}/p/include", f"-L{tmp_path}/p/lib", "-lfastdigit", "-pthread"]
    run_checked([AARCH64.compiler, source, *words, "-o", tmp_path / "program"])
    assert run_checked([emulator, tmp_path / "program", SEED]).strip() == wanted()
    assert "neon" in run_checked(["strings", tmp_path / "program"])

"""The C core built apart from the extension: by other compilers, for other CPUs, with sanitizers.

What is compiled and how is setup.py's to say; the drivers that are linked with it are in
tests/csrc/drivers.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support import ROOT, build

TIMEOUT = 900


@functools.cache
def setup_py() -> dict[str, Any]:
    """What setup.py defines, with our own builds' warnings, and nothing built."""
    environment = mock.patch.dict(os.environ, FASTDIGIT_WERROR="1")
    with environment, mock.patch("setuptools.setup"), mock.patch("Cython.Build.cythonize"):
        return runpy.run_path(str(ROOT / "setup.py"))


MACHINE: str = setup_py()["MACHINE"]


@dataclass(frozen=True)
class Toolchain:
    """A compiler, what it compiles for, and flags that come after those of setup.py.

    `isas` are the ISAs to build; None: all that the machine's family has. Kernels are built by
    this toolchain too, or, with `kernels`, are those that are installed.
    """

    compiler: str = "gcc"
    machine: str = MACHINE
    flags: tuple[str, ...] = ("-O2", "-g1")
    isas: tuple[str, ...] | None = None
    kernels: bool = True

    def require(self, *tools: str) -> None:
        """Skip the test if this compiler, or one of `tools`, is not installed."""
        for tool in (self.compiler, *tools):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")


#: What is installed: the very objects, unless the sources have changed since.
INSTALLED = Toolchain(flags=())
#: The core, counting what is reached of it.
COVERED = Toolchain(
    compiler="clang",
    flags=("-O0", "-fprofile-instr-generate", "-fcoverage-mapping"),
    kernels=False,
)
#: What programs are made of that run on this machine. (`make coverage` asks for COVERED.)
NATIVE = COVERED if os.environ.get("FASTDIGIT_TEST_COVERED") else INSTALLED
CLANG = Toolchain(compiler="clang")
# Static, so that QEMU needs no libraries of that CPU.
AARCH64 = Toolchain(
    compiler="aarch64-linux-gnu-gcc", machine="aarch64", flags=("-O2", "-g1", "-static")
)


def qemu(machine: str) -> str:
    """QEMU's user mode emulator of a machine, or skip."""
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if shutil.which(name):
            return name
    pytest.skip(f"qemu-{machine} is not installed (Debian: qemu-user-static)")


def run(
    command: Sequence[str | os.PathLike[str]], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. FASTDIGIT_ISA is only set if it is in `environment`."""
    inherited = {k: v for k, v in os.environ.items() if k != "FASTDIGIT_ISA"}
    return subprocess.run(
        [os.fspath(word) for word in command],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
    )


def run_checked(command: Sequence[str | os.PathLike[str]], **environment: str) -> str:
    """The same, failing with what the command says if it fails; its standard output otherwise."""
    done = run(command, **environment)
    if done.returncode != 0:
        words = " ".join(map(str, command))[:2000]
        pytest.fail(
            f"{words}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-8000:]}",
            pytrace=False,
        )
    return done.stdout


@functools.cache
def objects(toolchain: Toolchain) -> dict[str, tuple[Path, ...]]:
    """The compiled core, under "core", and each ISA's kernels under its name."""
    isas = [
        isa
        for isa in setup_py()["ISAS"]
        if (not isa.machines or toolchain.machine in isa.machines)
        and (toolchain.isas is None or isa.name in toolchain.isas)
    ]
    # The longest first.
    jobs = [(isa.name, f"csrc/isa/isa_{isa.name}.c", isa.flags) for isa in reversed(isas)]
    macros = tuple(f"-DFD_HAVE_{isa.name.upper()}" for isa in isas)
    jobs += [("core", source, macros) for source in setup_py()["CORE_SOURCES"]]

    def compile_one(job: tuple[str, str, tuple[str, ...]]) -> tuple[str, Path]:
        name, source, flags = job
        maker = toolchain if toolchain.kernels or name == "core" else INSTALLED
        installed = _installed(source) if maker == INSTALLED else None
        target = f"{Path(source).stem}.o"
        return name, installed or compiled(target, maker, ROOT / source, [*flags, "-c"], [])

    parts: dict[str, tuple[Path, ...]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, target in pool.map(compile_one, jobs):
            parts[name] = (*parts.get(name, ()), target)
    return parts


def _installed(source: str) -> Path | None:
    """The object that setup.py made of a source, if nothing that it was made of has changed."""
    target = ROOT / setup_py()["OBJECTS"] / Path(source).relative_to("csrc").with_suffix(".o")
    try:
        _, _, seen = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        stats = {name: (ROOT / name).stat() for name in seen}
    except OSError:  # it was never built, or a header is gone
        return None
    same = seen == {name: [stat.st_mtime_ns, stat.st_size] for name, stat in stats.items()}
    return target if same and target.exists() else None


def compiled(
    name: str,
    toolchain: Toolchain,
    source: Path,
    options: Sequence[str],
    link: Sequence[str | Path],
    before: Path | None = None,
) -> Path:
    """What a compiler makes of one file of the repository, and of what it is linked with.

    `before` is a header for it to read first.
    """
    flags = (*setup_py()["CFLAGS"], *toolchain.flags, *options)
    include = ("-I", ROOT / "csrc", "-I", ROOT / "csrc/include")
    include += ("-include", before) if before else ()
    texts = [source, *[before] * (before is not None)]
    texts += [path for path in link if isinstance(path, Path) and path.suffix == ".c"]
    files = {file for path in texts for file in build.sources(path)}

    def make(target: Path) -> None:
        words = (*flags, *include, source, *link, "-o", target)
        run_checked([toolchain.compiler, *words])

    made_of = [build.compiler_version(toolchain.compiler), *flags, *sorted(files), *link]
    return build.once(name, made_of, make)


@functools.cache
def program(source: str, toolchain: Toolchain, link: tuple[str, ...] = ()) -> Path:
    """A program of one file of the repository, linked with the core and options `link`."""
    core = [path for paths in objects(toolchain).values() for path in paths]
    return compiled(Path(source).stem, toolchain, ROOT / source, [], [*core, *link])


def driver(name: str, toolchain: Toolchain, link: tuple[str, ...] = ()) -> Path:
    """The program tests/csrc/drivers/`name`.c, linked with the core."""
    return program(f"tests/csrc/drivers/{name}.c", toolchain, link)


def image_driver(toolchain: Toolchain) -> Path:
    """The program tests/csrc/drivers/image.c, linked with the loops over pixels."""
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]
    link = [*(ROOT / source for source in setup_py()["IMAGE_SOURCES"]), *wrapped, "-lm"]
    return compiled("image", toolchain, ROOT / "tests/csrc/drivers/image.c", [], link)

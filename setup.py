"""Builds the C library, the Cython extension that is linked with it, and the one for pictures.

The rest about the package is in pyproject.toml; what is made of C, and with which flags, in
csrc/build.json. One shared library holds the core and the kernels of every ISA, for Python and for
C programs alike (docs/c-api.md); the loops over pictures (csrc/image) are in other extensions. C
files are compiled here and not by setuptools, side by side and each with the flags of its ISA: only
an ISA's kernels may use its instructions.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import product, takewhile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)
MAC = sys.platform == "darwin"

ROOT = Path(__file__).resolve().parent
#: What is built and how: shared with csrc/CMakeLists.txt.
BUILD = json.loads((ROOT / "csrc/build.json").read_text(encoding="utf-8"))
#: Where objects are kept for the next build.
OBJECTS = Path("build/objects")


@dataclass(frozen=True)
class Isa:
    """An ISA the C core can be built for: where, with which flags, and code to try them on."""

    name: str
    machines: tuple[str, ...]  # empty: all
    flags: tuple[str, ...]
    probe: str


ISAS = tuple(
    Isa(row["name"], tuple(row["machines"]), tuple(row["flags"]), row["probe"])
    for row in BUILD["isas"]
)


def sources_of(part: str) -> list[str]:
    """The C files of a part in build.json."""
    found = (sorted((ROOT / "csrc").glob(pattern)) for pattern in BUILD[part])
    return [path.relative_to(ROOT).as_posix() for paths in found for path in paths]


CORE_SOURCES = sources_of("core")
IMAGE_SOURCES = sources_of("image")

# No contraction: v_fma says where a multiply-add is fused, and only there. No -ffast-math: sums
# keep their order. No errno from sqrt: it is an instruction then, and no libm is needed.
CFLAGS = [*BUILD["flags"], "-O3", "-g0", "-fPIC"]
# What our own builds ask for; a user's newer compiler may know warnings that we have not met.
if os.environ.get("FASTDIGIT_WERROR"):
    CFLAGS += BUILD["warnings"]

# One extension for all Pythons from 3.11; those without a GIL have no stable ABI for it.
ABI3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

NO_COMPILER = """
fastdigit is built from C, and the C compiler {compiler!r} {problem}.
Install gcc or clang (Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select
--install), or name yours: CC=clang pip install ..."""
NO_HEADERS = """
Python's C headers are not installed: {header} does not exist.
Install them (Debian, Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel)."""


def abi_version(version: str) -> str:
    """The version in the soname: releases that share it are compatible (docs/c-api.md)."""
    major, minor = version.split(".")[:2]
    return f"{major}.{minor}" if major == "0" else major


def filled(template: str, **values: str) -> str:
    """A file of csrc/cmake with its @NAMES@ replaced."""
    text = (ROOT / "csrc/cmake" / template).read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], text)


class Compiler:
    """The C compiler that setuptools found, as a list of words."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        if shutil.which(words[0]) is None:
            raise SystemExit(NO_COMPILER.format(compiler=words[0], problem="was not found"))
        if not self.takes("int main(void) { return 0; }"):
            raise SystemExit(NO_COMPILER.format(compiler=words[0], problem="does not work"))
        if not self.takes("#ifndef __GNUC__\n#error\n#endif"):
            problem = "does not speak GNU C (vector types, asm)"
            raise SystemExit(NO_COMPILER.format(compiler=words[0], problem=problem))
        command = takewhile(lambda word: not word.startswith("-"), words)
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        self.version = (done.stdout or done.stderr).partition("\n")[0]

    def takes(self, source: str, flags: tuple[str, ...] = ()) -> bool:
        """Whether it compiles `source` with `flags`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.c"
            path.write_text(source + "\n")
            command = [*self.words, "-w", *flags, "-c", str(path), "-o", str(path) + ".o"]
            return subprocess.run(command, capture_output=True).returncode == 0

    def can_build(self, isa: Isa) -> bool:
        """Whether this machine has the ISA in its family and the compiler knows it."""
        return (not isa.machines or MACHINE in isa.machines) and self.takes(isa.probe, isa.flags)

    def compile(self, source: str, flags: list[str]) -> tuple[Path, float]:
        """The object of a source, and the seconds it took: none if nothing has changed since."""
        target = OBJECTS / Path(source).relative_to("csrc").with_suffix(".o")
        command = [*self.words, *flags, "-Icsrc", "-Icsrc/include", "-c", source, "-o", str(target)]
        made_from, record = target.with_suffix(".d"), target.with_suffix(".json")

        def state() -> str:
            files = dependencies(made_from.read_text(encoding="utf-8"))
            seen = {name: [os.stat(name).st_mtime_ns, os.stat(name).st_size] for name in files}
            return json.dumps([self.version, command, seen])

        try:
            if record.read_text(encoding="utf-8") == state() and target.exists():
                return target, 0.0
        except OSError:
            pass  # never built, or a header is gone
        target.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        start = time.monotonic()
        run([*command, "-MMD", "-MF", str(made_from)])
        record.write_text(state(), encoding="utf-8")
        return target, time.monotonic() - start


def dependencies(makefile: str) -> list[str]:
    """The files that a rule of the compiler's -MMD names."""
    names = makefile.replace("\\\n", " ").partition(": ")[2]
    return [name.replace("\\ ", " ") for name in re.findall(r"(?:\\ |\S)+", names)]


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr, flush=True)  # warnings


Parts = dict[str, list["Future[tuple[Path, float]]"]]


def begin(pool: ThreadPoolExecutor, compiler: Compiler, isas: list[Isa]) -> Parts:
    """Compile the core and the kernels of each ISA; those that take longest come first."""
    parts: Parts = {}
    for isa in reversed(isas):
        source, flags = f"csrc/isa/isa_{isa.name}.c", [*CFLAGS, *isa.flags]
        parts[isa.name] = [pool.submit(compiler.compile, source, flags)]
    flags = [*CFLAGS, *(f"-DFD_HAVE_{isa.name.upper()}" for isa in isas)]
    parts["core"] = [pool.submit(compiler.compile, source, flags) for source in CORE_SOURCES]
    # Each of the extensions takes what it calls, and no more.
    flags = [*CFLAGS, "-ffunction-sections", "-fdata-sections"]
    parts["image"] = [pool.submit(compiler.compile, source, flags) for source in IMAGE_SOURCES]
    return parts


def finish(parts: Parts) -> dict[str, list[Path]]:
    """The objects of each part, when they are there; and a line for each."""
    objects: dict[str, list[Path]] = {}
    for name, futures in parts.items():
        done = [future.result() for future in futures]
        objects[name] = [path for path, _ in done]
        seconds = sum(taken for _, taken in done)
        files = f"{len(done):3} {'file' if len(done) == 1 else 'files':5}"
        print(f"  {name:12}{files}  {f'{seconds:5.1f} s' if seconds else 'as it was'}", flush=True)
    return objects


def translated(extension: Extension) -> list[str]:
    """The sources of an extension, by Cython in C."""
    (made,) = cythonize(
        [Extension(extension.name, extension.sources)],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    )
    return made.sources


class BuildPython(build_py):
    """Begins with an empty folder: what an older tree had left there must not get into a wheel."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "fastdigit"), ignore_errors=True)
        super().run()


class BuildExtension(build_ext):
    """Builds the C library into the package, and the extension that finds it there."""

    def run(self) -> None:
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if not header.exists():
            raise SystemExit(NO_HEADERS.format(header=header))
        if self.inplace:
            # Python would prefer one whose name holds its version.
            for extension, suffix in product(self.extensions, EXTENSION_SUFFIXES):
                Path(extension.name.replace(".", "/") + suffix).unlink(missing_ok=True)
        super().run()
        if self.inplace:
            package = Path("fastdigit")
            shutil.rmtree(package / "lib", ignore_errors=True)
            for name in self.sdk_files():
                (package / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(self.build_lib, "fastdigit", name), package / name)

    def build_extensions(self) -> None:
        start = time.monotonic()
        compiler = Compiler(self.compiler.compiler_so)
        # Python's own places for libraries are none of ours.
        self.compiler.linker_so = [
            word for word in self.compiler.linker_so if not word.startswith(("-L", "-Wl,-rpath"))
        ]
        jobs = self.parallel if type(self.parallel) is int else cpus()
        pool = ThreadPoolExecutor(jobs)
        try:
            isas = [
                isa
                for isa, able in zip(ISAS, pool.map(compiler.can_build, ISAS), strict=True)
                if able
            ]
            print(f"fastdigit for {MACHINE}: {compiler.version}, {jobs} at a time", flush=True)
            parts = begin(pool, compiler, isas)
            for extension in self.extensions:
                extension.sources = translated(extension)
            objects = finish(parts)
        finally:
            pool.shutdown(cancel_futures=True)
        core, *of_pictures = self.extensions
        loops = [str(path) for path in objects.pop("image")]
        for extension in of_pictures:
            extension.extra_objects = extension.depends = loops
            extension.extra_link_args += ["-Wl,-dead_strip" if MAC else "-Wl,--gc-sections"]
            extension.extra_compile_args += ["-Os"]  # what takes time is in csrc/image
        library = self.link([path for paths in objects.values() for path in paths])
        print(f"  {library.name}: {library.stat().st_size:,} bytes", flush=True)
        core.extra_link_args += [str(library), *rpath("lib")]
        core.depends = [str(library)]
        super().build_extensions()
        print(f"  in all {time.monotonic() - start:.1f} s", flush=True)

    def link(self, objects: list[Path]) -> Path:
        """Puts the C library into the package: shared library, header, pkg-config file."""
        version = self.distribution.get_version()
        shared, header, pc = (Path(self.build_lib, "fastdigit", name) for name in self.sdk_files())
        for path in (shared, header, pc):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile("csrc/include/fastdigit.h", header)
        # By its path, for a wheel can't hold the symbolic link that -lfastdigit asks for.
        libs = f"${{libdir}}/{shared.name} -Wl,-rpath,${{libdir}}"
        prefixes = {"PC_INCLUDEDIR": "${prefix}/include", "PC_LIBDIR": "${prefix}/lib"}
        text = filled(
            "fastdigit.pc.in", PC_PREFIX="../..", **prefixes, PC_VERSION=version, PC_LIBS=libs
        )
        pc.write_text(text, encoding="utf-8")

        words = self.compiler.linker_so
        if MAC:
            words = ["-dynamiclib" if word == "-bundle" else word for word in words]
            options = [f"-Wl,-install_name,@rpath/{shared.name}"]
        else:
            exports = OBJECTS / "fastdigit.map"
            exports.write_text(filled("fastdigit.map.in", ABI=abi_version(version)))
            # Its own calls reach itself. Threads of the pool may outlive dlclose: what they run
            # must stay.
            options = [
                f"-Wl,-soname,{shared.name}",
                f"-Wl,--version-script={exports}",
                "-Wl,-Bsymbolic",
                "-Wl,-z,nodelete",
            ]
        run([*words, *map(str, objects), "-o", str(shared), "-pthread", *options])
        return shared

    def sdk_files(self) -> list[str]:
        """What `link` puts into the package.

        The shared library has its soname as its name, because a wheel can't hold symbolic links.
        """
        version = abi_version(self.distribution.get_version())
        shared = f"libfastdigit.{version}.dylib" if MAC else f"libfastdigit.so.{version}"
        return [f"lib/{shared}", "include/fastdigit.h", "lib/pkgconfig/fastdigit.pc"]

    def get_output_mapping(self) -> dict[str, str]:
        """Where each file that is built goes in an editable installation."""
        mapping = dict(super().get_output_mapping())
        if self.inplace:
            for name in self.sdk_files():
                mapping[str(Path(self.build_lib, "fastdigit", name))] = f"fastdigit/{name}"
        return mapping

    def get_outputs(self) -> list[str]:
        """What the command makes, for the record of an installation."""
        made = [str(Path(self.build_lib, "fastdigit", name)) for name in self.sdk_files()]
        return [*super().get_outputs(), *([] if self.inplace else made)]


def rpath(folder: str) -> list[str]:
    """Options that make what is linked look for libraries in a folder beside itself.

    First of all there: DT_RPATH comes before LD_LIBRARY_PATH, where another one may lie.
    """
    if MAC:
        return [f"-Wl,-rpath,@loader_path/{folder}"]
    return [f"-Wl,-rpath,$ORIGIN/{folder}", "-Wl,--disable-new-dtags"]


def cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def extension(name: str, sources: list[str]) -> Extension:
    return Extension(
        name,
        sources,
        include_dirs=["csrc", "csrc/include"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
        py_limited_api=ABI3,
        extra_compile_args=["-g0", "-fvisibility=hidden"],
    )


setup(
    ext_modules=[
        # The library exports its public API alone; the checksum is compiled in here as well.
        extension("fastdigit._core", ["fastdigit/_core.pyx", "csrc/base/xxhash64.c"]),
        extension("fastdigit.images._pixels", ["fastdigit/images/_pixels.pyx"]),
        extension("fastdigit.reader._loops", ["fastdigit/reader/_loops.pyx"]),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtension},
)

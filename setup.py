"""Builds the C core, one static library an ISA, and the Cython extension that links them.

Everything else about the package is in pyproject.toml; what the core is made of, and with which
flags, is in csrc/build.json. setuptools gives compiler flags to a library, not to a single source,
hence one library an ISA: only its kernels may use its instructions. The same objects make the
libraries for C programs that the package carries (docs/c-api.md).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)


ROOT = Path(__file__).resolve().parent
#: What is built and how: shared with csrc/CMakeLists.txt.
BUILD = json.loads((ROOT / "csrc/build.json").read_text(encoding="utf-8"))


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
CORE_SOURCES = [f"csrc/{source}" for source in BUILD["core"]]
HEADERS = sorted(str(path) for kind in ("*.h", "*.def") for path in Path("csrc").rglob(kind))

# No contraction: v_fma says where a multiply-add is fused, and only there. No -ffast-math: sums
# keep their order. No errno from sqrt: it is an instruction then, and no libm is needed.
CFLAGS = [*BUILD["flags"], "-O3", "-g0", "-fPIC"]
# What our own builds ask for; a user's newer compiler may know warnings that we have not met.
if os.environ.get("FASTDIGIT_WERROR"):
    CFLAGS += BUILD["warnings"]

NO_COMPILER = """
fastdigit is built from C, and the C compiler {compiler!r} {problem}.
Install gcc or clang (Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select
--install), or name yours: CC=clang pip install ..."""
NO_HEADERS = """
Python's C headers are not installed: {header} does not exist.
Install them (Debian, Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel)."""


def compiles(compiler, source: str, flags: tuple[str, ...] = ()) -> bool:
    """Whether the compiler takes `source` with `flags`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.c"
        path.write_text(source + "\n")
        try:
            compiler.compile([str(path)], output_dir=folder, extra_preargs=["-w", *flags])
        except CompileError:
            return False
        return True


class BuildLibraries(build_clib):
    """Probes the compiler, then builds the ISA libraries it can, and the core that knows which."""

    built: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    def get_library_names(self) -> list[str]:
        """What the extension links: the core first, for it is what asks for the others."""
        return list(self.built)

    def build_libraries(self, libraries) -> None:
        command = self.compiler.compiler[0]
        if shutil.which(command) is None:
            raise SystemExit(NO_COMPILER.format(compiler=command, problem="was not found"))
        if not compiles(self.compiler, "int main(void) { return 0; }"):
            raise SystemExit(NO_COMPILER.format(compiler=command, problem="does not work"))
        if not compiles(self.compiler, "#ifndef __GNUC__\n#error\n#endif"):
            raise SystemExit(
                NO_COMPILER.format(
                    compiler=command, problem="does not speak GNU C (vector types, asm)"
                )
            )
        have = {isa.name for isa in ISAS if self.can_build(isa)}
        built = []
        for name, info in libraries:
            isa = name.removeprefix("fastdigit_")
            if isa == "core":
                info["macros"] += [(f"FD_HAVE_{name.upper()}", "1") for name in sorted(have)]
            elif isa not in have:
                continue
            built.append((name, info))
        super().build_libraries(built)
        self.built = tuple(name for name, _ in built)
        sources = [source for _, info in built for source in info["sources"]]
        self.objects = self.compiler.object_filenames(sources, output_dir=self.build_temp)

    def can_build(self, isa: Isa) -> bool:
        """Whether this machine has the ISA in its family and the compiler knows it."""
        if isa.machines and MACHINE not in isa.machines:
            return False
        return compiles(self.compiler, isa.probe, isa.flags)


class BuildExtension(build_ext):
    """Builds the libraries first, also where setuptools would not (editable installs)."""

    def run(self) -> None:
        header = Path(sysconfig.get_path("include")) / "Python.h"
        if not header.exists():
            raise SystemExit(NO_HEADERS.format(header=header))
        libraries = self.get_finalized_command("build_clib")
        libraries.force = self.force
        self.run_command("build_clib")
        archives = [str(Path(libraries.build_clib) / f"lib{name}.a") for name in libraries.built]
        for extension in self.extensions:
            extension.depends = archives
        super().run()
        self.build_sdk(libraries)

    def build_sdk(self, libraries: BuildLibraries) -> None:
        """Puts the C API into the package: header, static and shared library, pkg-config file.

        The shared library has its soname as its name, because a wheel can't hold symbolic links.
        """
        static, shared, header, pc = map(Path, self.sdk_files())
        for path in (static, header, pc):
            path.parent.mkdir(parents=True, exist_ok=True)
        for stale in static.parent.glob("libfastdigit*"):
            stale.unlink()
        shutil.copyfile("csrc/include/fastdigit.h", header)
        template = Path("csrc/cmake/fastdigit.pc.in").read_text(encoding="utf-8")
        version = self.distribution.get_version()
        for name, value in (
            ("PREFIX", "../.."),
            ("INCLUDEDIR", "${prefix}/include"),
            ("LIBDIR", "${prefix}/lib"),
            ("VERSION", version),
        ):
            template = template.replace(f"@PC_{name}@", value)
        pc.write_text(template, encoding="utf-8")

        compiler, objects = libraries.compiler, list(libraries.objects)
        # Python's own places for libraries are none of this one's business.
        words = [word for word in compiler.linker_so if not word.startswith(("-L", "-Wl,-rpath"))]
        compiler.create_static_lib(objects, "fastdigit", output_dir=str(static.parent))
        if sys.platform == "darwin":
            words = ["-dynamiclib" if word == "-bundle" else word for word in words]
            options = [f"-Wl,-install_name,@rpath/{shared.name}"]
        else:
            # Threads of the pool may outlive dlclose: what they run must stay.
            options = [f"-Wl,-soname,{shared.name}", "-Wl,-z,nodelete"]
        compiler.linker_so = words
        compiler.link_shared_object(objects, str(shared), extra_postargs=["-pthread", *options])

    def sdk_files(self) -> list[str]:
        """Where `build_sdk` puts its files."""
        package = Path("fastdigit") if self.inplace else Path(self.build_lib, "fastdigit")
        version = abi_version(self.distribution.get_version())
        mac = sys.platform == "darwin"
        shared = f"libfastdigit.{version}.dylib" if mac else f"libfastdigit.so.{version}"
        files = ("lib/libfastdigit.a", f"lib/{shared}", "include/fastdigit.h")
        return [str(package / name) for name in (*files, "lib/pkgconfig/fastdigit.pc")]

    def get_outputs(self) -> list[str]:
        """What the command makes, for the record of an installation."""
        return super().get_outputs() + ([] if self.inplace else self.sdk_files())


def abi_version(version: str) -> str:
    """The version in the soname: releases that share it are compatible (docs/c-api.md)."""
    major, minor = version.split(".")[:2]
    return f"{major}.{minor}" if major == "0" else major


def library(name: str, sources: list[str], flags: tuple[str, ...] = ()):
    """A static library for setuptools, rebuilt when a source or any header changes."""
    return (
        f"fastdigit_{name}",
        {
            "sources": sources,
            "include_dirs": ["csrc", "csrc/include"],
            "cflags": [*CFLAGS, *flags],
            "macros": [],
            "obj_deps": {"": HEADERS},
        },
    )


setup(
    libraries=[
        library("core", CORE_SOURCES),
        *(library(isa.name, [f"csrc/isa/isa_{isa.name}.c"], isa.flags) for isa in ISAS),
    ],
    ext_modules=cythonize(
        [
            Extension(
                f"fastdigit.{name}",
                [f"fastdigit/{name}.pyx"],
                include_dirs=["csrc", "csrc/include"],
                extra_link_args=["-pthread"],
            )
            for name in ("_core",)
        ],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_clib": BuildLibraries, "build_ext": BuildExtension},
)

"""Builds the C core, one static library an ISA, and the Cython extension that links them.

Everything else about the package is in pyproject.toml. setuptools gives compiler flags to a
library, not to a single source, hence one library an ISA: only its kernels may use its
instructions.
"""

from __future__ import annotations

import os
import platform
import shutil
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


@dataclass(frozen=True)
class Isa:
    """An ISA the C core can be built for: where, with which flags, and code to try them on."""

    name: str
    machines: tuple[str, ...]  # empty: all
    flags: tuple[str, ...]
    probe: str


AVX512 = (
    *("-mavx2", "-mfma", "-mf16c", "-mprefer-vector-width=512"),
    *("-mavx512f", "-mavx512cd", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
)
ISAS = (
    Isa("generic", (), (), "typedef float v __attribute__((vector_size(16)));"),
    Isa(
        "avx2",
        ("x86_64",),
        ("-mavx2", "-mfma", "-mf16c"),
        "#include <immintrin.h>\n__m256 f(__m256 x) { return _mm256_fmadd_ps(x, x, x); }",
    ),
    Isa(
        "avx512",
        ("x86_64",),
        AVX512,
        "#include <immintrin.h>\n__m512 f(__m512 x) { return _mm512_scalef_ps(x, x); }",
    ),
    Isa(
        "avx512vnni",
        ("x86_64",),
        (*AVX512, "-mavx512vnni"),
        "#include <immintrin.h>\n__m512i f(__m512i x) { return _mm512_dpbusd_epi32(x, x, x); }",
    ),
    Isa(
        "neon",
        ("aarch64",),
        (),
        "#include <arm_neon.h>\nfloat32x4_t f(float32x4_t x) { return vfmaq_f32(x, x, x); }",
    ),
)

CORE_SOURCES = [
    "csrc/base/memory.c",
    "csrc/base/status.c",
    "csrc/base/xxhash64.c",
    "csrc/cpu/cpu.c",
    "csrc/model/algorithm.c",
    "csrc/model/load.c",
    "csrc/model/open.c",
    "csrc/model/plan.c",
    "csrc/model/pool.c",
    "csrc/model/prepack.c",
    "csrc/model/run.c",
    "csrc/model/team.c",
]
HEADERS = sorted(str(path) for kind in ("*.h", "*.def") for path in Path("csrc").rglob(kind))

# No contraction: v_fma says where a multiply-add is fused, and only there. No -ffast-math: sums
# keep their order.
CFLAGS = ["-std=c11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC", "-pthread"]
# What our own builds ask for; a user's newer compiler may know warnings that we have not met.
if os.environ.get("FASTDIGIT_WERROR"):
    CFLAGS += ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]

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
                version = self.distribution.get_version()
                info["macros"] += [(f"FD_HAVE_{name.upper()}", "1") for name in sorted(have)]
                info["macros"].append(("FD_VERSION", f'"{version}"'))
            elif isa not in have:
                continue
            built.append((name, info))
        super().build_libraries(built)
        self.built = tuple(name for name, _ in built)

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
            for name in ("_core", "_testing")
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

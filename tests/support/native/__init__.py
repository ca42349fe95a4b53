"""The C core, kernel by kernel and function by function: what tests call and no API offers.

It is compiled from csrc, with files that show what the library hides, and loaded by ctypes;
arguments are what the headers say (:mod:`declarations`).

Every ISA's kernels can be called on every machine, and networks run by it. Those that this CPU
lacks are compiled from the ISA's own file, with its own tile sizes and its own width, but in the
generic vocabulary with fused multiply-adds. So all loops are tested everywhere; what a machine
can't test is an ISA's vocabulary, a page of intrinsics.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit import _core
from tests.support import ROOT, build, c_build
from tests.support.native import declarations

__all__ = [
    "ALGORITHMS",
    "BYTE_ISAS",
    "FEATURES",
    "FLOAT_ISAS",
    "FUSED_ISAS",
    "ISAS",
    "USABLE",
    "Kernels",
    "Words",
    "algorithm_costs",
    "choose_isa",
    "kernels",
    "prepack_dynamic",
    "run_model",
    "sizes",
    "winograd_sizes",
    "winograd_transform",
    "xxhash64",
]

HERE = Path(__file__).parent
CSRC = ROOT / "csrc"

#: Names, whose kernels on floats and whose on bytes: isas.def.
ROWS: list[tuple[str, str, str]] = re.findall(
    r"^FD_ISA_ROW\((\w+), (\w+), (\w+),",
    (CSRC / "isa/isas.def").read_text(encoding="utf-8"),
    re.MULTILINE,
)
#: All ISAs, best first, whatever the machine; those with kernels of their own on floats, on bytes.
ISAS = tuple(name for name, _, _ in ROWS)
FLOAT_ISAS = tuple(name for name, floats, _ in ROWS if floats == name)
BYTE_ISAS = tuple(name for name, _, bytes_ in ROWS if bytes_ == name)

#: Those that multiply and add with one rounding: their results have the same bits.
FUSED_ISAS = tuple(name for name in ISAS if name != "generic")

#: ISAs that tests are to take this CPU to lack: so are other machines' tests run on this one.
WITHOUT = os.environ.get("FASTDIGIT_TEST_WITHOUT", "").replace(",", " ").split()

#: The bits of FD_CPU_*.
FEATURES: dict[str, int] = {
    name: 1 << int(bit)
    for name, bit in re.findall(
        r"FD_CPU_(\w+) = 1 << (\d+)", (CSRC / "cpu/features.h").read_text(encoding="utf-8")
    )
}
#: ISAs that run here.
USABLE = tuple(name for name, usable in _core.isas() if usable and name not in WITHOUT)


def sizes(isa: str) -> dict[str, int]:
    """What an ISA's vocabulary defines: FD_VL (floats in a vector), FD_VREGS, FD_DOT_MIN."""
    _, floats, bytes_ = next(row for row in ROWS if row[0] == isa)
    text = (CSRC / f"simd/simd_{floats}.h").read_text(encoding="utf-8")
    text += (CSRC / f"simd/dot_{bytes_}.h").read_text(encoding="utf-8")

    def constant(name: str) -> int:
        return int(re.findall(rf"^ *#define {name} \(?(-?\d+)\)?$", text, re.MULTILINE)[0])

    return {name: constant(name) for name in ("FD_VL", "FD_VREGS", "FD_DOT_MIN")}


def generic_options(isa: str) -> tuple[str, ...]:
    """Options for the compiler to say what an ISA's vocabulary says in the generic one."""
    return (
        *(f"-D{name}=({value})" for name, value in sizes(isa).items()),
        # Vectors that the CPU lacks are many small ones: unrolled, they take minutes to compile.
        *("-O1", "-DFD_UNROLL=", "-Wno-psabi", "-DFD_FUSED"),
        # An instruction of the CPU, if it has one, and not a function of the C library.
        *["-mfma"] * (c_build.MACHINE == "x86_64" and "avx2" in USABLE),
    )


def _layout() -> Path:
    text = declarations.layout()

    def make(target: Path) -> None:
        target.write_text(text, encoding="utf-8")

    return build.once("layout.c", [text], make)


def _library(source: str, link: Sequence[Path | str]) -> ctypes.CDLL:
    """A file of this folder, linked with others and loaded."""
    options = ("-shared", *["-Wl,-Bsymbolic"] * (sys.platform == "linux"))
    name = f"{Path(source).stem}.so"
    path = c_build.compiled(name, c_build.NATIVE, HERE / source, options, [_layout(), *link])
    library = ctypes.CDLL(str(path))
    for function, result in (
        ("native_vector_floats", ctypes.c_size_t),
        ("native_kernel", ctypes.c_void_p),
        ("native_function", ctypes.c_void_p),
        ("native_choose", ctypes.c_char_p),
    ):
        if hasattr(library, function):
            getattr(library, function).restype = result
    return library


@functools.cache
def _functions() -> ctypes.CDLL:
    """What of the core knows nothing of kernels, and so is compiled in no time."""
    names = ("base/xxhash64.c", "ops/algorithm.c", "ops/prepack.c")
    return _library("functions.c", [CSRC / name for name in names])


@functools.cache
def _native() -> ctypes.CDLL:
    """The core as it is."""
    objects = c_build.objects(c_build.NATIVE)
    return _library("kernels.c", [path for part in objects.values() for path in part])


@functools.cache
def _in_generic() -> dict[str, Path]:
    """The kernels of ISAs that can't run here, in the generic vocabulary."""
    lacking = {owner for row in ROWS if row[0] not in USABLE for owner in row} - {"generic"}
    return {
        isa: c_build.compiled(
            f"{isa}.o",
            c_build.NATIVE,
            CSRC / f"isa/isa_{isa}.c",
            ("-c", *generic_options(isa)),
            [],
            # All vocabularies have the same include guards: those the file names come too late.
            before=HERE / "dot_plain.h",
        )
        for isa in sorted(lacking)
    }


def _linked(isas: dict[str, Path], without: str = "") -> list[Path | str]:
    """The core with these kernels, and without a file."""
    native = c_build.objects(c_build.NATIVE)
    macros = [f"-DFD_HAVE_{isa.upper()}" for isa in isas if isa != "generic"]
    cpu = c_build.compiled("cpu.o", c_build.NATIVE, CSRC / "cpu/cpu.c", ("-c", *macros), [])
    core = [path for path in native["core"] if path.name not in ("cpu.o", without)]
    return [*core, cpu, *isas.values(), "-lm"]


def _own(isas: Iterable[str]) -> dict[str, Path]:
    """The kernels of ISAs as they are installed."""
    return {isa: path for isa in isas for path in c_build.objects(c_build.NATIVE)[isa]}


@functools.cache
def _generic() -> ctypes.CDLL:
    """The core with the ISAs that can't run here, in the generic vocabulary."""
    return _library("kernels.c", _linked(_own(["generic"]) | _in_generic()))


@functools.cache
def run_model() -> Path:
    """The driver run_model.c for FASTDIGIT_ISA of any ISA: those that can't run here are in the
    generic vocabulary.
    """
    features = c_build.compiled("features.o", c_build.NATIVE, HERE / "features.c", ("-c",), [])
    core = _linked(_in_generic() | _own(USABLE), "features.o")
    source = ROOT / "tests/csrc/drivers/run_model.c"
    return c_build.compiled("run_model", c_build.NATIVE, source, [], [*core, features])


def kernels() -> list[str]:
    """Names of all kernels."""
    return list(declarations.kernels())


class Kernels:
    """The kernels of one ISA, as methods.

    A method takes, by name, the fields of the one struct that its kernel takes, or its parameters;
    all of them, and `in_` for `in`. A pointer is an array of the right type or None, a struct a
    dict. If this CPU lacks the ISA, its loops run in the generic vocabulary.
    """

    def __init__(self, isa: str) -> None:
        if isa not in ISAS:
            raise ValueError(f"there is no {isa}")
        self._isa = isa.encode()
        self._library = _native() if isa in USABLE else _generic()

    @property
    def vector_floats(self) -> int:
        """Floats in a vector of the float kernels."""
        return int(self._library.native_vector_floats(self._isa))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in declarations.kernels():
            raise AttributeError(name)
        signature = declarations.kernels()[name]
        address = self._library.native_kernel(self._isa, name.encode())
        assert address, f"{self._isa.decode()} has no {name}"
        function = signature.bind(address)
        struct = len(signature.parameters) == 1 and signature.parameters[0].base

        def call(**values: Any) -> Any:
            if not struct:
                return function(*_in_order(signature.parameters, values))
            kept: list[Any] = []
            return function(declarations.fill(struct, values, kept))

        return call


def _in_order(parameters: Sequence[declarations.Declaration], values: dict[str, Any]) -> list[Any]:
    names = [parameter.name for parameter in parameters]
    if set(names) != set(values):
        raise TypeError(f"{sorted(set(names) ^ set(values))} missing or unknown")
    return [values[name] for name in names]


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    address = _functions().native_function(name.encode())
    assert address, f"functions.c does not show {name}"
    return declarations.signature(name).bind(address)


def xxhash64(data: bytes, seed: int = 0) -> int:
    """The checksum of model files."""
    return int(_function("fd_xxhash64")(np.frombuffer(data, np.uint8), len(data), seed))


def prepack_dynamic(
    panels: np.ndarray, depth: int, channels: int, out: np.ndarray, sums: np.ndarray
) -> None:
    """Panels of bytes for dense_dynamic, and the sums of their columns."""
    _function("fd_prepack_dynamic")(panels, depth, channels, out, sums)


def choose_isa(features: Iterable[str], wanted: str | None = None) -> str:
    """The ISA for a CPU with features, named as FD_CPU_*; ValueError, as the engine words it."""
    error = declarations.struct("fd_error")()
    mask = sum(FEATURES[name] for name in features)
    name = _native().native_choose(
        ctypes.c_uint32(mask), wanted and wanted.encode(), ctypes.byref(error)
    )
    if name is None:
        raise ValueError(error.message.decode())
    return name.decode()


ALGORITHMS = {
    "conv2d": 0,
    "winograd_4x4_3x3": 1,
    "winograd_2x2_2x2": 2,
    "winograd_2x2_5x5": 3,
    "winograd_1x4_1x3": 4,
    "winograd_4x1_3x1": 5,
    "winograd_1x4_1x5": 6,
    "winograd_4x1_5x1": 7,
    "winograd_1x2_1x7": 8,
    "winograd_2x1_7x1": 9,
    "winograd_2x2_3x3_stride2": 10,
}


def _shape(sizes: Sequence[int]) -> Any:
    names = [field.name for field in declarations.fields("fd_conv_shape")]
    return declarations.fill("fd_conv_shape", dict(zip(names, sizes, strict=True)), [])


def algorithm_costs(sizes: Sequence[int], **fields: Any) -> tuple[str, dict[str, int]]:
    """The name of the algorithm chosen, and the cost of each.

    `sizes` are (in_channels, rows, cols, channels), `fields` those of fd_file_op: the kernel, and
    what is not plain.
    """
    op = declarations.struct("fd_file_op")()
    plain = {"stride": (1, 1), "dilation": (1, 1), "activation": 1}
    declared = {field.name: field for field in declarations.fields("fd_file_op")}
    for name, value in {**plain, **fields}.items():
        setattr(op, name, declared[name].convert(value, []))
    chosen = _function("fd_algorithm_choose")(op, _shape(sizes))
    cost = _function("fd_algorithm_cost")
    costs = {name: cost(a, op, _shape(sizes)) for name, a in ALGORITHMS.items()}
    return next(name for name, a in ALGORITHMS.items() if a == chosen), costs


def winograd_sizes(name: str) -> tuple[tuple[int, int], tuple[int, int], int, int]:
    """(m, r, positions, stride) of an algorithm; m and r of rows and of columns."""
    sizes = _function("fd_algorithm_sizes")(ALGORITHMS[name])
    return tuple(sizes.m), tuple(sizes.r), sizes.positions, sizes.stride


def winograd_transform(
    name: str, panels: np.ndarray, sizes: Sequence[int], out: np.ndarray
) -> None:
    """Transforms panels for an algorithm."""
    _function("fd_algorithm_transform")(ALGORITHMS[name], panels, _shape(sizes), out)


class Words:
    """The words of a vocabulary, as methods on arrays: see words.c.

    Parameters
    ----------
    isa
        Whose, one that runs here.
    floats
        Another width for the generic one.
    fused
        Whether that has a fused multiply-add.
    """

    def __init__(self, isa: str, floats: int | None = None, fused: bool = False) -> None:
        if isa not in USABLE:
            raise ValueError(f"{isa} does not run here")
        flags = next(row.flags for row in c_build.setup_py()["ISAS"] if row.name == isa)
        width = (f"-DFD_VL={floats}", "-DFD_VREGS=16", "-Wno-psabi") if floats else ()
        width += ("-DFD_FUSED",) if fused else ()
        path = c_build.compiled(
            "words.so",
            c_build.NATIVE,
            HERE / "words.c",
            ("-shared", *flags, *width),
            ["-lm"],
            before=CSRC / f"simd/dot_{isa}.h",
        )
        library = ctypes.CDLL(str(path))
        for name, signature in declarations.words().items():
            address = ctypes.cast(library[name], ctypes.c_void_p).value
            assert address
            setattr(self, name.removeprefix("word_"), signature.bind(address))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"words.c has no word_{name}")

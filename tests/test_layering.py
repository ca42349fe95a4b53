"""Holds the code to the layering of docs/architecture.md, and tables that repeat to each other.

Left never imports right, in C and in Python. What has to be said in several languages or files
(opcodes, activations, limits, ISAs, kernels, the version) is said the same everywhere, so that
adding one and forgetting a place fails here.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
import networks
import reference
import test_kernels
from fastdigit import _core, _testing
from fastdigit.compiler import ops, pack, spec
from fastdigit.compiler.ir import Activation
from fastdigit.compiler.passes.remove_dead_units import _activated
from fastdigit.compiler.unpack import _ACTIVATIONS, _AXES, _BINARIES, _OPCODES, _POOLS, unpack
from test_compiler_pack import everything

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "fastdigit"


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# ---- C: who includes whom ----

#: Rooms of csrc in order: a file includes from its own room and those before it.
C_ROOMS = ("include", "base", "simd", "format", "kernels", "isa", "cpu", "model")

#: Headers of the system, and the rooms that may ask for them; all others of csrc are refused.
C_SYSTEM = {
    **dict.fromkeys(
        ("float.h", "limits.h", "math.h", "stdarg.h", "stdatomic.h", "stdbool.h"), C_ROOMS
    ),
    **dict.fromkeys(("stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"), C_ROOMS),
    "sys/mman.h": ("base",),
    "immintrin.h": ("simd",),
    "arm_neon.h": ("simd",),
    "cpuid.h": ("cpu",),
    "pthread.h": ("model",),
    "sched.h": ("model",),
    "signal.h": ("model",),
    "time.h": ("model",),
}

C_FILES = sorted(
    path.relative_to(CSRC).as_posix()
    for path in CSRC.rglob("*")
    if path.suffix in (".c", ".h", ".def")
)


@cache
def includes(file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a file of csrc includes: ours, relative to csrc, and the system's."""
    text = (CSRC / file).read_text(encoding="utf-8")
    found = re.findall(r"^\s*#\s*include\s*(.*?)\s*$", text, re.MULTILINE)
    ours = [name[1:].split('"')[0] for name in found if name.startswith('"')]
    system = [name[1:].split(">")[0] for name in found if name.startswith("<")]
    assert len(ours) + len(system) == len(found), f"{file} has an include that is a macro"
    return tuple("include/fastdigit.h" if name == "fastdigit.h" else name for name in ours), tuple(
        system
    )


def test_c_files_are_found() -> None:
    assert {file.split("/")[0] for file in C_FILES} == set(C_ROOMS)
    assert "kernels/kernels.h" in includes("cpu/cpu.h")[0]
    assert "pthread.h" in includes("model/pool.c")[1]


@pytest.mark.parametrize("file", C_FILES)
def test_c_includes_nothing_to_its_right(file: str) -> None:
    ours, _ = includes(file)
    room = file.split("/")[0]
    for name in ours:
        assert name in C_FILES, f"{file} includes {name!r}, which csrc does not have"
        allowed = C_ROOMS[: C_ROOMS.index(room) + 1]
        assert name.split("/")[0] in allowed, (
            f"{file} includes {name}; {room} may include {', '.join(allowed)}"
        )


@pytest.mark.parametrize("file", C_FILES)
def test_c_includes_no_third_party(file: str) -> None:
    room = file.split("/")[0]
    for name in includes(file)[1]:
        assert room in C_SYSTEM.get(name, ()), f"{file} includes <{name}>, which {room} may not"


def test_the_format_is_definitions_only() -> None:
    """The kernels read them, and so does every room behind."""
    tables = ("format/ops.def", "format/activations.def", "format/binaries.def")
    ours, system = includes("format/format.h")
    assert set(ours) == set(tables) and system == ("stddef.h", "stdint.h")
    assert all(includes(table) == ((), ()) for table in tables)
    assert not [file for file in C_FILES if file.startswith("format/") and file.endswith(".c")]


def test_the_public_header_stands_alone() -> None:
    assert includes("include/fastdigit.h") == ((), ("stddef.h", "stdint.h"))


def test_only_isa_files_instantiate_kernels() -> None:
    """A kernel's source is compiled with one ISA's flags and vocabulary, or not at all."""
    for file in C_FILES:
        ours, _ = includes(file)
        if any(name.endswith(".inl.h") for name in ours):
            assert file.startswith("isa/") or file == "kernels/all.inl.h", (
                f"{file} includes a kernel's source"
            )
        if any(name.startswith("simd/") for name in ours):
            assert file.startswith(("isa/", "simd/")), f"{file} includes a vector vocabulary"
    for name in isa_names():
        assert includes(f"isa/isa_{name}.c")[0] == (f"simd/simd_{name}.h", "kernels/all.inl.h")


def test_every_kernel_source_is_instantiated() -> None:
    sources = {file for file in C_FILES if file.startswith("kernels/") and file.endswith(".inl.h")}
    assert {*includes("kernels/all.inl.h")[0], "kernels/all.inl.h"} >= sources


# ---- Python: who imports whom ----

#: Rooms of the package, and those that each may import from; `fastdigit` is its __init__.
PYTHON_ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "threads": set(),
    "_core": {"errors"},
    "_testing": set(),
    "datasets": {"errors"},
    "model": {"errors", "threads", "_core"},
    "sdk": {"_core"},
    "ray": {"errors", "model"},
    "images": {"errors"},
    "compiler": {"errors"},
    "fastdigit": {"errors", "threads", "_core", "model", "images", "sdk", "compiler"},
    "bench": {
        *("errors", "threads", "_core", "_testing"),
        *("model", "datasets", "compiler", "fastdigit"),
    },
    "serve": {"errors", "threads", "model", "images", "fastdigit"},
    "commands": {"errors", "threads", "model", "images", "datasets", "compiler", "fastdigit"},
    "cli": {"errors", "fastdigit", "commands", "bench", "serve"},
}

#: Modules that are imported by functions alone, and the extra's packages that they may import.
BEHIND_AN_EXTRA: dict[str, set[str]] = {
    "fastdigit.serve.app": {"starlette"},
    "fastdigit.serve.http": {"uvicorn"},
    "fastdigit.serve.metrics": {"prometheus_client"},
    "fastdigit.serve.server": {"uvicorn"},
}

#: Rooms of the compiler in order, as in C_ROOMS; `compiler` is its __init__.
COMPILER_ROOMS = (
    *("ir", "ops", "describe", "spec", "xxhash64", "passes", "frontends"),
    *("pack", "unpack", "emit_c", "verify", "driver", "compiler"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
EXPORT = {module_name(path): path for path in sorted((ROOT / "export").rglob("*.py"))}


def imported(path: Path, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """Full names of the modules that a Python file imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"), path)
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES or full in BINDINGS else base)
    return found


#: Compiled modules have no .py; their imports are read from the .pyx.
BINDINGS = {module_name(path): path for path in sorted(PACKAGE.glob("*.pyx"))}


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that importing a module executes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "fastdigit"


def test_python_rooms_are_found() -> None:
    assert {room_of(name) for name in {**MODULES, **BINDINGS}} == set(PYTHON_ROOMS)
    assert imported(MODULES["fastdigit.model"]) >= {"fastdigit._core", "fastdigit.errors", "numpy"}
    assert "fastdigit.errors" in imported(MODULES["fastdigit.datasets"]), "relative imports count"


@pytest.mark.parametrize("module", MODULES)
def test_python_imports_nothing_to_its_right(module: str) -> None:
    room = room_of(module)
    for name in imported(MODULES[module]):
        if name.split(".")[0] != "fastdigit":
            assert name.split(".")[0] not in ("export", "tests", "benchmarks")
            continue
        target = room_of(name)
        assert target == room or target in PYTHON_ROOMS[room], (
            f"{module} imports {name}; {room} may import {sorted(PYTHON_ROOMS[room])}"
        )


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) == "compiler"])
def test_the_compiler_imports_nothing_to_its_right(module: str) -> None:
    def place(name: str) -> int:
        return COMPILER_ROOMS.index([*name.split("."), "compiler"][2])

    for name in imported(MODULES[module]):
        if name.startswith("fastdigit.compiler"):
            assert place(name) <= place(module), f"{module} imports {name}, which comes later"


def test_reader_and_writer_of_the_format_share_no_code() -> None:
    ours = {
        name
        for name in imported(MODULES["fastdigit.compiler.unpack"])
        if "fastdigit.compiler" in name
    }
    assert ours == {f"fastdigit.compiler.{name}" for name in ("ir", "ops", "xxhash64")}


@pytest.mark.parametrize("binding", BINDINGS)
def test_bindings_import_nothing_to_their_right(binding: str) -> None:
    text = BINDINGS[binding].read_text(encoding="utf-8")
    names = re.findall(r"^\s*(?:from|import)\s+([\w.]+)", text, re.MULTILINE)
    names += re.findall(r"^\s*from\s+([\w.]+)\s+cimport", text, re.MULTILINE)
    for name in names:
        if name.split(".")[0] == "fastdigit":
            assert room_of(name) in PYTHON_ROOMS[room_of(binding)], f"{binding} imports {name}"
    assert not re.search(r"cimport\s+numpy|numpy/", text), (
        "the binding uses buffers, not NumPy's C API"
    )


@pytest.mark.parametrize("module", [*MODULES, *EXPORT])
def test_extras_are_imported_where_they_are_needed(module: str) -> None:
    """Importing a module needs the standard library, NumPy and us; functions import the rest."""
    path = {**MODULES, **EXPORT}[module]
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in imported(path, at_import(body)):
        root = name.split(".")[0]
        ours = {"fastdigit"} | ({"export"} if module in EXPORT else set())
        extra = BEHIND_AN_EXTRA.get(module, set())
        assert root in sys.stdlib_module_names or root in {"numpy", *ours, *extra}, (
            f"{module} imports {name} when imported"
        )
        assert name not in BEHIND_AN_EXTRA or module in BEHIND_AN_EXTRA, (
            f"{module} imports {name}, which needs an extra, when imported"
        )


def test_import_needs_numpy_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import fastdigit;"
        "print(*sorted(set(sys.modules) - before), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = done.stdout.split()
    ours = {name for name in loaded if name.split(".")[0] == "fastdigit"}
    assert ours == {
        "fastdigit",
        *(f"fastdigit.{name}" for name in ("_core", "errors", "model", "sdk", "threads")),
    }
    roots = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    # Cython keeps what its modules share in modules of these names.
    third_party = {name for name in roots if not re.fullmatch(r"_?cython_\w+", name)} - {
        "fastdigit"
    }
    assert third_party == {"numpy"}


def test_numpy_is_the_only_requirement() -> None:
    assert [re.match(r"\w+", line).group() for line in project()["dependencies"]] == ["numpy"]  # type: ignore[union-attr]


# ---- What is said in several places is said the same ----


def project() -> dict:
    return tomllib.loads(text_of("pyproject.toml"))["project"]


def table(name: str) -> list[str]:
    """The first column of a table of csrc, without comments."""
    text = re.sub(r"/\*.*?\*/", "", text_of(f"csrc/{name}"), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [re.fullmatch(r"FD_[A-Z]+\((\w+), .*\)", line) for line in lines]
    assert rows and all(rows), f"{name} has a line that is no row"
    return [row[1] for row in rows if row]


def enumerators(prefix: str) -> dict[str, int]:
    """Names, without prefix, and values of an enum of format.h; its END is left out."""
    header = re.sub(r"/\*.*?\*/", "", text_of("csrc/format/format.h"), flags=re.DOTALL)
    # What stands in a table of its own is put where the header includes it.
    header = re.sub(
        r'#define \w+\(\w+, \w+\) (\w+)##\w+,\n#include "([\w/]+\.def)"\n#undef \w+\n',
        lambda match: "".join(f"{match[1]}{name}," for name in table(match[2])),
        header,
    )
    for body in re.findall(r"enum \{(.*?)\}", header, re.DOTALL):
        entries = [entry.strip() for entry in body.split(",") if entry.strip()]
        if not entries[0].startswith(prefix):
            continue
        values, next_value = {}, 0
        for entry in entries:
            name, _, value = (part.strip() for part in entry.partition("="))
            next_value = int(value) if value else next_value
            values[name.removeprefix(prefix)] = next_value
            next_value += 1
        values.pop("END", None)
        return values
    raise AssertionError(f"format.h has no enum of {prefix}*")


def defines() -> dict[str, int]:
    """The integers that format.h defines."""
    found = re.findall(r"^#define FD_(\w+) (.+)$", text_of("csrc/format/format.h"), re.MULTILINE)
    number = re.compile(r"\(?(0x[0-9A-F]+|\d+)u?(?: << (\d+))?\)?")
    values = {}
    for name, value in found:
        if match := number.fullmatch(value):
            values[name] = int(match[1], 0) << int(match[2] or 0)
    return values


def words(enum: dict[str, int]) -> tuple[str, ...]:
    """The words of an enum in the order of their values, which must count up from 0."""
    assert list(enum.values()) == list(range(len(enum)))
    return tuple(name.lower() for name in enum)


def numbered(pattern: str) -> tuple[str, ...]:
    """The words of a list like "0 none, 1 max" of FORMAT.md, in the order of their numbers."""
    row = re.search(pattern, text_of("csrc/FORMAT.md"), re.MULTILINE)
    assert row, f"FORMAT.md has no row {pattern}"
    pairs = re.findall(r"(\d+) ([a-zA-Z_0-9]+)", row[1])
    start = int(pairs[0][0])
    assert [int(number) for number, _ in pairs] == list(range(start, start + len(pairs)))
    return tuple(word for _, word in pairs)


def function_body(path: str, name: str) -> str:
    match = re.search(
        rf"^\S.*\b{name}\([^;{{]*\{{\n(.*?)^\}}", text_of(path), re.MULTILINE | re.DOTALL
    )
    assert match, f"{path} has no function {name}"
    return match[1]


def handled(path: str, *functions: str) -> set[str]:
    """Opcodes that functions of a C file name."""
    return {
        op
        for name in functions
        for op in re.findall(r"\bFD_OP_([A-Z0-9]+)\b", function_body(path, name))
    }


def opcodes_of_the_format() -> dict[str, int]:
    """Those that operators have; 0 is none of them."""
    opcodes = enumerators("FD_OP_")
    assert opcodes.pop("NONE") == 0
    return opcodes


def test_every_opcode_is_everywhere() -> None:
    opcodes = opcodes_of_the_format()
    assert opcodes["INPUT"] == 1 == pack.INPUT_OPCODE
    packed = {kind.__name__.upper(): number for kind, number in pack.OPCODES.items()}
    assert {"INPUT": 1, **packed} == opcodes
    assert set(pack.OPCODES) == set(ops.OPS)
    assert ("?", *opcodes) == _OPCODES
    assert numbered(r"^\| 0 \| u32 \| opcode \| (.*) \|$") == tuple(opcodes)

    assert handled("csrc/model/load.c", "check_op") == set(opcodes)
    assert handled("csrc/model/load.c", "fields_of") == set(opcodes) - {"RESHAPE"}
    assert handled("csrc/model/plan.c", "plan_step") == set(opcodes) - {"INPUT"}
    assert handled("csrc/model/run.c", "run_step", "run_batched") == set(opcodes) - {"INPUT"}


def test_every_operator_has_a_reference_and_cases() -> None:
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    run_op = next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run_op"
    )
    cases = {
        case.pattern.value.value
        for case in ast.walk(run_op)
        if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchValue)
        if isinstance(case.pattern.value, ast.Constant)
    }
    assert cases == {kind.__name__ for kind in ops.OPS}

    program = unpack(pack.pack(everything(), {})).records
    assert {record.opcode for record in program} == set(opcodes_of_the_format()), (
        "a case of the packer's tests"
    )
    graphs = [networks.seed_network(), *networks.small_networks().values()]
    run = {type(node.op) for graph in graphs for node in graph.nodes}
    assert run == set(pack.OPCODES), "a network of the engine's tests"


def test_activations_are_the_same_words() -> None:
    names = words(enumerators("FD_ACT_"))
    assert names == ops.ACTIVATIONS == _ACTIVATIONS == test_kernels.ACTIVATIONS
    assert numbered(r"\| activation \| (.*) \|$") == names
    cases = re.findall(
        r"case FD_ACT_(\w+):", function_body("csrc/kernels/math.inl.h", r"FD_FN\(activate\)")
    )
    assert tuple(name.lower() for name in cases) == tuple(
        name for name in names if name != "linear"
    )
    for name in names:
        x = np.linspace(-3, 3, 7)
        want = reference.activate(x, name, 0.5)
        np.testing.assert_allclose(_activated(x, Activation(name, 0.5)), want, atol=1e-14)


def test_axes_are_the_same_words() -> None:
    names = words(enumerators("FD_AXIS_"))
    assert names == _AXES == ("none", *test_kernels.AXES[1:])
    assert numbered(r"\| affine_axis \| (.*) \|$") == names
    assert tuple(names.index(a) for a in ("height", "width", "channel")) == (
        pack.HEIGHT,
        pack.WIDTH,
        pack.CHANNEL,
    )


def test_pool_modes_are_the_same_words() -> None:
    names = words(enumerators("FD_POOL_"))
    assert names == _POOLS == ("none", *test_kernels.POOLS[1:]) == ("none", *pack.POOL_MODES)
    assert list(pack.POOL_MODES.values()) == list(range(1, len(names)))
    row = re.search(r"\| pool_mode \| (.*) \|$", text_of("csrc/FORMAT.md"), re.MULTILINE)
    assert row and re.findall(r"\d (\w+)", row[1]) == list(names)


def test_binaries_are_the_same_words() -> None:
    names = words(enumerators("FD_BINARY_"))
    assert names == _BINARIES == ("none", *ops.BINARIES) == ("none", *test_kernels.BINARIES)
    assert numbered(r"\| binary \| (.*); otherwise 0 \|$") == names[1:]
    cases = re.findall(
        r"FD_BINARY_(\w+)", function_body("csrc/kernels/binary.inl.h", r"FD_FN\(combine\)")
    )
    assert tuple(name.lower() for name in cases) == ops.BINARIES
    for name in ops.BINARIES:
        assert reference.binary(1.0, 2.0, name).shape == ()


def test_limits_and_layouts_are_the_same_numbers() -> None:
    value = defines()
    assert (value["PANEL"], value["PANEL_ALIGN"]) == (pack.PANEL, pack.PANEL_ALIGN)
    assert (value["PANEL"], value["FILE_ALIGN"]) == (test_kernels.PANEL, pack.ALIGN)
    assert (value["FILE_VERSION_MAJOR"], value["FILE_VERSION_MINOR"]) == pack.VERSION
    assert value["FILE_NONE"] == pack.NONE
    assert value["FILE_MAX_META"] == pack.MAX_META
    assert value["FILE_MAX_RECORDS"] == pack.MAX_RECORDS == spec.MAX_RECORDS
    assert value["FILE_MAX_DIM"] == spec.MAX_ELEMENTS
    assert value["FILE_MAX_SMALL"] == spec.MAX_SMALL
    sizes = re.findall(
        r"_Static_assert\(sizeof\(fd_file_(\w+)\) == (\d+)", text_of("csrc/format/format.h")
    )
    structs = {"header": pack.HEADER, "section": pack.SECTION, "tensor": pack.TENSOR, "op": pack.OP}
    assert {name: int(size) for name, size in sizes} == {
        name: struct.size for name, struct in structs.items()
    }
    assert value["NARROW"] == test_kernels.NARROW == spec.NARROW
    assert value["DYNAMIC_MAX_DEPTH"] == spec.MAX_DYNAMIC_INPUTS
    assert enumerators("FD_QUANTIZATION_") == {
        "WEIGHTS": 0,
        **{name.split("-")[1].upper(): value for name, value in pack.QUANTIZATIONS.items()},
    }


def test_the_tests_can_call_every_kernel() -> None:
    rows = re.findall(r"^FD_KERNEL\((\w+),", text_of("csrc/kernels/kernels.def"), re.MULTILINE)
    assert rows == _testing.kernels()
    binding = text_of("fastdigit/_testing.pyx")
    members = re.search(r"ctypedef struct fd_kernels:\n(.*?)\n\n", binding, re.DOTALL)
    assert members and re.findall(r"\(\*(\w+)\)", members[1]) == rows, "members of fd_kernels"
    assert set(re.findall(r"self\.table\.(\w+)\(", binding)) == set(rows), "calls of Kernels"
    methods = {
        name for name, value in vars(_testing.Kernels).items() if callable(value) and name[0] != "_"
    }
    several = {"dense_narrow", "dense_dynamic", "winograd_4x4_3x3", "winograd_2x2_2x2"}
    assert methods == set(rows) - several | {"winograd"}, "dense and winograd call several kernels"


def isa_names() -> list[str]:
    return sorted(
        file.removeprefix("isa/isa_").removesuffix(".c")
        for file in C_FILES
        if file.startswith("isa/")
    )


def build() -> dict[str, Any]:
    return json.loads(text_of("csrc/build.json"))


def test_isas_are_the_same_everywhere() -> None:
    names = isa_names()
    vocabularies = [
        file.removeprefix("simd/simd_").removesuffix(".h")
        for file in C_FILES
        if file.startswith("simd/simd_")
    ]
    assert sorted(vocabularies) == names
    assert sorted(isa["name"] for isa in build()["isas"]) == names
    dispatch = text_of("csrc/cpu/cpu.c")
    conditional = re.findall(r"defined\(FD_HAVE_(\w+)\)", dispatch)
    assert sorted(["generic", *(name.lower() for name in conditional)]) == names
    assert sorted(re.findall(r"\{&fd_kernels_(\w+),", dispatch)) == names
    for name in names:
        assert f"#define FD_ISA {name}\n" in text_of(f"csrc/isa/isa_{name}.c")
    assert {name for name, _ in _core.isas()} <= set(names)


def test_every_source_of_the_core_is_built() -> None:
    """By a pattern for each room, so that a new file is named nowhere."""
    sources = {file for file in C_FILES if file.endswith(".c") and not file.startswith("isa/")}
    found = [
        {path.relative_to(CSRC).as_posix() for path in CSRC.glob(pattern)}
        for pattern in build()["core"]
    ]
    assert all(found), "a pattern that matches nothing"
    assert set().union(*found) == sources


def test_version_is_the_same_everywhere() -> None:
    version = project()["version"]
    assert fastdigit.__version__ == version
    header = dict(
        re.findall(r"^#define FD_VERSION_(\w+) (\d+)$", text_of("csrc/include/fastdigit.h"), re.M)
    )
    assert ".".join(header[part] for part in ("MAJOR", "MINOR", "PATCH")) == version
    assert re.search(rf"^## \[?{re.escape(version)}\b", text_of("CHANGELOG.md"), re.MULTILINE)


def test_the_default_model_is_shipped() -> None:
    for suffix in (".fdm", ".onnx"):
        assert (PACKAGE / "models" / f"{fastdigit.config()['model']}{suffix}").is_file()


# ---- What the repository holds ----


def repository_files() -> list[Path]:
    """Files under version control, and those about to be."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_paths_of_one_machine_and_no_markers() -> None:
    """Brackets keep the patterns from finding themselves."""
    path = re.compile(
        r"(?<![\w.$}~])/(?:(?:home|Users)/(?!someone\b)\w|(?:root|work)/|tm[p]/)|\b[A-Z]:\\\\?\w"
    )
    marker = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")
    checked = 0
    for file in repository_files():
        data = file.read_bytes()
        if b"\0" in data:
            continue
        checked += 1
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            where = f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            assert not path.search(line), f"an absolute path: {where}"
            assert not marker.search(line), f"a marker for unfinished work: {where}"
    assert checked > 50


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [
        ROOT / name
        for name in (
            *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
            *("csrc/FORMAT.md", "examples/c/README.md", "deploy/README.md"),
        )
    ]
    for file in [*documents, *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (file.parent / target).exists(), (
                    f"{file.relative_to(ROOT)} links to {target}"
                )

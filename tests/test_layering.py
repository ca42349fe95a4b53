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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit import _core
from fastdigit.compiler import limits, ops
from fastdigit.compiler.activations import ACTIVATIONS, evaluate
from fastdigit.compiler.backends.fdm import pack
from fastdigit.compiler.backends.fdm.unpack import (
    _ACTIVATIONS,
    _AXES,
    _BINARIES,
    _OPCODES,
    _POOLS,
    unpack,
)
from tests.support import ROOT, cases, native, networks, reference
from tests.support.compiler_cases import everything
from tests.support.repository import repository_files

CSRC = ROOT / "csrc"
PACKAGE = ROOT / "fastdigit"


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# ---- C: who includes whom ----

#: Rooms of csrc in order: a file includes from its own room and those before it.
C_ROOMS = ("include", "base", "simd", "format", "kernels", "isa", "cpu", "ops", "model")

#: Rooms apart, which know none of these, and which none of these know.
C_APART = ("image",)

#: Headers of the system, and the rooms that may ask for them; all others of csrc are refused.
C_SYSTEM = {
    **dict.fromkeys(
        ("float.h", "limits.h", "math.h", "stdarg.h", "stdatomic.h", "stdbool.h"),
        C_ROOMS + C_APART,
    ),
    **dict.fromkeys(("stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"), C_ROOMS + C_APART),
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
    assert {file.split("/")[0] for file in C_FILES} == {*C_ROOMS, *C_APART}
    assert "kernels/kernels.h" in includes("cpu/cpu.h")[0]
    assert "pthread.h" in includes("model/pool.c")[1]


@pytest.mark.parametrize("file", C_FILES)
def test_c_includes_nothing_to_its_right(file: str) -> None:
    ours, _ = includes(file)
    room = file.split("/")[0]
    for name in ours:
        assert name in C_FILES, f"{file} includes {name!r}, which csrc does not have"
        allowed = (room,) if room in C_APART else C_ROOMS[: C_ROOMS.index(room) + 1]
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


#: What instantiates kernels: the loops on floats, and those on bytes.
C_INSTANCES = ("kernels/floats.inl.h", "kernels/bytes.inl.h")


def test_only_isa_files_instantiate_kernels() -> None:
    """A kernel's source is compiled with one ISA's flags and vocabulary, or not at all."""
    for file in C_FILES:
        ours, _ = includes(file)
        if any(name.endswith(".inl.h") for name in ours):
            assert file.startswith("isa/") or file in (*C_INSTANCES, "kernels/common.inl.h"), (
                f"{file} includes a kernel's source"
            )
        if any(name.startswith("simd/") for name in ours):
            assert file.startswith(("isa/", "simd/")), f"{file} includes a vector vocabulary"
    for isa in isa_rows():
        floats, bytes_ = C_INSTANCES
        expected = {f"simd/simd_{isa.name}.h": floats, f"simd/dot_{isa.name}.h": bytes_}
        own = (isa.floats == isa.name, isa.bytes == isa.name)
        assert any(own), f"{isa.name} has no kernels of its own"
        vocabulary = [name for name, has in zip(expected, own, strict=True) if has]
        instances = [name for name, has in zip(C_INSTANCES, own, strict=True) if has]
        assert sorted(includes(f"isa/isa_{isa.name}.c")[0]) == sorted([*vocabulary, *instances])


def test_every_kernel_source_is_instantiated() -> None:
    sources = {file for file in C_FILES if file.startswith("kernels/") and file.endswith(".inl.h")}
    shared = includes("kernels/common.inl.h")[0]
    assert {*C_INSTANCES, *shared, *(n for i in C_INSTANCES for n in includes(i)[0])} >= sources


# ---- Python: who imports whom ----

#: Rooms of the package, and those that each may import from; `fastdigit` is its __init__.
PYTHON_ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "threads": {"errors"},
    "c_api": set(),
    "_core": {"errors", "c_api"},
    "datasets": {"errors"},
    "limits": {"errors", "_core"},
    "meta": {"errors"},
    "model": {"errors", "threads", "_core", "ctc", "limits", "meta", "ports"},
    "ports": {"errors"},
    "sdk": {"_core"},
    "ctc": {"errors"},
    "ray": {"errors", "model"},
    "images": {"errors"},
    "reader": {"errors", "threads", "images", "model"},
    "compiler": {"errors", "ctc", "meta", "_core"},
    "fastdigit": {
        "errors",
        "threads",
        "_core",
        "model",
        "images",
        "reader",
        "sdk",
        "ctc",
        "limits",
        "compiler",
    },
    "bench": {
        *("errors", "threads", "_core"),
        *("model", "datasets", "compiler", "fastdigit"),
    },
    "serve": {"errors", "threads", "limits", "model", "images", "reader", "fastdigit"},
    "commands": {
        "errors",
        "threads",
        "limits",
        "model",
        "images",
        "reader",
        "datasets",
        "compiler",
        "fastdigit",
    },
    "cli": {"errors", "fastdigit", "commands", "bench", "serve"},
}

#: Modules that are imported by functions alone, and the extra's packages that they may import.
BEHIND_AN_EXTRA: dict[str, set[str]] = {
    "fastdigit.serve.inference": set(),
    "fastdigit.serve.metrics": {"prometheus_client"},
    "fastdigit.serve.pictures": {"starlette"},
    "fastdigit.serve.routes": {"starlette"},
    "fastdigit.serve.served": set(),
    "fastdigit.serve.app": {"starlette", "uvicorn"},
    "fastdigit.serve.server": {"uvicorn"},
    "fastdigit.serve.uvicorn_internals": {"uvicorn"},
}

#: Rooms of the compiler in order, as in C_ROOMS; `compiler` is its __init__.
COMPILER_ROOMS = (
    *("limits", "ir", "activations", "axes", "ops", "describe", "heads", "spec", "evaluate"),
    *(
        "accuracy",
        "passes",
        "inputs",
        "frontends",
        "backends",
        "verify",
        "check",
        "arguments",
        "meta",
        "files",
        "driver",
        "compiler",
    ),
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


#: Compiled modules have no .py; their imports are read from the .pyx, as those of a .pxd are.
BINDINGS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.p[yx][xd]"))}


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


def test_of_the_binding_the_compiler_uses_the_checksum_alone() -> None:
    users = {name for name in MODULES if room_of(name) == "compiler"}
    users = {name for name in users if "fastdigit._core" in imported(MODULES[name])}
    assert users == {f"fastdigit.compiler.backends.fdm.{name}" for name in ("pack", "unpack")}
    for name in users:
        taken = re.findall(r"^.*\b_core\b.*$", MODULES[name].read_text(encoding="utf-8"), re.M)
        assert taken == ["from fastdigit._core import xxhash64"]


def test_reader_and_writer_of_the_format_share_no_code() -> None:
    ours = {
        name
        for name in imported(MODULES["fastdigit.compiler.backends.fdm.unpack"])
        if "fastdigit.compiler" in name
    }
    assert ours == {"fastdigit.compiler.ir", "fastdigit.compiler.ops"}


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


def test_modules_do_not_import_one_another_in_circles() -> None:
    """What importing them executes; a function may import what imports its module."""
    waiting = {
        name: imported(path, at_import(ast.parse(path.read_text(encoding="utf-8")).body))
        & set(MODULES) - {name}
        for name, path in MODULES.items()
    }
    assert "fastdigit.serve.errors" in waiting["fastdigit.serve.authentication"]
    while free := {name for name, needed in waiting.items() if not needed & set(waiting)}:
        waiting = {name: needed for name, needed in waiting.items() if name not in free}
    circle = {name: sorted(needed & set(waiting)) for name, needed in waiting.items()}
    assert not circle


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
        *(
            f"fastdigit.{name}"
            for name in (
                "_core",
                "ctc",
                "errors",
                "limits",
                "meta",
                "model",
                "ports",
                "sdk",
                "threads",
            )
        ),
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


def operators() -> dict[str, dict[str, str]]:
    """The members of each fd_operator, by its name in ops.def."""
    found = {}
    for file in C_FILES:
        for name, body in re.findall(
            r"^const fd_operator fd_operator_(\w+) = \{\n(.*?)^\};",
            (CSRC / file).read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        ):
            assert file.startswith("ops/") and name not in found
            found[name] = {**dict(re.findall(r"\.(\w+) = (.*),\n", body)), "file": file}
    return found


def test_every_operator_is_in_one_file() -> None:
    """Its record is checked, planned and described there, and found through the table alone."""
    rows = re.findall(r"^FD_OPERATOR\((\w+), (\w+)\)$", text_of("csrc/format/ops.def"), re.M)
    assert [opcode.lower() for opcode, _ in rows] == [name for _, name in rows]
    assert set(operators()) == {name for _, name in rows}
    for members in operators().values():
        assert {"fields", "check", "plan"} <= set(members)
    for file in C_FILES:
        text = (CSRC / file).read_text(encoding="utf-8")
        assert not re.search(r"\bcase FD_OP_", text), f"{file} has a switch over opcodes"
        names = set(re.findall(r"\bFD_OP_(\w+)", text)) - {"END", "NONE", ""}
        assert names <= ({"INPUT"} if file == "model/load.c" else set()), f"{file} names {names}"


def test_only_the_loader_distrusts() -> None:
    """Checks stand apart, and are called by the loader through the table; plans and runs trust."""
    for file in C_FILES:
        text = re.sub(r"/\*.*?\*/", "", (CSRC / file).read_text(encoding="utf-8"), flags=re.DOTALL)
        checks = {row["check"] for row in operators().values() if row["file"] == file}
        for name in checks:
            assert len(re.findall(rf"\b{name}\(", text)) == 1, f"{file} calls {name}"
        if checks:
            distrust = [
                match.end() for match in re.finditer(r"\bFD_REQUIRE|\bFD_TRY|\bfd_check_", text)
            ]
            trust = re.search(r"\bfd_plan\b|\bfd_step\b", text)
            assert trust and max(distrust, default=0) < trust.start(), (
                f"{file} mixes checks and plans"
            )
        if "->check(" in text:
            assert file == "model/load.c", f"{file} checks"
        if "ops/check.h" in includes(file)[0]:
            assert checks or file in ("model/load.c", "ops/check.c"), f"{file} checks"


def test_every_operator_has_a_reference_and_cases() -> None:
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    run_op = next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run_op"
    )
    covered = {
        case.pattern.value.value
        for case in ast.walk(run_op)
        if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchValue)
        if isinstance(case.pattern.value, ast.Constant)
    }
    assert covered == {kind.__name__ for kind in ops.OPS}

    read_back = [everything(), *networks.operator_networks().values()]
    programs = [unpack(pack.pack(graph, {})).records for graph in read_back]
    assert {record.opcode for program in programs for record in program} == set(
        opcodes_of_the_format()
    ), "a case of the packer's tests"
    graphs = [networks.seed_network(), *networks.small_networks().values()]
    run = {type(node.op) for graph in graphs for node in graph.nodes}
    assert run == set(pack.OPCODES), "a network of the engine's tests"


def test_activations_are_the_same_words() -> None:
    names = words(enumerators("FD_ACT_"))
    assert names == tuple(ACTIVATIONS) == _ACTIVATIONS == cases.ACTIVATIONS
    assert numbered(r"\| activation \| (.*) \|$") == names
    found = re.findall(
        r"case FD_ACT_(\w+):", function_body("csrc/kernels/math.inl.h", r"FD_FN\(activate\)")
    )
    assert tuple(name.lower() for name in found) == tuple(
        name for name in names if name != "linear"
    )
    for name in names:
        x = np.linspace(-3, 3, 7)
        want = reference.activate(x, name, 0.5)
        np.testing.assert_allclose(evaluate(name, 0.5, x), want, atol=1e-14)


def test_axes_are_the_same_words() -> None:
    names = words(enumerators("FD_AXIS_"))
    assert names == _AXES == ("none", *cases.AXES[1:])
    assert numbered(r"\| affine_axis \| (.*) \|$") == names
    assert tuple(names.index(a) for a in ("height", "width", "channel")) == (
        pack.HEIGHT,
        pack.WIDTH,
        pack.CHANNEL,
    )


def test_pool_modes_are_the_same_words() -> None:
    names = words(enumerators("FD_POOL_"))
    assert names == _POOLS == ("none", *cases.POOLS[1:]) == ("none", *pack.POOL_MODES)
    assert list(pack.POOL_MODES.values()) == list(range(1, len(names)))
    row = re.search(r"\| pool_mode \| (.*) \|$", text_of("csrc/FORMAT.md"), re.MULTILINE)
    assert row and re.findall(r"\d (\w+)", row[1]) == list(names)


def test_binaries_are_the_same_words() -> None:
    names = words(enumerators("FD_BINARY_"))
    assert names == _BINARIES == ("none", *ops.BINARIES) == ("none", *cases.BINARIES)
    assert numbered(r"\| binary \| (.*); otherwise 0 \|$") == names[1:]
    found = re.findall(
        r"FD_BINARY_(\w+)", function_body("csrc/kernels/binary.inl.h", r"FD_FN\(combine\)")
    )
    assert tuple(name.lower() for name in found) == ops.BINARIES
    for name in ops.BINARIES:
        assert reference.binary(1.0, 2.0, name).shape == ()


def test_limits_and_layouts_are_the_same_numbers() -> None:
    value = defines()
    assert (value["PANEL"], value["PANEL_ALIGN"]) == (pack.PANEL, pack.PANEL_ALIGN)
    assert (value["PANEL"], value["FILE_ALIGN"]) == (cases.PANEL, pack.ALIGN)
    assert value["FILE_VERSION_MAJOR"] == pack.VERSION[0]
    minors = {*pack.MINORS.values(), pack.INTERFACE_MINOR}
    assert set(range(pack.VERSION[1], value["FILE_VERSION_MINOR"] + 1)) >= minors
    assert value["FILE_MAX_PORTS"] == limits.MAX_PORTS
    assert value["FILE_NONE"] == pack.NONE
    assert value["FILE_MAX_META"] == limits.MAX_META
    assert value["FILE_MAX_RECORDS"] == limits.MAX_RECORDS
    assert value["FILE_MAX_DIM"] == limits.MAX_ELEMENTS
    assert value["FILE_MAX_SMALL"] == limits.MAX_SMALL
    sizes = re.findall(
        r"_Static_assert\(sizeof\(fd_file_(\w+)\) == (\d+)", text_of("csrc/format/format.h")
    )
    structs = {
        "header": pack.HEADER,
        "section": pack.SECTION,
        "tensor": pack.TENSOR,
        "op": pack.OP,
        "port": pack.PORT,
    }
    assert {name: int(size) for name, size in sizes} == {
        name: struct.size for name, struct in structs.items()
    }
    assert value["NARROW"] == cases.NARROW == limits.NARROW
    assert value["DYNAMIC_MAX_DEPTH"] == limits.MAX_DYNAMIC_INPUTS
    assert enumerators("FD_QUANTIZATION_") == {
        "WEIGHTS": 0,
        **{name.split("-")[1].upper(): value for name, value in pack.QUANTIZATIONS.items()},
    }


def kernel_rows(kind: str) -> list[str]:
    """The kernels of kernels.def on `kind`: FLOAT or BYTE."""
    text = text_of("csrc/kernels/kernels.def")
    return re.findall(rf"^FD_{kind}_KERNEL\((\w+),", text, re.MULTILINE)


def test_the_tests_can_call_every_kernel() -> None:
    rows = {kind: kernel_rows(kind) for kind in ("FLOAT", "BYTE")}
    every = [*rows["FLOAT"], *rows["BYTE"]]
    assert rows["BYTE"] and every == native.kernels()


@dataclass(frozen=True)
class IsaRow:
    """A row of csrc/isa/isas.def, and the macros without which it is left out."""

    conditions: tuple[str, ...]
    name: str
    floats: str
    bytes: str
    features: frozenset[str]


def isa_rows() -> list[IsaRow]:
    """The table of ISAs, best first."""
    rows = []
    text = re.sub(r"/\*.*?\*/", "", text_of("csrc/isa/isas.def"), flags=re.DOTALL)
    pattern = r"(?:^#if (.*)\n)?FD_ISA_ROW\((\w+), (\w+), (\w+),([^)]*)\)\n(#endif)?"
    for condition, *names, features, end in re.findall(pattern, text, re.MULTILINE):
        assert bool(condition) == bool(end)
        macros = re.findall(r"defined\((\w+)\)", condition)
        found = frozenset(re.findall(r"FD_CPU_(\w+)", features))
        rows.append(IsaRow(tuple(macros), *names, features=found))
    assert len(rows) == len(re.findall("FD_ISA_ROW", text))
    return rows


def build() -> dict[str, Any]:
    return json.loads(text_of("csrc/build.json"))


#: What a compiler's flag lets it use, as build.json writes it and as FD_CPU_* names it.
CPU_FLAG = re.compile(r"-m(avx2|fma|f16c|avxvnni|avx512\w+)$")


def test_isas_are_the_same_everywhere() -> None:
    rows = {row.name: row for row in isa_rows()}
    isas = {isa["name"]: isa for isa in build()["isas"]}
    files = {file for file in C_FILES if file.startswith("isa/") and file.endswith(".c")}
    assert {f"isa/isa_{name}.c" for name in rows} == files
    assert list(isas) == list(reversed(rows)), "isas.def has the best first, build.json last"
    vocabularies = {f"simd/simd_{row.floats}.h" for row in rows.values()}
    vocabularies |= {f"simd/dot_{row.bytes}.h" for row in rows.values()}
    assert vocabularies == {f for f in C_FILES if re.match(r"simd/(simd|dot)_", f)}
    assert {name for name, _ in _core.isas()} <= set(rows)

    features = re.findall(r"^    FD_CPU_(\w+) = 1 << \d+", text_of("csrc/cpu/features.h"), re.M)
    assert set(features) == set().union(*(row.features for row in rows.values()))
    detected = re.findall(r"\{FD_CPU_(\w+), ", text_of("csrc/cpu/features.c"))
    assert sorted([*detected, "NEON"]) == sorted(features)
    for name, row in rows.items():
        text = text_of(f"csrc/isa/isa_{name}.c")
        assert f"#define FD_ISA {name}\n" in text
        assert f"#define FD_FLOATS {row.floats}\n" in text
        # Whoever takes another's kernels requires what they do, and is built with what it requires.
        needed = {name, row.floats, row.bytes} - {"generic"}
        assert set(row.conditions) == {f"FD_HAVE_{other.upper()}" for other in needed}
        for other in (row.floats, row.bytes):
            assert rows[other].features <= row.features
        words = isas[name]["flags"]
        allowed = {m[1].upper() for word in words if (m := CPU_FLAG.match(word))}
        tuning = {word for word in words if word.startswith("-mprefer-vector-width=")}
        assert len(words) == len(allowed) + len(tuning), "a flag that isas.def does not know"
        assert allowed == row.features - {"NEON"}
        assert isas[name]["machines"] == (
            ["aarch64"] if "NEON" in row.features else ["x86_64"] if row.features else []
        )


def test_every_source_is_built() -> None:
    """By a pattern for each room, so that a new file is named nowhere."""
    sources = {file for file in C_FILES if file.endswith(".c") and not file.startswith("isa/")}
    found = [
        {path.relative_to(CSRC).as_posix() for path in CSRC.glob(pattern)}
        for pattern in [*build()["core"], *build()["image"]]
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
    assert (PACKAGE / "models" / f"{fastdigit.config()['model']}.fdm").is_file()


# ---- The tests ----

TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_tests_are_found() -> None:
    rooms = {"bench", "compiler", "csrc", "engine", "export", "fuzz", "serve", "support"}
    folders = {path.parts[-2] for path in TESTS if path.name == "__init__.py"}
    assert folders == {*rooms, "native", "tests"}
    assert "tests.support" in imported(Path(__file__))


@pytest.mark.parametrize("path", TESTS, ids=module_name)
def test_no_test_imports_another(path: Path) -> None:
    """What several tests need is in tests/support, which imports no test either; targets and
    mutators, which run without pytest too, are in tests/fuzz."""
    rooms = ["support"] if "support" in path.parts else ["support", "fuzz"]
    for name in imported(path):
        first, room, *rest = [*name.split("."), ""]
        shared = room in rooms and not any(part.startswith("test_") for part in rest)
        assert first != "tests" or shared or name == "tests", (
            f"{module_name(path)} imports {name}; what tests share belongs into tests/support"
        )


# ---- What the repository holds ----


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


def test_files_of_the_tests_are_called_by_their_names() -> None:
    """Comments and documents that name a file of tests/ name one that is there."""
    checked = 0
    for file in repository_files():
        if file.suffix not in (".md", ".py", ".c", ".h", ".toml") or file.name == "CHANGELOG.md":
            continue
        for name in re.findall(r"\btests/[\w./-]+\.(?:py|c|h|txt)\b", file.read_text("utf-8")):
            checked += 1
            assert (ROOT / name).is_file(), f"{file.relative_to(ROOT)} names {name}"
    assert checked > 20

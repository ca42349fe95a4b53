"""Structs and functions of the headers of csrc, as ctypes has them.

A header says what a kernel takes; so that a new one needs no second description for the tests, it
is read from there. This is no C parser: it knows the plain declarations that our headers are
written in, and :func:`layout` lets the compiler check what came out.
"""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import ROOT

HERE = Path(__file__).parent
CSRC = ROOT / "csrc"

SCALARS: dict[str, Any] = {
    "char": ctypes.c_char,
    "double": ctypes.c_double,
    "float": ctypes.c_float,
    "int": ctypes.c_int,
    "unsigned": ctypes.c_uint,
    "size_t": ctypes.c_size_t,
    **{
        f"{sign}int{bits}_t": getattr(ctypes, f"c_{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


@dataclass(frozen=True)
class Declaration:
    """A field or a parameter: `const float *in` or `uint32_t pad[4]`."""

    name: str
    base: str
    const: bool = False
    pointers: int = 0
    counts: tuple[int, ...] = ()

    @functools.cached_property
    def type(self) -> Any:
        """Its ctypes type; pointers are addresses."""
        if self.pointers:
            return ctypes.c_void_p
        result = scalar(self.base) or struct(self.base)
        for count in reversed(self.counts):
            result *= count
        return result

    def convert(self, value: Any, kept: list[Any]) -> Any:
        """A Python value as this type: arrays for pointers and a dict for a struct.

        What must stay in memory during a call is appended to `kept`.
        """
        if self.pointers:
            return self._address(value, kept)
        if self.counts:
            return self.type(*value)
        if scalar(self.base):
            return value
        return fill(self.base, value, kept)

    def _address(self, value: Any, kept: list[Any]) -> int | None:
        if value is None:
            return None
        kept.append(value)
        if isinstance(value, bytes) and self.const and self.base == "char":
            kept.append(pointer := ctypes.c_char_p(value))
            return ctypes.cast(pointer, ctypes.c_void_p).value
        if isinstance(value, ctypes.Structure | ctypes.c_void_p):
            return ctypes.addressof(value)
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{self.name} is {type(value).__name__}, expected an array")
        if self.base != "void" and value.dtype != np.dtype(scalar(self.base)):
            raise TypeError(f"{self.name} is {value.dtype}, expected {self.base}")
        if not value.flags.c_contiguous or not (self.const or value.flags.writeable):
            raise TypeError(f"{self.name} is not contiguous, or read-only")
        return value.ctypes.data


def declarations(text: str, separator: str) -> tuple[Declaration, ...]:
    """The declarations of a struct (separated by semicolons) or of a function (by commas)."""
    found = []
    for statement in text.split(separator):
        words = " ".join(statement.split())
        if words in ("", "void"):
            continue
        match = re.fullmatch(r"(const )?(?:enum )?(\w+) (.*)", words)
        assert match, f"a declaration that is not understood: {words}"
        for declarator in match[3].split(","):
            parts = re.fullmatch(r"\s*(\**) ?(?:const )?(\w+)((?:\[\w+\])*)\s*", declarator)
            assert parts, f"a declarator that is not understood: {declarator}"
            counts = tuple(map(int, re.findall(r"\d+", parts[3])))
            name = parts[2] + "_" * (parts[2] == "in")  # a keyword of Python
            found.append(Declaration(name, match[2], bool(match[1]), len(parts[1]), counts))
    return tuple(found)


@functools.cache
def _headers() -> str:
    """All headers without their comments."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(CSRC.rglob("*.h"))]
    return re.sub(r"/\*.*?\*/", " ", "\n".join(texts), flags=re.DOTALL)


@functools.cache
def scalar(name: str) -> Any:
    """A number, or an enum; None for a struct."""
    is_enum = re.search(rf"\btypedef enum {name}\b", _headers())
    return ctypes.c_int if is_enum else SCALARS.get(name)


@functools.cache
def fields(name: str) -> tuple[Declaration, ...]:
    """The fields of a struct of the headers."""
    found = re.search(rf"\btypedef struct {name} \{{(.*?)\}} {name};", _headers(), re.DOTALL)
    assert found, f"no header defines the struct {name}"
    return declarations(found[1], ";")


@functools.cache
def struct(name: str) -> type[ctypes.Structure]:
    """A struct of the headers."""
    members = [(field.name, field.type) for field in fields(name)]
    return type(name, (ctypes.Structure,), {"_fields_": members})


def fill(name: str, values: dict[str, Any], kept: list[Any]) -> ctypes.Structure:
    """A struct with values for all of its fields."""
    expected = {field.name for field in fields(name)}
    if expected != set(values):
        raise TypeError(f"{name}: {sorted(expected ^ set(values))} missing or unknown")
    result = struct(name)()
    for field in fields(name):
        setattr(result, field.name, field.convert(values[field.name], kept))
    return result


@dataclass(frozen=True)
class Signature:
    """What a function returns and takes."""

    result: Any
    parameters: tuple[Declaration, ...]

    def bind(self, address: int) -> Any:
        """The function at an address; it takes values by :meth:`Declaration.convert`."""
        types = [parameter.type for parameter in self.parameters]
        function = ctypes.CFUNCTYPE(self.result, *types)(address)

        def call(*values: Any) -> Any:
            kept: list[Any] = []
            pairs = zip(self.parameters, values, strict=True)
            return function(*[parameter.convert(value, kept) for parameter, value in pairs])

        return call


def _result(words: str) -> Any:
    if words == "void":
        return None
    return scalar(words) or struct(words)


@functools.cache
def signature(name: str) -> Signature:
    """That of a function of the headers which returns no pointer."""
    found = re.search(rf"^(?:FD_API )?(\w+) {name}\(([^)]*)\);", _headers(), re.MULTILINE)
    assert found, f"no header declares {name}"
    return Signature(_result(found[1]), declarations(found[2], ","))


@functools.cache
def kernels() -> dict[str, Signature]:
    """Those of all kernels, in the order of kernels.def."""
    text = (CSRC / "kernels/kernels.def").read_text(encoding="utf-8")
    rows = re.findall(r"^FD_(?:FLOAT|BYTE)_KERNEL\((\w+), (\w+),\s+\(([^)]*)\)\)", text, re.M)
    assert len(rows) == len(re.findall(r"^FD_\w+_KERNEL\(", text, re.M))
    return {name: Signature(_result(type_), declarations(row, ",")) for name, type_, row in rows}


@functools.cache
def words() -> dict[str, Signature]:
    """Those of the functions of words.c, as its macros make them."""
    text = (HERE / "words.c").read_text(encoding="utf-8").replace("\\\n", "")
    found: dict[str, str] = {}
    macros = r"#define (\w+)\(name, word\)\s+SHOWN void word_##name\(([^)]*)\)"
    for macro, parameters in re.findall(macros, text):
        names = re.findall(rf"^{macro}\((\w+), \w+\)", text, re.MULTILINE)
        found |= {f"word_{name}": f"void|{parameters}" for name in names}
    plain = re.findall(r"^SHOWN (\w+) (word_\w+)\(([^)]*)\)", text, re.MULTILINE)
    found |= {name: f"{result}|{parameters}" for result, name, parameters in plain}
    split = {name: declared.split("|") for name, declared in found.items()}
    return {
        name: Signature(_result(result), declarations(parameters, ","))
        for name, (result, parameters) in split.items()
    }


def layout() -> str:
    """C that compiles only if the structs of kernels and algorithms are as they were read."""
    names = {p.base for s in kernels().values() for p in s.parameters if not scalar(p.base)}
    names = sorted(names | {"fd_epilogue", "fd_pool2d_args", "fd_file_op", "fd_conv_shape"})
    lines = ["#include <stddef.h>"]
    lines += [f'#include "{path.relative_to(CSRC)}"' for path in _defining(names)]
    for name in names:
        made = struct(name)
        lines.append(f'_Static_assert(sizeof({name}) == {ctypes.sizeof(made)}, "{name}");')
        for field in fields(name):
            member = field.name.removesuffix("_") if field.name == "in_" else field.name
            offset = getattr(made, field.name).offset
            where = f"{name}.{member}"
            lines.append(f'_Static_assert(offsetof({name}, {member}) == {offset}, "{where}");')
            lines.append(
                f"_Static_assert(__builtin_types_compatible_p(__typeof__((({name} *)0)->{member}), "
                f'{_spelled(field)}), "{where}");'
            )
    return "\n".join([*lines, ""])


def _spelled(field: Declaration) -> str:
    counts = "".join(f"[{count}]" for count in field.counts)
    return f"{'const ' * field.const}{field.base} {'*' * field.pointers}{counts}"


def _defining(names: list[str]) -> list[Any]:
    paths = sorted(CSRC.rglob("*.h"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return [p for p in paths if any(f"typedef struct {name} {{" in texts[p] for name in names)]

"""What the objects of the C core export and which instructions they use, compiled as by setup.py.

Were two ISAs to share a symbol, or the core to use an instruction of one of them, the library would
run on the machine that built it and die on another.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.c_build import MACHINE, NATIVE, objects, run_checked

pytestmark = pytest.mark.slow

#: Instructions with a VEX or EVEX prefix begin with v, those on masks with k.
VEX = re.compile(r"^(v(?!err|erw|mcall|mlaunch)|k[a-z]+[bwdq]$)")


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[Path, ...]]:
    NATIVE.require("nm", "objdump")
    return objects(NATIVE)


def exported(path: Path) -> set[str]:
    lines = run_checked(["nm", "--defined-only", "--extern-only", path]).splitlines()
    return {line.split()[-1] for line in lines}


def instructions(paths: tuple[Path, ...]) -> tuple[set[str], str]:
    """The mnemonics and the operands of some objects."""
    mnemonics, operands = set(), []
    for path in paths:
        for line in run_checked(["objdump", "-d", "--no-show-raw-insn", path]).splitlines():
            if match := re.match(r"\s+[0-9a-f]+:\s+(?:\{vex\} )?([a-z0-9]+)\s*(.*)", line):
                mnemonics.add(match[1])
                operands.append(match[2])
    return mnemonics, "\n".join(operands)


#: ISAs that have kernels on bytes alone; those on floats are another's.
BYTES_ALONE = {"avxvnni", "avx512vnni"}


def test_an_isa_exports_its_tables_and_nothing_else(built: dict[str, tuple[Path, ...]]) -> None:
    isas = set(built) - {"core"}
    assert "generic" in isas
    for isa in isas:
        (path,) = built[isa]
        floats = set() if isa in BYTES_ALONE else {f"fd_float_kernels_{isa}"}
        assert exported(path) == floats | {f"fd_byte_kernels_{isa}"}


def test_the_core_exports_only_names_of_ours(built: dict[str, tuple[Path, ...]]) -> None:
    names = set().union(*map(exported, built["core"]))
    assert names >= {"fd_model_open", "fd_run"}
    assert {name for name in names if not name.startswith("fd_")} == set()


@pytest.mark.skipif(MACHINE != "x86_64", reason="this is not an x86-64 CPU")
def test_only_an_isa_uses_its_instructions(built: dict[str, tuple[Path, ...]]) -> None:
    for part in ("core", "generic"):
        mnemonics, operands = instructions(built[part])
        assert len(mnemonics) > 20
        assert {name for name in mnemonics if VEX.match(name)} == set()
        assert not re.search(r"%[yz]mm", operands)
    # That the search finds what is there.
    mnemonics, operands = instructions(built["avx2"])
    assert {"vfmadd231ps", "vmovups"} <= {name for name in mnemonics if VEX.match(name)}
    assert "%ymm" in operands and "%zmm" not in operands
    mnemonics, operands = instructions(built["avx512"])
    assert "%zmm" in operands and not any(name.startswith("vpdp") for name in mnemonics)
    mnemonics, operands = instructions(built["avx512vnni"])
    assert "vpdpbusd" in mnemonics and "%zmm" in operands
    # With a VEX prefix: sixteen registers, no masks, nothing of AVX-512.
    mnemonics, operands = instructions(built["avxvnni"])
    assert "vpdpbusd" in mnemonics and "%ymm" in operands
    assert not re.search(r"%zmm|%[xy]mm(1[6-9]|[23]\d)|%k\d", operands)

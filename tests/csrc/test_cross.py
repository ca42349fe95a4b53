"""The C core built for every CPU it knows, by gcc and clang, and run there, under QEMU if need be.

drivers/run_model.c runs the networks, and checks that a row's bits do not depend on its batch; the
results meet the float64 reference here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdigit import _core
from tests.support import c_networks, digests
from tests.support.c_build import AARCH64, CLANG, MACHINE, NATIVE, Toolchain, driver, qemu, run

pytestmark = pytest.mark.slow

ISAS = [
    pytest.param(name, marks=pytest.mark.skipif(not usable, reason=f"this CPU lacks {name}"))
    for name, usable in _core.isas()
]


def check(command: list[str | Path], folder: Path, n: int, isa: str, **environment: str) -> None:
    """All networks on `n` images, the seed network in two threads and on fewer."""
    c_networks.check(command, folder, c_networks.networks(), n, isa, **environment)
    c_networks.check(command, folder, c_networks.seed(), max(n // 3, 2), isa, 2, **environment)


@pytest.mark.parametrize("toolchain", [NATIVE, CLANG], ids=lambda toolchain: toolchain.compiler)
@pytest.mark.parametrize("isa", ISAS)
def test_native(toolchain: Toolchain, isa: str, tmp_path: Path) -> None:
    toolchain.require()
    check([driver("run_model", toolchain)], tmp_path, 35, isa, FASTDIGIT_ISA=isa)


def emulated(machine: str, toolchain: Toolchain, *options: str) -> list[str | Path]:
    """The command of run_model on an emulated CPU."""
    toolchain.require()
    return [qemu(machine), *options, driver("run_model", toolchain)]


@pytest.mark.skipif(MACHINE == "aarch64", reason="on an AArch64 CPU test_native does this")
@pytest.mark.parametrize("isa", ["neon", "generic"])
def test_aarch64(isa: str, tmp_path: Path) -> None:
    check(emulated("aarch64", AARCH64), tmp_path, 6, isa, FASTDIGIT_ISA=isa)


@pytest.mark.skipif(MACHINE == "aarch64", reason="on an AArch64 CPU test_engine does this")
def test_aarch64_chooses_neon(tmp_path: Path) -> None:
    command = emulated("aarch64", AARCH64)
    c_networks.check(command, tmp_path, {"lenet": c_networks.networks()["lenet"]}, 1, "neon")


@pytest.mark.skipif(MACHINE != "x86_64", reason="this is not an x86-64 CPU")
def test_x86_64_without_avx(tmp_path: Path) -> None:
    """A Nehalem has neither AVX nor FMA: generic is chosen unasked, and nothing else can be had."""
    command = emulated("x86_64", NATIVE, "-cpu", "Nehalem")
    check(command, tmp_path, 6, "generic")
    for isa in ("avx2", "avxvnni", "avx512", "avx512vnni"):
        done = run([*command, "1", tmp_path / "0"], FASTDIGIT_ISA=isa)
        assert done.returncode == 1, done.stderr
        message = f"FD_ERR_ISA: FASTDIGIT_ISA is '{isa}', which this CPU does not have"
        assert message in done.stderr


def same_bits(command: list[str | Path], folder: Path, isa: str) -> bool:
    """Whether the random networks' results have the bits that tests/engine/digests.json records."""
    found = digests.computed_by_driver(command, folder, isa)
    recorded = digests.recorded(isa)
    return found == {name: recorded[name] for name in found}


@pytest.mark.parametrize("isa", ISAS)
def test_clang_makes_the_same_bits(isa: str, tmp_path: Path) -> None:
    CLANG.require()
    assert same_bits([driver("run_model", CLANG)], tmp_path, isa)


@pytest.mark.skipif(MACHINE == "aarch64", reason="on an AArch64 CPU test_digests does this")
@pytest.mark.parametrize("isa", ["neon", "generic"])
def test_aarch64_makes_the_same_bits(isa: str, tmp_path: Path) -> None:
    """What generic computes is the same on every machine."""
    assert same_bits(emulated("aarch64", AARCH64), tmp_path, isa)

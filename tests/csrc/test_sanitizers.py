"""The C core under the address, undefined behaviour and thread sanitizers, also on damaged files.

The drivers are in drivers/. A sanitizer that cannot run here is skipped with what it says.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fastdigit import Model, _core
from tests.fuzz.engines import replayer
from tests.fuzz.networks import fuzzed_networks, with_room
from tests.support import c_networks
from tests.support.c_build import NATIVE, driver, image_driver, run_checked
from tests.support.networks import cut_layers, packed, two_headed
from tests.support.sanitizers import MEMORY, OPTIONS, THREADS, sanitizer

pytestmark = pytest.mark.slow

#: Damaged files an ISA and network.
ROUNDS = 600

USABLE = [name for name, usable in _core.isas() if usable]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return sanitizer(MEMORY, tmp_path_factory.mktemp("hello"))


def test_damaged_models(memory: tuple[str, ...], tmp_path: Path) -> None:
    """What passes the loader stays in bounds, and does nothing that C leaves undefined."""
    files = []
    for name, graph in fuzzed_networks().items():
        files.append(tmp_path / f"{name}.fdm")
        files[-1].write_bytes(with_room(packed(graph)))
    program = replayer(MEMORY)
    for i, isa in enumerate(USABLE):
        command = [*memory, program, str(ROUNDS), str(i * ROUNDS), *files]
        lines = run_checked(command, FASTDIGIT_ISA=isa, **OPTIONS).splitlines()
        for file, line in zip(files, lines, strict=True):
            refused, limited, ran = map(int, line.split())
            assert refused + limited + ran == ROUNDS
            # Enough of both kinds, or this test tests nothing.
            assert refused > 0.15 * ROUNDS, file.stem
            assert ran > 0.15 * ROUNDS, file.stem


@pytest.mark.parametrize("isa", USABLE)
def test_networks(memory: tuple[str, ...], isa: str, tmp_path: Path) -> None:
    command = [*memory, driver("run_model", MEMORY)]
    environment = {"FASTDIGIT_ISA": isa, **OPTIONS}
    c_networks.check(command, tmp_path, c_networks.networks(), 35, isa, **environment)
    c_networks.check(command, tmp_path, c_networks.seed(), 5, isa, 2, **environment)


def test_a_plan_that_drifts_is_refused(memory: tuple[str, ...], tmp_path: Path) -> None:
    """A planner that takes another amount than it counted writes nothing that was not counted."""
    program = driver("drift", MEMORY, link=("-Wl,--wrap=fd_operator_of",))
    path = tmp_path / "residual.fdm"
    path.write_bytes(packed(fuzzed_networks()["residual"]))
    said = run_checked([*memory, program, path], **OPTIONS).splitlines()
    assert len(said) == 5 and all("please report" in line for line in said)


def test_descriptions(memory: tuple[str, ...], tmp_path: Path) -> None:
    """Through the C API, with callers of later versions and mistakes."""
    program = driver("describe", MEMORY)
    for name, graph in fuzzed_networks().items():
        path = tmp_path / f"{name}.fdm"
        path.write_bytes(packed(graph))
        lines = run_checked([*memory, program, path], **OPTIONS).splitlines()
        plan = _core.Core(path.read_bytes(), 1).plan()
        assert lines == [
            ", ".join(str(op[key]) for key in ("label", "kernel", "multiply_adds", "scratch_bytes"))
            for op in plan
        ]


def test_several_inputs_and_outputs(memory: tuple[str, ...], tmp_path: Path) -> None:
    """Through the C API, with callers of other versions and mistakes."""
    path, out = tmp_path / "two_headed.fdm", tmp_path / "values"
    graph = two_headed()
    path.write_bytes(packed(graph))
    program = driver("ports", MEMORY)
    lines = run_checked([*memory, program, path, "40", out], **OPTIONS).splitlines()
    assert lines == [
        "image 3 8 8 1 64 0 1 255 0 0",
        "meta 1 4 0 0 4 0 1 255 0 0",
        "digit 1 10 0 0 10 0 0 0 1 0",
        "flag 1 1 0 0 1 0 0 0 0 1",
        "mask 3 8 8 2 128 0 0 0 0 0",
        "features 3 8 8 8 512 0 0 0 0 0",
        "scores 1 10 0 0 10 0 0 0 0 0",
    ]
    sizes = [int(line.split()[5]) for line in lines]
    ends = np.cumsum([40 * size for size in sizes])
    image, meta, *got = np.split(np.fromfile(out, np.float32), ends[:-1])
    want = Model(path.read_bytes()).run((image.reshape(40, 8, 8, 1), meta.reshape(40, 4)))
    for result, expected in zip(got, want.values(), strict=True):
        np.testing.assert_array_equal(result, expected.ravel())


def test_pictures(memory: tuple[str, ...]) -> None:
    """Planes of any size, and memory that fails, in every loop of csrc/image."""
    assert int(run_checked([*memory, image_driver(MEMORY), "100"], **OPTIONS)) > 100


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    path = tmp_path / "lenet.fdm"
    path.write_bytes(packed(c_networks.networks()["lenet"]))
    return path


def test_mistakes(memory: tuple[str, ...], lenet: Path, tmp_path: Path) -> None:
    """Through the C API: each is refused, and nothing else comes of it."""
    program = driver("mistakes", MEMORY, link=("-Wl,--wrap=fread,--wrap=fseek",))
    run_checked([*memory, program, lenet, tmp_path], **OPTIONS)


def test_internals(memory: tuple[str, ...]) -> None:
    run_checked([*memory, driver("internals", MEMORY)], **OPTIONS)


def test_threads(lenet: Path, tmp_path: Path) -> None:
    prefix = sanitizer(THREADS, tmp_path)
    shared = tmp_path / "shared.fdm"
    shared.write_bytes(packed(cut_layers()))
    run_checked([*prefix, driver("threads", THREADS), shared, "alone"], **OPTIONS)
    run_checked([*prefix, driver("threads", THREADS), lenet], **OPTIONS)
    run_checked([*prefix, driver("threads", THREADS), lenet, "many"], **OPTIONS)


@pytest.mark.parametrize("flags", [MEMORY, THREADS], ids=["memory", "threads"])
def test_runs_that_are_ended(flags: tuple[str, ...], lenet: Path, tmp_path: Path) -> None:
    prefix = sanitizer(flags, tmp_path)
    run_checked([*prefix, driver("cancel", flags), lenet], **OPTIONS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("isa", USABLE)
def test_forks(isa: str, lenet: Path) -> None:
    NATIVE.require()
    run_checked([driver("threads", NATIVE), lenet, "fork"], FASTDIGIT_ISA=isa)

"""Float32 results have the same bits on every ISA with a fused multiply-add.

Those that this CPU lacks run in the generic vocabulary, with their own width and tiles
(tests/support/native), so that here all orders of sums meet; NEON itself runs under QEMU. What is
recorded of all of them is in tests/engine/digests.json.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastdigit.compiler.ir import Activation, Affine, Graph, Pool
from fastdigit.compiler.ops import Conv2D
from tests.support import c_networks, digests, native
from tests.support.c_build import AARCH64, MACHINE, driver, qemu, run_checked
from tests.support.networks import chain, small_networks

Results = dict[str, bytes]


def zeros() -> dict[str, Graph]:
    """Sums that are -0 unless a 0 is added, and maxima of 0 and -0.

    Of three channels, neighbouring outputs lie abreast in a vector, with zeros between the taps of
    each, where it is wide enough for them; then the maximum is taken elsewhere, too.
    """
    weights = np.full((3, 3, 1, 3), -1.0, np.float32)
    bias = np.full(3, -0.0, np.float32)
    sums = Conv2D(weights, bias)
    signs = np.array([1.0, -1.0] * 8, np.float32)
    found = {"sums": chain((10, 18, 1), [sums])}
    for name, scale in (("first", signs), ("last", -signs)):
        shifted = Affine(0, scale, np.full(16, -0.0, np.float32))
        pooled = Conv2D(
            weights,
            bias,
            activation=Activation("relu"),
            affine=shifted,
            pool=Pool("max", (2, 2), (2, 2)),
        )
        found[f"maxima, {name}"] = chain((18, 18, 1), [pooled])
    return found


def few() -> dict[str, Graph]:
    """Every operator, and every way to compute it."""
    random = list(digests.networks().items())[2::7]
    return dict(random) | small_networks() | zeros()


def many() -> dict[str, Graph]:
    """Those that digests are recorded of, and more of their kind."""
    found = {f"seed {seed}": digests.Draw(seed).network() for seed in range(200)}
    return {name: graph for name, graph in found.items() if graph.nodes}


def results(
    command: list[str | Path], isa: str, graphs: dict[str, Graph], n: int, folder: Path
) -> Results:
    """The bytes of all values and logits of `n` images of each network."""
    stems = c_networks.write(folder, graphs, n)
    assert run_checked([*command, "1", *stems], FASTDIGIT_ISA=isa).strip() == isa
    found = {}
    for name, stem in zip(graphs, stems, strict=True):
        values = np.fromfile(stem.with_suffix(".out"), np.float32)
        assert not np.isnan(values).any(), f"{name}: which NaN it is, is nobody's business"
        found[name] = values.tobytes()
    return found


Run = Callable[[str], Results]


@pytest.fixture(scope="module")
def of_few(tmp_path_factory: pytest.TempPathFactory) -> Run:
    graphs, folder = few(), tmp_path_factory.mktemp("few")
    return lambda isa: results([native.run_model()], isa, graphs, 3, folder)


@pytest.fixture(scope="module")
def avx2(of_few: Run) -> Results:
    return of_few("avx2")


def differing(a: Results, b: Results) -> list[str]:
    return [name for name in a if a[name] != b[name]]


@pytest.mark.parametrize("isa", [isa for isa in native.FUSED_ISAS if isa != "avx2"])
def test_every_isa_computes_the_same_bits(isa: str, of_few: Run, avx2: Results) -> None:
    assert differing(of_few(isa), avx2) == []


def test_without_fused_multiply_adds_bits_differ(of_few: Run, avx2: Results) -> None:
    """So the comparison tells; and zeros are none of its concern."""
    names = set(differing(of_few("generic"), avx2))
    assert len(names) > 10 and not names & zeros().keys()


@pytest.mark.slow
def test_random_networks_have_the_same_bits_on_every_isa(tmp_path: Path) -> None:
    graphs = many()
    want = results([native.run_model()], "avx2", graphs, 2, tmp_path)
    for isa in native.FLOAT_ISAS:
        if isa not in ("avx2", "generic"):
            got = results([native.run_model()], isa, graphs, 2, tmp_path)
            assert differing(got, want) == [], isa


@pytest.mark.slow
@pytest.mark.skipif(MACHINE == "aarch64", reason="on an AArch64 CPU all of this is NEON's")
def test_neon_computes_the_same_bits(tmp_path: Path) -> None:
    AARCH64.require()
    graphs = many() | few() | c_networks.networks() | c_networks.seed()
    want = results([native.run_model()], "avx2", graphs, 2, tmp_path)
    command = [qemu("aarch64"), driver("run_model", AARCH64)]
    assert differing(results(command, "neon", graphs, 2, tmp_path), want) == []

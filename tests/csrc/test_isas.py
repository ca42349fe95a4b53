"""Which ISA a CPU gets: by the features it has, or by name."""

from __future__ import annotations

import random

import pytest

from tests.support import native
from tests.support.c_build import MACHINE

pytestmark = pytest.mark.skipif(MACHINE != "x86_64", reason="one ISA, and no features to tell")

AVX2 = {"AVX2", "FMA", "F16C"}
AVX512 = AVX2 | {"AVX512F", "AVX512CD", "AVX512BW", "AVX512DQ", "AVX512VL"}

#: Required features and the ISA, best first; all but this is tried below.
REQUIRED = {
    "avx512vnni": AVX512 | {"AVX512VNNI"},
    "avx512": AVX512,
    "avxvnni": AVX2 | {"AVXVNNI"},
    "avx2": AVX2,
    "generic": set(),
}


@pytest.mark.parametrize(
    ("cpu", "features", "isa"),
    [
        ("Nehalem", set(), "generic"),
        ("Sandy Bridge", {"F16C"}, "generic"),
        ("Piledriver", {"FMA", "F16C"}, "generic"),
        ("Haswell, Zen to Zen 3", AVX2, "avx2"),
        ("Knights Landing", AVX2 | {"AVX512F", "AVX512CD"}, "avx2"),
        ("Alder Lake, Sierra Forest", AVX2 | {"AVXVNNI"}, "avxvnni"),
        ("Skylake-X", AVX512, "avx512"),
        ("Ice Lake, Zen 4", AVX512 | {"AVX512VNNI"}, "avx512vnni"),
        ("Sapphire Rapids, Zen 5", AVX512 | {"AVX512VNNI", "AVXVNNI"}, "avx512vnni"),
        ("one that is not known", AVX512 | {"AVXVNNI"}, "avx512"),
    ],
)
def test_a_cpu_gets_the_best_isa_it_can_run(cpu: str, features: set[str], isa: str) -> None:
    assert native.choose_isa(features) == isa, cpu


def test_every_set_of_features_gets_the_first_isa_whose_features_it_has() -> None:
    rng = random.Random(1)
    x86 = sorted(set(native.FEATURES) - {"NEON"})
    assert set(x86) == set().union(*REQUIRED.values())
    sets = [set(rng.sample(x86, rng.randint(0, len(x86)))) for _ in range(500)]
    sets += [set(x86) - {name} for name in x86]
    for features in sets:
        usable = [isa for isa, required in REQUIRED.items() if required <= features]
        assert native.choose_isa(features) == usable[0]
        for isa in REQUIRED:
            if isa in usable:
                assert native.choose_isa(features, isa) == isa
            else:
                with pytest.raises(ValueError, match=f"is '{isa}', which this CPU does not have"):
                    native.choose_isa(features, isa)


def test_an_unknown_isa_is_refused_whatever_the_cpu() -> None:
    for name in ("mmx", "", "AVX2", "neon"):
        with pytest.raises(ValueError, match=f"is '{name}', which is unknown; this build has: "):
            native.choose_isa(native.FEATURES, name)

"""``python -m tests.fuzz.coverage``: what the corpora of model files reach of the C core, by file.

Kernels are left out: their branches are macros, once for each ISA, and tests/csrc/test_kernels.py
compares all of them with the reference. Fails below floors, which are what holds; what only the
tests of the C API reach (files, contexts, cancelling, ISAs) is missing here. Needs clang and llvm.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpora import kept
from tests.fuzz.engines import MODEL, SMALL, SOURCES
from tests.fuzz.networks import seeds
from tests.support import ROOT
from tests.support.c_build import NATIVE, Toolchain, compiled, objects, run_checked, setup_py

#: Changes of each seed, beside what is kept.
ROUNDS = 300
#: In percent, of all files together.
FLOORS = {"lines": 90.0, "branches": 74.0}

COVERED = Toolchain(
    "clang", flags=("-O0", "-fprofile-instr-generate", "-fcoverage-mapping", *SMALL)
)


def measured(folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """What was reached, and of how much, by file and then by kind: "lines", "branches"."""
    kernels = [path for name, paths in objects(NATIVE).items() if name != "core" for path in paths]
    macros = [f"-DFD_HAVE_{name.upper()}" for name in objects(NATIVE) if name != "core"]
    core = [
        compiled(f"{Path(source).stem}.o", COVERED, ROOT / source, [*macros, "-c"], [])
        for source in setup_py()["CORE_SOURCES"]
    ]
    main = ROOT / "tests/fuzz/replay.c"
    program = compiled("covered", COVERED, main, [], [*SOURCES, *core, *kernels, "-lm"])
    profiles = []
    for rounds, files in ((0, kept(MODEL)), (ROUNDS, list(seeds().values()))):
        paths = [folder / f"{rounds}-{number}.fdm" for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        profiles.append(folder / f"{rounds}.profraw")
        command = [program, str(rounds), "0", *paths]
        run_checked(command, LLVM_PROFILE_FILE=str(profiles[-1]))
    merged = folder / "profdata"
    run_checked(["llvm-profdata", "merge", "-o", merged, *profiles])
    export = ["llvm-cov", "export", "-summary-only", program, f"-instr-profile={merged}"]
    files = json.loads(run_checked([*export, str(ROOT / "csrc")]))["data"][0]["files"]
    return {
        str(Path(file["filename"]).relative_to(ROOT)): {
            kind: (file["summary"][kind]["covered"], file["summary"][kind]["count"])
            for kind in FLOORS
        }
        for file in files
    }


def main() -> int:
    for tool in ("clang", "llvm-cov", "llvm-profdata"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed (Debian: clang, llvm)")
    with tempfile.TemporaryDirectory() as folder:
        files = measured(Path(folder))
    print(f"{'file':34s} {'lines':>18s} {'branches':>18s}")
    for name, kinds in sorted(files.items()):
        print(f"{name:34s} " + " ".join(_share(*kinds[kind]) for kind in FLOORS))
    failed = False
    for kind, floor in FLOORS.items():
        covered, count = (sum(file[kind][i] for file in files.values()) for i in (0, 1))
        print(f"all {kind}: {_share(covered, count).strip()}, at least {floor} %")
        failed |= 100 * covered < floor * count
    return int(failed)


def _share(covered: int, count: int) -> str:
    return f"{100 * covered / count if count else 100:8.1f} % of {count:5d}"


if __name__ == "__main__":
    sys.exit(main())

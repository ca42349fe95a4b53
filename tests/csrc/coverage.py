"""``python -m tests.csrc.coverage``: what tests and corpora reach of the C core, file by file.

Fails if a file is below its floor. The core is compiled by clang to count, and then

- what the fuzzers keep of model files, and changes of each network that they start from, are run;
- tests of the C core are run, their programs linked with that core in place of a sanitizer's
  (``FASTDIGIT_TEST_COVERED``);
- tests in Python are run, with that core loaded before the one that is installed.

Kernels are left out, and with them the vocabularies of csrc/simd and csrc/isa: their branches are
macros, once for each ISA, most of which this machine may lack, and tests/csrc/test_kernels.py holds
every loop of every ISA to the reference. Needs clang and llvm.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.fuzz.corpora import kept
from tests.fuzz.engines import MODEL, SMALL, replayer
from tests.fuzz.networks import seeds
from tests.support import ROOT
from tests.support.c_build import COVERED, driver, image_driver, objects, run_checked, setup_py

#: Changes of each network that fuzzers start from, beside what is kept.
ROUNDS = 300

#: In percent, of each file.
FLOORS = {"lines": 95.0, "branches": 85.0}
#: Those of files that no machine reaches so much of, and why.
LOWER = {
    # One CPU has one set of features; test_cross.py runs others under QEMU, which are not counted.
    "csrc/cpu/features.c": {"lines": 90.0, "branches": 50.0},
    # How long threads wait for each other, and who takes the last unit first, is the scheduler's.
    "csrc/model/pool.c": {"lines": 90.0, "branches": 75.0},
    "csrc/model/team.c": {"lines": 85.0, "branches": 75.0},
}

#: Beside the corpora; test_sanitizers.py runs without sanitizers then.
TESTS_IN_C = (
    "tests/csrc/test_sanitizers.py",
    "tests/csrc/test_isas.py",
    "tests/csrc/test_sdk.py::test_contexts",
    "tests/csrc/test_sdk.py::test_what_memory_and_threads_refuse",
)
TESTS_IN_PYTHON = ("tests/csrc/test_format.py",)

Reach = dict[str, dict[str, tuple[int, int]]]


def replay(folder: Path) -> Path:
    """Run the corpora; return the program that did."""
    program = replayer(replace(COVERED, flags=(*COVERED.flags, *SMALL)))
    for rounds, files in ((0, kept(MODEL)), (ROUNDS, list(seeds().values()))):
        paths = [folder / f"{rounds}-{number}.fdm" for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        run_checked([program, str(rounds), "0", *paths])
    return program


def library(folder: Path) -> Path:
    """The C library that counts, with the name and the symbols of the one that is installed."""
    (installed,) = (ROOT / "fastdigit/lib").glob("libfastdigit.so.*")
    target = folder / installed.name
    exports = ROOT / setup_py()["OBJECTS"] / "fastdigit.map"
    options = ["-shared", f"-Wl,-soname,{target.name}", f"-Wl,--version-script={exports}"]
    options += ["-Wl,-Bsymbolic", "-pthread"]
    parts = [path for paths in objects(COVERED).values() for path in paths]
    run_checked(["clang", *COVERED.flags, *options, *parts, "-o", target])
    return target


def pytest(tests: tuple[str, ...], **environment: str) -> None:
    """Run tests, also those that are slow, with `environment`."""
    options = ["-q", "--numprocesses=logical", "--maxprocesses=8", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(f"tests failed: {' '.join(tests)}")


def measured(folder: Path) -> Reach:
    """What was reached, and of how much, by file and then by kind: "lines", "branches"."""
    profiles = folder / "profiles"
    # Processes of one program add to one file of it.
    os.environ["LLVM_PROFILE_FILE"] = str(profiles / "%m.profraw")
    # In these is all that is counted; functions of headers are in each.
    programs = [replay(folder), image_driver(COVERED), driver("internals", COVERED)]
    pytest(TESTS_IN_C, FASTDIGIT_TEST_COVERED="1")
    pytest(TESTS_IN_PYTHON, LD_PRELOAD=str(library(folder)))
    merged = folder / "profdata"
    run_checked(["llvm-profdata", "merge", "-o", merged, *profiles.iterdir()])
    export = ["llvm-cov", "export", "-summary-only", f"-instr-profile={merged}"]
    first, *others = programs
    named = [word for program in others for word in ("-object", program)]
    files = json.loads(run_checked([*export, first, *named, ROOT / "csrc"]))["data"][0]["files"]
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
    below = []
    for name, kinds in sorted(files.items()):
        if kinds["lines"][1]:
            print(f"{name:34s} " + " ".join(_share(*kinds[kind]) for kind in FLOORS))
        for kind, floor in LOWER.get(name, FLOORS).items():
            covered, count = kinds[kind]
            if 100 * covered < floor * count:
                below.append(f"{name}: {covered} of {count} {kind}, at least {floor} %")
    for kind in FLOORS:
        covered, count = (sum(file[kind][i] for file in files.values()) for i in (0, 1))
        print(f"all {kind}: {_share(covered, count).strip()}")
    print(*below, sep="\n", end="\n" if below else "")
    return len(below) > 0


def _share(covered: int, count: int) -> str:
    return f"{100 * covered / count if count else 100:8.1f} % of {count:5d}"


if __name__ == "__main__":
    sys.exit(main())

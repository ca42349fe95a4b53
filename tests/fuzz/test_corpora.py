"""What is kept is replayed: each input ends as it must, here without sanitizers (test_fuzz.py)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz.corpora import kept, path_of
from tests.fuzz.engines import NAMES, SECONDS, inputs_of, mutated, replayer
from tests.fuzz.networks import seeds
from tests.fuzz.targets import TARGETS
from tests.support import need
from tests.support.c_build import NATIVE, run_checked

#: What a target reads with.
PACKAGES = {"onnx": "onnx", "keras": "h5py", "h5": "h5py", "tflite": "tflite", "picture": "PIL"}


def test_there_is_a_small_corpus_for_each_target() -> None:
    sizes = {name: path_of(name).stat().st_size for name in NAMES}
    assert all(kept(name) for name in NAMES)
    assert sum(sizes.values()) < 200_000, sizes


@pytest.mark.parametrize("name", TARGETS)
def test_python(name: str) -> None:
    """What is kept, and a few inputs that nobody has seen before."""
    need(PACKAGES.get(name, "fastdigit"))
    target, inputs = TARGETS[name], inputs_of(name)
    assert all(target.try_one(data) for data in target.seeds())
    tried = [*inputs, *(mutated(name, inputs, seed) for seed in range(40))]
    for number, data in enumerate(tried):
        began = time.process_time()
        try:
            target.try_one(data)
        except Exception as error:
            pytest.fail(f"input {number}: {type(error).__name__}: {error}\n{data[:300]!r}")
        assert time.process_time() - began < SECONDS


def test_model(tmp_path: Path) -> None:
    """What is kept, and 60 changes of each network."""
    NATIVE.require()
    program = replayer(NATIVE)
    for rounds, files in ((0, kept("model")), (60, list(seeds().values()))):
        paths = []
        for number, data in enumerate(files):
            paths.append(tmp_path / f"{rounds}-{number}.fdm")
            paths[-1].write_bytes(data)
        lines = run_checked([program, str(rounds), "0", *paths]).splitlines()
        ran = sum(int(line.split()[2]) for line in lines)
        assert len(lines) == len(files)
        assert ran > 0.2 * rounds * len(files) or not rounds

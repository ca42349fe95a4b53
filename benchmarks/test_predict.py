"""Time of one call, by batch size: every call gets the next digits of the data set."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdigit.bench.adapter import ModelFiles
from fastdigit.bench.runtimes import RUNTIMES
from fastdigit.bench.scenarios import Images


@pytest.mark.parametrize("batch", [1, 8, 64, 512])
@pytest.mark.parametrize("name", ["fastdigit", "onnxruntime"])
def test_predict(
    benchmark: BenchmarkFixture, data: Images, files: ModelFiles, name: str, batch: int
) -> None:
    benchmark.group = f"predict, batch {batch}"
    runtime = RUNTIMES[name](RUNTIMES[name].variants(files)[0], batch, threads=1)
    out = np.empty((batch, 10), np.float32)
    whole = range(0, len(data.images) - batch + 1, batch)
    calls = cycle([runtime.bind(data.images[begin : begin + batch], out) for begin in whole])
    benchmark(lambda: next(calls)())
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-5)

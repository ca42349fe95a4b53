"""Time until the first prediction: open the model, classify one image."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastdigit.bench.adapter import ModelFiles
from fastdigit.bench.runtimes import RUNTIMES
from fastdigit.bench.scenarios import Images


@pytest.mark.parametrize("name", ["fastdigit", "onnxruntime"])
def test_load_and_first_prediction(
    benchmark: BenchmarkFixture, data: Images, files: ModelFiles, name: str
) -> None:
    benchmark.group = "load and first prediction"
    runtime = RUNTIMES[name]
    variant = runtime.variants(files)[0]
    out = np.empty((1, 10), np.float32)

    def load_and_predict() -> None:
        runtime(variant, 1, threads=1).bind(data.images[:1], out)()

    benchmark(load_and_predict)
    np.testing.assert_allclose(out.sum(), 1, atol=1e-5)

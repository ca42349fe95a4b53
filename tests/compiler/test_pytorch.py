"""Networks that PyTorch exported, held against what PyTorch computed with them.

tests/compiler/fixtures/pytorch/make.py writes model and outputs; PyTorch is not needed here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import unpack
from tests.support import need

need("onnx", "onnxruntime")

FOLDER = Path(__file__).parent / "fixtures" / "pytorch"
#: Operators of the compiled networks: no image is transposed but where the network itself does it.
OPERATORS = {
    "mnist": "CONV2D CONV2D POOL2D DENSE DENSE SOFTMAX",
    "residual": (
        "CONV2D ELTWISE ELTWISE CONV2D CONV2D BINARY ELTWISE ELTWISE CONV2D CONV2D CONV2D BINARY "
        "ELTWISE POOL2D DENSE"
    ),
    "mobilenet": (
        "CONV2D CONV2D CONV2D POOL2D CONV2D CONV2D BINARY CONV2D BINARY CONV2D POOL2D DENSE DENSE"
    ),
    "convnext": "CONV2D CONV2D LAYERNORM CONV2D CONV2D BINARY POOL2D RESHAPE LAYERNORM DENSE",
    "convnext17": "CONV2D CONV2D LAYERNORM CONV2D CONV2D BINARY POOL2D RESHAPE LAYERNORM DENSE",
    "branches": None,
    "norms": None,
    "shuffle": None,
    "mlp": None,
    "crnn": None,
    "crnn-new": None,
    "words": None,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_network(name: str) -> None:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        images, want = arrays["images"], arrays["outputs"]
    compiled = fastdigit.compile(FOLDER / f"{name}.onnx", None)
    model = fastdigit.Model(compiled.data)
    channels_last = np.moveaxis(images, 1, -1) if images.ndim == 4 else images
    got = model.run(channels_last.reshape(len(images), *model.input_shape))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.ptp(want) > 0.01, "outputs that are all the same would prove nothing"
    if expected := OPERATORS[name]:
        found = [record.opcode for record in unpack(compiled.data).records[1:]]
        assert found == expected.split()


def test_every_fixture_is_tested() -> None:
    found = {path.stem for path in FOLDER.iterdir() if path.suffix in (".onnx", ".npz")}
    assert found == set(OPERATORS)
    assert max(path.stat().st_size for path in FOLDER.iterdir()) < 50_000

"""The plain ONNX form of a model file gives what the float64 reference gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import networks
import reference
from fastdigit.bench import nchw
from fastdigit.bench.nchw import to_onnx, write_nchw
from fastdigit.compiler.ir import Activation, Affine, Eltwise, Pad
from fastdigit.compiler.unpack import unpack
from fastdigit.errors import UnsupportedError

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

#: Of graphs with branches and of the other activations no plain form is written yet.
REFUSED = ("residual", "residual, large", "moves", "activations")
NETWORKS = {
    name: network
    for name, network in {"seed": networks.seed_network(), **networks.small_networks()}.items()
    if name not in REFUSED
}


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    """Run on channels-last images; returns channels-last results."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    if images.ndim == 4:
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    (result,) = session.run(None, {"input": images})
    return result.transpose(0, 2, 3, 1) if result.ndim == 4 else result


@pytest.mark.parametrize("name", NETWORKS)
def test_same_results(name: str) -> None:
    graph = unpack(networks.packed(NETWORKS[name])).graph
    images = np.random.default_rng(0).random((3, *graph.shapes[graph.input]), np.float32)
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(
        run(model.SerializeToString(), images), reference.run_graph(graph, images), atol=1e-5
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_plain_form_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"has no (plain )?ONNX form"):
        to_onnx(networks.small_networks()[name])


@pytest.mark.parametrize("name", ["linear", *nchw.ACTIVATIONS])
def test_activations(name: str) -> None:
    alpha = 0.3 if name in ("leaky_relu", "elu") else 0.0
    ops = [Eltwise(Activation(name, alpha)), Eltwise(affine=Affine(0, np.full(9, 2.0), np.ones(9)))]
    images = np.linspace(-3, 3, 9, dtype=np.float32)[None]
    got = run(to_onnx(networks.chain((9,), ops)).SerializeToString(), images)
    np.testing.assert_allclose(got, 2 * reference.activate(images, name, alpha) + 1, rtol=1e-6)


def test_seed_network_is_plain() -> None:
    kinds = [node.op_type for node in to_onnx(NETWORKS["seed"]).graph.node]
    normalised = ["Conv", "Relu", "Mul", "Add", "MaxPool"]
    dense = ["Flatten", "Gemm", "Relu", "Gemm", "Softmax"]
    assert kinds == ["Conv", "Relu", "MaxPool", *normalised, *normalised, *dense]


def test_scales_of_one_and_shifts_of_zero_are_left_out() -> None:
    nothing = Affine(0, np.ones(4, np.float32), np.zeros(4, np.float32))
    ops = [Eltwise(Activation("relu"), nothing)]
    assert [node.op_type for node in to_onnx(networks.chain((4,), ops)).graph.node] == ["Relu"]


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    model = tmp_path / "model.fdm"
    model.write_bytes(networks.packed(NETWORKS["lenet"]))
    for name in ("a.onnx", "b.onnx"):
        write_nchw(model, tmp_path / name)
    first = (tmp_path / "a.onnx").read_bytes()
    assert first == (tmp_path / "b.onnx").read_bytes()
    onnx.load_from_string(first)


def test_operators_that_no_file_has_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="op0: Pad has no ONNX form"):
        to_onnx(networks.chain((4,), [Pad(((1, 1),))]))

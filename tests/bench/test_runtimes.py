"""The adapters: real runtimes, where they are installed, and the conversion of models."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastdigit
from fastdigit.bench import convert
from fastdigit.bench.adapter import ModelFiles, Variant, shipped_files
from fastdigit.bench.machine import choose_cpus
from fastdigit.bench.results import VALUES, compare
from fastdigit.bench.runtimes import RUNTIMES, FastDigit, OnnxRuntime
from fastdigit.bench.scenarios import digits
from fastdigit.errors import FastDigitError, InputError, MissingExtraError
from fastdigit.threads import usable_cpus

RANDOM = np.random.default_rng(11)
WEIGHTS = RANDOM.normal(0, 0.1, (784, 10)).astype(np.float32)


def softmax_regression(path: Path, shape: list[int | str]) -> Path:
    """Write an ONNX file whose output is softmax(flatten(input) @ WEIGHTS)."""
    values = math.prod(size for size in shape[1:] if isinstance(size, int))
    weights = np.resize(WEIGHTS, (values, 10))
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["output"], axis=-1),
        ],
        "softmax regression",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [shape[0], 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def reference(images: np.ndarray) -> np.ndarray:
    exponentials = np.exp(images.reshape(-1, 784).astype(np.float64) @ WEIGHTS)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [["N", 28, 28, 1], ["N", 1, 28, 28], ["N", 784], [3, 28, 28, 1]])
def test_onnxruntime_reads_and_writes_in_place(tmp_path: Path, shape: list[int | str]) -> None:
    path = softmax_regression(tmp_path / "model.onnx", shape)
    images = RANDOM.random((3, 28, 28, 1), np.float32)
    out = np.zeros((3, 10), np.float32)
    call = OnnxRuntime(Variant("model", path), 3, 1).bind(images, out)
    for _ in range(2):
        call()
        np.testing.assert_allclose(out, reference(images), atol=1e-6)
        images[:] = images[::-1].copy()  # the same memory, other contents


@pytest.mark.parametrize("shape", [["N", 8, 6, 3], ["N", 3, 8, 6]])
def test_colours_reach_a_network_in_its_order(tmp_path: Path, shape: list[int | str]) -> None:
    path = softmax_regression(tmp_path / "model.onnx", shape)
    images = RANDOM.random((4, 8, 6, 3), np.float32)
    out = np.zeros((4, 10), np.float32)
    OnnxRuntime(Variant("model", path), 4, 1).bind(images, out)()
    given = images if shape[-1] == 3 else images.transpose(0, 3, 1, 2)
    exponentials = np.exp(given.reshape(4, -1).astype(np.float64) @ np.resize(WEIGHTS, (144, 10)))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_network_without_probabilities_runs(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["output"]),
        ],
        "regression",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 28, 28, 1])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    opset = [helper.make_opsetid("", 18)]
    source = helper.make_model(graph, opset_imports=opset, ir_version=9)
    path = tmp_path / "regression.fdm"
    fastdigit.compile(source, path, input_range=(0, 1))
    images, out = RANDOM.random((3, 28, 28, 1), np.float32), np.zeros((3, 10), np.float32)
    FastDigit(Variant("regression", path), 3, 1).bind(images, out)()
    expected = images.reshape(3, 784) @ WEIGHTS
    np.testing.assert_allclose(out, expected, atol=1e-5)

    # Which of its values is the greatest is no label, so that only the values must agree.
    tied = np.full((3, 10), 0.5, np.float32)
    other = tied.copy()
    other[:, 7] += 1e-6
    assert compare(other, tied, VALUES).passed and not compare(other, tied).passed
    assert not compare(tied + 1e-4, tied, VALUES).passed


def test_model_of_another_input_is_refused(tmp_path: Path) -> None:
    path = softmax_regression(tmp_path / "model.onnx", ["N", 3, 28, 28])
    runtime = OnnxRuntime(Variant("model", path), 3, 1)
    images, out = np.zeros((3, 28, 28, 1), np.float32), np.zeros((3, 10), np.float32)
    with pytest.raises(InputError, match=r"\[3, 3, 28, 28\], expected .* \('N', 28, 28, 1\)"):
        runtime.bind(images, out)


def test_files_of_the_same_name_get_different_labels() -> None:
    paths = (Path("a/net.onnx"), Path("b/net.onnx"), Path("b/other.onnx"))
    variants = OnnxRuntime.variants(ModelFiles(fdm=Path("net.fdm"), onnx=paths))
    assert [v.label for v in variants] == ["a/net.onnx", "b/net.onnx", "other.onnx"]
    assert tuple(v.path for v in variants) == paths


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (runtime.extra == "bench-peers"))
        for name, runtime in RUNTIMES.items()
    ],
)
def test_adapter_agrees_with_onnxruntime_on_the_shipped_model(name: str, batch: int) -> None:
    runtime, files = RUNTIMES[name], shipped_files()
    if runtime.version() is None:
        pytest.skip(f"{name} is not installed")
    if lacking := runtime.lacks(files):
        pytest.skip(f"{name} needs {lacking}, which is not shipped")
    images = digits().images[:batch]
    expected, out = np.zeros((2, batch, 10), np.float32)
    OnnxRuntime(OnnxRuntime.variants(files)[0], batch, 1).bind(images, expected)()
    for variant in runtime.variants(files):
        out.fill(np.nan)
        opened = runtime(variant, batch, 1)
        opened.bind(images, out)()
        assert compare(out, expected).passed


def test_fastdigit_and_its_reference_ship() -> None:
    files = shipped_files()
    assert files.fdm.is_file()
    assert all(path.is_file() for path in files.onnx)


def test_choose_cpus() -> None:
    usable = usable_cpus()
    for count in range(1, len(usable) + 1):
        chosen = choose_cpus(count)
        assert len(set(chosen)) == count
        assert set(chosen) <= set(usable)
    with pytest.raises(InputError, match=f"may use only {len(usable)}"):
        choose_cpus(len(usable) + 1)


COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2]); print('done')"


def test_conversion_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "cache_directory", lambda: tmp_path / "cache")
    source = tmp_path / "model.onnx"
    command = [sys.executable, "-c", COPY, convert.SOURCE, convert.TARGET]
    source.write_bytes(b"one")
    first = convert._convert(source, ".converted", "numpy", command)
    assert first.read_bytes() == b"one"

    def not_again(*arguments: object, **options: object) -> None:
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", not_again)
        assert convert._convert(source, ".converted", "numpy", command) == first
    source.write_bytes(b"two")
    second = convert._convert(source, ".converted", "numpy", command)
    assert second.read_bytes() == b"two"
    assert first.read_bytes() == b"one"
    assert sorted(second.parent.iterdir()) == sorted([first, second])


@pytest.mark.parametrize("script", ["print('bad model'); exit(1)", "print('bad model')"])
def test_failed_conversion_quotes_the_converter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(convert, "cache_directory", lambda: tmp_path / "cache")
    source = tmp_path / "model.onnx"
    source.write_bytes(b"")
    with pytest.raises(FastDigitError, match=r"(?s)could not convert .*bad model"):
        convert._convert(source, ".converted", "numpy", [sys.executable, "-c", script])
    assert list((tmp_path / "cache" / "converted").iterdir()) == []


def test_missing_converter_is_named(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"")
    with pytest.raises(MissingExtraError, match="pip install no-such-distribution"):
        convert._convert(source, ".converted", "no-such-distribution", [])

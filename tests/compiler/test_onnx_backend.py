"""The ONNX project's own tests of operators, for those that the front end claims.

A case is a node, or a small model that PyTorch once exported, with its inputs and outputs. The
first input is the image; the others become weights. What is not run is listed in
onnx_backend_skips.txt with the message that refuses it, and checked both ways: a case that is
listed and runs is as wrong as one that is not listed and fails.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit import Model
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.frontends.onnx import SUPPORTED_OPERATORS
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import need

onnx = need("onnx")

SKIPS = Path(__file__).with_name("onnx_backend_skips.txt")


@cache
def cases() -> dict[str, Any]:
    """Every case of one node that the front end has, from float32 to float32, and PyTorch's."""
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(action="ignore"):  # of how the project makes its data
        nodes = collect_testcases(None)
    found = {
        case.name: case
        for case in nodes
        if len(case.model.graph.node) == 1
        and case.model.graph.node[0].op_type in SUPPORTED_OPERATORS
        and all(is_float32(given) for given in (case.data_sets[0][0][0], case.data_sets[0][1][0]))
    }
    for kind in ("pytorch-converted", "pytorch-operator"):
        found |= {f"{kind}:{case.name}": case for case in load_model_tests(kind=kind)}
    return found


def is_float32(given: Any) -> bool:
    """Other types are no image."""
    return isinstance(given, np.ndarray | np.float32) and given.dtype == np.float32


def contents(case: Any) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
    """Model, inputs and outputs of a case."""
    if case.model is not None:
        inputs, outputs = case.data_sets[0]
        return case.model, list(inputs), list(outputs)
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")

    def load(kind: str) -> list[np.ndarray]:
        paths = sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))
        tensors = (onnx.TensorProto.FromString(path.read_bytes()) for path in paths)
        return [onnx.numpy_helper.to_array(tensor) for tensor in tensors]

    return model, load("input"), load("output")


def with_weights(model: Any, inputs: list[np.ndarray]) -> Any:
    """The model with all inputs but the first as weights."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    known = {tensor.name for tensor in model.graph.initializer}
    names = [entry.name for entry in model.graph.input if entry.name not in known]
    for name, value in zip(names[1:], inputs[1:], strict=False):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    del model.graph.output[1:]
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs too
    return model


def run(case: Any) -> tuple[np.ndarray, np.ndarray]:
    """What fastdigit computes, and what is right."""
    model, inputs, outputs = contents(case)
    imported = import_model(with_weights(model, inputs))
    graph = optimize(imported.graph)
    images = np.asarray(inputs[0])
    if imported.inputs[0].layout == "NCHW":
        images = images.transpose(0, 2, 3, 1)
    images = np.ascontiguousarray(images).reshape(-1, *graph.shapes[graph.input])
    if np.abs(images).max() > np.finfo(np.float32).max:
        raise UnsupportedError("the test has numbers that float32 does not have")
    want = np.moveaxis(np.asarray(outputs[0]), imported.outputs[0].batch_axis, 0)
    return Model(pack(graph, {})).run(images), want


def by_onnx_runtime(case: Any) -> np.ndarray:
    model, inputs, _ = contents(case)
    session = need("onnxruntime").InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


@cache
def skips() -> dict[str, str]:
    """Names of cases, each with the beginning of the message that refuses it."""
    lines = SKIPS.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


def outcome(case: Any) -> str:
    """The message that refuses a case; "" if it runs and is right, as the project has it."""
    try:
        got, want = run(case)
    except UnsupportedError as error:
        return str(error).split("; ")[0]
    rtol, atol = max(case.rtol, 1e-5), max(case.atol, 1e-5)
    got = got.reshape(want.shape)
    if np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    # Parity is with ONNX Runtime, where the project's own results are others.
    theirs = by_onnx_runtime(case)
    assert not np.allclose(theirs, want, rtol=rtol, atol=atol, equal_nan=True)
    np.testing.assert_allclose(got, theirs, rtol=rtol, atol=atol)
    return "ONNX Runtime has this result"


@pytest.mark.parametrize("name", sorted(cases()))
def test_case(name: str) -> None:
    assert outcome(cases()[name]) == skips().get(name.replace(": ", ":"), "")


def test_every_skip_is_a_case_and_most_cases_run() -> None:
    assert set(skips()) <= set(cases())
    assert len(cases()) - len(skips()) > 160


if __name__ == "__main__":  # writes the list anew, to be read before it is committed
    text = [
        "# What of the ONNX project's tests is refused, and how: written by test_onnx_backend.py."
    ]
    for case_name in sorted(cases()):
        try:
            message = outcome(cases()[case_name])
        except Exception as error:
            message = f"!!! {type(error).__name__} {str(error)[:300]!r}"
        if message:
            text.append(f"{case_name}: {message}")
    SKIPS.write_text("\n".join(text) + os.linesep, encoding="utf-8")

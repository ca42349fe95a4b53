"""Runs ONNX models in ONNX Runtime, to hold compiled ones against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.common import Imported
from fastdigit.compiler.frontends.onnx.constants import DTYPES, FLOATS, array_of
from fastdigit.compiler.frontends.onnx.files import import_onnx_package, tensors_of
from fastdigit.compiler.frontends.onnx.graphs import opset_of, prepared
from fastdigit.compiler.frontends.onnx.opset7 import OLDEST_RUN, as_opset_7
from fastdigit.compiler.frontends.runners import Runner, onnx_runtime
from fastdigit.errors import VerificationError

__all__ = ["source_runner"]

#: How far what is computed in another precision may be from float32, relative to the largest
#: result: the first layers' rounding is carried through the others.
TOLERANCES = {"float16": 2e-2, "bfloat16": 2e-1, "float64": 1e-4}


def source_runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    """Return what runs a model, with its version, and a function that runs it on images (N, ...).

    A model of another precision runs in float32, as the compiled one does, and, where ONNX Runtime
    can, as it is too; the function raises a VerificationError if the two are not the same but for
    rounding. One of an opset that ONNX Runtime doesn't run is rewritten for one that it does.
    """
    model = prepared(model)
    ready = as_opset_7(_with_outputs(model, [port.name for port in imported.outputs]))
    precision = _precision(ready)
    name, run = _run(_in_float32(ready) if precision else ready, imported)
    if opset_of(model) < OLDEST_RUN:
        name = f"{name} (opset {opset_of(model)}, rewritten as {OLDEST_RUN})"
    if precision is None:
        return name, run
    name = f"{name} (a {precision} model, computed in float32)"
    try:
        _, as_it_is = _run(ready, imported)
    except VerificationError:
        return name, run

    def both(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        want = run(inputs)
        try:
            theirs = as_it_is(inputs)
        except VerificationError:  # no such kernel
            return want
        for mine, other in zip(want, theirs, strict=True):
            largest = max(1.0, float(np.abs(mine).max()))
            error = np.abs(other.astype(np.float64) - mine).max() / largest
            if not error <= TOLERANCES[precision]:
                raise VerificationError(
                    f"the {precision} model returns something else in float32: the largest "
                    f"difference is {error:.3g} of the largest result, more than "
                    f"{TOLERANCES[precision]:g}"
                )
        return want

    return name, both


def _run(model: Any, imported: Imported) -> tuple[str, Runner]:
    inputs = [port.name for port in imported.inputs]
    outputs = [port.name for port in imported.outputs]
    axes = [port.batch_axis for port in imported.outputs]
    return onnx_runtime(model.SerializeToString(), inputs, outputs, batch_axes=axes)


def _with_outputs(model: Any, outputs: Sequence[str]) -> Any:
    """Make values outputs: of labels, the scores that they come from."""
    missing = set(outputs) - {entry.name for entry in model.graph.output}
    if not missing:
        return model
    onnx = import_onnx_package()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, sorted(missing)))
    return copy


def _precision(model: Any) -> str | None:
    """Return what a model computes in, if that is not float32."""
    used = {tensor.data_type for tensor in tensors_of(model)}
    used |= {entry.type.tensor_type.elem_type for entry in model.graph.input}
    for number in (16, 10, 11):  # the coarsest
        if number in used and number in FLOATS:
            return DTYPES[number]
    return None


def _in_float32(model: Any) -> Any:
    """Return a model whose numbers of other precisions are float32."""
    onnx = import_onnx_package()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    others = set(FLOATS) - {1}
    for tensor in tensors_of(copy):
        if tensor.data_type in others:
            array = array_of(f"the weights {tensor.name!r}", tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for entry in (*copy.graph.input, *copy.graph.output):
        if entry.type.tensor_type.elem_type in others:
            entry.type.tensor_type.elem_type = 1
    del copy.graph.value_info[:]
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in others:
                attribute.i = 1
    return copy

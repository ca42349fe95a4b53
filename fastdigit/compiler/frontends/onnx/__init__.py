"""From an ONNX model to the IR.

The graph is imported faithfully: values keep ONNX's order of axes, and each NCHW operator becomes
its NHWC equivalent between two transposes, which the passes cancel. Semantics: ONNX operator
specification (https://onnx.ai/onnx/operators/). The file is not trusted.

An operator is a function in one of the files by family here, marked with
:func:`~fastdigit.compiler.frontends.onnx.registry.converts`.
"""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from importlib import import_module
from typing import Any

from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions, Port
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.layout import channels_last
from fastdigit.compiler.frontends.onnx.files import load_onnx
from fastdigit.compiler.frontends.onnx.graphs import opset_of, prepared
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import supported_operators
from fastdigit.compiler.frontends.onnx.runner import source_runner
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.frontends.sniff import LENGTH
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["FRONT_END", "SUPPORTED_OPERATORS", "import_onnx", "load_onnx"]

# Each file of this folder registers its converters.
for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

#: Operators on images; those of :data:`.constants.EVALUATORS`, Constant and Shape are read on
#: constants too.
SUPPORTED_OPERATORS = supported_operators()


def import_onnx(model: Any, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a ``ModelProto``.

    Raises
    ------
    ModelFormatError
        If the model is not valid ONNX.
    InputError
        If the options ask for outputs that there are not, or shapes that inputs do not have.
    UnsupportedError
        Naming the node and what is supported.
    """
    try:
        return _import(prepared(_proto(model)), options)
    except UnicodeDecodeError:  # protobuf decodes text when it is asked for
        raise ModelFormatError("not a valid ONNX model: it has text that is not UTF-8") from None


def _import(model: Any, options: ImportOptions) -> Imported:
    importer = Importer(model.graph, opset_of(model), options)
    try:
        graph, layouts = channels_last(importer.run())
    except UnsupportedError:
        if not importer.ambiguous:
            raise
        layouts = []
    if importer.ambiguous and "NCHW" not in layouts:
        importer = Importer(model.graph, opset_of(model), options, "NHWC")
        graph, layouts = channels_last(importer.run())
    by_value = dict(zip(importer.values, importer.inputs, strict=True))
    inputs = tuple(
        replace(by_value[value.removesuffix(":nhwc")], layout=layout)
        for value, layout in zip(graph.inputs, layouts, strict=True)
    )
    outputs = tuple(
        Port(name, graph.shapes[value], batch_axis=importer.batch_axes[name])
        for name, value in zip(importer.outputs, graph.outputs, strict=True)
    )
    return Imported(graph, "onnx", str(model.graph.name), inputs, outputs)


def _is_onnx(model: Any) -> bool:
    libraries = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    name = type(model).__name__
    return "onnx" in libraries or name == "ModelProto" or _is_program(model)


def _is_program(model: Any) -> bool:
    """Whether a model is what torch.onnx.export returns."""
    return type(model).__name__ == "ONNXProgram" and hasattr(model, "model_proto")


def _proto(model: Any) -> Any:
    return model.model_proto if _is_program(model) else model


def _runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    return source_runner(_proto(model), imported)


FRONT_END = FrontEnd(
    name="onnx",
    title="ONNX",
    model="an ONNX ModelProto or torch ONNXProgram",
    suffixes=(".onnx",),
    marker=None,
    extra="compile",
    verified_by="ONNX Runtime",
    summary="every opset, of tf2onnx, Keras, PyTorch, skl2onnx and others, NHWC or NCHW",
    read=load_onnx,
    owns=_is_onnx,
    import_model=import_onnx,
    runner=_runner,
    # A ModelProto has a graph (7), and what there is of the rest up to 26.
    matches=lambda content: content.fields.get(7) == LENGTH and max(content.fields) <= 26,
)

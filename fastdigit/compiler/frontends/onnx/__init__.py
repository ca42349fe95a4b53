"""From an ONNX model to the IR.

The graph is imported faithfully: values keep ONNX's order of axes, and each NCHW operator becomes
its NHWC equivalent between two transposes, which the passes cancel. Semantics: ONNX operator
specification (https://onnx.ai/onnx/operators/). The file is not trusted.

An operator is a function in one of the files by family here, marked with
:func:`~fastdigit.compiler.frontends.onnx.registry.converts`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions, Port
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.layout import channels_last
from fastdigit.compiler.frontends.onnx.registry import supported_operators
from fastdigit.compiler.frontends.runners import Runner, onnx_runtime
from fastdigit.compiler.frontends.sniff import LENGTH
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError, pip_install

__all__ = ["FRONT_END", "MIN_OPSET", "SUPPORTED_OPERATORS", "import_onnx", "load_onnx"]


MIN_OPSET = 13
MAX_FILE_BYTES = 1 << 30

# Each file of this folder registers its converters.
for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

#: Operators on images; those of :data:`.constants.EVALUATORS`, Constant and Shape are read on
#: constants too.
SUPPORTED_OPERATORS = supported_operators()


def load_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` in a file; weights in other files are not read.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    ModelFormatError
        If the file is not a valid ONNX model.
    """
    onnx = _import_onnx()
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFormatError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, in whichever implementation is installed
        raise ModelFormatError(f"{path.name}: not an ONNX model: {error}") from error


def import_onnx(model: Any, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a ``ModelProto``.

    Raises
    ------
    ModelFormatError
        If the model is not valid ONNX.
    UnsupportedError
        Naming the node and what is supported.
    """
    _check(model)
    importer = Importer(model.graph)
    graph, layout = channels_last(importer.run())
    source = Port(importer.input, importer.source_shape, layout)
    result = Port(importer.output, graph.shapes[graph.output])
    return Imported(graph, "onnx", str(model.graph.name), (source,), (result,))


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            f"reading an ONNX model needs onnx: {pip_install('compile')}"
        ) from error
    return onnx


def _check(model: Any) -> None:
    onnx = _import_onnx()
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UnsupportedError(
                f"the weights {tensor.name!r} are in another file; save the model with its weights "
                "inside: onnx.save(onnx.load(path), path)"
            )
    for node in model.graph.node:
        kind = node.op_type  # bytes, if it is no UTF-8: the checker has a message for that
        if node.domain in ("", "ai.onnx") and isinstance(kind, str) and not onnx.defs.has(kind):
            name = node.name or ", ".join(node.output)
            raise UnsupportedError(
                f"node {name!r} ({node.op_type}): ONNX has no such operator. The exporter did "
                "not know how to convert it, so no runtime can run this file; compile the Keras "
                "model or SavedModel that it comes from"
            )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or what pybind makes of a broken model
        raise ModelFormatError(f"not a valid ONNX model: {error}") from error
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset, newest = opsets.get("ai.onnx", 0), onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise UnsupportedError(
            f"the model uses opset {opset}; supported are {MIN_OPSET} to {newest} "
            "(onnx.version_converter converts between them)"
        )


def _is_onnx(model: Any) -> bool:
    libraries = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    return "onnx" in libraries or type(model).__name__ == "ModelProto"


def _runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    inputs = [port.name for port in imported.inputs]
    outputs = [port.name for port in imported.outputs]
    return onnx_runtime(model.SerializeToString(), inputs, outputs)


FRONT_END = FrontEnd(
    name="onnx",
    title="ONNX",
    model="an ONNX ModelProto",
    suffixes=(".onnx",),
    marker=None,
    extra="compile",
    verified_by="ONNX Runtime",
    summary="opset 13 and newer, of tf2onnx, Keras, PyTorch or skl2onnx, NHWC or NCHW",
    read=load_onnx,
    owns=_is_onnx,
    import_model=import_onnx,
    runner=_runner,
    # A ModelProto has a graph (7), and what there is of the rest up to 26.
    matches=lambda content: content.fields.get(7) == LENGTH and max(content.fields) <= 26,
)

"""Reads ONNX files, with the weights that lie beside them.

PyTorch writes ``model.onnx`` and ``model.onnx.data``. Neither file is trusted: weights are read
from regular files in the directory of the model and below it, after links are followed, and never
from elsewhere. https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError, pip_install

__all__ = ["MAX_BYTES", "import_onnx_package", "load_onnx", "refuse_external", "tensors_of"]

#: Of a model, with the weights beside it.
MAX_BYTES = 1 << 30


def import_onnx_package() -> Any:
    """Return the module ``onnx``; MissingExtraError if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            f"reading an ONNX model needs onnx: {pip_install('compile')}"
        ) from error
    return onnx


def load_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` in a file, with the weights that it has in files beside it.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    ModelFormatError
        If the file is not a valid ONNX model, or weights are not where it says.
    """
    onnx = import_onnx_package()
    if path.stat().st_size > MAX_BYTES:
        raise ModelFormatError(f"{path.name}: larger than {MAX_BYTES} bytes")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, in whichever implementation is installed
        raise ModelFormatError(
            f"{path.name}: no ONNX model, or one that is cut off or damaged; download or copy it "
            f"again ({error})"
        ) from error
    left = MAX_BYTES
    folder = path.resolve().parent if path.is_symlink() else path.parent.resolve()
    for tensor in tensors_of(model):
        if _is_external(tensor):
            left -= _fill(tensor, folder, left)
    return model


def refuse_external(model: Any) -> None:
    """Refuse a model whose weights are in a file that nobody has named.

    Raises
    ------
    UnsupportedError
        Naming the weights.
    """
    for tensor in tensors_of(model):
        if _is_external(tensor):
            raise UnsupportedError(
                f"the weights {tensor.name!r} are in another file, and a model in memory has no "
                "directory; compile the path of its file, or load it with onnx.load(path)"
            )


def tensors_of(model: Any) -> Iterator[Any]:
    """Yield every ``TensorProto`` of a model: weights, and those in attributes, at any depth."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        for attribute in function.attribute_proto:
            yield from _of_attribute(attribute)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for given in (*sparse, *attribute.sparse_tensors):
        yield from (given.values, given.indices)
    if attribute.HasField("g"):
        yield from _of_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _of_graph(graph)


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == tensor.EXTERNAL or tensor.external_data)


def _fill(tensor: Any, folder: Path, most: int) -> int:
    """Read the weights of a tensor into it; return how many bytes they are."""
    name = f"the weights {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _file_of(name, entries.get("location", ""), folder)
    offset = _number(name, "offset", entries.get("offset", "0"))
    size = _size(name, tensor)
    if "length" in entries and _number(name, "length", entries["length"]) != size:
        raise ModelFormatError(
            f"{name}: {entries['length']} bytes of {file.name}, expected {size} for shape "
            f"{tuple(tensor.dims)}"
        )
    if size > most:
        raise ModelFormatError(f"{name}: the model has more than {MAX_BYTES} bytes of weights")
    try:
        with file.open("rb") as source:
            given = os.fstat(source.fileno())
            if not stat.S_ISREG(given.st_mode):
                raise ModelFormatError(f"{name}: {file.name} is not a file")
            if offset + size > given.st_size:
                raise ModelFormatError(
                    f"{name}: bytes {offset} to {offset + size} of {file.name}, which has "
                    f"{given.st_size}"
                )
            source.seek(offset)
            data = source.read(size)
    except OSError as error:
        raise ModelFormatError(f"{name}: cannot read {file.name}: {error.strerror}") from error
    if len(data) != size:
        raise ModelFormatError(f"{name}: {file.name} ends early")
    tensor.raw_data = data
    del tensor.external_data[:]
    tensor.data_location = tensor.DEFAULT
    return size


def _file_of(name: str, location: str, folder: Path) -> Path:
    parts = PurePosixPath(location).parts
    inside = location and not PurePosixPath(location).is_absolute() and ".." not in parts
    if not inside or "\\" in location or "\0" in location or ":" in location:
        raise ModelFormatError(
            f"{name}: they are said to be in {location!r}; weights are read from the directory of "
            "the model only"
        )
    try:
        file = (folder / location).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ModelFormatError(f"{name}: {location!r} is no file") from error
    if folder not in file.parents:
        raise ModelFormatError(
            f"{name}: {location!r} is a link out of the directory of the model; weights are read "
            "from there only: copy the file there"
        )
    if not file.is_file():
        raise ModelFormatError(
            f"{name} are in the file {location!r}, which is missing; it belongs beside the model: "
            "copy both"
        )
    return file


def _number(name: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelFormatError(f"{name}: {key} {text!r} is not a number of bytes")
    return int(text)


def _size(name: str, tensor: Any) -> int:
    """Return the bytes of a tensor by its type and shape."""
    from onnx import helper

    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        dtype_size = 0 if dtype.kind in "OSU" else dtype.itemsize
    except (KeyError, TypeError, ValueError):
        dtype_size = 0
    packed = helper.tensor_dtype_to_string(tensor.data_type) if dtype_size else ""
    if not dtype_size or packed.endswith(("INT4", "INT2", "FLOAT4E2M1")):
        raise ModelFormatError(f"{name}: type {tensor.data_type} cannot be in another file")
    if any(size < 0 for size in tensor.dims):
        raise ModelFormatError(f"{name}: shape {tuple(tensor.dims)}")
    return int(math.prod(tensor.dims) * dtype_size)

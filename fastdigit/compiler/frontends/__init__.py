"""Front ends: from a file or model of another library to the IR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends.common import Imported
from fastdigit.compiler.frontends.keras import import_keras, load_keras
from fastdigit.compiler.frontends.onnx import import_onnx, load_onnx
from fastdigit.errors import UnsupportedError

__all__ = ["Imported", "import_model", "open_source"]

_LOADERS = {".keras": load_keras, ".h5": load_keras, ".hdf5": load_keras, ".onnx": load_onnx}


def open_source(source: Any) -> Any:
    """Return a Keras model or ONNX ``ModelProto``, from a file if ``source`` is a path.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedError
        If the name of the file ends in none of the known ways.
    ModelFormatError
        If the file cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        raise UnsupportedError(
            f"{path.name}: expected a file name that ends in {', '.join(_LOADERS)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return loader(path)


def import_model(model: Any) -> Imported:
    """Return the network of a Keras model or ONNX ``ModelProto``.

    Raises
    ------
    UnsupportedError
        If it is neither, or uses something that the compiler does not support; the message says
        what.
    ModelFormatError
        If the model is not valid.
    """
    library = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "keras" in library:
        return import_keras(model)
    if "onnx" in library or type(model).__name__ == "ModelProto":
        return import_onnx(model)
    raise UnsupportedError(
        f"cannot compile a {type(model).__name__}; expected a Keras model, an ONNX ModelProto, "
        f"or the path of a file that ends in {', '.join(_LOADERS)}"
    )

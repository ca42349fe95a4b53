"""Front ends: from a file or model of another library to the IR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends.common import Imported
from fastdigit.compiler.frontends.keras import import_keras, load_keras
from fastdigit.compiler.frontends.onnx import import_onnx, load_onnx
from fastdigit.compiler.frontends.saved_model import (
    SavedModel,
    import_saved_model,
    load_saved_model,
)
from fastdigit.errors import UnsupportedError

__all__ = ["Imported", "SavedModel", "import_model", "open_source"]

_LOADERS = {".keras": load_keras, ".h5": load_keras, ".hdf5": load_keras, ".onnx": load_onnx}


def open_source(source: Any) -> Any:
    """Return a Keras model, ONNX ``ModelProto`` or :class:`SavedModel`, read if given by its path.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedError
        If the name of the file ends in none of the known ways, or a directory is no SavedModel.
    ModelFormatError
        If the file cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise UnsupportedError(
                f"{path.name}: a directory without saved_model.pb; expected a SavedModel, as "
                "model.export or tf.saved_model.save write it, or a file"
            )
        return load_saved_model(path.resolve())
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        raise UnsupportedError(
            f"{path.name}: expected a file name that ends in {', '.join(_LOADERS)}, or the "
            "directory of a SavedModel"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return loader(path)


def import_model(model: Any) -> Imported:
    """Return the network of a Keras model, ONNX ``ModelProto`` or :class:`SavedModel`.

    Raises
    ------
    UnsupportedError
        If it is neither, or uses something that the compiler does not support; the message says
        what.
    ModelFormatError
        If the model is not valid.
    """
    if isinstance(model, SavedModel):
        return import_saved_model(model)
    library = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "keras" in library:
        return import_keras(model)
    if "onnx" in library or type(model).__name__ == "ModelProto":
        return import_onnx(model)
    raise UnsupportedError(
        f"cannot compile a {type(model).__name__}; expected a Keras model, an ONNX ModelProto, "
        f"or the path of a SavedModel or of a file that ends in {', '.join(_LOADERS)}"
    )

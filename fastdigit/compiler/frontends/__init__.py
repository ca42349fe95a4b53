"""Front ends: from a file or model of another library to the IR.

A front end is a module with a record, :class:`~fastdigit.compiler.frontends.front_end.FrontEnd`,
in :data:`FRONT_ENDS`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends import keras, onnx, saved_model
from fastdigit.compiler.frontends.common import Imported
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.errors import UnsupportedError

__all__ = [
    "FRONT_ENDS",
    "FrontEnd",
    "Imported",
    "front_end_of",
    "import_model",
    "open_source",
    "source_files",
]

FRONT_ENDS: tuple[FrontEnd, ...] = (keras.FRONT_END, onnx.FRONT_END, saved_model.FRONT_END)


def source_files() -> str:
    """What files can be compiled, in words."""
    *others, last = (front_end.files for front_end in FRONT_ENDS)
    return f"{', '.join(others)}, or {last}"


def open_source(source: Any) -> Any:
    """Return a model, read if given by its path.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedError
        If no front end knows such a file or directory.
    ModelFormatError
        If the file cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if path.is_dir():
        directories = [known for known in FRONT_ENDS if known.marker is not None]
        for front_end in directories:
            if (path / str(front_end.marker)).is_file():
                return front_end.read(path.resolve())
        raise UnsupportedError(
            f"{path.name}: a directory without {' or '.join(str(d.marker) for d in directories)}; "
            f"expected {source_files()}"
        )
    for front_end in FRONT_ENDS:
        if path.suffix.lower() in front_end.suffixes:
            if not path.is_file():
                raise FileNotFoundError(f"there is no file {path}")
            return front_end.read(path)
    suffixes = [suffix for front_end in FRONT_ENDS for suffix in front_end.suffixes]
    raise UnsupportedError(
        f"{path.name}: expected a file name that ends in {', '.join(suffixes)}, or "
        + " or ".join(known.files for known in FRONT_ENDS if known.marker is not None)
    )


def front_end_of(model: Any) -> FrontEnd:
    """Return the front end of a model in memory.

    Raises
    ------
    UnsupportedError
        If there is none.
    """
    for front_end in FRONT_ENDS:
        if front_end.owns(model):
            return front_end
    models = [front_end.model for front_end in FRONT_ENDS if front_end.model]
    raise UnsupportedError(
        f"cannot compile a {type(model).__name__}; expected {', '.join(models)}, or the path of "
        f"{source_files()}"
    )


def import_model(model: Any) -> Imported:
    """Return the network of a model, as :func:`open_source` returns it.

    Raises
    ------
    UnsupportedError
        If no front end knows it, or it uses something that the compiler does not support; the
        message says what.
    ModelFormatError
        If the model is not valid.
    """
    return front_end_of(model).import_model(model)

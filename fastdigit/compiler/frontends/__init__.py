"""Front ends: from a file or model of another library to the IR.

A front end is a module with a record, :class:`~fastdigit.compiler.frontends.front_end.FrontEnd`,
in :data:`FRONT_ENDS`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends import keras, onnx, saved_model, tflite
from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions, Port
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.sniff import Content, what_directory_is, what_is
from fastdigit.errors import InputError, ModelFormatError, UnsupportedError

__all__ = [
    "FRONT_ENDS",
    "FrontEnd",
    "ImportOptions",
    "Imported",
    "Port",
    "front_end_of",
    "import_model",
    "open_source",
    "source_files",
]

FRONT_ENDS: tuple[FrontEnd, ...] = (
    keras.FRONT_END,
    onnx.FRONT_END,
    tflite.FRONT_END,
    saved_model.FRONT_END,
)


def source_files() -> str:
    """What files can be compiled, in words."""
    *others, last = (front_end.files for front_end in FRONT_ENDS)
    return f"{', '.join(others)}, or {last}"


def open_source(source: Any, architecture: str | os.PathLike[str] | None = None) -> Any:
    """Return a model, read if given by its path.

    A file is what its content says; its name counts where that says nothing. With ``architecture``,
    the path of a file that says what the network is, ``source`` is that of its weights.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedError
        If no front end knows such a file or directory; the message says what it is, and what to do.
    ModelFormatError
        If the file cannot be read.
    InputError
        If there is an architecture for what is no file.
    """
    if not isinstance(source, str | os.PathLike):
        if architecture is not None:
            raise InputError("an architecture is for a file of weights, not for a model in memory")
        return source
    path = Path(source)
    if architecture is not None:
        return _open_weights(path, Path(architecture))
    if path.is_dir():
        return _open_directory(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise ModelFormatError(f"{path.name}: the file is empty; save, copy or download it again")
    content = Content(path)
    named = [known for known in FRONT_ENDS if path.suffix.lower() in known.suffixes]
    for front_end in (*named, *FRONT_ENDS):
        if front_end.matches(content):
            return front_end.read(path)
    if path.name == "saved_model.pb":
        return _open_directory(path.resolve().parent)
    if (kind := what_is(content)) is not None:
        raise kind.error(f"{path.name}: this is {kind.what}; {kind.advice}")
    for front_end in named:  # which says what is wrong with it
        return front_end.read(path)
    raise UnsupportedError(
        f"{path.name}: neither its name nor its content is that of a model; expected "
        f"{source_files()}"
    )


def _open_weights(path: Path, architecture: Path) -> Any:
    for given in (path, architecture):
        if not given.is_file():
            raise FileNotFoundError(f"there is no file {given}")
    content = Content(path)
    for front_end in FRONT_ENDS:
        if front_end.read_weights is not None and front_end.matches(content):
            return front_end.read_weights(path, architecture)
    titles = [known.title for known in FRONT_ENDS if known.read_weights is not None]
    raise UnsupportedError(
        f"{path.name}: an architecture is for files of weights of {' or '.join(titles)}, and this "
        "is none"
    )


def _open_directory(path: Path) -> Any:
    name = path.resolve().name
    markers = [str(known.marker) for known in FRONT_ENDS if known.marker is not None]
    for front_end in FRONT_ENDS:
        if front_end.marker is not None and (path / front_end.marker).is_file():
            return front_end.read(path.resolve())
    if (kind := what_directory_is(path)) is not None:
        raise UnsupportedError(f"{name}: this is {kind.what}; {kind.advice}")
    suffixes = {suffix for known in FRONT_ENDS for suffix in known.suffixes}
    models = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in suffixes)
    if models:
        raise UnsupportedError(f"{name}: a directory; give the file in it: {', '.join(models[:3])}")
    raise UnsupportedError(
        f"{name}: a directory without {' or '.join(markers)}; expected {source_files()}"
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


def import_model(model: Any, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a model, as :func:`open_source` returns it.

    Raises
    ------
    UnsupportedError
        If no front end knows it, or it uses something that the compiler does not support; the
        message says what.
    ModelFormatError
        If the model is not valid.
    InputError
        If it does not have what the options ask for.
    """
    imported = front_end_of(model).import_model(model, options)
    for kind, values in (("output", imported.graph.outputs), ("input", imported.graph.inputs)):
        if not values:
            raise ModelFormatError(f"{imported.name}: the network has no {kind}")
    found = tuple(port.name for port in imported.outputs)
    if options.outputs not in (None, found):
        raise InputError(
            f"there are no outputs {list(options.outputs or ())}; the model has {list(found)}"
        )
    _check_shape(imported, options)
    return imported


def _check_shape(imported: Imported, options: ImportOptions) -> None:
    """An image's shape that was asked for is that of an input; InputError if not."""
    if options.input_shape is None:
        return
    shapes = {
        port.name: imported.graph.shapes[value]
        for port, value in zip(imported.inputs, imported.graph.inputs, strict=True)
    }
    if isinstance(options.input_shape, Mapping):
        fits = all(shapes.get(name) == tuple(s) for name, s in options.input_shape.items())
    else:
        fits = tuple(options.input_shape) in shapes.values()
    if not fits:
        raise InputError(
            f"input_shape is {options.input_shape}, but the model takes "
            f"{', '.join(f'{name!r} of {shape}' for name, shape in shapes.items())}"
        )

"""Keras' files, read as data: HDF5, the zip of Keras 3, and JSON with weights apart.

Nothing of a file is run, no link in it is followed, and what it can make us read is bounded.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.configs import major_version, read_config
from fastdigit.compiler.frontends.keras.network import Network
from fastdigit.compiler.frontends.keras.weights import (
    Legacy,
    Numbered,
    Store,
    Variable,
    with_weights,
)
from fastdigit.compiler.frontends.sniff import Content
from fastdigit.compiler.ir import Array
from fastdigit.errors import (
    FastDigitError,
    MissingExtraError,
    ModelFormatError,
    UnsupportedError,
    pip_install,
)

__all__ = ["read_file"]

#: Bytes of a configuration, and of the archive member with the weights.
MAX_CONFIG = 1 << 26
MAX_ARCHIVED = 1 << 30
#: How many times its own size a member of an archive may be, beyond so many bytes.
MAX_RATIO, FREE_BYTES = 64, 1 << 24
#: Weights of a file: at most, and so many beyond some times its bytes, for HDF5 can be compressed.
MAX_WEIGHTS = 1 << 28
FREE_WEIGHTS, WEIGHTS_BY_BYTES = 1 << 24, 16
#: Objects of a file.
MAX_OBJECTS = 1 << 18


def read_file(path: Path, architecture: Path | None = None) -> Network:
    """Return the network in a file.

    Parameters
    ----------
    path
        HDF5, or the zip of Keras 3, whatever its name.
    architecture
        JSON of ``model.to_json()``, for a file of weights alone.

    Raises
    ------
    ModelFormatError
        If the file is damaged, or no such file.
    UnsupportedError
        If it has no architecture.
    MissingExtraError
        If h5py is not installed.
    """
    content = Content(path)
    given = None if architecture is None else _read_json(architecture)
    if content.is_hdf5:
        with _damaged(path.name, "HDF5"), _open(path) as opened:
            return _read_hdf5(opened, path, given)
    if content.members:
        return _read_zip(path, given)
    raise ModelFormatError(
        f"{path.name}: neither HDF5 nor a zip archive, as which Keras saves models"
    )


@contextmanager
def _damaged(name: str, kind: str) -> Iterator[None]:
    """Turn what readers raise into an error that names the file."""
    try:
        yield
    except (FastDigitError, FileNotFoundError, PermissionError):
        raise
    except (OSError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile, EOFError) as error:
        raise ModelFormatError(
            f"{name}: {kind} that is cut off or damaged; download or copy it again ({error})"
        ) from error


def _open(file: Any) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"reading a file of Keras needs h5py: {pip_install('compile')}"
        ) from error
    return h5py.File(file, "r")


def _parse(text: bytes | str, what: str) -> Any:
    if len(text) > MAX_CONFIG:
        raise ModelFormatError(f"{what} has {len(text)} bytes, at most {MAX_CONFIG} are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{what} is no JSON: {error}") from None


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        found = _parse(file.read(MAX_CONFIG + 1), path.name)
    if isinstance(found, str):  # JSON of JSON: json.dump(model.to_json())
        found = _parse(found, path.name)
    if not isinstance(found, Mapping) or "class_name" not in found:
        raise ModelFormatError(f"{path.name}: no architecture of Keras, as model.to_json() gives")
    return found


# ---- the zip of Keras 3 ----


def _read_zip(path: Path, architecture: Mapping[str, Any] | None) -> Network:
    with _damaged(path.name, "zip archive"), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        members = {info.filename: info for info in entries}
        if len(members) != len(entries):
            raise ModelFormatError(f"{path.name}: a zip archive that has a file twice")
        if "config.json" not in members:
            raise ModelFormatError(f"{path.name}: a zip archive without config.json: not of Keras")

        def member(name: str, limit: int) -> bytes:
            if name not in members:
                raise ModelFormatError(f"{path.name} has no {name}")
            info = members[name]
            most = min(limit, FREE_BYTES + MAX_RATIO * info.compress_size)
            if info.file_size > most or info.flag_bits & 1:
                raise ModelFormatError(f"{path.name}: {name} is encrypted, or over {most} bytes")
            with archive.open(info) as file:
                # Not all of it: what is packed may be more than what the archive says.
                return file.read(info.file_size)

        config = architecture or _parse(member("config.json", MAX_CONFIG), "config.json")
        written_by = None
        if "metadata.json" in members:
            metadata = _parse(member("metadata.json", MAX_CONFIG), "metadata.json")
            written_by = metadata.get("keras_version") if isinstance(metadata, Mapping) else None
        weights = io.BytesIO(member("model.weights.h5", MAX_ARCHIVED))
    network = _network(config, major_version(written_by, config), path.stem)
    with _damaged(f"{path.name}: model.weights.h5", "HDF5"), _open(weights) as opened:
        return with_weights(network, _Contents(opened, weights.getbuffer().nbytes).store(3, None))


# ---- HDF5 ----


def _read_hdf5(file: Any, path: Path, architecture: Mapping[str, Any] | None) -> Network:
    config = architecture
    if config is None:
        text = file.attrs.get("model_config")
        if text is None:
            raise UnsupportedError(
                f"{path.name}: weights without an architecture; give the JSON of model.to_json() "
                f"with it, --architecture {_likely(path)}, or save the whole model: "
                "model.save('model.keras')"
            )
        config = _parse(_text(text), "model_config")
    contents = _Contents(file, path.stat().st_size)
    backend = contents.word("backend") or _word(config, "backend")
    written_by = _word(config, "keras_version") or contents.word("keras_version")
    version = major_version(written_by, config)
    stored = major_version(contents.word("keras_version"), config)
    return with_weights(_network(config, version, path.stem), contents.store(stored, backend))


def _likely(path: Path) -> str:
    """Return the name of what may be the architecture of a file of weights: JSON beside it."""
    stem = path.name.partition(".")[0]
    for name in (f"{path.name}.json", f"{path.stem}.json", f"{stem}.json", "model.json"):
        if (path.parent / name).is_file():
            return name
    return "model.json"


def _network(config: Any, version: int, name: str) -> Network:
    try:
        return read_config(config, version, name)
    except RecursionError:
        raise ModelFormatError("the configuration is nested too deep") from None
    except FastDigitError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # JSON of another shape than Keras writes, in any of its hundred places.
        raise ModelFormatError(
            f"the configuration is damaged: {type(error).__name__}: {error}"
        ) from error


def _word(config: Any, key: str) -> str | None:
    found = config.get(key) if isinstance(config, Mapping) else None
    return str(found) if found is not None else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass
class _Contents:
    """The objects of an HDF5 file, by path; links are not followed."""

    file: Any
    bytes: int
    objects: dict[str, Any] = field(init=False, default_factory=dict)
    most: int = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.most = min(MAX_WEIGHTS, FREE_WEIGHTS + WEIGHTS_BY_BYTES * self.bytes)
        self.left = self.most

        def visit(name: str, found: Any) -> bool | None:
            self.objects[name.replace("\\", "/")] = found
            return True if len(self.objects) > MAX_OBJECTS else None

        if self.file.visititems(visit):
            raise ModelFormatError(f"the file has more than {MAX_OBJECTS} objects")

    @property
    def root(self) -> str:
        return "model_weights/" if "model_weights" in self.objects else ""

    def _attributes(self, path: str) -> Any:
        found = self.objects.get(path.rstrip("/")) if path else self.file
        return found.attrs if found is not None else {}

    def word(self, key: str) -> str | None:
        """Return an attribute of the file."""
        for path in ("", self.root):
            if (found := self._attributes(path).get(key)) is not None:
                return _text(found)
        return None

    def _names(self, path: str, key: str) -> list[str] | None:
        """Return a list of names, which may be spread over several attributes."""
        attributes = self._attributes(path)
        if key in attributes:
            parts = [attributes[key]]
        else:
            parts = []
            while f"{key}{len(parts)}" in attributes:
                parts.append(attributes[f"{key}{len(parts)}"])
            if not parts:
                return None
        return [_text(name) for part in parts for name in np.asarray(part).ravel()]

    def store(self, version: int, backend: str | None) -> Store:
        """Return the weights, in whatever layout the file has them."""
        layers = self._names(self.root, "layer_names")
        if layers is None:
            return self._numbered()
        groups = {}
        for layer in layers:
            names = self._names(f"{self.root}{layer}", "weight_names") or []
            groups[layer] = [self._variable(f"{self.root}{layer}/{name}", name) for name in names]
        names = [variable.name for group in groups.values() for variable in group]
        theano = backend == "theano" or (
            backend is None and version == 1 and not any(":" in name for name in names)
        )
        return Legacy(groups, version, theano)

    def _numbered(self) -> Numbered:
        objects: dict[str, dict[int, Variable]] = {}
        names: dict[str, str] = {}
        for path, found in self.objects.items():
            owner, _, last = path.rpartition("/")
            if path == "vars" or path.endswith("/vars"):
                if (name := found.attrs.get("name")) is not None:
                    names[owner] = _text(name)
            elif last.isdigit() and (owner == "vars" or owner.endswith("/vars")):
                variable = self._variable(path, path)
                objects.setdefault(owner[: -len("/vars")], {})[int(last)] = variable
        if not objects and any(hasattr(found, "dtype") for found in self.objects.values()):
            raise ModelFormatError("the file has no weights in a layout of Keras")
        return Numbered(objects, names)

    def _variable(self, path: str, name: str) -> Variable:
        return Variable(name, lambda: self._read(path))

    def _read(self, path: str) -> Array:
        dataset = self.objects.get(path)
        if dataset is None or not hasattr(dataset, "dtype"):
            raise ModelFormatError(f"the file has no weights {path!r}")
        if dataset.is_virtual or dataset.external:
            raise ModelFormatError(f"the weights {path!r} lie in another file, which is not read")
        if dataset.dtype.kind not in "fiu":
            raise ModelFormatError(f"the weights {path!r} are of type {dataset.dtype}, not numbers")
        self.left -= dataset.size or 0
        if self.left < 0:
            raise ModelFormatError(
                f"the file has more than {self.most} weights, of {self.bytes} bytes"
            )
        found = np.asarray(dataset[()])
        return found if found.dtype == np.float64 else found.astype(np.float32)

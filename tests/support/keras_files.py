"""Files as versions of Keras have written them, made with h5py alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: (name of a variable in the file, its value), in order.
Weights = Sequence[tuple[str, Any]]


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    """A layer's configuration, in the outer form that all versions have."""
    return {"class_name": kind, "config": {"name": name, **config}}


def node(name: str, *arguments: Any) -> list[Any]:
    """A reference to a layer's result, of Keras 1 and 2."""
    return [name, *(arguments or (0, 0, {}))]


def functional(
    layers: Sequence[Mapping[str, Any]], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, Any]:
    config = {
        "name": "net",
        "layers": layers,
        "input_layers": [[name, 0, 0] for name in inputs],
        "output_layers": [[name, 0, 0] for name in outputs],
    }
    return {"class_name": "Functional", "config": config}


def called(entry: Mapping[str, Any], *nodes: Any) -> dict[str, Any]:
    """A layer in a functional model, with its calls."""
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": list(nodes)}


def tensor(name: str, call: int = 0) -> dict[str, Any]:
    """A reference to a layer's result, of Keras 3."""
    history = {"shape": [None, 1], "dtype": "float32", "keras_history": [name, call, 0]}
    return {"class_name": "__keras_tensor__", "config": history}


def write_h5(
    path: Path,
    config: Any,
    groups: Mapping[str, Weights],
    version: str | None = "2.4.0",
    backend: str | None = "tensorflow",
    whole: bool = True,
) -> Path:
    """HDF5 of Keras 1, 2 or 3: ``model.save``, or ``model.save_weights`` if not ``whole``."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = json.dumps(config).encode()
        for attribute, value in (("keras_version", version), ("backend", backend)):
            if value is not None:
                file.attrs[attribute] = value.encode()
        root.attrs["layer_names"] = [name.encode() for name in groups]
        for name, weights in groups.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [variable.encode() for variable, _ in weights]
            for variable, value in weights:
                group[variable] = np.asarray(value)
    return path


def write_keras(
    path: Path,
    config: Any,
    objects: Mapping[str, Sequence[Any]],
    names: Mapping[str, str] | None = None,
    version: str = "3.5.0",
) -> Path:
    """The zip of Keras 3: ``objects`` has the variables at a path, ``names`` the layer there."""
    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for place, values in objects.items():
            group = file.create_group(f"{place}/vars")
            for index, value in enumerate(values):
                group[str(index)] = np.asarray(value)
        for place, name in (names or {}).items():
            file.require_group(f"{place}/vars").attrs["name"] = name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path

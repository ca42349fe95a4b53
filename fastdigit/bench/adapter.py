"""What an adapter of a runtime is: the network in the forms that it reads, and how it is called.

An adapter is opened for one model file, one batch size and one number of threads. `bind` does
everything that can be done before the input is there, untimed and once for each batch; what it
returns is a call without arguments, and only that call is timed. Where an API can read the
caller's array in place, it does; where it insists on a copy, the copy is part of its time.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from fastdigit.bench import convert
from fastdigit.bench.arrays import FloatArray
from fastdigit.compiler.frontends.runners import without_telemetry
from fastdigit.errors import MissingExtraError, pip_install
from fastdigit.model import DEFAULT_MODEL, shipped_file

__all__ = [
    "Call",
    "ModelFiles",
    "Runtime",
    "Variant",
    "onnx_variants",
    "require",
    "shipped_files",
]

Call: TypeAlias = Callable[[], object]


def require(module: str, extra: str) -> Any:
    """Import an optional module; `MissingExtraError` names the extra that provides it."""
    without_telemetry()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"cannot import {module} ({error}); it comes with: {pip_install(extra)}"
        ) from error


@dataclass(frozen=True)
class ModelFiles:
    """The same network in the forms that runtimes read.

    Attributes
    ----------
    fdm
        fastdigit's own.
    onnx
        One or more exports. Runtimes that read ONNX get all of them and the fastest counts; the
        first is the one whose ONNX Runtime output everyone is compared with.
    keras, tflite
        Needed by TensorFlow and LiteRT; None if there is none.
    calibration
        Images to quantise with, a ``.npy`` file, float32 (N, 28, 28, 1).
    reduced
        fastdigit's model files with reduced precision, by its name, such as "int8".
    classes
        Outputs of the network.
    """

    fdm: Path
    onnx: tuple[Path, ...]
    keras: Path | None = None
    tflite: Path | None = None
    calibration: Path | None = None
    reduced: Mapping[str, Path] = field(default_factory=dict)
    classes: int = 10


def shipped_files(name: str = DEFAULT_MODEL) -> ModelFiles:
    """Return the files of a model that ships with the package; its ONNX form is written from it.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    """
    fdm = Path(shipped_file(name))
    return ModelFiles(fdm, onnx=(convert.fdm_to_onnx(fdm),))


@dataclass(frozen=True)
class Variant:
    """One way for a runtime to run the network; the fastest of its variants is measured."""

    label: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)


class Runtime(ABC):
    """A runtime, opened with a model for one batch size and number of threads."""

    name: ClassVar[str]
    #: Distribution on PyPI, and the extra of fastdigit that installs it.
    distribution: ClassVar[str]
    extra: ClassVar[str] = "bench-peers"
    #: Whether more forms of the ONNX file are more chances.
    reads_onnx: ClassVar[bool] = False
    #: Set in the worker process before the runtime is imported.
    environment: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def version(cls) -> str | None:
        """Return the installed version, None if the runtime is not installed."""
        try:
            return importlib.metadata.version(cls.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    @classmethod
    def lacks(cls, files: ModelFiles) -> str | None:
        """Return what is missing for this runtime to run the network, None if nothing is."""
        return None

    @classmethod
    @abstractmethod
    def variants(cls, files: ModelFiles) -> list[Variant]:
        """List the ways to run the network, at least one; convert files where necessary."""

    @abstractmethod
    def __init__(self, variant: Variant, batch: int, threads: int) -> None: ...

    @abstractmethod
    def bind(self, images: FloatArray, out: FloatArray) -> Call:
        """Prepare one batch.

        Parameters
        ----------
        images
            float32 (batch, 28, 28, 1) in [0, 1], C-contiguous, 64-byte aligned where the batch
            size allows; stays as it is for as long as the returned call is in use.
        out
            float32 (batch, classes), receives the probabilities.

        Returns
        -------
        Call
            Runs the batch once; when it returns, `out` is filled.
        """


def onnx_variants(files: ModelFiles) -> list[Variant]:
    """List the ONNX files as variants; those of the same name are told apart by their paths."""
    names = Counter(path.name for path in files.onnx)
    return [Variant(path.name if names[path.name] == 1 else str(path), path) for path in files.onnx]

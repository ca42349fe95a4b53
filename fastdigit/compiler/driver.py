"""Compiles a model: front end, passes, packer, verification, file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends import Imported, import_model, open_source
from fastdigit.compiler.ir import Graph
from fastdigit.compiler.ops import PRECISIONS
from fastdigit.compiler.pack import pack
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.compiler.spec import NARROW
from fastdigit.compiler.unpack import listing, unpack
from fastdigit.compiler.verify import (
    TOLERANCES,
    Verification,
    check,
    check_labels,
    compare,
    make_samples,
    source_runner,
)
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["COMPILER_VERSION", "Compiled", "compile_model"]

#: Changes when the same source may give another program.
COMPILER_VERSION = "1"

#: (bytes of a model file, images) -> outputs (N, classes).
Engine = Callable[[bytes, NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Compiled:
    """What :func:`compile_model` did.

    Parameters
    ----------
    data
        The model file.
    verification
        How it compares with its source.
    steps
        For each pass that changed the graph, in order: its name, and the number of operators behind
        it.
    """

    data: bytes
    verification: Verification
    steps: tuple[tuple[str, int], ...]

    @property
    def meta(self) -> dict[str, Any]:
        """The META section of the file."""
        return unpack(self.data).meta

    def listing(self) -> str:
        """Return the program as a readable table."""
        return listing(unpack(self.data))


def compile_model(
    source: Any,
    output: str | os.PathLike[str] | None,
    *,
    engine: Engine,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    input_range: tuple[float, float] = (0.0, 1.0),
    samples: Any = None,
    labels: Any = None,
    precision: str = "fp32",
    tolerance: float | None = None,
) -> Compiled:
    """Compile ``source``, verify the result against it, and write the model file.

    Parameters
    ----------
    source
        A Keras model, an ONNX ``ModelProto``, or the path of a ``.keras``, ``.h5`` or ``.onnx``
        file.
    output
        Path of the model file, which is replaced at once or not at all; None: write nothing.
    engine
        Runs a model file on images (N, *input shape).
    name
        Stored in the file; by default the source's name.
    classes
        A label for each output; by default "0", "1", ...
    input_range
        Least and greatest value of an input. For (0, 1) the model takes bytes 0 to 255 too.
    samples
        Images (N, *input shape) to verify with, channels-last; by default generated ones.
    labels
        The right output (N,) for each of ``samples``, as an integer from 0: the accuracy of the
        source and of the compiled model are measured and stored.
    precision
        Of the weights of dense layers with more than 32 outputs: "fp32", "fp16" or "int8" (with a
        scale for each output), see :mod:`fastdigit.compiler.passes.quantize_weights`. What is
        computed with them is float32. "int8-dynamic": weights as for "int8", and the layer's inputs
        are quantised too, each image's by their own range, and multiplied as integers.
    tolerance
        Largest error allowed, as :class:`fastdigit.compiler.verify.Verification` defines it; by
        default 1e-5 with fp32, 1e-2 with fp16, and 1e-1 with the others. With any but fp32, the
        same network in fp32 is verified before, always at 1e-5: what differs then is due to
        rounding alone.

    Raises
    ------
    UnsupportedError
        If the compiler does not support the network, or the network cannot have that precision;
        the message names the layer.
    ModelFormatError
        If the source is damaged.
    VerificationError
        If source and compiled model differ by more than ``tolerance``. Nothing is written.
    InputError
        If another argument is wrong.
    MissingExtraError
        If a package is missing that the source needs.
    """
    low, high = _check_range(input_range)
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if labels is not None and samples is None:
        raise InputError("labels given without samples, expected both: labels are of samples")
    model = open_source(source)
    imported = import_model(model)
    steps: list[tuple[str, int]] = []
    graph = optimize(imported.graph, lambda step, now: steps.append((step, len(now.nodes))))
    names = _check_classes(graph, classes)
    shape = graph.shapes[graph.input]
    images = make_samples(shape, low, high) if samples is None else check(samples, shape, low, high)
    right = None if labels is None else check_labels(labels, len(images), len(names))
    rounded = _round(graph, precision)
    if tolerance is None:
        tolerance = TOLERANCES[precision]

    meta = _meta(imported, graph, name, names, precision)
    divisor = 255 if (low, high) == (0.0, 1.0) else 0

    def packed(graph: Graph) -> bytes:
        return pack(graph, meta, input_range=(low, high), u8_divisor=divisor)

    reference, run = source_runner(model, imported)
    want = run(images)
    if rounded is not graph:
        compare(reference, want, engine(packed(graph), images), TOLERANCES["fp32"])
        steps.append((quantize_weights.__name__, len(rounded.nodes)))
    verification = compare(reference, want, engine(packed(rounded), images), tolerance, right)
    meta["verification"] = asdict(verification)
    data = packed(rounded)
    if output is not None:
        _write(Path(output), data)
    return Compiled(data, verification, tuple(steps))


def _check_range(input_range: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(bound) for bound in input_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"input_range is {input_range}, expected two finite numbers, low < high")
    if any(float(np.float32(bound)) != bound for bound in (low, high)):
        raise InputError(f"input_range is {input_range}, expected numbers that float32 has")
    return low, high


def _check_classes(graph: Graph, classes: Sequence[str] | None) -> list[str]:
    shape = graph.shapes[graph.output]
    if len(shape) != 1:
        raise UnsupportedError(
            f"the network returns shape {shape} for an image; supported is a vector of scores: "
            "end with Flatten, global pooling or a dense layer"
        )
    if classes is None:
        return [str(index) for index in range(shape[0])]
    if isinstance(classes, str) or len(classes) != shape[0]:
        raise InputError(f"{len(classes)} classes given, the network has {shape[0]} outputs")
    return [str(label) for label in classes]


def _round(graph: Graph, precision: str) -> Graph:
    rounded = quantize_weights(graph, precision)
    if rounded is graph and precision != "fp32":
        raise UnsupportedError(
            f"precision {precision} is for dense layers of more than {NARROW} outputs, and the "
            "network has none: use fp32"
        )
    return rounded


def _meta(
    imported: Imported, graph: Graph, name: str | None, classes: list[str], precision: str
) -> dict[str, Any]:
    shape = graph.shapes[graph.input]
    return {
        "name": name or imported.name,
        "classes": classes,
        "precision": precision,
        "compiler": COMPILER_VERSION,
        "input": {"shape": list(shape), "layout": "NHWC" if len(shape) == 3 else "features"},
        "source": {
            "kind": imported.kind,
            "layout": imported.source_layout,
            "shape": list(imported.source_shape),
        },
    }


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old contents or the new, whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

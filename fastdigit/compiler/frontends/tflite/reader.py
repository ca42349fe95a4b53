"""Reads the bytes of a .tflite file, which are not trusted, into plain objects.

A .tflite file is a flatbuffer. The classes of the package ``tflite``, which are generated from
TensorFlow Lite's schema, find the fields in it, and check nothing: an offset may point anywhere. So
everything that is taken from them is copied here, once, and checked: a vector lies within the file
before it is walked, an index is one of a list that there is. What comes out holds nothing of the
file but the bytes of its weights.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import isfunction, signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.ir import Shape
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError, pip_install

__all__ = [
    "BITS",
    "Node",
    "Quantization",
    "TFLiteModel",
    "Tensor",
    "import_schema",
    "read_model",
    "shown",
]

IDENTIFIER = b"TFL3"
VERSION = 3
#: Far more than any network has; they bound what a damaged file can cost.
MAX_RANK = 8
MAX_OPERANDS = 4096
MAX_RECORDS = 1 << 16
MAX_LABELS_BYTES = 1 << 20
MAX_ZIP_ENTRIES = 64

#: Types of tensors that are read, with what NumPy calls them.
DTYPES: Mapping[str, str] = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "<i1",
    "UINT8": "<u1",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "BOOL": "?",
}
#: Bits of an element of a type.
BITS: Mapping[str, int] = {
    **{name: 8 * np.dtype(dtype).itemsize for name, dtype in DTYPES.items()},
    "INT4": 4,
}

#: What the classes raise when an offset or a value of the file is wrong.
BROKEN = (
    struct.error,
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class Quantization:
    """``(integer - zero_point) * scale``, with one pair, or one for each index of ``axis``."""

    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file.

    Parameters
    ----------
    name
        As the converter named it.
    shape
        As the file has it, with the batch.
    free
        Axes whose length the network leaves free; ``shape`` has 1 there.
    type
        A name of the schema, such as "FLOAT32".
    data
        The bytes of a constant; None if the tensor is computed.
    quantization
        What its integers mean; None if there is nothing to say.
    sparse
        Whether a constant leaves out its zeros.
    """

    name: str
    shape: Shape
    type: str
    free: tuple[int, ...] = ()
    data: NDArray[np.uint8] | None = None
    quantization: Quantization | None = None
    sparse: bool = False


@dataclass(frozen=True, eq=False)
class Node:
    """An operator in the network of the file.

    Parameters
    ----------
    type
        A name of the schema, such as "CONV_2D"; of a custom operator "CUSTOM".
    inputs, outputs
        Numbers of tensors; -1 for one that is left out.
    options
        The fields of its options, by the names of the schema's accessors: "StrideH".
    options_type
        The name of the schema's class of options; "" if it has none.
    version
        Which version of the operator's definition it asks for.
    custom
        The name of a custom operator.
    """

    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    options_type: str = ""
    version: int = 1
    custom: str = ""


@dataclass(frozen=True, eq=False)
class TFLiteModel:
    """The network of a .tflite file: its first subgraph.

    Parameters
    ----------
    name
        Of the file.
    tensors, nodes
        In the order of the file.
    inputs, outputs
        Numbers of tensors.
    labels
        Of the outputs, if the file comes with a list of them.
    input_names, output_names
        What the signature calls them: numbers of tensors by name. Empty if there is not exactly
        one.
    """

    name: str
    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    labels: tuple[str, ...] = ()
    input_names: Mapping[str, int] = field(default_factory=dict)
    output_names: Mapping[str, int] = field(default_factory=dict)


def import_schema() -> Any:
    """Return the package of the schema's classes.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import tflite
    except ImportError as error:
        raise MissingExtraError(
            f"reading a .tflite file needs the package tflite: {pip_install('compile')}"
        ) from error
    return tflite


def shown(name: str) -> str:
    """Return a name of the file as messages have it: on one line, and not too long."""
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def read_model(name: str, data: bytes) -> TFLiteModel:
    """Return the network in the bytes of a file.

    Raises
    ------
    MissingExtraError
        If the package of the schema is not installed.
    ModelFormatError
        If the bytes are no TensorFlow Lite model, or a damaged one.
    UnsupportedError
        If the file is of another version.
    """
    schema = import_schema()
    if data[4:8] != IDENTIFIER:
        raise ModelFormatError(f"{name}: not a TensorFlow Lite model: its mark TFL3 is missing")
    try:
        return _Reader(schema, name, data).read()
    except BROKEN as error:
        if isinstance(error, UnsupportedError | ModelFormatError):
            raise
        raise ModelFormatError(f"{name}: a damaged TensorFlow Lite model: {error}") from error


class _Reader:
    def __init__(self, schema: Any, name: str, data: bytes) -> None:
        self.schema, self.name, self.data = schema, name, data

    def read(self) -> TFLiteModel:
        root = self.schema.Model.GetRootAs(self.data, 0)
        if root.Version() != VERSION:
            raise UnsupportedError(
                f"{self.name}: version {root.Version()} of TensorFlow Lite's format; supported is "
                f"{VERSION}"
            )
        codes = [
            self._code(root.OperatorCodes(i))
            for i in range(self._length(root.OperatorCodesLength(), 4))
        ]
        self.root = root
        self.buffers = self._length(root.BuffersLength(), 4)
        if self._length(root.SubgraphsLength(), 4) < 1:
            raise ModelFormatError(f"{self.name}: the file has no network")
        graph = root.Subgraphs(0)
        count = self._length(graph.TensorsLength(), 4, MAX_RECORDS)
        tensors = tuple(self._tensor(graph.Tensors(i)) for i in range(count))
        nodes = tuple(
            self._node(graph.Operators(i), codes, count)
            for i in range(self._length(graph.OperatorsLength(), 4, MAX_RECORDS))
        )
        inputs, outputs = (
            self._numbers(graph, which, count, optional=False) for which in ("Inputs", "Outputs")
        )
        names = self._signature(root, "Inputs"), self._signature(root, "Outputs")
        labels = _labels_behind(self.data)
        return TFLiteModel(self.name, tensors, nodes, inputs, outputs, labels, *names)

    def _signature(self, root: Any, which: str) -> dict[str, int]:
        """Return what the only signature of the file calls its tensors."""
        if self._length(root.SignatureDefsLength(), 4) != 1:
            return {}
        signature = root.SignatureDefs(0)
        if signature.SubgraphIndex() != 0:
            return {}
        count = self._length(getattr(signature, f"{which}Length")(), 4, MAX_OPERANDS)
        entries = (getattr(signature, which)(index) for index in range(count))
        return {
            (entry.Name() or b"").decode(errors="replace"): int(entry.TensorIndex())
            for entry in entries
        }

    def _length(self, count: int, size: int, most: int = MAX_RECORDS) -> int:
        """Check the length of a vector before it is walked."""
        if count > most or count * size > len(self.data):
            raise ModelFormatError(
                f"{self.name}: a damaged TensorFlow Lite model: a list of {count} entries"
            )
        return count

    def _vector(self, table: Any, field_name: str, most: int) -> NDArray[Any]:
        """Return a vector of numbers, which NumPy reads within the file only."""
        length = getattr(table, f"{field_name}Length")()
        if not length:
            return np.zeros(0, dtype=np.int64)
        self._length(length, 1, most)
        return np.array(getattr(table, f"{field_name}AsNumpy")())

    def _numbers(
        self, table: Any, field_name: str, tensors: int, *, optional: bool
    ) -> tuple[int, ...]:
        """Return a vector of numbers of tensors."""
        found = tuple(int(n) for n in self._vector(table, field_name, MAX_OPERANDS))
        if any(not (-1 if optional else 0) <= n < tensors for n in found):
            raise ModelFormatError(
                f"{self.name}: a damaged TensorFlow Lite model: it has {tensors} tensors, and "
                f"operands {min(found)} to {max(found)}"
            )
        return found

    def _code(self, table: Any) -> tuple[str, int, str]:
        """Return the type of an operator, its version, and its name if it is a custom one."""
        # Old files have but the first, which ends at 127; new ones both.
        code = max(table.DeprecatedBuiltinCode(), table.BuiltinCode())
        custom = (table.CustomCode() or b"").decode(errors="replace")
        kind = _names(self.schema.BuiltinOperator).get(code, f"operator {code}")
        return kind, int(table.Version()), custom

    def _tensor(self, table: Any) -> Tensor:
        name = (table.Name() or b"").decode(errors="replace")
        shape = tuple(int(n) for n in self._vector(table, "Shape", MAX_RANK))
        signed = tuple(int(n) for n in self._vector(table, "ShapeSignature", MAX_RANK))
        if any(size < 0 for size in shape) or (signed and len(signed) != len(shape)):
            raise ModelFormatError(
                f"{self.name}: tensor {shown(name)} has shape {shape} and signature {signed}"
            )
        kind = _names(self.schema.TensorType).get(table.Type(), f"type {table.Type()}")
        number = table.Buffer()
        if not 0 <= number < self.buffers:
            raise ModelFormatError(
                f"{self.name}: tensor {shown(name)} has buffer {number} of {self.buffers}"
            )
        return Tensor(
            name,
            shape,
            kind,
            tuple(axis for axis, size in enumerate(signed) if size < 0),
            self._bytes(self.root.Buffers(number)) if number and not table.IsVariable() else None,
            self._quantization(name, table.Quantization(), shape),
            table.Sparsity() is not None,
        )

    def _bytes(self, buffer: Any) -> NDArray[np.uint8] | None:
        """Return the bytes of a buffer where they lie in the file; None if it has none."""
        start, size = (
            getattr(buffer, word, lambda: 0)() for word in ("Offset", "Size")
        )  # of files over 2 GB, whose buffers lie behind the flatbuffer
        if start > 1 or size > 1:
            if start + size > len(self.data):
                raise ModelFormatError(f"{self.name}: weights lie beyond the end of the file")
            return np.frombuffer(self.data, np.uint8, size, start)
        length = buffer.DataLength()
        if not length:
            return None
        if length > len(self.data):
            raise ModelFormatError(f"{self.name}: weights lie beyond the end of the file")
        return np.asarray(buffer.DataAsNumpy())

    def _quantization(self, name: str, table: Any, shape: Shape) -> Quantization | None:
        if table is None or not table.ScaleLength():
            return None
        most = max(shape, default=1) + 1
        scale = self._vector(table, "Scale", most).astype(np.float64)
        zero = self._vector(table, "ZeroPoint", most).astype(np.int64)
        if not zero.size:
            zero = np.zeros(scale.size, np.int64)
        if not np.isfinite(scale).all() or zero.size not in (1, scale.size):
            raise ModelFormatError(
                f"{self.name}: tensor {shown(name)} has {scale.size} scales and {zero.size} zero "
                "points"
            )
        axis = int(table.QuantizedDimension())
        return Quantization(scale, np.broadcast_to(zero, scale.shape), axis)

    def _node(self, table: Any, codes: list[tuple[str, int, str]], tensors: int) -> Node:
        number = table.OpcodeIndex()
        if not 0 <= number < len(codes):
            raise ModelFormatError(
                f"{self.name}: a damaged TensorFlow Lite model: operator {number} of {len(codes)}"
            )
        kind, version, custom = codes[number]
        inputs = self._numbers(table, "Inputs", tensors, optional=True)
        outputs = self._numbers(table, "Outputs", tensors, optional=False)
        type_name = _names(self.schema.BuiltinOptions).get(table.BuiltinOptionsType(), "NONE")
        found = table.BuiltinOptions() if type_name != "NONE" else None
        if found is None:
            return Node(kind, inputs, outputs, version=version, custom=custom)
        kind_of_options: Any = getattr(self.schema, type_name)
        options = kind_of_options()
        options.Init(found.Bytes, found.Pos)
        values = {
            key: tuple(int(n) for n in self._vector(options, key, MAX_OPERANDS)) if many else get()
            for key, many, get in (
                (key, many, getattr(options, key)) for key, many in _fields(kind_of_options)
            )
        }
        return Node(kind, inputs, outputs, values, type_name, version, custom)


@cache
def _names(enumeration: type) -> Mapping[int, str]:
    """Return the names of an enumeration of the schema by their numbers."""
    return {
        number: name
        for name, number in vars(enumeration).items()
        if isinstance(number, int) and not name.startswith("_")
    }


@cache
def _fields(options: type) -> tuple[tuple[str, bool], ...]:
    """Return the fields of a class of options, and whether each is a vector of numbers."""
    methods: dict[str, Callable[..., Any]] = {
        name: method for name, method in vars(options).items() if isfunction(method)
    }
    vectors = {name.removesuffix("AsNumpy") for name in methods if name.endswith("AsNumpy")}
    scalars = [
        name
        for name, method in methods.items()
        if len(signature(method).parameters) == 1
        and not name.endswith(("AsNumpy", "Length", "IsNone"))
    ]
    return (
        *((name, False) for name in sorted(scalars)),
        *((name, True) for name in sorted(vectors)),
    )


def _labels_behind(data: bytes) -> tuple[str, ...]:
    """Return the lines of the one text file in the archive that metadata tools append, if any.

    Labels are a convenience: what is odd about them leaves them out.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return ()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            texts = [entry for entry in entries if entry.filename.lower().endswith(".txt")]
            if len(entries) > MAX_ZIP_ENTRIES or len(texts) != 1:
                return ()
            with archive.open(texts[0]) as file:
                text = file.read(MAX_LABELS_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        return ()
    if len(text) > MAX_LABELS_BYTES:
        return ()
    try:
        return tuple(line.strip() for line in text.decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError:
        return ()

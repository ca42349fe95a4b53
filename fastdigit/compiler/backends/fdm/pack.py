"""From a graph to the bytes of a model file, as csrc/FORMAT.md specifies them.

The same graph and metadata always give the same bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastdigit._core import xxhash64
from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.ir import LINEAR, Activation, Affine, Array, Graph, Op, Pool, Shape
from fastdigit.compiler.limits import MAX_META, MAX_NAME, MAX_RECORDS
from fastdigit.compiler.ops import (
    BINARIES,
    GATES,
    Binary,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Pad,
    Pool2D,
    Recurrent,
    Reshape,
    Resize,
    Softmax,
    Transpose,
)
from fastdigit.compiler.spec import verify, verify_program
from fastdigit.errors import UnsupportedError

__all__ = ["pack", "panels"]

MAGIC = b"\x89FDM\r\n\x1a\n"
#: A file says 1.1, or the later minor version in which one of its operators or activations came.
VERSION = (1, 1)
#: Those of version 1.3.
LATER_ACTIVATIONS = frozenset(list(ACTIVATIONS)[15:])
ALIGN = 64
HEADER = struct.Struct("<8sHHIQQI28x")
SECTION = struct.Struct("<IIQQQ")
TENSOR = struct.Struct("<4I4IQQ16x")
#: The fields of :class:`Record`, in order.
OP = struct.Struct("<8I 11I IfI 9I ffI I 4I 4B")
NONE = 0xFFFFFFFF
PANEL = 96
PANEL_ALIGN = 16

META, TENSORS, PROGRAM, WEIGHTS, INTERFACE = 1, 2, 3, 4, 5
#: An input or output: whether it is an output, its tensor, its name.
PORT = struct.Struct("<II248s")
#: The minor version in which INTERFACE came.
INTERFACE_MINOR = 3
INPUT_OPCODE = 1
POOL_MODES = {"max": 1, "average": 2}
DTYPES = {"fp32": 0, "fp16": 1, "int8": 2, "int8-dynamic": 2}
QUANTIZATIONS = {"int8-dynamic": 1}
HEIGHT, WIDTH, CHANNEL = 1, 2, 3


def pack(
    graph: Graph,
    meta: Mapping[str, Any],
    *,
    input_range: Range | Sequence[Range] = (-np.inf, np.inf),
    u8_divisor: int | Sequence[int] = 0,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> bytes:
    """Return the model file of a graph that :func:`fastdigit.compiler.passes.optimize` returned.

    Parameters
    ----------
    graph
        Weights are rounded to float32 here, but for those of dense layers in another precision.
    meta
        Stored as JSON with sorted keys; for people and tools, the engine does not read it.
    input_range
        Least and greatest value that the model accepts, as each of its inputs or one after the
        other.
    u8_divisor
        A byte ``b`` of an image stands for ``b / u8_divisor``; 0: bytes are not accepted. Also of
        each input, or one after the other.
    names
        Of the inputs and of the outputs; a graph of several has to have some.

    Raises
    ------
    UnsupportedError
        If the format cannot express the graph, a weight is not finite in float32, or ``meta`` is
        longer than 1 MiB.
    """
    verify(graph)
    verify_program(graph)
    writer = _Writer()
    indices = {value: writer.activation(graph.shapes[value]) for value in graph.inputs}
    for node in graph.nodes:
        indices[node.output] = writer.activation(graph.shapes[node.output])
    count = len(graph.inputs)
    ranges = _ranges(input_range, count)
    divisors = [u8_divisor] * count if isinstance(u8_divisor, int) else u8_divisor
    program = []
    for value, (low, high), divisor in zip(graph.inputs, ranges, divisors, strict=True):
        source = Record(range_lo=low, range_hi=high, u8_divisor=divisor)
        program.append(source.packed(INPUT_OPCODE, (), indices[value]))
    for node in graph.nodes:
        packer = _PACKERS[type(node.op)]
        shapes = [graph.shapes[value] for value in node.inputs]
        record = packer(_Named(writer, node.name), node.op, shapes)
        inputs = [indices[value] for value in node.inputs]
        program.append(record.packed(OPCODES[type(node.op)], inputs, indices[node.output]))
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    encoded = text.encode()
    if len(encoded) > MAX_META:
        raise UnsupportedError(f"metadata of {len(encoded)} bytes, at most {MAX_META} fit")
    if len(writer.tensors) > MAX_RECORDS:
        raise UnsupportedError(f"{len(writer.tensors)} tensors, at most {MAX_RECORDS} fit")
    minor = max(_minor(node.op) for node in graph.nodes)
    ports: list[bytes] = []
    if names is not None:
        minor = max(minor, INTERFACE_MINOR)
        ports += _ports(0, graph.inputs, names[0], indices)
        ports += _ports(1, graph.outputs, names[1], indices)
    elif (graph.outputs, graph.inputs) != ((graph.nodes[-1].output,), (graph.input,)):
        raise ValueError("a graph of several inputs or outputs, and no names")
    return _file(minor, encoded, writer.tensors, program, bytes(writer.weights), ports)


Range = tuple[float, float]


def _ranges(given: Range | Sequence[Range], count: int) -> list[Range]:
    alone = not isinstance(given[0], Sequence)
    return cast(list[Range], [given] * count if alone else list(given))


def _ports(
    kind: int, values: Sequence[str], names: Sequence[str], indices: Mapping[str, int]
) -> list[bytes]:
    ports = []
    stored: set[bytes] = set()
    for value, name in zip(values, names, strict=True):
        # UTF-8, cut where that is too long, but not within a character.
        encoded = name.encode()[:MAX_NAME].decode(errors="ignore").encode()
        if not encoded or b"\0" in encoded or encoded in stored:
            raise UnsupportedError(
                f"{'an output' if kind else 'an input'} is named {name[:80]!r}; expected a name "
                f"that is no other's in its first {MAX_NAME} bytes: rename it in the source"
            )
        stored.add(encoded)
        ports.append(PORT.pack(kind, indices[value], encoded))
    return ports


def panels(matrix: NDArray[Any]) -> bytes:
    """Return a (K, N) matrix as panels of 96 columns, the last one padded to a multiple of 16."""
    rows, columns = matrix.shape
    padded = np.zeros((rows, _round_up(columns, PANEL_ALIGN)), matrix.dtype.newbyteorder("<"))
    padded[:, :columns] = matrix
    return b"".join(
        padded[:, start : start + PANEL].tobytes() for start in range(0, padded.shape[1], PANEL)
    )


class _Writer:
    """Collects tensor records, and the values of weights."""

    def __init__(self) -> None:
        self.tensors: list[bytes] = []
        self.weights = bytearray()

    def activation(self, shape: Shape) -> int:
        self.tensors.append(TENSOR.pack(0, 0, 0, len(shape), *_dims(shape), 0, 0))
        return len(self.tensors) - 1

    def vector(self, name: str, values: Array | None) -> int:
        if values is None:
            return NONE
        return self._weight(_float32(name, values).tobytes(), values.shape, "fp32", layout=0)

    def matrix(self, name: str, values: Array) -> int:
        return self._weight(panels(_float32(name, values)), values.shape, "fp32", layout=1)

    def dense(self, name: str, op: Dense) -> int:
        if op.precision == "fp32":
            return self.matrix(name, op.weights)
        values: NDArray[Any]
        if op.scale is None:
            values = op.weights.astype(np.float16)
        else:
            values = np.rint(op.weights / op.scale.astype(np.float64)).astype(np.int8)
        return self._weight(panels(values), values.shape, op.precision, layout=1)

    def _weight(self, data: bytes, shape: Shape, precision: str, layout: int) -> int:
        kind = (1, DTYPES[precision], layout, len(shape))
        self.tensors.append(TENSOR.pack(*kind, *_dims(shape), len(self.weights), len(data)))
        self.weights += data + bytes(-len(data) % ALIGN)
        return len(self.tensors) - 1


class _Named:
    """Writes the weights of the operator of a node, whose name is for messages."""

    def __init__(self, writer: _Writer, name: str) -> None:
        self._writer, self._name = writer, name

    def vector(self, values: Array | None) -> int:
        return self._writer.vector(self._name, values)

    def matrix(self, values: Array) -> int:
        return self._writer.matrix(self._name, values)

    def dense(self, op: Dense) -> int:
        return self._writer.dense(self._name, op)

    def affine(self, affine: Affine | None, rank: int) -> dict[str, Any]:
        """The fields of an affine of a value with ``rank`` axes."""
        if affine is None:
            return {}
        scale, shift = self.vector(affine.scale), self.vector(affine.shift)
        return {"scale": scale, "shift": shift, "affine_axis": _axis(affine.axis, rank)}


def _float32(name: str, values: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(values, dtype="<f4")
    if not np.isfinite(rounded).all():
        raise UnsupportedError(f"{name}: weights exceed the range of float32")
    return rounded


def _dims(shape: Shape) -> tuple[int, ...]:
    return shape + (0,) * (4 - len(shape))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


# ---- a record for each operator ----


@dataclass(frozen=True)
class Record:
    """The fields of an op that its operator chooses; what it leaves out is as in other ops."""

    weights: int = NONE
    bias: int = NONE
    scale: int = NONE
    shift: int = NONE
    kernel: Shape = (0, 0)
    stride: Shape = (0, 0)
    dilation: Shape = (0, 0)
    pad: Shape = (0, 0, 0, 0)
    groups: int = 0
    activation: int = 0
    alpha: float = 0.0
    affine_axis: int = 0
    pool_mode: int = 0
    pool: Shape = (0, 0)
    pool_stride: Shape = (0, 0)
    pool_pad: Shape = (0, 0, 0, 0)
    range_lo: float = 0.0
    range_hi: float = 0.0
    u8_divisor: int = 0
    quantization: int = 0
    binary: int = 0
    concat_axis: int = 0
    pad_channels: Shape = (0, 0)
    perm: Shape = (0, 0, 0, 0)

    def packed(self, opcode: int, inputs: Sequence[int], output: int) -> bytes:
        first, second = (*inputs, NONE, NONE)[:2]
        fields: list[Any] = [opcode, first, second, output]
        for value in vars(self).values():
            fields += value if isinstance(value, tuple) else [value]
        return OP.pack(*fields)


Packer = Callable[["_Named", Any, list[Shape]], Record]

#: The number of each operator, the minor version in which it came, and what makes its record.
OPCODES: dict[type[Op], int] = {}
MINORS: dict[type[Op], int] = {}
_PACKERS: dict[type[Op], Packer] = {}


def packs(kind: type[Op], opcode: int, minor: int = VERSION[1]) -> Callable[[Packer], Packer]:
    """Make a function of (writer, operator, shapes of its inputs) that which packs ``kind``.

    Readers of versions before 1.``minor``, in which the opcode came, refuse files that have it.
    """

    def register(packer: Packer) -> Packer:
        OPCODES[kind], MINORS[kind], _PACKERS[kind] = opcode, minor, packer
        return packer

    return register


@packs(Conv2D, opcode=2)
def _conv2d(writer: _Named, op: Conv2D, shapes: list[Shape]) -> Record:
    return Record(
        weights=writer.matrix(op.weights.reshape(-1, op.weights.shape[3])),
        bias=writer.vector(op.bias),
        kernel=op.weights.shape[:2],
        stride=op.stride,
        dilation=op.dilation,
        pad=op.pad,
        groups=op.groups,
        **_activation(op.activation),
        **writer.affine(op.affine, 3),
        **_pool(op.pool),
    )


@packs(Dense, opcode=3)
def _dense(writer: _Named, op: Dense, shapes: list[Shape]) -> Record:
    return Record(
        weights=writer.dense(op),
        bias=writer.vector(op.bias),
        scale=writer.vector(op.scale),
        quantization=QUANTIZATIONS.get(op.precision, 0),
        **_activation(op.activation),
    )


@packs(Pool2D, opcode=4)
def _pool2d(writer: _Named, op: Pool2D, shapes: list[Shape]) -> Record:
    return Record(**_pool(op.pool))


@packs(Eltwise, opcode=5)
def _eltwise(writer: _Named, op: Eltwise, shapes: list[Shape]) -> Record:
    return Record(**_activation(op.activation), **writer.affine(op.affine, len(shapes[0])))


@packs(Softmax, opcode=6)
def _softmax(writer: _Named, op: Softmax, shapes: list[Shape]) -> Record:
    return Record(alpha=0.0 if op.temperature == 1 else op.temperature)


@packs(Binary, opcode=7)
def _binary(writer: _Named, op: Binary, shapes: list[Shape]) -> Record:
    constant = None if op.constant is None else _operand(op.constant, shapes[0])
    return Record(
        weights=writer.vector(constant),
        binary=1 + BINARIES.index(op.kind),
        **_activation(op.activation),
        **writer.affine(op.affine, len(shapes[0])),
    )


@packs(Concat, opcode=8)
def _concat(writer: _Named, op: Concat, shapes: list[Shape]) -> Record:
    return Record(concat_axis=_axis(op.axis, len(shapes[0])))


@packs(Reshape, opcode=9)
def _reshape(writer: _Named, op: Reshape, shapes: list[Shape]) -> Record:
    return Record()


@packs(Transpose, opcode=10)
def _transpose(writer: _Named, op: Transpose, shapes: list[Shape]) -> Record:
    return Record(perm=(*op.perm, 0, 0, 0)[:4])


@packs(Pad, opcode=11)
def _pad(writer: _Named, op: Pad, shapes: list[Shape]) -> Record:
    (top, bottom), (left, right), channels = op.widths
    return Record(pad=(top, left, bottom, right), pad_channels=channels, alpha=op.value)


@packs(LayerNorm, opcode=12)
def _layernorm(writer: _Named, op: LayerNorm, shapes: list[Shape]) -> Record:
    return Record(scale=writer.vector(op.scale), shift=writer.vector(op.shift), alpha=op.epsilon)


@packs(Resize, opcode=13, minor=2)
def _resize(writer: _Named, op: Resize, shapes: list[Shape]) -> Record:
    return Record(scale=writer.vector(op.rows), shift=writer.vector(op.columns))


@packs(ConvTranspose2D, opcode=14, minor=2)
def _conv_transpose2d(writer: _Named, op: ConvTranspose2D, shapes: list[Shape]) -> Record:
    return Record(  # the output's shape tells the output padding
        weights=writer.matrix(op.weights.reshape(-1, op.weights.shape[3])),
        bias=writer.vector(op.bias),
        kernel=op.weights.shape[:2],
        stride=op.stride,
        dilation=op.dilation,
        pad=op.pad,
        groups=op.groups,
        **_activation(op.activation),
        **writer.affine(op.affine, 3),
    )


@packs(Crop, opcode=15, minor=3)
def _crop(writer: _Named, op: Crop, shapes: list[Shape]) -> Record:
    (top, bottom), (left, right), channels = ((0, 0),) * (3 - len(op.widths)) + op.widths
    return Record(pad=(top, left, bottom, right), pad_channels=channels)


@packs(Recurrent, opcode=16, minor=3)
def _recurrent(writer: _Named, op: Recurrent, shapes: list[Shape]) -> Record:
    gates = _activation(op.gates)
    return Record(
        weights=writer.matrix(op.weights),
        bias=writer.vector(op.bias),
        perm=(1 + list(GATES).index(op.kind), gates["activation"], int(op.backwards), 0),
        range_lo=gates["alpha"],
        **_activation(op.activation),
    )


@packs(LogSoftmax, opcode=17, minor=3)
def _logsoftmax(writer: _Named, op: LogSoftmax, shapes: list[Shape]) -> Record:
    return Record()


def _minor(op: Op) -> int:
    """Return the minor version in which an operator and its activation were there."""
    activation = getattr(op, "activation", LINEAR)
    return max(MINORS[type(op)], 3 if activation.name in LATER_ACTIVATIONS else VERSION[1])


def _axis(axis: int, rank: int) -> int:
    return CHANNEL if rank == 1 else (HEIGHT, WIDTH, CHANNEL)[axis]


def _operand(constant: Array, shape: Shape) -> Array:
    """Return a constant as one value, one for each channel, or one for each element."""
    if constant.size == 1:
        return constant.ravel()
    if constant.shape[-1] == constant.size == shape[-1]:
        return constant.ravel()
    return np.broadcast_to(constant, shape).ravel()


def _activation(activation: Activation) -> dict[str, Any]:
    number = list(ACTIVATIONS).index(activation.name)
    return {"activation": number, "alpha": activation.alpha}


def _pool(pool: Pool | None) -> dict[str, Any]:
    if pool is None:
        return {}
    mode, stride = POOL_MODES[pool.mode], pool.stride
    return {"pool_mode": mode, "pool": pool.size, "pool_stride": stride, "pool_pad": pool.pad}


def _file(
    minor: int,
    meta: bytes,
    tensors: list[bytes],
    program: list[bytes],
    weights: bytes,
    ports: list[bytes],
) -> bytes:
    sections = [
        (META, 1, meta),
        (TENSORS, TENSOR.size, b"".join(tensors)),
        (PROGRAM, OP.size, b"".join(program)),
        (WEIGHTS, 1, weights),
    ]
    if ports:
        sections.append((INTERFACE, PORT.size, b"".join(ports)))
    offset = _round_up(HEADER.size + SECTION.size * len(sections), ALIGN)
    table, body = b"", b""
    for kind, record_size, data in sections:
        table += SECTION.pack(kind, record_size, offset + len(body), len(data), 0)
        body += data + bytes(-len(data) % ALIGN)
    checked = table + bytes(offset - HEADER.size - len(table)) + body
    size = HEADER.size + len(checked)
    header = HEADER.pack(
        MAGIC, VERSION[0], minor, HEADER.size, size, xxhash64(checked), len(sections)
    )
    return header + checked

"""From a graph to the bytes of a model file, as csrc/FORMAT.md specifies them.

The same graph and metadata always give the same bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.ir import (
    LINEAR,
    Array,
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    Graph,
    LayerNorm,
    Node,
    Pad,
    Pool,
    Pool2D,
    Reshape,
    Shape,
    Softmax,
    Transpose,
)
from fastdigit.compiler.ops import ACTIVATIONS, BINARIES
from fastdigit.compiler.spec import verify, verify_program
from fastdigit.compiler.xxhash64 import xxhash64
from fastdigit.errors import UnsupportedError

__all__ = ["pack", "panels"]

MAGIC = b"\x89FDM\r\n\x1a\n"
VERSION = (1, 1)
ALIGN = 64
HEADER = struct.Struct("<8sHHIQQI28x")
SECTION = struct.Struct("<IIQQQ")
TENSOR = struct.Struct("<4I4IQQ16x")
#: opcode, input, input2, output, weights, bias, scale, shift;
#: kernel[2], stride[2], dilation[2], pad[4], groups; activation, alpha, affine_axis;
#: pool_mode, pool[2], pool_stride[2], pool_pad[4]; range_lo, range_hi, u8_divisor; quantization,
#: binary, concat_axis, pad_channels[2], perm[4].
OP = struct.Struct("<8I 11I IfI 9I ffI I 4I 4B")
NONE = 0xFFFFFFFF
MAX_META = 1 << 20
MAX_RECORDS = 4096
PANEL = 96
PANEL_ALIGN = 16

META, TENSORS, PROGRAM, WEIGHTS = 1, 2, 3, 4
OPCODES = {
    **{Conv2D: 2, Dense: 3, Pool2D: 4, Eltwise: 5, Softmax: 6, Binary: 7, Concat: 8},
    **{Reshape: 9, Transpose: 10, Pad: 11, LayerNorm: 12},
}
INPUT_OPCODE = 1
POOL_MODES = {"max": 1, "average": 2}
DTYPES = {"fp32": 0, "fp16": 1, "int8": 2, "int8-dynamic": 2}
QUANTIZATIONS = {"int8-dynamic": 1}
HEIGHT, WIDTH, CHANNEL = 1, 2, 3


def pack(
    graph: Graph,
    meta: Mapping[str, Any],
    *,
    input_range: tuple[float, float] = (-np.inf, np.inf),
    u8_divisor: int = 0,
) -> bytes:
    """Return the model file of a graph that :func:`fastdigit.compiler.passes.optimize` returned.

    Parameters
    ----------
    graph
        Weights are rounded to float32 here, but for those of dense layers in another precision.
    meta
        Stored as JSON with sorted keys; for people and tools, the engine does not read it.
    input_range
        Least and greatest value that the model accepts.
    u8_divisor
        A byte ``b`` of an image stands for ``b / u8_divisor``; 0: bytes are not accepted.

    Raises
    ------
    UnsupportedError
        If the format cannot express the graph, a weight is not finite in float32, or ``meta`` is
        longer than 1 MiB.
    """
    verify(graph)
    verify_program(graph)
    writer = _Writer()
    program = [
        OP.pack(
            *(INPUT_OPCODE, NONE, NONE, writer.activation(graph.shapes[graph.input])),
            *(NONE,) * 4,
            *(0,) * 11,
            *(0, 0.0, 0),
            *(0,) * 9,
            *(*input_range, u8_divisor),
            *(0,) * 9,
        )
    ]
    indices = {graph.input: 0}
    for node in graph.nodes:
        indices[node.output] = writer.activation(graph.shapes[node.output])
    for node in graph.nodes:
        program.append(_op_record(writer, graph, node, indices))
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    encoded = text.encode()
    if len(encoded) > MAX_META:
        raise UnsupportedError(f"metadata of {len(encoded)} bytes, at most {MAX_META} fit")
    if len(writer.tensors) > MAX_RECORDS:
        raise UnsupportedError(f"{len(writer.tensors)} tensors, at most {MAX_RECORDS} fit")
    return _file(encoded, writer.tensors, program, bytes(writer.weights))


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


def _op_record(writer: _Writer, graph: Graph, node: Node, indices: Mapping[str, int]) -> bytes:
    weights = bias = scale = shift = NONE
    window: tuple[int, ...] = (0,) * 11
    activation, affine, pool = LINEAR, None, None
    number = 0.0
    binary = concat_axis = quantization = 0
    pad_channels: tuple[int, ...] = (0, 0)
    perm: tuple[int, ...] = (0, 0, 0, 0)
    rank = len(graph.shapes[node.output])
    op = node.op
    match op:
        case Conv2D():
            kernel = op.weights.shape[:2]
            matrix = op.weights.reshape(-1, op.weights.shape[3])
            weights, bias = writer.matrix(node.name, matrix), writer.vector(node.name, op.bias)
            window = (*kernel, *op.stride, *op.dilation, *op.pad, op.groups)
            activation, affine, pool = op.activation, op.affine, op.pool
        case Dense():
            weights, bias = writer.dense(node.name, op), writer.vector(node.name, op.bias)
            scale = writer.vector(node.name, op.scale)
            activation, quantization = op.activation, QUANTIZATIONS.get(op.precision, 0)
        case Eltwise():
            activation, affine = op.activation, op.affine
        case Pool2D():
            pool = op.pool
        case Softmax():
            number = 0.0 if op.temperature == 1 else op.temperature
        case LayerNorm():
            scale = writer.vector(node.name, op.scale)
            shift = writer.vector(node.name, op.shift)
            number = op.epsilon
        case Binary():
            binary = 1 + BINARIES.index(op.kind)
            if op.constant is not None:
                operand = _operand(op.constant, graph.shapes[node.inputs[0]])
                weights = writer.vector(node.name, operand)
            activation, affine = op.activation, op.affine
        case Concat():
            concat_axis = _axis(op.axis, rank)
        case Transpose():
            perm = (*op.perm, 0)[:4]
        case Pad():
            (top, bottom), (left, right), pad_channels = op.widths
            window = (*(0,) * 6, top, left, bottom, right, 0)
            number = op.value
    if affine is not None:
        scale, shift = (
            writer.vector(node.name, affine.scale),
            writer.vector(node.name, affine.shift),
        )
    second = indices[node.inputs[1]] if len(node.inputs) > 1 else NONE
    number = number or activation.alpha
    axis = 0 if affine is None else _axis(affine.axis, len(graph.shapes[node.inputs[0]]))
    return OP.pack(
        *(OPCODES[type(op)], indices[node.inputs[0]], second, indices[node.output]),
        *(weights, bias, scale, shift),
        *window,
        *(ACTIVATIONS.index(activation.name), number, axis),
        *_pool_fields(pool),
        *(0.0, 0.0, 0, quantization),
        *(binary, concat_axis, *pad_channels, *perm),
    )


def _axis(axis: int, rank: int) -> int:
    return CHANNEL if rank == 1 else (HEIGHT, WIDTH, CHANNEL)[axis]


def _operand(constant: Array, shape: Shape) -> Array:
    """Return a constant as one value, one for each channel, or one for each element."""
    if constant.size == 1:
        return constant.ravel()
    if constant.shape[-1] == constant.size == shape[-1]:
        return constant.ravel()
    return np.broadcast_to(constant, shape).ravel()


def _pool_fields(pool: Pool | None) -> tuple[int, ...]:
    if pool is None:
        return (0,) * 9
    return (POOL_MODES[pool.mode], *pool.size, *pool.stride, *pool.pad)


def _file(meta: bytes, tensors: list[bytes], program: list[bytes], weights: bytes) -> bytes:
    sections = (
        (META, 1, meta),
        (TENSORS, TENSOR.size, b"".join(tensors)),
        (PROGRAM, OP.size, b"".join(program)),
        (WEIGHTS, 1, weights),
    )
    offset = HEADER.size + SECTION.size * len(sections)
    table, body = b"", b""
    for kind, record_size, data in sections:
        table += SECTION.pack(kind, record_size, offset + len(body), len(data), 0)
        body += data + bytes(-len(data) % ALIGN)
    checked = table + body
    size = HEADER.size + len(checked)
    header = HEADER.pack(MAGIC, *VERSION, HEADER.size, size, xxhash64(checked), len(sections))
    return header + checked

"""Reads model files: for people, back ends and tests, and as a second opinion on the packer.

It is written from csrc/FORMAT.md and shares no code with the packer; the engine has a third reader,
in C, which is the one that hostile files meet. This one checks what it needs in order to read what
is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit._core import xxhash64
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Pool, Shape, Sides
from fastdigit.compiler.ops import (
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
    check_values,
    make_graph,
)
from fastdigit.errors import FastDigitError, ModelFormatError
from fastdigit.meta import parse_meta

__all__ = ["Program", "Record", "unpack"]

_NONE = 0xFFFFFFFF
_OPCODES = (
    *("?", "INPUT", "CONV2D", "DENSE", "POOL2D", "ELTWISE", "SOFTMAX", "BINARY", "CONCAT"),
    *("RESHAPE", "TRANSPOSE", "PAD", "LAYERNORM", "RESIZE", "CONVTRANSPOSE2D", "CROP", "RECURRENT"),
    "LOGSOFTMAX",
)
_ACTIVATIONS = (
    *("linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh"),
    *("clipped_relu", "hard_sigmoid", "hard_swish", "silu", "softplus", "gelu", "gelu_tanh"),
    *("erf", "exponential", "log", "sqrt", "abs", "softsign", "mish"),
)
_BINARIES = ("none", "add", "sub", "mul", "div", "max", "min", "prelu")
_RECURRENT = ("none", "simple", "lstm", "gru", "gru_reset_after")
_AXES = ("none", "height", "width", "channel")
_POOLS = ("none", "max", "average")
_DTYPES = (np.dtype("<f4"), np.dtype("<f2"), np.dtype("i1"))
_PRECISIONS = ("fp32", "fp16", "int8")
_QUANTIZATIONS = ("", "-dynamic")

_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version_major", "<u2"),
        ("version_minor", "<u2"),
        ("header_size", "<u4"),
        ("file_size", "<u8"),
        ("checksum", "<u8"),
        ("section_count", "<u4"),
        ("reserved", "u1", 28),
    ]
)
_SECTION = np.dtype(
    [
        ("kind", "<u4"),
        ("record_size", "<u4"),
        ("offset", "<u8"),
        ("size", "<u8"),
        ("reserved", "<u8"),
    ]
)
_TENSOR = np.dtype(
    [
        ("kind", "<u4"),
        ("dtype", "<u4"),
        ("layout", "<u4"),
        ("rank", "<u4"),
        ("dims", "<u4", 4),
        ("offset", "<u8"),
        ("size", "<u8"),
        ("reserved", "u1", 16),
    ]
)
_PORT = np.dtype([("kind", "<u4"), ("tensor", "<u4"), ("name", "S248")])
_RECORD = np.dtype(
    [
        ("opcode", "<u4"),
        ("input", "<u4"),
        ("input2", "<u4"),
        ("output", "<u4"),
        ("weights", "<u4"),
        ("bias", "<u4"),
        ("scale", "<u4"),
        ("shift", "<u4"),
        ("kernel", "<u4", 2),
        ("stride", "<u4", 2),
        ("dilation", "<u4", 2),
        ("pad", "<u4", 4),
        ("groups", "<u4"),
        ("activation", "<u4"),
        ("alpha", "<f4"),
        ("affine_axis", "<u4"),
        ("pool_mode", "<u4"),
        ("pool", "<u4", 2),
        ("pool_stride", "<u4", 2),
        ("pool_pad", "<u4", 4),
        ("range_lo", "<f4"),
        ("range_hi", "<f4"),
        ("u8_divisor", "<u4"),
        ("quantization", "<u4"),
        ("binary", "<u4"),
        ("concat_axis", "<u4"),
        ("pad_channels", "<u4", 2),
        ("perm", "u1", 4),
    ]
)


@dataclass(frozen=True)
class Record:
    """One op of the program, with names for numbers; fields it does not use are None or empty.

    Two files hold the same network if their records are equal (weights apart).
    """

    opcode: str
    input_shape: Shape
    output_shape: Shape
    weights: Shape
    precision: str
    bias: bool
    kernel: Shape
    stride: Shape
    dilation: Shape
    pad: Shape
    activation: str
    alpha: float
    affine_axis: str
    pool_mode: str
    pool: Shape
    pool_stride: Shape
    pool_pad: Shape
    groups: int
    input2_shape: Shape
    binary: str
    concat_axis: str
    pad_channels: Shape
    perm: Shape
    recurrent: tuple[str, ...]


@dataclass(frozen=True)
class Input:
    """What a model accepts as one of its inputs.

    Parameters
    ----------
    name
        "input" if the file has none.
    range
        Least and greatest value.
    u8_divisor
        A byte ``b`` stands for ``b / u8_divisor``; 0: bytes are not accepted.
    """

    name: str
    range: tuple[float, float]
    u8_divisor: int


@dataclass(frozen=True, eq=False)
class Program:
    """The contents of a model file.

    Parameters
    ----------
    meta
        The decoded META section.
    graph
        The network, as the compiler's IR.
    records
        The ops, INPUT first: of each input.
    weight_bytes
        Bytes of weights of each op, as laid out.
    inputs
        What the model accepts as each input.
    outputs
        What its outputs are called, in order.
    named
        Whether the file has names of its inputs and outputs.
    size
        Of the file, in bytes.
    """

    meta: dict[str, Any]
    graph: Graph
    records: tuple[Record, ...]
    weight_bytes: tuple[int, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    named: bool
    size: int

    @property
    def input_range(self) -> tuple[float, float]:
        """That of the first input."""
        return self.inputs[0].range

    @property
    def u8_divisor(self) -> int:
        """That of the first input."""
        return self.inputs[0].u8_divisor

    @property
    def multiply_adds(self) -> tuple[int, ...]:
        """Those of each op for one image, by definition; INPUT has none."""
        shapes = self.graph.shapes
        work = (
            node.op.multiply_adds(shapes[node.inputs[0]], shapes[node.output])
            for node in self.graph.nodes
        )
        return (*(0 for _ in self.graph.inputs), *work)


def unpack(data: bytes) -> Program:
    """Read a model file.

    Raises
    ------
    ModelFormatError
        If the file is damaged, truncated or of another version.
    """
    try:
        return _Reader(data).program()
    except ModelFormatError:
        raise
    except (
        *(FastDigitError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError),
    ) as error:
        raise ModelFormatError(f"the model file contradicts itself: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        if len(data) < _HEADER.itemsize:
            raise ModelFormatError(f"{len(data)} bytes: too short for a model file")
        header = np.frombuffer(data, _HEADER, 1)[0]
        # NumPy strips zeros at the end of strings; the magic has none there.
        if header["magic"] != b"\x89FDM\r\n\x1a\n":
            raise ModelFormatError(f"not a model file: it begins with {data[:8]!r}")
        version = (int(header["version_major"]), int(header["version_minor"]))
        if not (1, 0) <= version <= (1, 3):
            raise ModelFormatError(f"format version {version[0]}.{version[1]}, expected 1.0 to 1.3")
        if header["file_size"] != len(data):
            raise ModelFormatError(
                f"{len(data)} bytes, but the header says {header['file_size']}: truncated?"
            )
        if header["checksum"] != xxhash64(data[64:]):
            raise ModelFormatError("the checksum does not fit the contents: the file is damaged")
        count = int(header["section_count"])
        if count not in (4, 5):
            raise ModelFormatError(f"{count} sections, expected 4 or 5")
        sections = np.frombuffer(data, _SECTION, count, offset=64)
        if sections["kind"].tolist() != [1, 2, 3, 4, 5][:count]:
            raise ModelFormatError(
                "the sections are not META, TENSORS, PROGRAM, WEIGHTS, INTERFACE"
            )
        meta, tensors, program, self.weights, *interface = map(self._section, sections)
        self.ports = np.frombuffer(b"".join(interface), _PORT)
        self.meta = parse_meta(meta.decode())
        self.tensors = np.frombuffer(tensors, _TENSOR)
        self.ops = np.frombuffer(program, _RECORD)

    def _section(self, entry: Any) -> bytes:
        start, end = int(entry["offset"]), int(entry["offset"]) + int(entry["size"])
        if end > len(self.data):
            raise ModelFormatError(f"a section ends at {end}, the file at {len(self.data)}")
        return self.data[start:end]

    def program(self) -> Program:
        inputs, outputs, names = self._interface()
        entries = {f"t{op['output']}": self._shape(op["output"]) for op in inputs}
        nodes = []
        for index, op in enumerate(self.ops[len(inputs) :], start=len(inputs)):
            name = f"op{index} ({_OPCODES[op['opcode']]})"
            read = tuple(f"t{op[field]}" for field in ("input", "input2") if op[field] != _NONE)
            nodes.append(Node(name, self._operator(op), read, f"t{op['output']}"))
        graph = make_graph(entries, nodes, outputs)
        if missing := [value for value in outputs if value not in graph.shapes]:
            raise ModelFormatError(f"the output {missing[0]} is not there")
        for node in nodes:
            check_values(node.name, node.op)
        for value, shape in graph.shapes.items():
            if self._shape(int(value[1:])) != shape:
                raise ModelFormatError(f"tensor {value[1:]} has another shape than {shape}")
        return Program(
            meta=self.meta,
            graph=graph,
            records=tuple(self._record(op) for op in self.ops),
            weight_bytes=tuple(self._weight_bytes(op) for op in self.ops),
            inputs=tuple(
                Input(name, (float(op["range_lo"]), float(op["range_hi"])), int(op["u8_divisor"]))
                for name, op in zip(names, inputs, strict=False)
            ),
            outputs=tuple(names[len(inputs) :]),
            named=len(self.ports) > 0,
            size=len(self.data),
        )

    def _interface(self) -> tuple[Any, list[str], list[str]]:
        """The ops of the inputs, the values of the outputs, and what they are called together."""
        if not len(self.ports):
            return self.ops[:1], [f"t{self.ops[-1]['output']}"], ["input", "output"]
        kinds = self.ports["kind"].tolist()
        count = kinds.count(0)
        if kinds != [0] * count + [1] * (len(kinds) - count) or count in (0, len(kinds)):
            raise ModelFormatError("INTERFACE does not have inputs, then outputs")
        inputs = self.ops[:count]
        if inputs["output"].tolist() != self.ports["tensor"][:count].tolist():
            raise ModelFormatError("the inputs of INTERFACE are not those of the program")
        names = [name.decode() for name in self.ports["name"].tolist()]
        return inputs, [f"t{index}" for index in self.ports["tensor"][count:]], names

    def _shape(self, index: int) -> Shape:
        if index == _NONE:
            return ()
        tensor = self.tensors[index]
        return tuple(int(size) for size in tensor["dims"][: tensor["rank"]])

    def _weight(self, index: int) -> NDArray[np.float32] | None:
        """Return a weight of f32 in its ordinary layout."""
        if index == _NONE:
            return None
        dtype = self.tensors[index]["dtype"]
        if dtype != 0:
            raise ModelFormatError(f"tensor {index} has dtype {dtype}, where only 0 can be")
        return self._values(index)

    def _values(self, index: int) -> NDArray[Any]:
        """Return a weight as stored, in its ordinary layout."""
        tensor = self.tensors[index]
        offset, size = int(tensor["offset"]), int(tensor["size"])
        values = np.frombuffer(self.weights[offset : offset + size], _DTYPES[tensor["dtype"]])
        if tensor["layout"] == 0:
            return values.reshape(self._shape(index))
        rows, columns = self._shape(index)
        parts, start = [], 0
        left = -(-columns // 16) * 16
        while left:
            width = min(96, left)
            parts.append(values[start : start + rows * width].reshape(rows, width))
            start, left = start + rows * width, left - width
        return np.concatenate(parts, axis=1)[:, :columns]

    def _weight_bytes(self, op: Any) -> int:
        used = [int(op[field]) for field in ("weights", "bias", "scale", "shift")]
        return sum(int(self.tensors[index]["size"]) for index in used if index != _NONE)

    def _operator(self, op: Any) -> Op:
        takes_alpha = op["opcode"] not in (11, 12)  # PAD and LAYERNORM have another use for it
        alpha = float(op["alpha"]) if takes_alpha else 0.0
        activation = Activation(_ACTIVATIONS[op["activation"]], alpha)
        affine, pool = self._affine(op), self._pool(op)
        match _OPCODES[op["opcode"]]:
            case "CONV2D":
                matrix = self._required(op["weights"])
                taps = (*_ints(op["kernel"]), -1, matrix.shape[1])
                top, left, bottom, right = _ints(op["pad"])
                return Conv2D(
                    matrix.reshape(taps),
                    self._weight(op["bias"]),
                    _pair(op["stride"]),
                    _pair(op["dilation"]),
                    (top, left, bottom, right),
                    activation,
                    affine,
                    pool,
                    int(op["groups"]),
                )
            case "CONVTRANSPOSE2D":
                matrix = self._required(op["weights"])
                transposed = ConvTranspose2D(
                    matrix.reshape(*_ints(op["kernel"]), -1, matrix.shape[1]),
                    self._weight(op["bias"]),
                    _pair(op["stride"]),
                    _pair(op["dilation"]),
                    _sides(op["pad"]),
                    activation=activation,
                    groups=int(op["groups"]),
                )
                # What the output has beyond the sizes that follow from the other fields.
                said = self._shape(op["output"])
                extent = [
                    (size - 1) * stride + dilation * (taps - 1) + 1 - before - behind
                    for size, stride, dilation, taps, before, behind in zip(
                        self._shape(op["input"])[:2],
                        transposed.stride,
                        transposed.dilation,
                        _ints(op["kernel"]),
                        transposed.pad[:2],
                        transposed.pad[2:],
                        strict=True,
                    )
                ]
                more = (said[0] - extent[0], said[1] - extent[1])
                return replace(transposed, output_padding=more, affine=affine)
            case "DENSE":
                return self._dense(op, activation)
            case "POOL2D" if pool is not None:
                return Pool2D(pool)
            case "ELTWISE":
                return Eltwise(activation, affine)
            case "SOFTMAX":
                return Softmax(float(op["alpha"]) or 1.0)
            case "BINARY":
                constant = self._operand(op)
                return Binary(_BINARIES[op["binary"]], constant, activation, affine)
            case "CONCAT":
                return Concat(self._axis_of(op, int(op["concat_axis"])))
            case "RESHAPE":
                return Reshape(self._shape(op["output"]))
            case "TRANSPOSE":
                return Transpose(_ints(op["perm"])[:3])
            case "PAD":
                top, left, bottom, right = _ints(op["pad"])
                widths = ((top, bottom), (left, right), _pair(op["pad_channels"]))
                return Pad(widths, float(op["alpha"]))
            case "CROP":
                top, left, bottom, right = _ints(op["pad"])
                borders = ((top, bottom), (left, right), _pair(op["pad_channels"]))
                return Crop(borders[3 - len(self._shape(op["input"])) :])
            case "LAYERNORM":
                scale, shift = self._weight(op["scale"]), self._weight(op["shift"])
                return LayerNorm(float(op["alpha"]), scale, shift)
            case "LOGSOFTMAX":
                return LogSoftmax()
            case "RECURRENT":
                kind, gates, backwards, _ = _ints(op["perm"])
                return Recurrent(
                    _RECURRENT[kind],
                    self._required(op["weights"]),
                    self._weight(op["bias"]),
                    activation,
                    Activation(_ACTIVATIONS[gates], float(op["range_lo"])),
                    bool(backwards),
                )
            case "RESIZE":
                return Resize(self._required(op["scale"]), self._required(op["shift"]))
        raise ModelFormatError(f"an op has opcode {op['opcode']} where it cannot be")

    def _dense(self, op: Any, activation: Activation) -> Dense:
        scale = self._weight(op["scale"])
        precision = self._precision(op)
        match precision:
            case "fp16":
                weights: NDArray[Any] = self._values(op["weights"]).astype(np.float32)
            case "int8" | "int8-dynamic":
                integers, factors = self._values(op["weights"]), self._required(op["scale"])
                weights = integers.astype(np.float64) * factors.astype(np.float64)
            case _:
                weights = self._required(op["weights"])
        return Dense(weights, self._weight(op["bias"]), activation, precision, scale)

    def _precision(self, op: Any) -> str:
        if op["weights"] == _NONE:
            return ""
        precision = _PRECISIONS[self.tensors[op["weights"]]["dtype"]]
        return precision + _QUANTIZATIONS[op["quantization"]]

    def _required(self, index: int) -> NDArray[np.float32]:
        weight = self._weight(index)
        if weight is None:
            raise ModelFormatError("an op has no weights")
        return weight

    def _affine(self, op: Any) -> Affine | None:
        if op["affine_axis"] == 0:
            return None
        axis = self._axis_of(op, int(op["affine_axis"]))
        return Affine(axis, self._required(op["scale"]), self._required(op["shift"]))

    def _axis_of(self, op: Any, axis: int) -> int:
        return 0 if self.tensors[op["input"]]["rank"] == 1 else axis - 1

    def _operand(self, op: Any) -> NDArray[np.float32] | None:
        constant = self._weight(op["weights"])
        shape = self._shape(op["input"])
        if constant is None or constant.size in (1, shape[-1]):
            return constant
        return constant.reshape(shape)

    def _pool(self, op: Any) -> Pool | None:
        if op["pool_mode"] == 0:
            return None
        top, left, bottom, right = _ints(op["pool_pad"])
        return Pool(
            _POOLS[op["pool_mode"]],
            _pair(op["pool"]),
            _pair(op["pool_stride"]),
            (top, left, bottom, right),
        )

    def _record(self, op: Any) -> Record:
        return Record(
            opcode=_OPCODES[op["opcode"]],
            input_shape=self._shape(op["input"]),
            output_shape=self._shape(op["output"]),
            weights=self._shape(op["weights"]),
            precision=self._precision(op),
            bias=op["bias"] != _NONE,
            kernel=_ints(op["kernel"]),
            stride=_ints(op["stride"]),
            dilation=_ints(op["dilation"]),
            pad=_ints(op["pad"]),
            activation=_ACTIVATIONS[op["activation"]],
            alpha=float(op["alpha"]),
            affine_axis=_AXES[op["affine_axis"]],
            pool_mode=_POOLS[op["pool_mode"]],
            pool=_ints(op["pool"]),
            pool_stride=_ints(op["pool_stride"]),
            pool_pad=_ints(op["pool_pad"]),
            groups=int(op["groups"]),
            input2_shape=self._shape(op["input2"]),
            binary=_BINARIES[op["binary"]],
            concat_axis=_AXES[op["concat_axis"]],
            pad_channels=_ints(op["pad_channels"]),
            perm=_ints(op["perm"]),
            recurrent=self._recurrent(op),
        )

    def _recurrent(self, op: Any) -> tuple[str, ...]:
        """Return the kind, the activation of the gates and its parameter, and the direction."""
        if _OPCODES[op["opcode"]] != "RECURRENT":
            return ()
        kind, gates, backwards, _ = _ints(op["perm"])
        alpha = f" {float(op['range_lo']):g}" if op["range_lo"] else ""
        direction = "backwards" if backwards else "forwards"
        return _RECURRENT[kind], f"{_ACTIVATIONS[gates]}{alpha}", direction


def _ints(array: Any) -> Shape:
    return tuple(int(value) for value in array)


def _sides(array: Any) -> Sides:
    top, left, bottom, right = _ints(array)
    return top, left, bottom, right


def _pair(array: Any) -> tuple[int, int]:
    first, second = _ints(array)
    return first, second

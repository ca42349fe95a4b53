"""How each operator of the IR is written in ONNX."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from fastdigit.compiler.axes import aligned
from fastdigit.compiler.backends.onnx.writer import Writer, axis_of, stored, writes
from fastdigit.compiler.ir import Array, Pool, Shape
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
)
from fastdigit.compiler.ops.resize import COORDINATES, ROUNDINGS, positions
from fastdigit.errors import UnsupportedError

_BINARIES = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "prelu": "PRelu",
}
_POOLS = {"max": "MaxPool", "average": "AveragePool"}
_GLOBAL_POOLS = {"max": "GlobalMaxPool", "average": "GlobalAveragePool"}


@writes(Conv2D)
def _conv2d(writer: Writer, op: Conv2D, shapes: list[Shape]) -> None:
    writer.add(
        "Conv",
        op.weights.transpose(3, 2, 0, 1),
        *([] if op.bias is None else [op.bias]),
        kernel_shape=op.weights.shape[:2],
        strides=op.stride,
        dilations=op.dilation,
        pads=op.pad,
        group=op.groups,
    )
    writer.activation(op.activation)
    writer.affine(op.affine, 3)
    if op.pool is not None:
        _pool(writer, op.pool, replace(op, pool=None).infer(shapes[0]))


@writes(ConvTranspose2D)
def _conv_transpose2d(writer: Writer, op: ConvTranspose2D, shapes: list[Shape]) -> None:
    height, width, inputs, outputs = op.weights.shape
    groups = op.weights.reshape(height, width, inputs, op.groups, outputs // op.groups)
    writer.add(
        "ConvTranspose",
        groups.transpose(3, 2, 4, 0, 1).reshape(-1, outputs // op.groups, height, width),
        *([] if op.bias is None else [op.bias]),
        kernel_shape=op.weights.shape[:2],
        strides=op.stride,
        dilations=op.dilation,
        pads=op.pad,
        output_padding=op.output_padding,
        group=op.groups,
    )
    writer.activation(op.activation)
    writer.affine(op.affine, 3)


@writes(Dense)
def _dense(writer: Writer, op: Dense, shapes: list[Shape]) -> None:
    weights, shape = op.weights, shapes[0]
    if len(shape) == 3:
        # Its rows are in the order of (height, width, channels).
        weights = weights.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
        writer.add("Flatten", axis=1)
    writer.add("Gemm", weights, *([] if op.bias is None else [op.bias]))
    writer.activation(op.activation)


@writes(Pool2D)
def _pool2d(writer: Writer, op: Pool2D, shapes: list[Shape]) -> None:
    _pool(writer, op.pool, shapes[0])


def _pool(writer: Writer, pool: Pool, shape: Shape) -> None:
    if pool.size == shape[:2] and not any(pool.pad):
        writer.add(_GLOBAL_POOLS[pool.mode])
    else:
        # By default, sizes are rounded down and padding is not counted, as in the model file.
        size, stride = pool.size, pool.stride
        writer.add(_POOLS[pool.mode], kernel_shape=size, strides=stride, pads=pool.pad)


@writes(Eltwise)
def _eltwise(writer: Writer, op: Eltwise, shapes: list[Shape]) -> None:
    writer.activation(op.activation)
    writer.affine(op.affine, len(shapes[0]))


@writes(Binary)
def _binary(writer: Writer, op: Binary, shapes: list[Shape]) -> None:
    """The second operand's axes are those of the first, counted from the last."""
    rank = len(shapes[0])
    if op.constant is not None:
        constant = aligned(op.constant, rank).transpose(stored(rank))
        writer.add(_BINARIES[op.kind], constant)
    else:
        (second,) = writer.others
        if len(shapes[1]) < rank:  # a vector: a value for each channel
            second = writer.emit("Unsqueeze", [second, writer.integers([2, 3])], {})
        writer.add(_BINARIES[op.kind], second)
    writer.activation(op.activation)
    writer.affine(op.affine, rank)


@writes(Softmax)
def _softmax(writer: Writer, op: Softmax, shapes: list[Shape]) -> None:
    if op.temperature != 1:
        writer.add("Div", op.temperature)
    writer.add("Softmax", axis=1)


@writes(LogSoftmax)
def _logsoftmax(writer: Writer, op: LogSoftmax, shapes: list[Shape]) -> None:
    writer.add("LogSoftmax", axis=1)


@writes(LayerNorm)
def _layernorm(writer: Writer, op: LayerNorm, shapes: list[Shape]) -> None:
    scale = np.ones(shapes[0][-1]) if op.scale is None else op.scale
    weights = [scale] if op.shift is None else [scale, op.shift]
    writer.to_channels_last(shapes[0])
    writer.add("LayerNormalization", *weights, axis=-1, epsilon=op.epsilon)
    writer.to_channels_first(shapes[0])


@writes(Concat)
def _concat(writer: Writer, op: Concat, shapes: list[Shape]) -> None:
    writer.add("Concat", *writer.others, axis=axis_of(op.axis, len(shapes[0])))


@writes(Pad)
def _pad(writer: Writer, op: Pad, shapes: list[Shape]) -> None:
    widths = [(0, 0), *(op.widths[axis] for axis in stored(len(op.widths)))]
    pads = [before for before, _ in widths] + [after for _, after in widths]
    writer.add("Pad", writer.integers(pads), op.value)


@writes(Crop)
def _crop(writer: Writer, op: Crop, shapes: list[Shape]) -> None:
    cut = [axis for axis, width in enumerate(op.widths) if any(width)]
    if cut:
        starts = [op.widths[axis][0] for axis in cut]
        ends = [shapes[0][axis] - op.widths[axis][1] for axis in cut]
        axes = [axis_of(axis, len(op.widths)) for axis in cut]
        writer.add("Slice", *map(writer.integers, (starts, ends, axes)))


@writes(Transpose)
def _transpose(writer: Writer, op: Transpose, shapes: list[Shape]) -> None:
    rank = len(shapes[0])
    writer.transpose([axis_of(op.perm[axis], rank) for axis in stored(rank)])


@writes(Reshape)
def _reshape(writer: Writer, op: Reshape, shapes: list[Shape]) -> None:
    writer.to_channels_last(shapes[0])
    # 0 is the size there was: the batch.
    writer.add("Reshape", writer.integers([0, *op.shape]))
    writer.to_channels_first(op.shape)


#: ONNX's order of the gates.
_GATES = {"simple": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "gru_reset_after": (0, 1, 2)}
_RECURRENT = {"simple": "RNN", "lstm": "LSTM", "gru": "GRU", "gru_reset_after": "GRU"}
_RECURRENT_ACTIVATIONS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "linear": "Affine",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "hard_sigmoid": "HardSigmoid",
    "softplus": "Softplus",
}


@writes(Recurrent)
def _recurrent(writer: Writer, op: Recurrent, shapes: list[Shape]) -> None:
    """Rows are sequences of a batch, (steps, rows, channels) as ONNX has them. The product before
    is the layer's own; where there is none, what the input contributes is there, and the weights
    are an identity."""
    rows, steps, columns = shapes[0]
    units = op.weights.shape[0]
    order = np.concatenate([np.arange(units) + gate * units for gate in _GATES[op.kind]])
    recurrent = writer.constant(op.weights[:, order].T[np.newaxis])
    kernel: Array = np.eye(columns)
    biases = [None, op.bias]
    if writer.projection is not None:
        kernel, biases[0] = writer.projection.weights[0, 0], writer.projection.bias
    both = np.concatenate([np.zeros(columns) if b is None else b[order] for b in biases])
    functions = [op.gates, op.activation, op.activation]
    functions = {"simple": functions[1:2], "lstm": functions}.get(op.kind, functions[:2])
    missing = [f.name for f in functions if f.name not in _RECURRENT_ACTIVATIONS]
    if missing:
        raise UnsupportedError(f"a recurrent layer of {missing[0]} can't be written as ONNX")
    options: dict[str, Any] = {"linear_before_reset": 1} if op.kind == "gru_reset_after" else {}
    writer.add("Transpose", perm=[3, 0, 2, 1])
    writer.add("Reshape", writer.integers([steps, -1, len(kernel)]))
    writer.add(
        _RECURRENT[op.kind],
        writer.constant(kernel[:, order].T[np.newaxis]),
        recurrent,
        *([both[np.newaxis]] if both.any() else []),
        hidden_size=units,
        direction="reverse" if op.backwards else "forward",
        activations=[_RECURRENT_ACTIVATIONS[f.name] for f in functions],
        # ONNX Runtime takes them in order for the functions that have a parameter.
        activation_alpha=[1.0 if f.name == "linear" else f.alpha for f in functions],
        activation_beta=[0.5 if f.name == "hard_sigmoid" else 0.0 for f in functions],
        **options,
    )
    writer.add("Reshape", writer.integers([steps, -1, rows, units]))
    writer.add("Transpose", perm=[1, 3, 2, 0])


@writes(Resize)
def _resize(writer: Writer, op: Resize, shapes: list[Shape]) -> None:
    """A Resize where one of its modes means these positions; otherwise what it would do."""
    (height, width, _), (rows, columns) = shapes[0], (op.rows.size, op.columns.size)
    known = [name for name in COORDINATES if name != "tf_half_pixel_for_nn"]  # deprecated
    for coordinates, rounding in product(known, (*ROUNDINGS, None)):
        if np.array_equal(op.rows, positions(coordinates, rounding, height, rows)) and (
            np.array_equal(op.columns, positions(coordinates, rounding, width, columns))
        ):
            sizes = writer.integers([rows, columns])
            modes = {"nearest_mode": rounding} if rounding else {"mode": "linear"}
            writer.add(
                *("Resize", "", "", sizes),
                axes=[2, 3],
                coordinate_transformation_mode=coordinates,
                **modes,
            )
            return
    for axis, at in ((2, op.rows), (3, op.columns)):
        _interpolate(writer, at, axis)


def _interpolate(writer: Writer, at: Array, axis: int) -> None:
    """The values at positions along an axis."""
    first = np.floor(at)
    weight = (at - first).reshape(-1, *(1,) * (3 - axis))
    source = writer.value
    writer.add("Gather", writer.integers(first), axis=axis)
    if weight.any():
        value, following = writer.value, writer.integers(np.ceil(at))
        second = writer.emit("Gather", [source, following], {"axis": axis})
        step = writer.emit("Sub", [second, value], {})
        writer.add("Add", writer.emit("Mul", [step, writer.constant(weight)], {}))

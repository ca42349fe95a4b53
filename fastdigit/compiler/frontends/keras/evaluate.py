"""Computes what a Keras network computes, in float64, from its layers and weights as they are.

This is the second opinion on everything between a file and the compiled model: it shares no code
with the converters, the graph or the passes. It does what Keras' documentation says of each layer,
on batches (N, ...), and is plain rather than fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.keras.kinds import IN_TRAINING
from fastdigit.compiler.frontends.keras.network import Layer, Network, describe
from fastdigit.errors import UnsupportedError

__all__ = ["EVALUATORS", "evaluate"]

F64: TypeAlias = NDArray[np.float64]
Evaluator: TypeAlias = Callable[[Layer, list[F64]], F64]

#: Values of a chunk of images in one array, about, and of the windows that a convolution multiplies
#: at once; bounds the memory, and keeps it within a cache.
CHUNK = 1 << 22
COLUMNS = 1 << 18

#: By kind.
EVALUATORS: dict[str, Evaluator] = {}


def evaluate(network: Network, inputs: Sequence[NDArray[Any]]) -> list[F64]:
    """Return the outputs of a network for batches of its inputs."""
    count = len(inputs[0])
    size = max(int(np.prod(given.shape[1:])) for given in inputs)
    step = max(1, min(count, CHUNK // max(64 * size, 1)))
    parts = [
        _run(network, [given[start : start + step].astype(np.float64) for given in inputs])
        for start in range(0, count, step)
    ]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def _run(network: Network, inputs: Sequence[F64]) -> list[F64]:
    values = {source.value: given for source, given in zip(network.inputs, inputs, strict=True)}
    for call in network.calls:
        operands = [
            np.asarray(operand, np.float64) if isinstance(operand, np.ndarray) else values[operand]
            for operand in call.operands
        ]
        results = _apply(call.layer, operands)
        for index, result in enumerate(results):
            values[call.layer.name, call.index, index] = result
    return [values[value] for value in network.outputs]


def _apply(layer: Layer, operands: list[F64]) -> list[F64]:
    if layer.network is not None:
        return _run(layer.network, operands)
    evaluator = EVALUATORS.get(layer.kind)
    if evaluator is None:
        raise UnsupportedError(f"layer {describe(layer)} cannot be evaluated")
    first = layer.options.get("data_format") == "channels_first" and operands[0].ndim > 2
    if first:
        operands = [np.moveaxis(operand, 1, -1) for operand in operands]
    found = evaluator(layer, operands)
    if first and found.ndim == operands[0].ndim:
        found = np.moveaxis(found, -1, 1)
    return [_activated(layer, found)]


def _activated(layer: Layer, x: F64) -> F64:
    activation = layer.options.get("activation")
    if activation is None or layer.kind in ("SimpleRNN", "LSTM", "GRU"):
        return x
    return EVALUATORS[activation.kind](activation, [x])


def _evaluates(*kinds: str) -> Callable[[Evaluator], Evaluator]:
    def register(evaluator: Evaluator) -> Evaluator:
        for kind in kinds:
            assert kind not in EVALUATORS, f"{kind} has two evaluators"
            EVALUATORS[kind] = evaluator
        return evaluator

    return register


def _ints(value: Any, count: int) -> list[int]:
    return (
        [int(each) for each in value] * (count if len(value) == 1 else 1)
        if isinstance(value, list | tuple)
        else [int(value)] * count
    )


# ---- windows ----


def _padded(x: F64, layer: Layer, extent: list[int], stride: list[int], fill: float) -> F64:
    """Pad the axes behind the batch as TensorFlow does."""
    mode = str(layer.options["padding"]).lower()
    widths = [(0, 0)]
    for axis, (reach, step) in enumerate(zip(extent, stride, strict=True)):
        if mode == "same":
            outputs = math.ceil(x.shape[axis + 1] / step)
            total = max(0, (outputs - 1) * step + reach - x.shape[axis + 1])
            widths.append((total // 2, total - total // 2))
        else:
            widths.append((reach - 1 if mode == "causal" else 0, 0))
    return np.pad(x, [*widths, (0, 0)], constant_values=fill)


def _taps(x: F64, kernel: list[int], stride: list[int], dilation: list[int]) -> Any:
    """Yield, for each tap of a kernel, its index and the inputs that it meets."""
    counts = [
        (size - (taps - 1) * gap - 1) // step + 1
        for size, taps, step, gap in zip(x.shape[1:-1], kernel, stride, dilation, strict=True)
    ]
    for tap in np.ndindex(*kernel):
        where = [
            slice(index * gap, index * gap + (count - 1) * step + 1, step)
            for index, gap, count, step in zip(tap, dilation, counts, stride, strict=True)
        ]
        yield tap, x[(slice(None), *where)]


def _windows(x: F64, kernel: list[int], stride: list[int], dilation: list[int]) -> F64:
    """Return the windows (N, *counts, *kernel, C) of a padded x, as a view."""
    rank = len(kernel)
    reach = [(taps - 1) * gap + 1 for taps, gap in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(1, rank + 1)))
    steps = [slice(None, None, step) for step in stride]
    view = view[(slice(None), *steps, slice(None), *(slice(None, None, gap) for gap in dilation))]
    return np.moveaxis(view, rank + 1, -1)


def _convolved(
    layer: Layer, x: F64, kernel: F64, combine: Callable[[F64, F64], F64], rank: int
) -> F64:
    """Return ``combine`` of the windows and the kernel, some rows of some images at a time."""
    size = list(kernel.shape[:rank])
    stride = _ints(layer.options["strides"], rank)
    dilation = _ints(layer.options["dilation_rate"], rank)
    extent = [(taps - 1) * gap + 1 for taps, gap in zip(size, dilation, strict=True)]
    found = _windows(_padded(x, layer, extent, stride, 0.0), size, stride, dilation)
    row = max(1, math.prod(found.shape[2:]))
    rows = max(1, min(found.shape[1], COLUMNS // row))
    images = max(1, COLUMNS // (row * found.shape[1]))
    return np.concatenate(
        [
            np.concatenate(
                [
                    combine(found[first : first + images, start : start + rows], kernel)
                    for start in range(0, found.shape[1], rows)
                ],
                axis=1,
            )
            for first in range(0, len(found), images)
        ]
    )


def _grouped(groups: int, rank: int) -> Callable[[F64, F64], F64]:
    """Each of the outputs is a sum over the taps of the kernel and the channels of its group."""

    def combine(windows: F64, kernel: F64) -> F64:
        shape = windows.shape[: rank + 1]
        parts = [
            inputs.reshape(-1, outputs[..., 0].size) @ outputs.reshape(-1, outputs.shape[-1])
            for inputs, outputs in zip(
                np.split(windows, groups, -1), np.split(kernel, groups, -1), strict=True
            )
        ]
        return np.concatenate(parts, -1).reshape(*shape, -1)

    return combine


def _depthwise(windows: F64, kernel: F64) -> F64:
    """Channel c times multiplier m is output ``c * multipliers + m``; a product for each tap."""
    *size, channels, multipliers = kernel.shape
    before = windows.ndim - len(size) - 1
    total = np.zeros((*windows.shape[:before], channels, multipliers))
    for tap in np.ndindex(*size):
        total += windows[(..., *tap, slice(None))][..., np.newaxis] * kernel[tap]
    return total.reshape(*windows.shape[:before], -1)


def _biased(layer: Layer, x: F64) -> F64:
    bias = layer.weights.get("bias")
    return x if bias is None else x + bias.astype(np.float64)


def _w(layer: Layer, name: str) -> F64:
    return layer.weights[name].astype(np.float64)


@_evaluates("Conv1D", "Conv2D")
def _conv(layer: Layer, operands: list[F64]) -> F64:
    kernel = _w(layer, "kernel")
    rank = kernel.ndim - 2
    combine = _grouped(int(layer.options["groups"]), rank)
    return _biased(layer, _convolved(layer, operands[0], kernel, combine, rank))


@_evaluates("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise_conv(layer: Layer, operands: list[F64]) -> F64:
    kernel = _w(layer, "kernel")
    return _biased(layer, _convolved(layer, operands[0], kernel, _depthwise, kernel.ndim - 2))


@_evaluates("SeparableConv1D", "SeparableConv2D")
def _separable_conv(layer: Layer, operands: list[F64]) -> F64:
    kernel, pointwise = _w(layer, "depthwise_kernel"), _w(layer, "pointwise_kernel")
    x = _convolved(layer, operands[0], kernel, _depthwise, kernel.ndim - 2)
    return _biased(layer, x @ pointwise.reshape(pointwise.shape[-2:]))


@_evaluates("Conv1DTranspose", "Conv2DTranspose")
def _transposed_conv(layer: Layer, operands: list[F64]) -> F64:
    """Add each input, times the kernel, where it goes; cut what "same" leaves out."""
    x, kernel = operands[0], _w(layer, "kernel")
    rank = kernel.ndim - 2
    stride = _ints(layer.options["strides"], rank)
    dilation = _ints(layer.options["dilation_rate"], rank)
    same = str(layer.options["padding"]).lower() == "same"
    extra = layer.options["output_padding"]
    starts, sizes = [], []
    full = []
    for axis in range(rank):
        reach = (kernel.shape[axis] - 1) * dilation[axis] + 1
        count = x.shape[axis + 1]
        full.append((count - 1) * stride[axis] + reach)
        if extra is None:
            size = count * stride[axis] + (0 if same else max(0, reach - stride[axis]))
        else:
            size = (count - 1) * stride[axis] + _ints(extra, rank)[axis]
            size += reach % 2 if same else reach
        sizes.append(size)
        # The forward convolution, from the output, pads this much before its first row.
        starts.append(max(0, full[axis] - size) // 2 if same else 0)
    room = [max(a, b + c) for a, b, c in zip(full, sizes, starts, strict=True)]
    out = np.zeros((len(x), *room, kernel.shape[-2]))
    for tap in np.ndindex(*kernel.shape[:rank]):
        where = [
            slice(t * gap, t * gap + (count - 1) * step + 1, step)
            for t, gap, count, step in zip(tap, dilation, x.shape[1:-1], stride, strict=True)
        ]
        out[(slice(None), *where)] += x @ kernel[tap].T
    kept = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return _biased(layer, out[(slice(None), *kept)])


@_evaluates("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D")
def _pooling(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    rank = x.ndim - 2
    size = _ints(layer.options["pool_size"], rank)
    given = layer.options["strides"]
    stride = size if given is None else _ints(given, rank)
    if layer.kind.startswith("Max"):
        x = _padded(x, layer, size, stride, -np.inf)
        parts = [part for _, part in _taps(x, size, stride, [1] * rank)]
        return np.asarray(np.maximum.reduce(parts))
    ones = _padded(np.ones((1, *x.shape[1:-1], 1)), layer, size, stride, 0.0)
    x = _padded(x, layer, size, stride, 0.0)
    total = sum(part for _, part in _taps(x, size, stride, [1] * rank))
    count = sum(part for _, part in _taps(ones, size, stride, [1] * rank))
    return np.asarray(total / count)


@_evaluates(
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
)
def _global_pooling(layer: Layer, operands: list[F64]) -> F64:
    axes = tuple(range(1, operands[0].ndim - 1))
    return _over(operands[0], axes, bool(layer.options["keepdims"]), greatest="Max" in layer.kind)


def _over(x: F64, axes: tuple[int, ...], keepdims: bool, *, greatest: bool) -> F64:
    reduced = np.max(x, axis=axes, keepdims=True) if greatest else np.mean(x, axes, keepdims=True)
    return np.asarray(reduced if keepdims else np.squeeze(reduced, axes))


# ---- dense, normalization ----


@_evaluates("Dense")
def _dense(layer: Layer, operands: list[F64]) -> F64:
    return _biased(layer, operands[0] @ _w(layer, "kernel"))


def _along(array: F64, axis: int, rank: int) -> F64:
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)


def _scaled(layer: Layer, x: F64, arrange: Callable[[F64], F64]) -> F64:
    if "gamma" in layer.weights:
        x = x * arrange(_w(layer, "gamma"))
    return x + arrange(_w(layer, "beta")) if "beta" in layer.weights else x


@_evaluates("BatchNormalization")
def _batch_normalization(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    (axis,) = _ints(layer.options["axis"], 1)

    def arrange(array: F64) -> F64:
        return _along(array, axis, x.ndim)

    variance = arrange(_w(layer, "moving_variance")) + float(layer.options["epsilon"])
    normal = (x - arrange(_w(layer, "moving_mean"))) / np.sqrt(variance)
    return _scaled(layer, normal, arrange)


@_evaluates("LayerNormalization")
def _layer_normalization(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    given = layer.options["axis"]
    given = [given] if isinstance(given, int) else given
    axes = tuple(sorted(int(axis) % x.ndim for axis in given))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    normal = (x - mean) / np.sqrt(variance + float(layer.options["epsilon"]))
    return _scaled(layer, normal, lambda array: array.reshape(shape))


@_evaluates("GroupNormalization")
def _group_normalization(layer: Layer, operands: list[F64]) -> F64:
    (axis,) = _ints(layer.options["axis"], 1)
    x = np.moveaxis(operands[0], axis, -1)
    groups = int(layer.options["groups"])
    groups = x.shape[-1] if groups == -1 else groups
    split = x.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = split.mean(axes, keepdims=True), split.var(axes, keepdims=True)
    normal = ((split - mean) / np.sqrt(variance + float(layer.options["epsilon"]))).reshape(x.shape)
    return np.moveaxis(_scaled(layer, normal, lambda array: array), -1, axis)


@_evaluates("Rescaling")
def _rescaling(layer: Layer, operands: list[F64]) -> F64:
    scale, offset = (np.asarray(layer.options[key], np.float64) for key in ("scale", "offset"))
    return operands[0] * scale + offset


@_evaluates("Normalization")
def _normalization(layer: Layer, operands: list[F64]) -> F64:
    x, given = operands[0], layer.options["axis"]
    given = [] if given is None else [given] if isinstance(given, int) else given
    axes = {int(axis) % x.ndim for axis in given}
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    mean, variance = (
        np.broadcast_to(
            np.asarray(layer.weights.get(name, layer.options[name]), np.float64).ravel(),
            int(np.prod(shape)),
        ).reshape(shape)
        for name in ("mean", "variance")
    )
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return np.asarray(x * deviation + mean if layer.options["invert"] else (x - mean) / deviation)


# ---- recurrent ----


def _of_state(layer: Layer, option: str) -> Callable[[F64], F64]:
    activation = layer.options.get(option)
    if activation is None:
        return lambda x: x
    return lambda x: EVALUATORS[activation.kind](activation, [x])


@_evaluates("SimpleRNN", "LSTM", "GRU")
def _recurrent(layer: Layer, operands: list[F64]) -> F64:
    """One step after the other; the states in the order in which they were computed."""
    x, options = operands[0], layer.options
    kernel, inner = _w(layer, "kernel"), _w(layer, "recurrent_kernel")
    units = inner.shape[0]
    bias = layer.weights.get("bias")
    both = np.zeros((2, kernel.shape[1]))
    if bias is not None:
        both[: bias.ndim] = bias
    function, gate = (_of_state(layer, key) for key in ("activation", "recurrent_activation"))
    state = cell = np.zeros((len(x), units))
    states = []
    shares = x @ kernel + both[0]
    for share in shares.transpose(1, 0, 2)[:: -1 if options["go_backwards"] else 1]:
        given = np.split(share, kernel.shape[1] // units, -1)
        if layer.kind == "SimpleRNN":
            state = function(given[0] + state @ inner)
        elif layer.kind == "LSTM":
            into, forget, new, out = (
                a + b for a, b in zip(given, np.split(state @ inner, 4, -1), strict=True)
            )
            cell = gate(forget) * cell + gate(into) * function(new)
            state = gate(out) * function(cell)
        else:
            parts = np.split(state @ inner + both[1], 3, -1)
            update, reset = gate(given[0] + parts[0]), gate(given[1] + parts[1])
            if options["reset_after"]:
                new = given[2] + reset * parts[2]
            else:
                new = given[2] + (reset * state) @ inner[:, 2 * units :]
            state = update * state + (1 - update) * function(new)
        states.append(state)
    return np.stack(states, 1) if options["return_sequences"] else state


@_evaluates("Bidirectional")
def _bidirectional(layer: Layer, operands: list[F64]) -> F64:
    forward, backward = (_apply(inner, operands)[0] for inner in layer.layers)
    if layer.layers[0].options["return_sequences"]:
        backward = backward[:, ::-1]
    mode = layer.options["merge_mode"]
    if mode == "concat":
        return np.concatenate([forward, backward], -1)
    return forward * backward if mode == "mul" else (forward + backward) / (1 + (mode == "ave"))


@_evaluates("TimeDistributed")
def _time_distributed(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    joined = _apply(layer.layers[0], [x.reshape(-1, *x.shape[2:])])[0]
    return joined.reshape(*x.shape[:2], *joined.shape[1:])


# ---- moves ----


@_evaluates("Flatten")
def _flatten(_layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), -1)


@_evaluates("Reshape")
def _reshape(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), *_ints(layer.options["target_shape"], 1))


@_evaluates("ops.Reshape")
def _reshape_operation(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].reshape(len(operands[0]), *_ints(layer.options["newshape"], 1)[1:])


@_evaluates("Permute")
def _permute(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].transpose(0, *_ints(layer.options["dims"], 1))


@_evaluates("ops.Transpose")
def _transpose(layer: Layer, operands: list[F64]) -> F64:
    return operands[0].transpose(_ints(layer.options["axes"], 1))


@_evaluates("ops.ExpandDims")
def _expand_dims(layer: Layer, operands: list[F64]) -> F64:
    return np.expand_dims(operands[0], tuple(_ints(layer.options["axis"], 1)))


@_evaluates("ops.Squeeze")
def _squeeze(layer: Layer, operands: list[F64]) -> F64:
    x, given = operands[0], layer.options["axis"]
    axes = (
        _ints(given, 1) if given is not None else [a for a in range(1, x.ndim) if x.shape[a] == 1]
    )
    return np.squeeze(x, tuple(axes))


@_evaluates("ops.GetItem")
def _get_item(layer: Layer, operands: list[F64]) -> F64:
    key = (
        slice(*entry) if isinstance(entry, list) else Ellipsis if entry == "..." else entry
        for entry in layer.options["key"]
    )
    return operands[0][tuple(key)]


def _sides(given: Any) -> list[tuple[int, int]]:
    if isinstance(given, int):
        return [(given, given), (given, given)]
    if len(given) == 4:
        return [(given[0], given[1]), (given[2], given[3])]
    return [(each, each) if isinstance(each, int) else (each[0], each[1]) for each in given]


@_evaluates("ZeroPadding2D")
def _zero_padding(layer: Layer, operands: list[F64]) -> F64:
    return np.pad(operands[0], [(0, 0), *_sides(layer.options["padding"]), (0, 0)])


@_evaluates("Cropping2D")
def _cropping(layer: Layer, operands: list[F64]) -> F64:
    (top, bottom), (left, right) = _sides(layer.options["cropping"])
    _, height, width, _ = operands[0].shape
    return operands[0][:, top : height - bottom, left : width - right]


@_evaluates("Cropping1D")
def _cropping1d(layer: Layer, operands: list[F64]) -> F64:
    before, after = _ints(layer.options["cropping"], 2)
    return operands[0][:, before : operands[0].shape[1] - after]


@_evaluates("CenterCrop")
def _center_crop(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    height, width = int(layer.options["height"]), int(layer.options["width"])
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


@_evaluates("ZeroPadding1D")
def _zero_padding1d(layer: Layer, operands: list[F64]) -> F64:
    before, after = _ints(layer.options["padding"], 2)
    return np.pad(operands[0], [(0, 0), (before, after), (0, 0)])


@_evaluates("RepeatVector")
def _repeat_vector(layer: Layer, operands: list[F64]) -> F64:
    return np.stack([operands[0]] * int(layer.options["n"]), axis=1)


@_evaluates("UpSampling1D")
def _upsampling1d(layer: Layer, operands: list[F64]) -> F64:
    return np.repeat(operands[0], _ints(layer.options["size"], 1)[0], axis=1)


@_evaluates("UpSampling2D")
def _upsampling(layer: Layer, operands: list[F64]) -> F64:
    rows, columns = _ints(layer.options["size"], 2)
    x = operands[0]
    if layer.options["interpolation"] == "nearest":
        return x.repeat(rows, axis=1).repeat(columns, axis=2)
    return _sampled(layer, x, x.shape[1] * rows, x.shape[2] * columns)


@_evaluates("Resizing")
def _resizing(layer: Layer, operands: list[F64]) -> F64:
    return _sampled(layer, operands[0], int(layer.options["height"]), int(layer.options["width"]))


def _sampled(layer: Layer, x: F64, height: int, width: int) -> F64:
    """Half-pixel centres; where they fall, TensorFlow computes in float32."""
    for axis, count in ((1, height), (2, width)):
        size = x.shape[axis]
        ratio = np.float32(size) / np.float32(count)
        centres = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * ratio
        if layer.options["interpolation"] == "nearest":
            x = x.take(np.minimum(centres.astype(int), size - 1), axis)
            continue
        at = np.clip((centres - np.float32(0.5)).astype(np.float64), 0, size - 1)
        low = at.astype(int)
        share = _along(at - low, axis, x.ndim)
        high = np.minimum(low + 1, size - 1)
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


# ---- joins and arithmetic ----


def _merged(operands: list[F64]) -> list[F64]:
    """Give all one rank: axes of length 1 behind the batch."""
    rank = max(operand.ndim for operand in operands)
    return [
        operand.reshape(len(operand), *[1] * (rank - operand.ndim), *operand.shape[1:])
        for operand in operands
    ]


def _folded(function: Callable[[F64, F64], F64]) -> Evaluator:
    def evaluator(_layer: Layer, operands: list[F64]) -> F64:
        first, *others = _merged(operands)
        for other in others:
            first = function(first, other)
        return first

    return evaluator


def _elementwise(function: Callable[..., F64]) -> Evaluator:
    return lambda _layer, operands: np.asarray(function(*operands))


for _name, _function in {
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
}.items():
    EVALUATORS[_name] = _folded(_function)
    EVALUATORS[f"ops.{_name}"] = _elementwise(_function)
EVALUATORS["ops.Divide"] = _elementwise(np.divide)
EVALUATORS["ops.Negative"] = _elementwise(np.negative)
EVALUATORS["ops.Square"] = _elementwise(np.square)
EVALUATORS["ops.Absolute"] = _elementwise(np.abs)
EVALUATORS["ops.Sqrt"] = _elementwise(np.sqrt)
EVALUATORS["ops.Log"] = _elementwise(np.log)


@_evaluates("Average")
def _average(_layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(sum(_merged(operands)) / len(operands))


@_evaluates("Concatenate", "ops.Concatenate")
def _concatenate(layer: Layer, operands: list[F64]) -> F64:
    return np.concatenate(operands, _ints(layer.options["axis"], 1)[0])


@_evaluates("ops.Clip")
def _clip(layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(np.clip(operands[0], layer.options["x_min"], layer.options["x_max"]))


@_evaluates("ops.Mean", "ops.Max")
def _reduced(layer: Layer, operands: list[F64]) -> F64:
    axes, keepdims = tuple(_ints(layer.options["axis"], 1)), bool(layer.options["keepdims"])
    return _over(operands[0], axes, keepdims, greatest=layer.kind == "ops.Max")


# ---- activations ----


def _sigmoid(x: F64) -> F64:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small / (1 + small), 1 / (1 + small))


def _soft(x: F64, axis: int | tuple[int, ...]) -> F64:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _erf(x: F64) -> F64:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _selu(x: F64) -> F64:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x: F64) -> F64:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _no_change(_layer: Layer, operands: list[F64]) -> F64:
    return operands[0]


_UNARY: dict[str, Callable[[F64], F64]] = {
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "selu": _selu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "hard_silu": lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "mish": lambda x: x * np.tanh(_softplus(x)),
}
for _name, _unary in _UNARY.items():
    EVALUATORS[f"activations.{_name}"] = _elementwise(_unary)
for _name in ("Activation", "activations.linear", "ops.Identity", *IN_TRAINING):
    EVALUATORS[_name] = _no_change


@_evaluates("ReLU", "activations.relu")
def _relu(layer: Layer, operands: list[F64]) -> F64:
    x, options = operands[0], layer.options
    threshold, slope = float(options["threshold"]), float(options["negative_slope"])
    high = math.inf if options["max_value"] is None else float(options["max_value"])
    if threshold == slope == 0:
        return np.clip(x, 0, high)
    return np.where(x >= threshold, np.minimum(x, high), slope * (x - threshold))


@_evaluates("LeakyReLU", "activations.leaky_relu")
def _leaky_relu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, float(layer.options["negative_slope"]) * x)


@_evaluates("ELU", "activations.elu")
def _elu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, float(layer.options["alpha"]) * np.expm1(np.minimum(x, 0)))


@_evaluates("PReLU")
def _prelu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    return np.where(x > 0, x, _w(layer, "alpha") * x)


@_evaluates("activations.hard_sigmoid")
def _hard_sigmoid(layer: Layer, operands: list[F64]) -> F64:
    return np.asarray(np.clip(float(layer.options["slope"]) * operands[0] + 0.5, 0, 1))


@_evaluates("activations.gelu")
def _gelu(layer: Layer, operands: list[F64]) -> F64:
    x = operands[0]
    if layer.options["approximate"]:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@_evaluates("activations.log_softmax")
def _log_softmax(layer: Layer, operands: list[F64]) -> F64:
    axis = _ints(layer.options["axis"], 1)[0]
    shifted = operands[0] - operands[0].max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


@_evaluates("Softmax", "activations.softmax")
def _softmax(layer: Layer, operands: list[F64]) -> F64:
    return _soft(operands[0], tuple(_ints(layer.options["axis"], 1)))

"""Evaluates the network of a .tflite file with NumPy in float64, on one image.

This is a second opinion on what the importer makes of a file, for where TensorFlow Lite's own
runtime is not installed: it is written from the definitions of the operators, tensors keep the
shapes of the file, and it shares no code with the importer, the passes and the engine. It is as
slow as it is plain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastdigit.compiler.frontends.tflite.reader import Node, Tensor, TFLiteModel
from fastdigit.errors import UnsupportedError

__all__ = ["FUNCTIONS", "evaluate"]

Array: TypeAlias = NDArray[Any]
Inputs = Sequence[Any]
Options = Mapping[str, Any]
Function = Callable[[Inputs, Options], Any]

#: Of a fused activation, by its number in the schema.
_FUSED: Mapping[int, Callable[[Array], Array]] = {
    0: lambda x: x,
    1: lambda x: np.maximum(x, 0),
    2: lambda x: np.clip(x, -1, 1),
    3: lambda x: np.clip(x, 0, 6),
}


def evaluate(
    model: TFLiteModel, inputs: Mapping[int, Array], outputs: Sequence[int]
) -> list[Array]:
    """Return tensors for inputs of the shapes that the file has, both by their numbers.

    Raises
    ------
    UnsupportedError
        If an operator is not one of :data:`FUNCTIONS`.
    """
    tensors: dict[int, Any] = {-1: None}
    for number, image in inputs.items():
        tensors[number] = _meant(model.tensors[number], image.astype(np.float64))

    def known(number: int) -> Any:
        if number not in tensors:
            tensors[number] = _constant(model.tensors[number])
        return tensors[number]

    for node in _needed(model, outputs):
        if node.type not in FUNCTIONS:
            raise UnsupportedError(f"{node.type} is evaluated by TensorFlow Lite's runtime alone")
        with np.errstate(all="ignore"):
            found = FUNCTIONS[node.type]([known(number) for number in node.inputs], node.options)
        activation = _FUSED[node.options.get("FusedActivationFunction", 0)]
        results = found if isinstance(found, list) else [found]
        tensors.update(
            (number, activation(np.asarray(result)))
            for number, result in zip(node.outputs, results, strict=True)
        )
    return [np.asarray(known(number)) for number in outputs]


def _needed(model: TFLiteModel, outputs: Sequence[int]) -> list[Node]:
    wanted = set(outputs)
    nodes: list[Node] = []
    for node in model.nodes[::-1]:
        if wanted & set(node.outputs):
            wanted |= set(node.inputs)
            nodes.append(node)
    return nodes[::-1]


_TYPES = {"FLOAT64": "<f8", "FLOAT32": "<f4", "FLOAT16": "<f2", "BOOL": "?", "INT64": "<i8"}
_TYPES |= {"INT32": "<i4", "INT16": "<i2", "INT8": "<i1", "UINT8": "<u1"}
_TYPES |= {"UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2"}


def _constant(tensor: Tensor) -> Array:
    """Return a constant: floats, and what quantised integers stand for, in float64."""
    assert tensor.data is not None
    data = tensor.data.tobytes()
    if tensor.type == "INT4":
        halves = [half for byte in data for half in (byte & 15, byte >> 4)]
        signed = [half - 16 if half > 7 else half for half in halves]
        values = np.array(signed[: math.prod(tensor.shape)]).reshape(tensor.shape)
    else:
        values = np.frombuffer(data, _TYPES[tensor.type]).reshape(tensor.shape)
    if values.dtype.kind in "iu" and tensor.quantization is not None:
        return _meant(tensor, values.astype(np.float64))
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _meant(tensor: Tensor, values: Array) -> Array:
    """Return what the numbers of a tensor stand for."""
    known = tensor.quantization
    if known is None or "INT" not in tensor.type:
        return values
    if known.scale.size == 1:
        return np.asarray((values - known.zero_point[0]) * known.scale[0])
    moved = np.moveaxis(values, known.axis, -1)
    return np.moveaxis((moved - known.zero_point) * known.scale, -1, known.axis)


# ---- windows -----------------------------------------------------------------------------------


def _same(size: int, taps: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    """Return what is padded before and behind, for as many windows as there are strides."""
    if padding == 1:  # VALID
        return 0, 0
    reach = (taps - 1) * dilation + 1
    total = max(0, (math.ceil(size / stride) - 1) * stride + reach - size)
    return total // 2, total - total // 2


def _cut(x: Array, taps: Sequence[int], options: Options, fill: float) -> Array:
    """Return the windows of images (N, H, W, C): (N, rows, columns, C, taps, taps)."""
    strides = options["StrideH"], options["StrideW"]
    rates = options.get("DilationHFactor", 1), options.get("DilationWFactor", 1)
    padding = options.get("Padding", 0)
    sides = [_same(x.shape[1 + d], taps[d], strides[d], rates[d], padding) for d in (0, 1)]
    x = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=fill)
    reach = [(taps[d] - 1) * rates[d] + 1 for d in (0, 1)]
    views = sliding_window_view(x, reach, axis=(1, 2))
    return views[:, :: strides[0], :: strides[1], :, :: rates[0], :: rates[1]]


def _conv(inputs: Inputs, options: Options) -> Array:
    x, weights, bias = (*inputs, None)[:3]
    outputs, *taps, channels = weights.shape
    views = _cut(x, taps, options, 0.0)
    groups = x.shape[3] // channels
    share = outputs // groups
    parts = [
        np.tensordot(
            views[..., g * channels : (g + 1) * channels, :, :],
            weights[g * share : (g + 1) * share],
            axes=((3, 4, 5), (3, 1, 2)),
        )
        for g in range(groups)
    ]
    result = np.concatenate(parts, axis=-1)
    return result if bias is None else result + bias


def _depthwise(inputs: Inputs, options: Options) -> Array:
    x, weights, bias = (*inputs, None)[:3]
    _, *taps, outputs = weights.shape
    channels = x.shape[3]
    views = _cut(x, taps, options, 0.0)
    each = weights[0].reshape(*taps, channels, outputs // channels)
    result: Array = np.einsum("nrcdij,ijdm->nrcdm", views, each).reshape(*views.shape[:3], outputs)
    return result if bias is None else result + bias


def _transpose_conv(inputs: Inputs, options: Options) -> Array:
    shape, weights, x, bias = (*inputs, None)[:4]
    count, height, width, outputs = (int(n) for n in shape)
    _, rows, columns, _ = weights.shape
    strides = options["StrideH"], options["StrideW"]
    padding = options.get("Padding", 0)
    top = _same(height, rows, strides[0], 1, padding)[0]
    left = _same(width, columns, strides[1], 1, padding)[0]
    result = np.zeros((count, height, width, outputs))
    for y in range(x.shape[1]):
        for z in range(x.shape[2]):
            for i in range(rows):
                for j in range(columns):
                    at = y * strides[0] + i - top, z * strides[1] + j - left
                    if 0 <= at[0] < height and 0 <= at[1] < width:
                        result[:, at[0], at[1]] += x[:, y, z] @ weights[:, i, j].T
    return result if bias is None else result + bias


def _max_pool(inputs: Inputs, options: Options) -> Array:
    taps = options["FilterHeight"], options["FilterWidth"]
    return np.asarray(_cut(inputs[0], taps, options, -np.inf).max(axis=(4, 5)))


def _average_pool(inputs: Inputs, options: Options) -> Array:
    """What is padded does not count."""
    taps = options["FilterHeight"], options["FilterWidth"]
    return np.asarray(np.nanmean(_cut(inputs[0], taps, options, np.nan), axis=(4, 5)))


def _resize(inputs: Inputs, options: Options) -> Array:
    x, sizes = inputs
    for axis, out in enumerate((int(n) for n in sizes), start=1):
        x = np.moveaxis(_along(np.moveaxis(x, axis, 0), out, options), 0, axis)
    return np.asarray(x)


def _scale_of(size: int, out: int, options: Options) -> np.float32:
    if options.get("AlignCorners") and out > 1:
        return np.float32(size - 1) / np.float32(out - 1)
    return np.float32(size) / np.float32(out)


def _along(x: Array, out: int, options: Options) -> Array:
    """Interpolate between rows."""
    scale, half, rows = _scale_of(len(x), out, options), np.float32(0.5), []
    for index in range(out):
        at = np.float32(index) * scale
        if options.get("HalfPixelCenters"):
            at = (np.float32(index) + half) * scale - half
        below = min(max(math.floor(at), 0), len(x) - 1)
        above = min(max(math.ceil(at), 0), len(x) - 1)
        share = float(at) - below
        rows.append(x[below] * (1 - share) + x[above] * share)
    return np.stack(rows)


def _nearest(inputs: Inputs, options: Options) -> Array:
    x, sizes = inputs
    for axis, out in enumerate((int(n) for n in sizes), start=1):
        size = x.shape[axis]
        scale = _scale_of(size, out, options)
        offset = np.float32(0.5 if options.get("HalfPixelCenters") else 0.0)
        taken = []
        for index in range(out):
            at = float((np.float32(index) + offset) * scale)
            near = math.floor(at + 0.5) if options.get("AlignCorners") else math.floor(at)
            taken.append(min(max(near, 0), size - 1))
        x = np.take(x, taken, axis)
    return np.asarray(x)


# ---- products, sums, functions -----------------------------------------------------------------


def _fully_connected(inputs: Inputs, options: Options) -> Array:
    x, weights, bias = (*inputs, None)[:3]
    rows = x if options.get("KeepNumDims") else x.reshape(-1, weights.shape[1])
    result = rows @ weights.T
    return np.asarray(result if bias is None else result + bias)


def _batch_matmul(inputs: Inputs, options: Options) -> Array:
    left, right = inputs
    left = left.swapaxes(-1, -2) if options.get("AdjX") else left
    right = right.swapaxes(-1, -2) if options.get("AdjY") else right
    return np.asarray(left @ right)


def _reduce(function: Callable[..., Any]) -> Function:
    return lambda inputs, options: function(
        inputs[0],
        axis=tuple(int(axis) for axis in inputs[1].ravel()),
        keepdims=bool(options.get("KeepDims")),
    )


def _softmax(inputs: Inputs, options: Options) -> Array:
    scaled = inputs[0] * options["Beta"]
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _log_softmax(inputs: Inputs, _options: Options) -> Array:
    shifted = inputs[0] - inputs[0].max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _gelu(inputs: Inputs, options: Options) -> Array:
    x = inputs[0]
    if options.get("Approximate"):
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    cumulative = np.vectorize(lambda t: 0.5 * math.erfc(-t / math.sqrt(2)), otypes=[float])
    return np.asarray(x * cumulative(x))


def _binary(function: Callable[[Any, Any], Any]) -> Function:
    return lambda inputs, _options: function(inputs[0], inputs[1])


def _unary(function: Callable[[Any], Any]) -> Function:
    return lambda inputs, _options: function(inputs[0])


def _quotient(left: Array, right: Array) -> Array:
    quotient = left / right
    return quotient if left.dtype.kind == "f" else np.trunc(quotient).astype(left.dtype)


# ---- moves -------------------------------------------------------------------------------------


def _pad(inputs: Inputs, _options: Options) -> Array:
    fill = inputs[2].ravel()[0] if len(inputs) > 2 else 0
    return np.pad(inputs[0], inputs[1], constant_values=fill)


def _mirror_pad(inputs: Inputs, options: Options) -> Array:
    return np.pad(inputs[0], inputs[1], mode="symmetric" if options.get("Mode") else "reflect")


def _reshape(inputs: Inputs, options: Options) -> Array:
    wanted = inputs[1] if len(inputs) > 1 and inputs[1] is not None else options["NewShape"]
    return np.asarray(inputs[0].reshape([int(n) for n in np.ravel(wanted)]))


def _squeeze(inputs: Inputs, options: Options) -> Array:
    return np.asarray(inputs[0].squeeze(tuple(options.get("SqueezeDims", ())) or None))


def _split(inputs: Inputs, options: Options) -> list[Array]:
    axis, x = int(np.ravel(inputs[0])[0]), inputs[1]
    return np.split(x, options["NumSplits"], axis)


def _split_v(inputs: Inputs, _options: Options) -> list[Array]:
    x, sizes, axis = inputs[0], [int(n) for n in inputs[1]], int(np.ravel(inputs[2])[0])
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(n for n in sizes if n != -1)
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _slice(inputs: Inputs, _options: Options) -> Array:
    x, begin, size = inputs
    taken = (
        slice(int(first), n if count == -1 else int(first + count))
        for first, count, n in zip(begin.ravel(), size.ravel(), x.shape, strict=True)
    )
    return np.asarray(x[tuple(taken)])


def _strided_slice(inputs: Inputs, options: Options) -> Array:
    x, begin, end, step = inputs
    index: list[Any] = []
    for axis in range(len(begin)):
        first, last, stride = int(begin[axis]), int(end[axis]), int(step[axis])
        if options.get("ShrinkAxisMask", 0) >> axis & 1:
            index.append(first)
            continue
        if stride < 0 and last < -x.shape[axis]:
            last = None  # type: ignore[assignment]
        index.append(
            slice(
                None if options.get("BeginMask", 0) >> axis & 1 else first,
                None if options.get("EndMask", 0) >> axis & 1 else last,
                stride,
            )
        )
    return np.asarray(x[tuple(index)])


def _space_to_batch(inputs: Inputs, _options: Options) -> Array:
    x, block, widths = inputs
    x = np.pad(x, ((0, 0), *(tuple(pair) for pair in widths), (0, 0)))
    parts = [
        x[(slice(None), *(slice(at, None, size) for at, size in zip(place, block, strict=True)))]
        for place in np.ndindex(*(int(size) for size in block))
    ]
    return np.concatenate(parts)


def _batch_to_space(inputs: Inputs, _options: Options) -> Array:
    x, block, crops = inputs
    sizes = [int(size) for size in block]
    parts = np.split(x, math.prod(sizes))
    space = [n * size for n, size in zip(x.shape[1:-1], sizes, strict=True)]
    whole = np.zeros((len(parts[0]), *space, x.shape[-1]))
    for place, part in zip(np.ndindex(*sizes), parts, strict=True):
        index = (slice(at, None, size) for at, size in zip(place, sizes, strict=True))
        whole[(slice(None), *index)] = part
    kept = (slice(int(a), n - int(b)) for (a, b), n in zip(crops, space, strict=True))
    return np.asarray(whole[(slice(None), *kept)])


def _depth_to_space(inputs: Inputs, options: Options) -> Array:
    x, block = inputs[0], options["BlockSize"]
    count, height, width, channels = x.shape
    depth = channels // block**2
    result = np.zeros((count, height * block, width * block, depth))
    for i in range(block):
        for j in range(block):
            first = (i * block + j) * depth
            result[:, i::block, j::block] = x[..., first : first + depth]
    return result


def _space_to_depth(inputs: Inputs, options: Options) -> Array:
    x, block = inputs[0], options["BlockSize"]
    parts = [x[:, i::block, j::block] for i in range(block) for j in range(block)]
    return np.concatenate(parts, axis=-1)


def _gather(inputs: Inputs, options: Options) -> Array:
    return np.asarray(np.take(inputs[0], inputs[1], axis=options.get("Axis", 0)))


def _cast(inputs: Inputs, options: Options) -> Array:
    whole = options["OutDataType"] in (2, 4)
    return np.asarray(inputs[0].astype(np.int64 if whole else np.float64))


FUNCTIONS: Mapping[str, Function] = {
    "ABS": _unary(np.abs),
    "ADD": _binary(np.add),
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "CAST": _cast,
    "CONCATENATION": lambda inputs, options: np.concatenate(inputs, options.get("Axis", 0)),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEPTH_TO_SPACE": _depth_to_space,
    "DEQUANTIZE": _unary(lambda x: x),
    "DIV": _binary(_quotient),
    "ELU": _unary(lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x)),
    "EXP": _unary(np.exp),
    "EXPAND_DIMS": lambda inputs, _options: np.expand_dims(inputs[0], int(np.ravel(inputs[1])[0])),
    "FILL": lambda inputs, _options: np.full([int(n) for n in inputs[0]], inputs[1]),
    "FLOOR_DIV": _binary(np.floor_divide),
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GELU": _gelu,
    "GREATER": _binary(np.greater),
    "HARD_SWISH": _unary(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "LEAKY_RELU": lambda inputs, options: np.where(
        inputs[0] < 0, options["Alpha"] * inputs[0], inputs[0]
    ),
    "LOG": _unary(np.log),
    "LOGISTIC": _unary(lambda x: 0.5 + 0.5 * np.tanh(0.5 * x)),
    "LOG_SOFTMAX": _log_softmax,
    "MAXIMUM": _binary(np.maximum),
    "MAX_POOL_2D": _max_pool,
    "MEAN": _reduce(np.mean),
    "MINIMUM": _binary(np.minimum),
    "MIRROR_PAD": _mirror_pad,
    "MUL": _binary(np.multiply),
    "NEG": _unary(np.negative),
    "PACK": lambda inputs, options: np.stack(inputs, options.get("Axis", 0)),
    "PAD": _pad,
    "PADV2": _pad,
    "POW": _binary(np.power),
    "PRELU": _binary(lambda x, slope: np.where(x < 0, slope * x, x)),
    "REDUCE_MAX": _reduce(np.max),
    "REDUCE_MIN": _reduce(np.min),
    "REDUCE_PROD": _reduce(np.prod),
    "RELU": _unary(_FUSED[1]),
    "RELU6": _unary(_FUSED[3]),
    "RELU_0_TO_1": _unary(lambda x: np.clip(x, 0, 1)),
    "RELU_N1_TO_1": _unary(_FUSED[2]),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
    "RSQRT": _unary(lambda x: 1 / np.sqrt(x)),
    "SELECT": lambda inputs, _options: np.where(inputs[0], inputs[1], inputs[2]),
    "SELECT_V2": lambda inputs, _options: np.where(inputs[0], inputs[1], inputs[2]),
    "SHAPE": _unary(lambda x: np.array(np.shape(x))),
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQRT": _unary(np.sqrt),
    "SQUARE": _unary(np.square),
    "SQUARED_DIFFERENCE": _binary(lambda left, right: (left - right) ** 2),
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(np.subtract),
    "SUM": _reduce(np.sum),
    "TANH": _unary(np.tanh),
    "TILE": lambda inputs, _options: np.tile(inputs[0], [int(n) for n in inputs[1]]),
    "TRANSPOSE": lambda inputs, _options: np.transpose(inputs[0], [int(n) for n in inputs[1]]),
    "TRANSPOSE_CONV": _transpose_conv,
    "UNPACK": lambda inputs, options: list(np.moveaxis(inputs[0], options.get("Axis", 0), 0)),
}

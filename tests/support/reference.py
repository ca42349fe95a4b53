"""The oracle: every operator in float64 NumPy, written for clearness and for nothing else.

It shares no code with the compiler or the engine. Activations have a leading batch dimension and
are NHWC: (N, H, W, C) or (N, features). Each function converts its arguments to float64 first, so
float32 weights keep the values they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Klambauer et al., "Self-Normalizing Neural Networks" (2017); the values are those of Keras and of
# ONNX.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def _f64(x: ArrayLike) -> F64:
    return np.asarray(x, dtype=np.float64)


def _out_size(size: int, before: int, after: int, extent: int, stride: int) -> int:
    """Number of windows of ``extent`` that fit, rounded down."""
    return (size + before + after - extent) // stride + 1


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> F64:
    """Cross-correlation of ``x`` (N, H, W, C) with ``w`` (KH, KW, C / groups, O); ``pad`` is (top,
    left, bottom, right)."""
    x, w = _f64(x), _f64(w)
    if groups > 1:
        parts = zip(np.split(x, groups, axis=3), np.split(w, groups, axis=3), strict=True)
        out = np.concatenate([conv2d(a, b, None, stride, dilation, pad) for a, b in parts], axis=3)
        return out if bias is None else out + _f64(bias)
    kh, kw, in_channels, out_channels = w.shape
    assert x.shape[3] == in_channels
    top, left, bottom, right = pad
    out_h = _out_size(x.shape[1], top, bottom, dilation[0] * (kh - 1) + 1, stride[0])
    out_w = _out_size(x.shape[2], left, right, dilation[1] * (kw - 1) + 1, stride[1])
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    out = np.zeros((x.shape[0], out_h, out_w, out_channels))
    for ky in range(kh):
        for kx in range(kw):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            tap = x[:, y0 :: stride[0], x0 :: stride[1], :][:, :out_h, :out_w, :]
            out += tap @ w[ky, kx]
    return out if bias is None else out + _f64(bias)


def conv_transpose2d(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> F64:
    """Each pixel of ``x`` (N, H, W, C) times ``w`` (KH, KW, C / groups, O), added where it falls;
    ``pad`` is (top, left, bottom, right)."""
    x, w = _f64(x), _f64(w)
    n, rows, columns, _ = x.shape
    kh, kw, each, out_channels = w.shape
    top, left, bottom, right = pad
    height = (rows - 1) * stride[0] + dilation[0] * (kh - 1) + 1
    width = (columns - 1) * stride[1] + dilation[1] * (kw - 1) + 1
    out = np.zeros((n, height + output_padding[0], width + output_padding[1], out_channels))
    for i in range(rows):
        for j in range(columns):
            for ky in range(kh):
                for kx in range(kw):
                    for g in range(groups):
                        of = slice(g * out_channels // groups, (g + 1) * out_channels // groups)
                        given = x[:, i, j, g * each : (g + 1) * each]
                        y, z = i * stride[0] + ky * dilation[0], j * stride[1] + kx * dilation[1]
                        out[:, y, z, of] += given @ w[ky, kx, :, of]
    out = out[:, top : out.shape[1] - bottom, left : out.shape[2] - right]
    return out if bias is None else out + _f64(bias)


def activate(x: ArrayLike, name: str = "linear", alpha: float = 0.0) -> F64:
    """Apply an activation; ``alpha`` is the slope (leaky_relu) or the scale (elu) below zero."""
    x = _f64(x)
    negative = np.minimum(x, 0.0)
    match name:
        case "linear":
            return x
        case "relu":
            return np.maximum(x, 0.0)
        case "leaky_relu":
            return np.where(x < 0.0, alpha * x, x)
        case "elu":
            return np.where(x < 0.0, alpha * np.expm1(negative), x)
        case "selu":
            return SELU_SCALE * np.where(x < 0.0, SELU_ALPHA * np.expm1(negative), x)
        case "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x < 0.0, e, 1.0) / (1.0 + e)
        case "tanh":
            return np.tanh(x)
        case "clipped_relu":
            return np.clip(x, 0.0, alpha)
        case "hard_sigmoid":
            return np.clip(alpha * x + 0.5, 0.0, 1.0)
        case "hard_swish":
            return x * np.clip(x / 6 + 0.5, 0.0, 1.0)
        case "silu":
            return x * activate(x, "sigmoid")
        case "softplus":
            return np.logaddexp(x, 0.0)
        case "gelu":
            return 0.5 * x * (1.0 + activate(x / math.sqrt(2.0), "erf"))
        case "erf":
            return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))
        case "exponential":
            return np.exp(x)
        case "log" | "sqrt":
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(x) if name == "log" else np.sqrt(x)
        case "abs":
            return np.abs(x)
        case "softsign":
            return x / (1.0 + np.abs(x))
        case "mish":
            return x * np.tanh(np.logaddexp(x, 0.0))
        case "gelu_tanh":
            return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    raise ValueError(f"unknown activation {name!r}")


def affine(x: ArrayLike, scale: ArrayLike, shift: ArrayLike, axis: str) -> F64:
    """``x * scale + shift``, one pair for each row ("height"), column ("width") or "channel"."""
    x = _f64(x)
    index = {"height": 1, "width": 2, "channel": x.ndim - 1}[axis]
    return _affine(x, scale, shift, index)


def _affine(x: F64, scale: ArrayLike, shift: ArrayLike, index: int) -> F64:
    shape = [1] * x.ndim
    shape[index] = x.shape[index]
    return x * _f64(scale).reshape(shape) + _f64(shift).reshape(shape)


def pool2d(
    x: ArrayLike,
    mode: str,
    size: tuple[int, int],
    stride: tuple[int, int] | None = None,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> F64:
    """Pool (N, H, W, C); "max" ignores padding, "average" does not count it. Output sizes round
    down."""
    x = _f64(x)
    stride = stride or size
    top, left, bottom, right = pad
    out_h = _out_size(x.shape[1], top, bottom, size[0], stride[0])
    out_w = _out_size(x.shape[2], left, right, size[1], stride[1])
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    fill = {"max": -np.inf, "average": 0.0}[mode]
    padded = np.pad(x, widths, constant_values=fill)
    inside = np.pad(np.ones_like(x), widths)

    def windows(values: F64) -> F64:
        return np.stack(
            [
                values[:, ky :: stride[0], kx :: stride[1], :][:, :out_h, :out_w, :]
                for ky in range(size[0])
                for kx in range(size[1])
            ]
        )

    if mode == "max":
        return windows(padded).max(axis=0)
    return windows(padded).sum(axis=0) / windows(inside).sum(axis=0)


def dense(x: ArrayLike, w: ArrayLike, bias: ArrayLike | None = None) -> F64:
    """``x @ w + bias``; an input of more than two dimensions is read in row-major order."""
    x = _f64(x)
    out = x.reshape(x.shape[0], -1) @ _f64(w)
    return out if bias is None else out + _f64(bias)


def quantize_rows(x: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], F32]:
    """Bytes 0 to 255 (N, features), the byte that stands for 0 (N,), and the step (N,) between
    bytes: FORMAT.md's dynamic quantisation, in float32 as it says."""
    x = np.asarray(x, dtype=np.float32)
    x = x.reshape(x.shape[0], -1)
    least, greatest = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    finite = np.isfinite(x).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        step = greatest / np.float32(255) - least / np.float32(255)
        step[~(step >= np.finfo(np.float32).tiny)] = 0
        inverse = np.where((step > 0) & finite, np.float32(1) / step, np.float32(0))
        zero = np.minimum(np.rint(-least * inverse), 255)
        bytes_ = np.clip(np.rint(x * inverse[:, None]) + zero[:, None], 0, 255)
    step[~finite], bytes_[~finite], zero[~finite] = np.nan, 0, 0
    return bytes_.astype(np.int64), zero.astype(np.int64), step


def dense_dynamic(
    x: ArrayLike, integers: ArrayLike, scale: ArrayLike, bias: ArrayLike | None = None
) -> F32:
    """A dense layer of ``integers`` times the ``scale`` of their column, its input quantised: exact
    sums of integers, then each operation rounded to float32, in this order."""
    bytes_, zero, step = quantize_rows(x)
    sums = (bytes_ - zero[:, None]) @ np.asarray(integers, dtype=np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        out = sums.astype(np.float32) * step[:, None] * np.asarray(scale, np.float32)
        return out if bias is None else out + np.asarray(bias, np.float32)


def softmax(x: ArrayLike) -> F64:
    """Softmax over the last axis."""
    x = _f64(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def binary(x: ArrayLike, other: ArrayLike, kind: str) -> F64:
    """Two operands, of which the second broadcasts to the first but for the batch."""
    x, other = _f64(x), _f64(other)
    match kind:
        case "add":
            return x + other
        case "sub":
            return x - other
        case "mul":
            return x * other
        case "div":
            return x / other
        case "max":
            return np.maximum(x, other)
        case "min":
            return np.minimum(x, other)
        case "prelu":
            return np.where(x > 0.0, x, x * other)
    raise ValueError(f"unknown kind {kind!r}")


def layernorm(x: ArrayLike, epsilon: float, scale: Any = None, shift: Any = None) -> F64:
    """Layer normalization over the last axis."""
    x = _f64(x)
    centred = x - x.mean(axis=-1, keepdims=True)
    out = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    out = out if scale is None else out * _f64(scale)
    return out if shift is None else out + _f64(shift)


def resize(x: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> F64:
    """Rows and columns of (N, H, W, C) at positions from 0: each row has a share of those that are
    less than one away."""
    x = _f64(x)
    shares = [
        np.maximum(0.0, 1.0 - np.abs(_f64(at)[:, np.newaxis] - np.arange(size)))
        for at, size in zip((rows, columns), x.shape[1:3], strict=True)
    ]
    return np.einsum("nhwc,rh,sw->nrsc", x, *shares)


def recurrent(
    x: ArrayLike,
    kind: str,
    weights: ArrayLike,
    bias: ArrayLike | None,
    activation: tuple[str, float],
    gates: tuple[str, float],
    backwards: bool,
) -> F64:
    """The state at each step of (N, ..., steps, gates * units), step by step."""
    x, weights = _f64(x), _f64(weights)
    bias = np.zeros(weights.shape[1]) if bias is None else _f64(bias)
    units = len(weights)
    h = c = np.zeros((*x.shape[:-2], units))
    out = np.zeros((*x.shape[:-1], units))
    order = range(x.shape[-2])
    for step in reversed(order) if backwards else order:
        given = x[..., step, :]
        sums = given + h @ weights + bias
        parts = [sums[..., i : i + units] for i in range(0, sums.shape[-1], units)]
        if kind == "simple":
            h = activate(sums, *activation)
        elif kind == "lstm":
            i, f, o = (activate(parts[k], *gates) for k in (0, 1, 3))
            c = f * c + i * activate(parts[2], *activation)
            h = o * activate(c, *activation)
        else:
            z, r = (activate(part, *gates) for part in parts[:2])
            last = slice(2 * units, None)
            if kind == "gru":
                inner = (r * h) @ weights[:, last] + bias[last]
            else:
                inner = r * (h @ weights[:, last] + bias[last])
            h = z * h + (1 - z) * activate(given[..., last] + inner, *activation)
        out[..., step, :] = h
    return out


def run_op(op: Any, x: F64, other: F64 | None = None) -> F64:
    """Run one operator of the compiler's IR (a dataclass of ``fastdigit.compiler.ir``) on a
    batch."""
    match type(op).__name__:
        case "Conv2D":
            x = conv2d(x, op.weights, op.bias, op.stride, op.dilation, op.pad, op.groups)
            return _epilogue(op, x)
        case "ConvTranspose2D":
            sizes = (op.stride, op.dilation, op.pad, op.output_padding, op.groups)
            return _epilogue(op, conv_transpose2d(x, op.weights, op.bias, *sizes))
        case "Dense" if op.precision == "int8-dynamic":
            integers = np.rint(op.weights / _f64(op.scale))
            return _epilogue(op, _f64(dense_dynamic(x, integers, op.scale, op.bias)))
        case "Dense":
            return _epilogue(op, dense(x, op.weights, op.bias))
        case "Eltwise":
            return _epilogue(op, x)
        case "Pool2D":
            return pool2d(x, op.pool.mode, op.pool.size, op.pool.stride, op.pool.pad)
        case "Softmax":
            return softmax(x / op.temperature)
        case "LogSoftmax":
            shifted = x - x.max(axis=-1, keepdims=True)
            return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        case "LayerNorm":
            return layernorm(x, op.epsilon, op.scale, op.shift)
        case "Recurrent":
            functions = [(f.name, f.alpha) for f in (op.activation, op.gates)]
            return recurrent(x, op.kind, op.weights, op.bias, *functions, op.backwards)
        case "Resize":
            return resize(x, op.rows, op.columns)
        case "Binary":
            if op.constant is not None:
                other = _f64(op.constant)[np.newaxis]
            assert other is not None
            missing = x.ndim - other.ndim
            other = other.reshape(other.shape[0], *(1,) * missing, *other.shape[1:])
            return _epilogue(op, binary(x, other, op.kind))
        case "Concat":
            return np.concatenate([x, _f64(other)], axis=op.axis + 1)
        case "Pad":
            return np.pad(x, ((0, 0), *op.widths), constant_values=op.value)
        case "Crop":
            ends = (size - after for size, (_, after) in zip(x.shape[1:], op.widths, strict=True))
            kept = (slice(a, end) for (a, _), end in zip(op.widths, ends, strict=True))
            return x[(slice(None), *kept)]
        case "Transpose":
            return x.transpose(0, *(axis + 1 for axis in op.perm))
        case "Reshape":
            return x.reshape(x.shape[0], *op.shape)
    raise ValueError(f"unknown operator {type(op).__name__}")


def _epilogue(op: Any, x: F64) -> F64:
    """Activation, affine, pooling: in this order, each of them optional."""
    x = activate(x, op.activation.name, op.activation.alpha)
    if getattr(op, "affine", None) is not None:
        x = _affine(x, op.affine.scale, op.affine.shift, op.affine.axis + 1)
    if getattr(op, "pool", None) is not None:
        x = pool2d(x, op.pool.mode, op.pool.size, op.pool.stride, op.pool.pad)
    return x


def run_graph(graph: Any, x: ArrayLike) -> F64:
    """Run a graph of one input and one output on ``x`` (N, *graph input shape)."""
    (output,) = run_outputs(graph, [x])
    return output


def run_outputs(graph: Any, inputs: Sequence[ArrayLike]) -> list[F64]:
    """Run a graph of the compiler's IR; every shape on the way is checked."""
    values = dict(zip(graph.inputs, map(_f64, inputs), strict=True))
    for node in graph.nodes:
        out = run_op(node.op, *(values[source] for source in node.inputs))
        assert out.shape[1:] == tuple(graph.shapes[node.output]), (node.name, out.shape)
        values[node.output] = out
    return [values[value] for value in graph.outputs]

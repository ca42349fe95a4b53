"""Evaluates a graph in NumPy: in float64, which is what the network means, and in float32, which
shows how near to that a float32 runtime can come.

A float32 sum of n terms is off by up to ``n * u * sum(|terms|)``, ``u = 2**-24``, and by about its
square root of n in place of n, see Higham, "Accuracy and Stability of Numerical Algorithms" (2002),
chapters 3 and 4, and Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis"
(2019). How much of that reaches the output hangs on the network: a softmax that is sure of itself
hides it, one that wavers shows all of it. Bounds that are carried from layer to layer grow by what
layers could amplify at worst, and soon allow everything; so the error is measured, not bounded:
the same graph in float32, with the terms of each sum added in several ways: in the blocks of a
BLAS, in one chain, in some interleaved chains, whose partial sums may be greater than the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastdigit.compiler import activations
from fastdigit.compiler.axes import aligned_shape
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Pair, Pool, Sides
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

__all__ = ["EVALUATORS", "evaluate", "multiply_adds"]

Values: TypeAlias = NDArray[np.floating[Any]]

#: Numbers that an operator may have in memory at once, with all windows of its images.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Arithmetic:
    """How numbers are computed with.

    Parameters
    ----------
    dtype
        float64 or float32: of every value.
    order
        Of the terms of sums: 0 is that of the weights, 1 the reverse, any other number a random
        one.
    chains
        How they are added: in so many chains, of every so many'th term; 0: as NumPy does.
    """

    dtype: DTypeLike = np.float64
    order: int = 0
    chains: int = 0

    def of(self, array: Any) -> Values:
        """Return numbers rounded to the type."""
        return np.asarray(array).astype(self.dtype, copy=False)

    def product(self, rows: Values, weights: Any) -> Values:
        """Return ``rows`` (..., n) times ``weights`` (n, outputs), whose sums have n terms."""
        matrix = self.of(weights)
        if self.order:
            terms = np.arange(len(matrix))[::-1]
            if self.order > 1:
                terms = np.random.default_rng(self.order).permutation(len(matrix))
            rows, matrix = rows[..., terms], matrix[terms]
        if not self.chains:
            return np.asarray(rows @ matrix)
        flat = rows.reshape(-1, len(matrix))
        total: Any = 0
        for first in range(min(self.chains, len(matrix))):
            chain = slice(first, None, self.chains)
            # Without optimize, each product is added to one sum: what BLAS does not do.
            total = total + np.einsum("nk,km->nm", flat[:, chain], matrix[chain], optimize=False)
        return np.asarray(total).reshape(*rows.shape[:-1], -1)


#: (operator, arithmetic, its inputs (N, ...)) -> its output (N, ...).
Evaluator: TypeAlias = Callable[..., Values]

#: By the type of the operator.
EVALUATORS: dict[type[Op], Evaluator] = {}


def evaluate(
    graph: Graph,
    inputs: Sequence[Any],
    dtype: DTypeLike = np.float64,
    order: int = 0,
    chains: int = 0,
) -> list[NDArray[Any]]:
    """Run a graph, as :class:`Arithmetic` says, on images (N, *shape) for each of its inputs;
    return each of its outputs (N, *shape)."""
    arithmetic = Arithmetic(dtype, order, chains)
    given = [
        np.asarray(images).reshape(len(images), *graph.shapes[value])
        for images, value in zip(inputs, graph.inputs, strict=True)
    ]
    step = max(1, CHUNK // max((_size(graph, node) for node in graph.nodes), default=CHUNK))
    parts = [
        _run(graph, arithmetic, [images[first : first + step] for images in given])
        for first in range(0, len(given[0]), step)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def multiply_adds(graph: Graph) -> int:
    """Multiply-adds for an image, and one for each element of a value."""
    shapes = graph.shapes
    counts = (
        node.op.multiply_adds(shapes[node.inputs[0]], shapes[node.output]) for node in graph.nodes
    )
    return sum(counts) + sum(math.prod(shape) for shape in graph.shapes.values())


def _size(graph: Graph, node: Node) -> int:
    """How many numbers evaluating a node takes for an image, with all its windows."""
    output = graph.shapes[node.output]
    sizes = [math.prod(graph.shapes[value]) for value in (*node.inputs, node.output)]
    if isinstance(node.op, Conv2D | ConvTranspose2D):
        work = node.op.multiply_adds(graph.shapes[node.inputs[0]], output)
        sizes.append(work * node.op.groups // node.op.weights.shape[-1])
    return max(sizes)


def _run(graph: Graph, arithmetic: Arithmetic, inputs: list[NDArray[Any]]) -> list[Values]:
    last = {value: at for at, node in enumerate(graph.nodes) for value in node.inputs}
    values = dict(zip(graph.inputs, map(arithmetic.of, inputs), strict=True))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for at, node in enumerate(graph.nodes):
            given = [values[source] for source in node.inputs]
            result = EVALUATORS[type(node.op)](node.op, arithmetic, *given)
            values[node.output] = arithmetic.of(result)
            for source in node.inputs:
                if last[source] == at and source not in graph.outputs:
                    values.pop(source, None)
    return [values[value] for value in graph.outputs]


def _evaluates(kind: type[Op]) -> Callable[[Evaluator], Evaluator]:
    def register(evaluator: Evaluator) -> Evaluator:
        EVALUATORS[kind] = evaluator
        return evaluator

    return register


# ---- what operators share ----


def _activation(activation: Activation, a: Arithmetic, x: Values) -> Values:
    if activation.name == "linear":
        return x
    if activation.name == "relu":  # without the way by float64
        return np.maximum(x, a.of(0))
    return a.of(activations.evaluate(activation.name, activation.alpha, x.astype(np.float64)))


def _affine(affine: Affine | None, a: Arithmetic, x: Values) -> Values:
    if affine is None:
        return x
    shape = [1] * x.ndim
    shape[affine.axis + 1] = -1
    result: Values = x * a.of(affine.scale).reshape(shape) + a.of(affine.shift).reshape(shape)
    return result


def _biased(bias: Any, a: Arithmetic, x: Values) -> Values:
    return x if bias is None else np.asarray(x + a.of(bias))


def _pool(pool: Pool | None, a: Arithmetic, x: Values) -> Values:
    if pool is None:
        return x
    top, left, bottom, right = pool.pad
    sides = ((0, 0), (top, bottom), (left, right), (0, 0))
    fill = -np.inf if pool.mode == "max" else 0.0
    padded = np.pad(x, sides, constant_values=fill) if any(pool.pad) else x
    count = np.pad(np.ones((1, *x.shape[1:3], 1)), sides)

    def windows(given: NDArray[Any]) -> NDArray[Any]:
        return _windows(given, pool.size, pool.stride, (1, 1))

    if pool.mode == "max":
        return np.asarray(windows(padded).max(axis=(3, 4)))
    total = a.of(windows(padded).sum(axis=(3, 4)))
    return np.asarray(total / a.of(windows(count).sum(axis=(3, 4))))


def _windows(x: NDArray[Any], size: Pair, stride: Pair, dilation: Pair) -> NDArray[Any]:
    """Return the windows (N, rows, columns, *size, C) of images (N, H, W, C), as a view."""
    extent = [dilation[d] * (size[d] - 1) + 1 for d in (0, 1)]
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _padded(x: Values, pad: Sides) -> Values:
    top, left, bottom, right = pad
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))) if any(pad) else x


def _mean(x: Values) -> Values:
    return np.asarray(x.mean(axis=-1, keepdims=True))


# ---- operators ----


@_evaluates(Conv2D)
def _conv2d(op: Conv2D, a: Arithmetic, x: Values) -> Values:
    height, width, each, outputs = op.weights.shape
    found = _windows(_padded(x, op.pad), (height, width), op.stride, op.dilation)
    if each == 1 and op.groups > 1:  # depthwise: a product for each tap
        x = np.zeros((*found.shape[:3], outputs), a.of(x).dtype)
        taps = [(i, j) for i in range(height) for j in range(width)]
        for i, j in taps[::-1] if a.order else taps:
            part = found[:, :, :, i, j]
            part = part if outputs == op.groups else np.repeat(part, outputs // op.groups, -1)
            x += part * a.of(op.weights[i, j, 0])
    else:
        share = outputs // op.groups
        parts = []
        for group in range(op.groups):
            rows = found[..., group * each : (group + 1) * each]
            weights = op.weights[..., group * share : (group + 1) * share]
            parts.append(a.product(rows.reshape(*rows.shape[:3], -1), weights.reshape(-1, share)))
        x = parts[0] if op.groups == 1 else np.concatenate(parts, axis=3)
    x = _activation(op.activation, a, _biased(op.bias, a, x))
    return _pool(op.pool, a, _affine(op.affine, a, x))


@_evaluates(ConvTranspose2D)
def _conv_transpose2d(op: ConvTranspose2D, a: Arithmetic, x: Values) -> Values:
    """As the convolution of the input with zeros between its pixels and the kernel turned round."""
    height, width = op.weights.shape[:2]
    count, rows, columns, channels = x.shape
    spread = np.zeros(
        (count, (rows - 1) * op.stride[0] + 1, (columns - 1) * op.stride[1] + 1, channels), x.dtype
    )
    spread[:, :: op.stride[0], :: op.stride[1]] = x
    reach = [op.dilation[d] * (size - 1) for d, size in enumerate((height, width))]
    top, left, bottom, right = op.pad
    sides = (reach[0], reach[1], reach[0] + op.output_padding[0], reach[1] + op.output_padding[1])
    turned = Conv2D(op.weights[::-1, ::-1], None, dilation=op.dilation, pad=sides, groups=op.groups)
    full = _conv2d(turned, a, spread)
    full = full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]
    return _affine(op.affine, a, _activation(op.activation, a, _biased(op.bias, a, full)))


@_evaluates(Dense)
def _dense(op: Dense, a: Arithmetic, x: Values) -> Values:
    if op.precision == "int8-dynamic":
        raise ValueError("int8-dynamic computes with integers; evaluate the graph as it was before")
    x = a.product(x.reshape(len(x), -1), op.weights)
    return _activation(op.activation, a, _biased(op.bias, a, x))


@_evaluates(Eltwise)
def _eltwise(op: Eltwise, a: Arithmetic, x: Values) -> Values:
    return _affine(op.affine, a, _activation(op.activation, a, x))


@_evaluates(Binary)
def _binary(op: Binary, a: Arithmetic, x: Values, other: Values | None = None) -> Values:
    if other is None:
        other = a.of(op.constant)[np.newaxis]
    other = other.reshape(len(other), *aligned_shape(other.shape[1:], x.ndim - 1))
    found: Values
    match op.kind:
        case "add":
            found = x + other
        case "sub":
            found = x - other
        case "mul":
            found = x * other
        case "div":
            found = x / other
        case "max":
            found = np.maximum(x, other)
        case "min":
            found = np.minimum(x, other)
        case "prelu":
            found = np.where(x > 0, x, x * other)
        case _:
            raise AssertionError(op.kind)
    return _affine(op.affine, a, _activation(op.activation, a, found))


@_evaluates(Pool2D)
def _pool2d(op: Pool2D, a: Arithmetic, x: Values) -> Values:
    return _pool(op.pool, a, x)


@_evaluates(Softmax)
def _softmax(op: Softmax, a: Arithmetic, x: Values) -> Values:
    powers = np.exp((x - x.max(axis=-1, keepdims=True)) / a.of(op.temperature))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@_evaluates(LogSoftmax)
def _logsoftmax(op: LogSoftmax, a: Arithmetic, x: Values) -> Values:
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


@_evaluates(LayerNorm)
def _layernorm(op: LayerNorm, a: Arithmetic, x: Values) -> Values:
    centred = x - _mean(x)
    x = centred / np.sqrt(_mean(centred * centred) + a.of(op.epsilon))
    x = x if op.scale is None else x * a.of(op.scale)
    return _biased(op.shift, a, x)


@_evaluates(Resize)
def _resize(op: Resize, a: Arithmetic, x: Values) -> Values:
    for axis, positions in ((1, op.rows), (2, op.columns)):
        exact = np.asarray(positions, np.float64)
        below = np.floor(exact).astype(np.int64)
        above = np.minimum(below + 1, x.shape[axis] - 1)
        shape = [1] * x.ndim
        shape[axis] = -1
        share = a.of(exact - below).reshape(shape)
        x = x.take(below, axis) * (1 - share) + x.take(above, axis) * share
    return x


@_evaluates(Concat)
def _concat(op: Concat, a: Arithmetic, x: Values, other: Values) -> Values:
    return np.concatenate([x, other], axis=op.axis + 1)


@_evaluates(Pad)
def _pad(op: Pad, a: Arithmetic, x: Values) -> Values:
    return np.pad(x, ((0, 0), *op.widths), constant_values=op.value)


@_evaluates(Crop)
def _crop(op: Crop, a: Arithmetic, x: Values) -> Values:
    sizes = zip(x.shape[1:], op.widths, strict=True)
    return x[(slice(None), *(slice(before, size - after) for size, (before, after) in sizes))]


@_evaluates(Recurrent)
def _recurrent(op: Recurrent, a: Arithmetic, x: Values) -> Values:
    steps, units = x.shape[-2], len(op.weights)
    state = np.zeros((*x.shape[:-2], units), x.dtype)
    cell, result = state, np.empty((*x.shape[:-1], units), x.dtype)

    def gate(given: Values) -> Values:
        return _activation(op.gates, a, given)

    def activated(given: Values) -> Values:
        return _activation(op.activation, a, given)

    for step in range(steps)[::-1] if op.backwards else range(steps):
        shares = np.split(x[..., step, :], x.shape[-1] // units, axis=-1)
        product = _biased(op.bias, a, a.product(state, op.weights))
        products = np.split(product, len(shares), axis=-1)
        sums = [share + part for share, part in zip(shares, products, strict=True)]
        if op.kind == "simple":
            state = activated(sums[0])
        elif op.kind == "lstm":
            cell = gate(sums[1]) * cell + gate(sums[0]) * activated(sums[2])
            state = gate(sums[3]) * activated(cell)
        else:
            update, reset = gate(sums[0]), gate(sums[1])
            if op.kind == "gru":
                bias = None if op.bias is None else op.bias[2 * units :]
                last = a.product(reset * state, op.weights[:, 2 * units :])
                last = _biased(bias, a, last)
            else:
                last = reset * products[2]
            state = update * state + (1 - update) * activated(shares[2] + last)
        result[..., step, :] = state
    return result


@_evaluates(Transpose)
def _transpose(op: Transpose, a: Arithmetic, x: Values) -> Values:
    return x.transpose(0, *(axis + 1 for axis in op.perm))


@_evaluates(Reshape)
def _reshape(op: Reshape, a: Arithmetic, x: Values) -> Values:
    return x.reshape(len(x), *op.shape)

"""What each operator accepts and returns: one row of :data:`OPS` an operator.

A row's rule takes the operator and the shapes of its inputs, checks them, and returns the shape of
its output. It raises :class:`ValueError` with a reason; :func:`infer` adds the name of the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdigit.compiler.ir import (
    Activation,
    Affine,
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    Graph,
    LayerNorm,
    Node,
    Op,
    Pad,
    Pool,
    Pool2D,
    Reshape,
    Shape,
    Softmax,
    Transpose,
)
from fastdigit.errors import UnsupportedError

__all__ = [
    "ACTIVATIONS",
    "BINARIES",
    "MONOTONE",
    "OPS",
    "PRECISIONS",
    "ZERO_AT_ZERO",
    "OpSpec",
    "arity",
    "infer",
    "make_graph",
]

#: Every activation.
ACTIVATIONS = (
    *("linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh"),
    *("clipped_relu", "hard_sigmoid", "hard_swish", "silu", "softplus", "gelu", "gelu_tanh"),
    "erf",
)
#: Those that never decrease, and so commute with a maximum.
MONOTONE = frozenset(ACTIVATIONS) - {"hard_swish", "silu", "gelu", "gelu_tanh"}
#: Those that keep zeros.
ZERO_AT_ZERO = frozenset(ACTIVATIONS) - {"sigmoid", "hard_sigmoid", "softplus"}
_WITH_ALPHA = ("leaky_relu", "elu", "clipped_relu", "hard_sigmoid")
#: Every kind of Binary.
BINARIES = ("add", "sub", "mul", "div", "max", "min", "prelu")
#: How the weights of a dense layer can be stored; for int8-dynamic, its inputs become bytes too.
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")


@dataclass(frozen=True)
class OpSpec:
    """A row of the table.

    Parameters
    ----------
    infer
        (operator, shape of each input) -> output shape, or ValueError.
    """

    infer: Callable[..., Shape]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_activation(activation: Activation) -> None:
    name, alpha = activation.name, activation.alpha
    _require(name in ACTIVATIONS, f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}")
    _require(
        math.isfinite(alpha) and (alpha >= 0 if name in _WITH_ALPHA else alpha == 0),
        f"activation {name} has alpha {alpha}; "
        + ("expected a finite number >= 0" if name in _WITH_ALPHA else "expected none"),
    )


def _check_vector(what: str, array: np.ndarray[Any, Any] | None, size: int) -> None:
    if array is not None:
        _require(array.shape == (size,), f"{what} has shape {array.shape}, expected ({size},)")
        _require(bool(np.isfinite(array).all()), f"{what} has values that are not finite")


def _check_affine(affine: Affine | None, shape: Shape) -> None:
    if affine is not None:
        _require(0 <= affine.axis < len(shape), f"affine axis {affine.axis} of shape {shape}")
        _check_vector("scale", affine.scale, shape[affine.axis])
        _check_vector("shift", affine.shift, shape[affine.axis])


def _windows(size: int, before: int, after: int, extent: int, stride: int) -> int:
    _require(extent >= 1 and stride >= 1, f"window {extent} or stride {stride} is less than 1")
    _require(before >= 0 and after >= 0, f"padding ({before}, {after}) is negative")
    count = (size + before + after - extent) // stride + 1
    _require(count >= 1, f"a window of {extent} does not fit {size} (+ padding {before + after})")
    return count


def _pooled(pool: Pool, shape: Shape) -> Shape:
    _require(len(shape) == 3, f"pooling needs (height, width, channels), got shape {shape}")
    _require(pool.mode in ("max", "average"), f"pooling mode {pool.mode!r} is unknown")
    top, left, bottom, right = pool.pad
    _require(
        max(top, bottom) < pool.size[0] and max(left, right) < pool.size[1],
        f"pooling padding {pool.pad} is not less than the window {pool.size}",
    )
    height = _windows(shape[0], top, bottom, pool.size[0], pool.stride[0])
    width = _windows(shape[1], left, right, pool.size[1], pool.stride[1])
    return height, width, shape[2]


def _infer_conv2d(op: Conv2D, shape: Shape) -> Shape:
    _require(len(shape) == 3, f"Conv2D needs (height, width, channels), got shape {shape}")
    _require(op.weights.ndim == 4, f"Conv2D weights have shape {op.weights.shape}, expected 4 axes")
    kernel_h, kernel_w, channels, outputs = op.weights.shape
    groups = op.groups
    _require(
        channels * groups == shape[2],
        f"Conv2D weights take {channels * groups} channels, the input has {shape[2]}",
    )
    _require(
        groups >= 1 and outputs % groups == 0, f"Conv2D has {groups} groups for {outputs} outputs"
    )
    _require(groups == 1 or op.pool is None, f"Conv2D has {groups} groups and a pooling")
    _require(bool(np.isfinite(op.weights).all()), "Conv2D weights are not all finite")
    _check_vector("bias", op.bias, outputs)
    _check_activation(op.activation)
    _require(min(op.dilation) >= 1, f"dilation {op.dilation} is less than 1")
    top, left, bottom, right = op.pad
    extent_h = op.dilation[0] * (kernel_h - 1) + 1
    extent_w = op.dilation[1] * (kernel_w - 1) + 1
    height = _windows(shape[0], top, bottom, extent_h, op.stride[0])
    width = _windows(shape[1], left, right, extent_w, op.stride[1])
    out = (height, width, outputs)
    _check_affine(op.affine, out)
    return out if op.pool is None else _pooled(op.pool, out)


def _infer_dense(op: Dense, shape: Shape) -> Shape:
    _require(len(shape) in (1, 3), f"Dense needs a vector or an image, got shape {shape}")
    _require(op.weights.ndim == 2, f"Dense weights have shape {op.weights.shape}, expected 2 axes")
    inputs, outputs = op.weights.shape
    _require(inputs == math.prod(shape), f"Dense weights take {inputs} inputs, got shape {shape}")
    _require(bool(np.isfinite(op.weights).all()), "Dense weights are not all finite")
    _check_vector("bias", op.bias, outputs)
    _check_activation(op.activation)
    _check_precision(op)
    return (outputs,)


def _check_precision(op: Dense) -> None:
    """Check that the weights are numbers which their precision has."""
    precision, scale = op.precision, op.scale
    _require(precision in PRECISIONS, f"precision {precision!r} is not one of {PRECISIONS}")
    _require(
        (scale is not None) == (precision in ("int8", "int8-dynamic")),
        f"weights of {precision} with{'' if scale is not None else 'out'} a scale",
    )
    if precision == "fp16":
        with np.errstate(over="ignore"):
            rounded = op.weights.astype(np.float16)
        _require(bool((rounded == op.weights).all()), "weights of fp16 are not binary16 numbers")
    if scale is not None:
        _check_vector("scale", scale, op.weights.shape[1])
        with np.errstate(over="ignore"):
            stored = scale.astype(np.float32)
        _require(
            bool(((stored > 0) & (stored == scale)).all()),
            "scales of int8 weights are not float32 numbers greater than 0",
        )
        factors = scale.astype(np.float64)
        integers = np.rint(op.weights / factors)
        least = -127 if precision == "int8-dynamic" else -128
        _require(
            bool((integers * factors == op.weights).all())
            and integers.min() >= least
            and integers.max() <= 127,
            f"weights of {precision} are not integers {least} to 127 times their scale",
        )


def _infer_pool2d(op: Pool2D, shape: Shape) -> Shape:
    return _pooled(op.pool, shape)


def _infer_eltwise(op: Eltwise, shape: Shape) -> Shape:
    _check_activation(op.activation)
    _check_affine(op.affine, shape)
    return shape


def _infer_softmax(op: Softmax, shape: Shape) -> Shape:
    with np.errstate(over="ignore"):
        stored = float(np.float32(op.temperature))
    _require(
        math.isfinite(stored) and stored > 0,
        f"Softmax has temperature {op.temperature}, expected a number > 0 that float32 has",
    )
    return shape


def _infer_layernorm(op: LayerNorm, shape: Shape) -> Shape:
    _require(
        math.isfinite(op.epsilon) and op.epsilon > 0, f"LayerNorm epsilon {op.epsilon} is not > 0"
    )
    _check_vector("scale", op.scale, shape[-1])
    _check_vector("shift", op.shift, shape[-1])
    return shape


def _infer_binary(op: Binary, shape: Shape, other: Shape | None = None) -> Shape:
    _require(op.kind in BINARIES, f"Binary kind {op.kind!r} is not one of {', '.join(BINARIES)}")
    if op.constant is not None:
        _require(bool(np.isfinite(op.constant).all()), "Binary constant is not all finite")
        other = op.constant.shape
    assert other is not None
    aligned = (1,) * (len(shape) - len(other)) + other
    _require(
        len(aligned) == len(shape)
        and all(b in (1, a) for a, b in zip(shape, aligned, strict=True)),
        f"Binary of shape {shape} with {other}, which does not broadcast to it",
    )
    _check_activation(op.activation)
    _check_affine(op.affine, shape)
    return shape


def _infer_concat(op: Concat, first: Shape, second: Shape) -> Shape:
    _require(0 <= op.axis < len(first), f"Concat axis {op.axis} of shape {first}")
    axis = op.axis
    _require(
        len(first) == len(second)
        and first[:axis] + first[axis + 1 :] == second[:axis] + second[axis + 1 :],
        f"Concat of shapes {first} and {second} along axis {axis}",
    )
    return (*first[:axis], first[axis] + second[axis], *first[axis + 1 :])


def _infer_pad(op: Pad, shape: Shape) -> Shape:
    _require(len(op.widths) == len(shape), f"Pad has {len(op.widths)} axes, the shape is {shape}")
    _require(all(min(w) >= 0 for w in op.widths), f"Pad widths {op.widths} are negative: a crop")
    _require(math.isfinite(op.value), f"Pad value {op.value} is not finite")
    return tuple(size + sum(w) for size, w in zip(shape, op.widths, strict=True))


def _infer_transpose(op: Transpose, shape: Shape) -> Shape:
    _require(sorted(op.perm) == list(range(len(shape))), f"permutation {op.perm} of shape {shape}")
    return tuple(shape[axis] for axis in op.perm)


def _infer_reshape(op: Reshape, shape: Shape) -> Shape:
    _require(
        math.prod(op.shape) == math.prod(shape) and all(size >= 1 for size in op.shape),
        f"Reshape from {shape} to {op.shape} changes the number of elements",
    )
    return op.shape


OPS: dict[type[Op], OpSpec] = {
    Conv2D: OpSpec(_infer_conv2d),
    Dense: OpSpec(_infer_dense),
    Pool2D: OpSpec(_infer_pool2d),
    Eltwise: OpSpec(_infer_eltwise),
    Softmax: OpSpec(_infer_softmax),
    LayerNorm: OpSpec(_infer_layernorm),
    Binary: OpSpec(_infer_binary),
    Concat: OpSpec(_infer_concat),
    Pad: OpSpec(_infer_pad),
    Transpose: OpSpec(_infer_transpose),
    Reshape: OpSpec(_infer_reshape),
}


def arity(op: Op) -> int:
    """Return how many inputs an operator has."""
    return 2 if isinstance(op, Concat) or (isinstance(op, Binary) and op.constant is None) else 1


def infer(name: str, op: Op, *shapes: Shape) -> Shape:
    """Return the shape of ``op`` applied to values of ``shapes``.

    Raises
    ------
    UnsupportedError
        If the operator does not accept those shapes, or its own attributes contradict each other.
    """
    try:
        return OPS[type(op)].infer(op, *shapes)
    except ValueError as error:
        raise UnsupportedError(f"{name}: {error}") from None


def make_graph(input_name: str, input_shape: Shape, nodes: Iterable[Node], output: str) -> Graph:
    """Build a graph, deriving the shape of every value from that of the input."""
    nodes = tuple(nodes)
    shapes: dict[str, Shape] = {input_name: input_shape}
    for node in nodes:
        shapes[node.output] = infer(node.name, node.op, *(shapes[source] for source in node.inputs))
    return Graph(input_name, output, nodes, shapes)

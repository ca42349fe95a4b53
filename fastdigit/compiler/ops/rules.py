"""What the rules of operators share: checks of attributes, and the arithmetic of windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.ir import Activation, Affine, Pair, Pool, Shape
from fastdigit.compiler.limits import MAX_ELEMENTS, MAX_SMALL

__all__ = [
    "check_activation",
    "check_affine",
    "check_affine_values",
    "check_finite",
    "check_matrix",
    "check_pool",
    "check_small",
    "check_vector",
    "pooled",
    "pooled_from",
    "require",
    "windows",
]

Weights = np.ndarray[Any, Any]


def require(condition: bool, message: str) -> None:
    """Raise ValueError with ``message`` unless ``condition``."""
    if not condition:
        raise ValueError(message)


# ---- attributes and shapes ----


def check_activation(activation: Activation) -> None:
    name, alpha = activation.name, activation.alpha
    require(name in ACTIVATIONS, f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}")
    takes = ACTIVATIONS[name].parameter is not None
    require(
        math.isfinite(alpha) and (alpha >= 0 if takes else alpha == 0),
        f"activation {name} has alpha {alpha}; "
        + ("expected a finite number >= 0" if takes else "expected none"),
    )


def check_vector(what: str, array: Weights | None, size: int) -> None:
    if array is not None:
        require(array.shape == (size,), f"{what} has shape {array.shape}, expected ({size},)")


def check_affine(affine: Affine | None, shape: Shape) -> None:
    if affine is not None:
        require(0 <= affine.axis < len(shape), f"affine axis {affine.axis} of shape {shape}")
        check_vector("scale", affine.scale, shape[affine.axis])
        check_vector("shift", affine.shift, shape[affine.axis])


def windows(size: int, before: int, after: int, extent: int, stride: int) -> int:
    """Return how many windows fit along an axis."""
    require(extent >= 1 and stride >= 1, f"window {extent} or stride {stride} is less than 1")
    require(before >= 0 and after >= 0, f"padding ({before}, {after}) is negative")
    count = (size + before + after - extent) // stride + 1
    require(count >= 1, f"a window of {extent} does not fit {size} (+ padding {before + after})")
    return count


def pooled(pool: Pool, shape: Shape) -> Shape:
    """Return the shape of a pooled image."""
    require(len(shape) == 3, f"pooling needs (height, width, channels), got shape {shape}")
    require(pool.mode in ("max", "average"), f"pooling mode {pool.mode!r} is unknown")
    top, left, bottom, right = pool.pad
    require(
        max(top, bottom) < pool.size[0] and max(left, right) < pool.size[1],
        f"pooling padding {pool.pad} is not less than the window {pool.size}",
    )
    height = windows(shape[0], top, bottom, pool.size[0], pool.stride[0])
    width = windows(shape[1], left, right, pool.size[1], pool.stride[1])
    return height, width, shape[2]


def pooled_from(pool: Pool, given: Pair, output: Shape) -> Pair:
    """Return how many of the rows and columns of an image its pooling reads, for this result."""
    height, width = (
        min((count - 1) * stride + size - before, there)
        for count, stride, size, before, there in zip(
            output[:2], pool.stride, pool.size, pool.pad[:2], given, strict=True
        )
    )
    return height, width


# ---- values ----


def check_finite(message: str, array: Weights | None) -> None:
    """Raise ValueError with ``message`` if there are weights which are not all finite."""
    if array is not None:
        require(bool(np.isfinite(array).all()), message)


def check_affine_values(affine: Affine | None) -> None:
    if affine is not None:
        check_finite("scale has values that are not finite", affine.scale)
        check_finite("shift has values that are not finite", affine.shift)


# ---- limits of the model file ----


def check_small(*numbers: int) -> None:
    """Check kernels, strides, dilations and paddings, which the file has as small numbers."""
    require(
        max(numbers) <= MAX_SMALL,
        f"kernels, strides, dilations and paddings go up to {MAX_SMALL}, got {max(numbers)}",
    )


def check_pool(pool: Pool | None) -> None:
    if pool is not None:
        require(
            max(*pool.size, *pool.stride) <= MAX_ELEMENTS,
            f"windows and strides go up to {MAX_ELEMENTS}",
        )


def check_matrix(weights: Weights) -> None:
    """Check weights that the file has as a matrix, whose last axis is the outputs."""
    rows = math.prod(weights.shape[:-1])
    require(
        rows <= MAX_ELEMENTS and weights.shape[-1] <= MAX_ELEMENTS,
        f"weights of shape {weights.shape} are too big",
    )

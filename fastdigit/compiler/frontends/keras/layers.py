"""What the converters of layers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.registry import Ops
from fastdigit.compiler.ir import Array, Pair, Shape
from fastdigit.compiler.ops import Reshape
from fastdigit.errors import UnsupportedError

__all__ = [
    "array",
    "bias_of",
    "describe",
    "on_image",
    "pair",
    "qualified_class",
    "require_channels_last",
    "single",
]


def describe(layer: Any) -> str:
    return f"{layer.name!r} ({type(layer).__name__})"


def qualified_class(layer: Any) -> str:
    """Return the class of a layer, telling Keras' own from a user's of the same name."""
    kind = type(layer)
    return kind.__name__ if kind.__module__.split(".")[0] == "keras" else kind.__qualname__ + "!"


def require_channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedError(
            f"layer {describe(layer)}: data_format={layer.data_format!r}; supported is "
            "'channels_last' (export to ONNX to compile a channels-first model)"
        )


def array(variable: Any) -> Array:
    array: Array = np.asarray(variable)
    return array.astype(np.float32) if array.dtype != np.float64 else array


def bias_of(layer: Any) -> Array | None:
    return array(layer.bias) if layer.use_bias else None


def on_image(image: Shape, shape: Shape, ops: Ops, out: Shape) -> Ops:
    """Apply operators of images to a value of another shape, and give the result shape ``out``."""
    return ops if image == shape else [Reshape(image), *ops, Reshape(out)]


def pair(value: Any) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def single(value: Any) -> int:
    return int(value if isinstance(value, int) else value[0])

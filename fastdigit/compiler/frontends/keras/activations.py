"""Activations, as layers or as the ``activation=`` of another."""

from __future__ import annotations

import math
from typing import Any

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.axes import inverse
from fastdigit.compiler.frontends.common import clip
from fastdigit.compiler.frontends.keras.layers import array, describe, qualified_class
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, Ops, converts
from fastdigit.compiler.ir import Activation, Shape
from fastdigit.compiler.ops import Binary, Eltwise, Softmax, Transpose
from fastdigit.errors import UnsupportedError

__all__ = ["activation_of"]


def _gelu_approximates() -> bool:
    """Whether Keras' gelu without arguments is the one by tanh: its default has changed before."""
    import inspect

    import keras

    return bool(inspect.signature(keras.activations.gelu).parameters["approximate"].default)


def activation_of(layer: Any) -> Ops:
    """Convert the ``activation=`` of a layer."""
    import keras

    function = layer.activation
    if function is None or function is keras.activations.linear:
        return []
    if function is keras.activations.softmax:
        return [Softmax()]
    # With the parameters that keras.activations has; a layer with another is a class of its own.
    table: dict[Any, Activation] = {
        getattr(keras.activations, known.keras): Activation(name, known.default)
        for name, known in ACTIVATIONS.items()
        if known.keras is not None
    }
    if _gelu_approximates():
        table[keras.activations.gelu] = Activation("gelu_tanh")
    if isinstance(function, keras.layers.Layer):
        convert = CONVERTERS.get(qualified_class(function))
        if convert in (convert_relu, convert_leaky_relu, convert_elu, convert_prelu):
            return convert(function, (), ())
    elif function in table:
        return [Eltwise(table[function])]
    name = getattr(function, "__name__", getattr(function, "name", type(function).__name__))
    known_names = [known.keras for known in ACTIVATIONS.values() if known.keras is not None]
    supported = ", ".join(["linear", *known_names, "softmax"])
    raise UnsupportedError(
        f"layer {describe(layer)}: activation {name!r} is not supported; supported are {supported}"
    )


def slope_of(layer: Any, alpha: float) -> Activation:
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UnsupportedError(
            f"layer {describe(layer)}: a negative slope of {alpha}; supported are finite >= 0"
        )
    return Activation("leaky_relu", alpha) if alpha else Activation("relu")


@converts("Activation")
def convert_activation(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return activation_of(layer)


@converts("ReLU")
def convert_relu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    if layer.threshold:
        raise UnsupportedError(
            f"layer {describe(layer)}: threshold={layer.threshold}; supported is 0"
        )
    slope = slope_of(layer, float(layer.negative_slope or 0.0))
    if layer.max_value is None:
        return [Eltwise(slope)]
    high = float(layer.max_value)
    return clip(0.0, high) if slope.name == "relu" else [Eltwise(slope), *clip(-math.inf, high)]


@converts("PReLU")
def convert_prelu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Binary("prelu", array(layer.alpha))]


@converts("LeakyReLU")
def convert_leaky_relu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(slope_of(layer, float(layer.negative_slope)))]


@converts("ELU")
def convert_elu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(Activation("elu", float(layer.alpha)))]


@converts("Softmax")
def convert_softmax(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if len(axes) != 1 or axes[0] == 0:
        raise UnsupportedError(
            f"layer {describe(layer)}: axis={layer.axis}; supported is one behind the batch"
        )
    axis = axes[0] - 1 if axes[0] > 0 else axes[0] + len(shape)
    if axis == len(shape) - 1:
        return [Softmax()]
    perm = [other for other in range(len(shape)) if other != axis] + [axis]
    back = inverse(tuple(perm))
    return [Transpose(tuple(perm)), Softmax(), Transpose(back)]

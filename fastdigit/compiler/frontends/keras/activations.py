"""Activations, as layers or as the ``activation=`` of another."""

from __future__ import annotations

import math

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.axes import inverse
from fastdigit.compiler.frontends.common import clip
from fastdigit.compiler.frontends.keras.layers import activated, axis_of
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.keras.registry import Convert, Ops, converts
from fastdigit.compiler.ir import Activation, Shape
from fastdigit.compiler.ops import Binary, Eltwise, LogSoftmax, Softmax, Transpose

#: Functions whose parameter is an option of theirs, and those of which there are two.
_WITH_OPTIONS = {"relu", "leaky_relu", "elu", "hard_sigmoid", "gelu"}


def _function(name: str) -> Convert:
    def convert(_layer: Layer, _shape: Shape) -> Ops:
        return [Eltwise(Activation(name, ACTIVATIONS[name].default))]

    return convert


for _name, _known in ACTIVATIONS.items():
    if _known.keras is not None and _known.keras not in _WITH_OPTIONS:
        converts(f"activations.{_known.keras}")(_function(_name))

for _kind, _name in {"Absolute": "abs", "Sqrt": "sqrt", "Log": "log"}.items():
    converts(f"ops.{_kind}")(_function(_name))


@converts("Activation")
def convert_activation(layer: Layer, shape: Shape) -> Ops:
    return activated(layer, [], shape)


@converts("ReLU", "activations.relu")
def convert_relu(layer: Layer, _shape: Shape) -> Ops:
    if layer.number("threshold"):
        raise layer.refuse(f"threshold={layer.number('threshold')}", "0")
    slope = _slope(layer)
    if layer.options["max_value"] is None:
        return [Eltwise(slope)]
    high = layer.number("max_value")
    return clip(0.0, high) if slope.name == "relu" else [Eltwise(slope), *clip(-math.inf, high)]


@converts("PReLU")
def convert_prelu(layer: Layer, _shape: Shape) -> Ops:
    return [Binary("prelu", layer.weights["alpha"])]


@converts("LeakyReLU", "activations.leaky_relu")
def convert_leaky_relu(layer: Layer, _shape: Shape) -> Ops:
    return [Eltwise(_slope(layer))]


def _slope(layer: Layer) -> Activation:
    slope = layer.number("negative_slope")
    if slope < 0:
        raise layer.refuse(f"a negative slope of {slope}", "one >= 0")
    return Activation("leaky_relu", slope) if slope else Activation("relu")


@converts("ELU", "activations.elu")
def convert_elu(layer: Layer, _shape: Shape) -> Ops:
    return [Eltwise(Activation("elu", layer.number("alpha")))]


@converts("activations.hard_sigmoid")
def convert_hard_sigmoid(layer: Layer, _shape: Shape) -> Ops:
    return [Eltwise(Activation("hard_sigmoid", layer.number("slope")))]


@converts("activations.gelu")
def convert_gelu(layer: Layer, _shape: Shape) -> Ops:
    return [Eltwise(Activation("gelu_tanh" if layer.flag("approximate") else "gelu"))]


@converts("Softmax", "activations.softmax", "activations.log_softmax")
def convert_softmax(layer: Layer, shape: Shape) -> Ops:
    axes = layer.integers("axis")
    if len(axes) != 1:
        raise layer.refuse(f"axis={list(axes)}", "one behind the batch")
    op = LogSoftmax() if layer.kind == "activations.log_softmax" else Softmax()
    axis = axis_of(layer, axes[0], shape)
    if axis == len(shape) - 1:
        return [op]
    perm = (*(other for other in range(len(shape)) if other != axis), axis)
    return [Transpose(perm), op, Transpose(inverse(perm))]

"""Layers that read a sequence step by step, and wrappers that apply a layer to each step."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, uniform
from fastdigit.compiler.frontends.keras.kinds import FUNCTIONS, IN_TRAINING
from fastdigit.compiler.frontends.keras.layers import in_one_row, weight
from fastdigit.compiler.frontends.keras.network import Layer, describe
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, Ops, converts, joins
from fastdigit.compiler.ir import LINEAR, Activation, Array, Shape
from fastdigit.compiler.ops import Conv2D, Crop, Eltwise, Recurrent, Reshape, Resize
from fastdigit.errors import UnsupportedError

#: What treats every step alike, whatever it is wrapped in.
_OF_EACH_STEP = {
    *("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Rescaling", *IN_TRAINING),
    *(f"activations.{name}" for name in FUNCTIONS),
}
_MERGES = {"sum": "add", "mul": "mul", "ave": "add"}


@converts("SimpleRNN", "LSTM", "GRU")
def convert_recurrent(layer: Layer, shape: Shape) -> Ops:
    backwards = layer.flag("go_backwards")
    ops = _states(layer, shape, backwards)
    if not layer.flag("return_sequences"):
        return [*ops, *_last(layer, shape, backwards)]
    if backwards:  # the last step is returned first
        steps = shape[0]
        turned = Resize(np.zeros(1), np.arange(steps)[::-1] * 1.0)
        ops += in_one_row(layer, [turned], (steps, layer.integer("units")))
    return ops


def _states(layer: Layer, shape: Shape, backwards: bool) -> Ops:
    """Return what gives the state at each step, in the order of the steps."""
    for option in ("return_state", "stateful"):
        if layer.flag(option):
            raise layer.refuse(f"{option}=True", "False")
    if len(shape) != 2:
        raise layer.refuse(f"a value of shape {shape}", "a sequence (steps, channels)")
    units = layer.integer("units")
    kind, gates = {"SimpleRNN": ("simple", 1), "LSTM": ("lstm", 4), "GRU": ("gru", 3)}[layer.kind]
    kernel = weight(layer, "kernel", shape[1], gates * units)
    recurrent = weight(layer, "recurrent_kernel", units, gates * units)
    bias: Array | None = None
    inner: Array | None = None
    if layer.kind == "GRU" and layer.flag("reset_after"):
        kind = "gru_reset_after"
        if layer.flag("use_bias"):
            bias, inner = weight(layer, "bias", 2, gates * units)
    elif layer.flag("use_bias"):
        bias = weight(layer, "bias", gates * units)
    product = Conv2D(kernel[np.newaxis, np.newaxis], bias)
    function = LINEAR if kind == "simple" else _function(layer, "recurrent_activation")
    state = Recurrent(kind, recurrent, inner, _function(layer, "activation"), function, backwards)
    return [*in_one_row(layer, [product], shape), state]


def _last(layer: Layer, shape: Shape, backwards: bool) -> Ops:
    """Return what takes the state behind all steps."""
    others = shape[0] - 1
    cut = (0, others) if backwards else (others, 0)
    return [Crop((cut, (0, 0))), Reshape((layer.integer("units"),))]


def _function(layer: Layer, option: str) -> Activation:
    """Return the activation of a state or of gates."""
    given = layer.options[option]
    if given is None:
        return LINEAR
    ops = CONVERTERS[given.kind](given, ())
    if len(ops) != 1 or not isinstance(ops[0], Eltwise) or ops[0].affine is not None:
        raise layer.refuse(f"{option}={given.kind.rpartition('.')[2]}", "a function of one number")
    return ops[0].activation


@joins("Bidirectional")
def convert_bidirectional(builder: GraphBuilder, layer: Layer, operands: list[str | Array]) -> str:
    name = describe(layer)
    if len(operands) != 1 or not isinstance(operands[0], str):
        raise UnsupportedError(f"layer {name} is called with {len(operands)} values, expected 1")
    mode = layer.word("merge_mode", "concat", "sum", "mul", "ave")
    shape = builder.shapes[operands[0]]
    found = []
    for inner in layer.layers:
        if inner.kind not in ("SimpleRNN", "LSTM", "GRU"):
            raise layer.refuse(f"a layer of the kind {inner.kind}", "LSTM, GRU or SimpleRNN")
        backwards = inner.flag("go_backwards")
        ops = _states(inner, shape, backwards)
        if not inner.flag("return_sequences"):
            ops += _last(inner, shape, backwards)
        value = operands[0]
        for op in ops:
            value = builder.add(name, op, value)
        found.append(value)
    forward, backward = found
    if mode == "concat":
        return builder.concat(name, len(builder.shapes[forward]) - 1, found)
    value = builder.combine(name, _MERGES[mode], forward, backward)
    if mode == "ave":
        half = Eltwise(affine=uniform(builder.shapes[value], 0.5))
        value = builder.add(name, half, value)
    return value


@converts("TimeDistributed")
def convert_time_distributed(layer: Layer, shape: Shape) -> Ops:
    """Apply a layer to each step: what treats all alike needs no steps, a flatten keeps them."""
    (inner,) = layer.layers
    if len(shape) < 2:
        raise layer.refuse(f"a value of shape {shape}", "one with steps")
    if inner.kind == "Flatten" and inner.options["data_format"] == "channels_last":
        return [Reshape((shape[0], math.prod(shape[1:])))]
    if inner.kind not in _OF_EACH_STEP:
        raise layer.refuse(f"a layer of the kind {inner.kind}", "Dense, Flatten or an activation")
    return CONVERTERS[inner.kind](inner, shape)

"""From a :class:`Network` to a graph: applies the converters, call by call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import (
    DEFAULTS,
    GraphBuilder,
    Imported,
    ImportOptions,
    Port,
    not_supported,
)
from fastdigit.compiler.frontends.keras.layers import result
from fastdigit.compiler.frontends.keras.network import Input, Layer, Network, Value, describe
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, JOINS, Ops
from fastdigit.compiler.frontends.layout import channels_last
from fastdigit.compiler.ir import Array, Shape
from fastdigit.compiler.ops import Transpose
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["import_network"]


def import_network(network: Network, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a model as a graph.

    Raises
    ------
    UnsupportedError
        Naming all layers that are not supported, or an option, and what is supported.
    InputError
        If the options do not fit the model.
    """
    network = network.choose(options.choose(network.output_names))
    first = any(_is_channels_first(layer) for layer in network.layers())
    shapes = [_input_shape(network, given, options, first) for given in network.inputs]
    builder = GraphBuilder(
        sum(array.size for layer in network.layers() for array in layer.weights.values())
    )
    for given, shape in zip(network.inputs, shapes, strict=True):
        builder.input(given.name, shape)
    values = _add_network(network, builder, list(builder.inputs))
    graph, layout = builder.build(*values), "NHWC"
    if first and any(len(shape) == 3 for shape in shapes):
        if len(shapes) != 1:
            raise UnsupportedError(
                f"model {network.name!r} has {len(shapes)} inputs and layers with "
                "data_format='channels_first'; supported is 'channels_last' with several inputs"
            )
        graph, (layout,) = channels_last(graph)
    return Imported(
        graph,
        "keras",
        network.name,
        tuple(
            Port(given.name, shape, layout if len(shape) == 3 else "NHWC")
            for given, shape in zip(network.inputs, shapes, strict=True)
        ),
        tuple(
            Port(name, graph.shapes[value])
            for name, value in zip(network.output_names, values, strict=True)
        ),
    )


def _input_shape(network: Network, given: Input, options: ImportOptions, first: bool) -> Shape:
    """Return the shape of an input; sizes that the model leaves free are the user's to say."""
    wanted = options.input_shape
    if isinstance(wanted, Mapping):
        wanted = wanted.get(given.name)
    elif wanted is not None and len(network.inputs) > 1:
        raise InputError(
            f"one input_shape, and {len(network.inputs)} inputs; expected shapes by name: "
            f"{', '.join(each.name for each in network.inputs)}"
        )
    if wanted is not None:
        wanted = tuple(wanted)
        if first and len(wanted) == 3:
            wanted = (wanted[2], wanted[0], wanted[1])
        declared = given.shape or (None,) * len(wanted)
        if len(declared) != len(wanted) or any(
            size not in (None, mine) for size, mine in zip(declared, wanted, strict=True)
        ):
            raise InputError(
                f"input_shape is {options.input_shape}, but input {given.name!r} of the model has "
                f"shape {(None, *declared)}"
            )
        shape: tuple[int | None, ...] | None = wanted
    else:
        shape = given.shape
    if shape is None:
        raise UnsupportedError(
            f"model {network.name!r} does not say the shape of its input; give its first layer an "
            "input shape and save it again, or say it here (--input-shape)"
        )
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        raise UnsupportedError(
            f"model {network.name!r} takes inputs of shape {(None, *shape)}; say which sizes "
            "it is compiled for (--input-shape)"
        )
    if not 1 <= len(shape) <= 3:
        raise UnsupportedError(
            f"model {network.name!r} takes inputs of shape {(None, *shape)}; supported are 1 to 3 "
            "dimensions behind the batch"
        )
    return sizes


def _check_kind(layer: Layer) -> None:
    """Refuse a layer that no converter knows."""
    if layer.kind == "Lambda":
        raise UnsupportedError(
            f"layer {describe(layer)} is Python code, which is not run; write it as layers: "
            "Rescaling for x / 255, Cropping2D, Resizing, ReLU(max_value=6), or arithmetic with "
            "operators outside of a layer"
        )
    known = layer.kind in CONVERTERS or layer.kind in JOINS
    if not known and layer.kind.startswith(("ops.", "tf.", "activations.")):
        name = layer.kind.partition(".")[2]
        raise UnsupportedError(
            f"operation {layer.name!r} ({name}) is not supported; supported are layers, and "
            f"{', '.join(_operations())}"
        )
    if not known:
        raise not_supported(f"layer {describe(layer)}", layer.kind.rpartition(">")[2])


def _check_activation(layer: Layer) -> None:
    for key in ("activation", "recurrent_activation"):
        function = layer.options.get(key)
        if isinstance(function, Layer) and function.kind not in CONVERTERS:
            name = function.kind.removeprefix("activations.")
            raise UnsupportedError(
                f"layer {describe(layer)}: activation {name!r:.80} is not supported; "
                f"supported are "
                f"linear, {', '.join(_functions())}"
            )


def _operations() -> list[str]:
    return sorted(kind[4:] for kind in {*CONVERTERS, *JOINS} if kind.startswith("ops."))


def _functions() -> list[str]:
    return [kind.partition(".")[2] for kind in CONVERTERS if kind.startswith("activations.")]


def _add_network(network: Network, builder: GraphBuilder, sources: list[str]) -> list[str]:
    """Add the layers of a model that reads ``sources``; return the values of its outputs."""
    values: dict[Value, str] = {
        given.value: source for given, source in zip(network.inputs, sources, strict=True)
    }
    for call in network.calls:
        operands = [_operand(operand, values) for operand in call.operands]
        for index, value in enumerate(_add_or_stand_in(call.layer, builder, operands)):
            values[call.layer.name, call.index, index] = value
    return [str(_operand(value, values)) for value in network.outputs]


def _operand(operand: Any, values: dict[Value, str]) -> Any:
    if isinstance(operand, np.ndarray):
        return operand
    if operand not in values:
        raise UnsupportedError(
            f"result {operand[2]} of layer {operand[0]!r} is used; supported is its first"
        )
    return values[operand]


def _add_or_stand_in(layer: Layer, builder: GraphBuilder, operands: list[str | Array]) -> list[str]:
    """Add a layer; if it is not supported, a value in its place, so that all are told."""
    if layer.input_shape is not None and len(operands) == 1:
        operands = [
            builder.stand_in(layer.name, UnsupportedError(), layer.input_shape)
            if isinstance(operand, str) and builder.is_unknown(operand)
            else operand
            for operand in operands
        ]
    try:
        if layer.network is not None:
            return _add_inner(layer, layer.network, builder, operands)
        _check_kind(layer)
        try:
            _check_activation(layer)
        except UnsupportedError as error:  # of which the shape is known without it
            plain = replace(layer, options={**layer.options, "activation": None})
            value = _add_layer(plain, builder, operands)
            return [builder.stand_in(layer.name, error, builder.shapes[value])]
        return [_add_layer(layer, builder, operands)]
    except UnsupportedError as error:
        return [builder.stand_in(layer.name, error)]


def _add_inner(
    layer: Layer, network: Network, builder: GraphBuilder, operands: list[str | Array]
) -> list[str]:
    """Add a model that is a layer of another."""
    values = [operand for operand in operands if isinstance(operand, str)]
    if len(values) != len(network.inputs):
        raise UnsupportedError(
            f"layer {describe(layer)} is called with {len(values)} values, expected "
            f"{len(network.inputs)}"
        )
    for index, given in enumerate(network.inputs):
        if builder.is_unknown(values[index]) and given.shape and None not in given.shape:
            shape = tuple(size for size in given.shape if size is not None)
            values[index] = builder.stand_in(layer.name, UnsupportedError(), shape)
    return _add_network(network, builder, values)


def _add_layer(layer: Layer, builder: GraphBuilder, operands: list[str | Array]) -> str:
    name = describe(layer)
    if layer.kind in JOINS:
        return JOINS[layer.kind](builder, layer, operands)
    if len(operands) != 1 or not isinstance(operands[0], str):
        raise UnsupportedError(f"layer {name} is called with {len(operands)} values, expected 1")
    value = operands[0]
    for op in convert_layer(layer, builder.shapes[value]):
        value = builder.add(name, op, value)
    return value


def convert_layer(layer: Layer, shape: Shape) -> Ops:
    """Return what a layer with one input does to a value of ``shape``."""
    if not _is_channels_first(layer) or len(shape) < 2:
        return CONVERTERS[layer.kind](layer, shape)
    rank = len(shape)
    ops: Ops = [Transpose((*range(1, rank), 0))]
    ops += CONVERTERS[layer.kind](layer, (*shape[1:], shape[0]))
    if len(result(layer, ops, shape)) == rank:
        ops.append(Transpose((rank - 1, *range(rank - 1))))
    return ops


def _is_channels_first(layer: Layer) -> bool:
    if "data_format" not in layer.options:
        return False
    return layer.word("data_format", "channels_last", "channels_first") == "channels_first"

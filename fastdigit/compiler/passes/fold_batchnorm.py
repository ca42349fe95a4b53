"""Fold a scale and shift into the weights of the layer before or behind it, where that is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from fastdigit.compiler.axes import is_uniform
from fastdigit.compiler.ir import LINEAR, Affine, Array, Graph, Layer, Shape
from fastdigit.compiler.ops import Conv2D, Dense, Eltwise
from fastdigit.compiler.passes.rewrite import Pair, Replacement, replace_pairs

__all__ = ["fold_batchnorm"]


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold affines into convolutions and dense layers, computing in float64.

    Backwards: one per output channel, directly after a linear layer. Forwards: one per input
    channel, before a convolution that pads nothing (or with no shift: zeros stay zeros), and along
    any axis before a dense layer.
    """
    return replace_pairs(graph, _rule)


def _rule(pair: Pair) -> Replacement | None:
    match pair.first.op, pair.second.op:
        case Layer() as layer, Eltwise(activation, Affine() as affine) if (
            activation == LINEAR and _is_bare(layer)
        ):
            return _backwards(pair, layer, affine)
        case Eltwise(affine=Affine() as affine) as eltwise, Conv2D() as layer:
            if affine.shift.any() and any(layer.pad):
                return None
            return _forwards(pair, eltwise, _into_conv2d(layer, affine, len(pair.shape_between)))
        case Eltwise(affine=Affine() as affine) as eltwise, Dense() as layer:
            return _forwards(pair, eltwise, _into_dense(layer, affine, pair.shape_between))
    return None


def _is_bare(layer: Layer) -> bool:
    return all(getattr(layer, part) in (None, LINEAR) for part in layer.epilogue)


def _backwards(pair: Pair, layer: Layer, affine: Affine) -> Replacement | None:
    if affine.axis != len(pair.shape_out) - 1 and not is_uniform(affine):
        return None
    scale, shift = affine.scale.astype(np.float64), affine.shift.astype(np.float64)
    if affine.axis != len(pair.shape_out) - 1:
        scale, shift = scale[:1], shift[:1]
    outputs = layer.weights.shape[-1]
    bias = np.zeros(outputs) if layer.bias is None else layer.bias
    weights = layer.weights * scale
    folded = replace(cast(Any, layer), weights=weights, bias=bias * scale + shift)
    return [(pair.first.name, folded)]


def _forwards(pair: Pair, eltwise: Eltwise, layer: Conv2D | Dense | None) -> Replacement | None:
    if layer is None:
        return None
    if eltwise.activation == LINEAR:
        return [(pair.second.name, layer)]
    return [(pair.first.name, replace(eltwise, affine=None)), (pair.second.name, layer)]


def _into_conv2d(layer: Conv2D, affine: Affine, rank: int) -> Conv2D | None:
    if affine.axis != rank - 1 and not is_uniform(affine):
        return None
    inputs, outputs = layer.weights.shape[2:]
    scale: Array = affine.scale.astype(np.float64)
    shift: Array = affine.shift.astype(np.float64)
    if affine.axis != rank - 1:
        scale, shift = (np.full(inputs * layer.groups, values[0]) for values in (scale, shift))
    # The input channels of each output's group: (inputs, outputs).
    group = np.arange(outputs) // (outputs // layer.groups)
    scale, shift = (values.reshape(-1, inputs)[group].T for values in (scale, shift))
    added = np.einsum("yxio,io->o", layer.weights.astype(np.float64), shift)
    return replace(
        layer,
        weights=layer.weights * scale,
        bias=added if layer.bias is None else layer.bias + added,
    )


def _into_dense(layer: Dense, affine: Affine, shape: Shape) -> Dense:
    along = [1] * len(shape)
    along[affine.axis] = shape[affine.axis]
    scale = np.broadcast_to(affine.scale.astype(np.float64).reshape(along), shape).ravel()
    shift = np.broadcast_to(affine.shift.astype(np.float64).reshape(along), shape).ravel()
    added = shift @ layer.weights.astype(np.float64)
    return replace(
        layer,
        weights=layer.weights * scale[:, np.newaxis],
        bias=added if layer.bias is None else layer.bias + added,
    )

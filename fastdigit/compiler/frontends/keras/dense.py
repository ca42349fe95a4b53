"""Dense layers, of vectors and of each pixel or step."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.keras.layers import activated, weight
from fastdigit.compiler.frontends.keras.network import Layer
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.ops import Conv2D, Dense, Reshape


@converts("Dense")
def convert_dense(layer: Layer, shape: Shape) -> Ops:
    units = layer.integer("units")
    weights = weight(layer, "kernel", shape[-1], units)
    bias = weight(layer, "bias", units) if layer.flag("use_bias") else None
    if len(shape) == 1:
        return activated(layer, [Dense(weights, bias)], shape)
    # The same for each pixel, or each step of a sequence.
    pointwise = Conv2D(weights[np.newaxis, np.newaxis], bias)
    if len(shape) == 3:
        return activated(layer, [pointwise], shape)
    image = (math.prod(shape[:-2]), *shape[-2:])
    ops: Ops = [Reshape(image), pointwise, Reshape((*shape[:-1], units))]
    return activated(layer, ops, shape)

"""Dense layers, of vectors and of each pixel or step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.activations import activation_of
from fastdigit.compiler.frontends.keras.layers import array, bias_of, on_image
from fastdigit.compiler.frontends.keras.registry import Ops, converts
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.ops import Conv2D, Dense


@converts("Dense")
def convert_dense(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, bias = array(layer.kernel), bias_of(layer)
    if len(shape) == 1:
        return [Dense(weights, bias), *activation_of(layer)]
    # The same for each pixel, or each step of a sequence.
    image = (math.prod(shape[:-2]), *shape[-2:])
    pointwise = Conv2D(weights[np.newaxis, np.newaxis], bias)
    return [*on_image(image, shape, [pointwise], out), *activation_of(layer)]

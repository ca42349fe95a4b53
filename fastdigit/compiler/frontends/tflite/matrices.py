"""Products with a constant matrix."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ir import Array, Op, Shape
from fastdigit.compiler.ops import Conv2D, Dense, Reshape
from fastdigit.errors import ModelFormatError


def _product(shape: Shape, weights: Array, bias: Array | None) -> list[Op]:
    """Return the operators that multiply each row of a tensor by ``weights`` (inputs, outputs)."""
    inputs = weights.shape[0]
    if math.prod(shape) == inputs:
        return [Reshape((inputs,)), Dense(weights, bias)]
    # A product for each pixel, or step of a sequence.
    rows = shape[:-1] if shape[-1] == inputs else (math.prod(shape) // inputs,)
    image = (math.prod(rows[:-1]), rows[-1], inputs)
    return [Reshape(image), Conv2D(weights[np.newaxis, np.newaxis], bias)]


@converts("FULLY_CONNECTED")
def convert_fully_connected(importer: Importer, operator: Operator) -> Value:
    shape, weights = operator.value().shape, operator.weights(1)
    if weights is None or weights.ndim != 2 or 0 in weights.shape:
        raise operator.refuse("weights are missing or not of rank 2", "a constant matrix")
    if operator.option("WeightsFormat"):
        raise operator.refuse("weights in another order", "the usual one, a row an output")
    outputs, inputs = weights.shape
    if math.prod(shape) % inputs:
        raise ModelFormatError(f"{operator.name}: weights take {inputs} inputs, got shape {shape}")
    if operator.option("KeepNumDims"):
        if not shape or shape[-1] != inputs:
            raise ModelFormatError(
                f"{operator.name}: weights take {inputs} inputs, got shape {shape}"
            )
        target = (*shape[:-1], outputs)
    else:
        target = (math.prod(shape) // inputs, outputs)
    ops = _product(shape, weights.T, operator.weights(2))
    return importer.emit(operator, target, *ops)


@converts("BATCH_MATMUL")
def convert_batch_matmul(importer: Importer, operator: Operator) -> Value:
    shape, weights = operator.value().shape, operator.weights(1)
    single = weights is not None and weights.size == math.prod(weights.shape[-2:])
    if weights is None or weights.ndim < 2 or not single or operator.option("AdjX"):
        raise operator.refuse(
            "the image turned, or a second operand that is no single matrix", "a constant matrix"
        )
    rank = max(len(shape), weights.ndim)
    matrix: Array = weights.reshape(weights.shape[-2], weights.shape[-1])
    matrix = matrix.T if operator.option("AdjY") else matrix
    if shape[-1] != matrix.shape[0]:
        raise ModelFormatError(
            f"{operator.name}: a matrix of shape {matrix.shape} with a value of shape {shape}"
        )
    target = (1,) * (rank - len(shape)) + (*shape[:-1], matrix.shape[1])
    return importer.emit(operator, target, *_product(shape, matrix, None))

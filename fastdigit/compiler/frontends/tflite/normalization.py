"""Softmax, and its logarithm."""

from __future__ import annotations

import math

from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.ops import LogSoftmax, Softmax


@converts("LOG_SOFTMAX")
def convert_log_softmax(importer: Importer, operator: Operator) -> Value:
    return importer.emit(operator, operator.value().shape, LogSoftmax())


@converts("SOFTMAX")
def convert_softmax(importer: Importer, operator: Operator) -> Value:
    """Over the last axis, of the values times beta."""
    beta = float(operator.option("Beta"))
    if not (math.isfinite(beta) and beta > 0):
        raise operator.refuse(f"beta={beta}", "a number > 0")
    return importer.emit(operator, operator.value().shape, Softmax(1.0 / beta))

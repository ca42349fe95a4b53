"""Operators that do nothing in inference."""

from __future__ import annotations

from fastdigit.compiler.frontends.onnx.constants import FLOATS
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts


@converts("Cast")
def convert_cast(importer: Importer, operator: Operator) -> str:
    if operator.attributes.get("to") not in FLOATS:
        raise operator.refuse("a type of integers", "FLOAT, FLOAT16, BFLOAT16 and DOUBLE")
    return operator.value()


@converts("Dropout")
def convert_dropout(importer: Importer, operator: Operator) -> str:
    training = operator.constant(2)
    if training is not None and training.any():
        raise operator.refuse("training_mode is true", "inference")
    return operator.value()


@converts("Identity", by_row=True)
def convert_identity(_importer: Importer, operator: Operator) -> str:
    return operator.value()

"""Functions of one element."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.common import clip
from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Convert, Operator, Value, converts
from fastdigit.compiler.ir import Activation, Op
from fastdigit.compiler.ops import Binary, Eltwise


def _plain(*ops: Op) -> Convert:
    def convert(importer: Importer, operator: Operator) -> Value:
        return importer.emit(operator, operator.value().shape, *ops)

    return convert


#: Those without options.
_PLAIN: dict[str, tuple[Op, ...]] = {
    "ABS": (Eltwise(Activation("abs")),),
    "ELU": (Eltwise(Activation("elu", 1.0)),),
    "HARD_SWISH": (Eltwise(Activation("hard_swish")),),
    "LOG": (Eltwise(Activation("log")),),
    "LOGISTIC": (Eltwise(Activation("sigmoid")),),
    "RELU": (Eltwise(Activation("relu")),),
    "RELU6": tuple(clip(0.0, 6.0)),
    "RELU_0_TO_1": tuple(clip(0.0, 1.0)),
    "RELU_N1_TO_1": tuple(clip(-1.0, 1.0)),
    "SQRT": (Eltwise(Activation("sqrt")),),
    "TANH": (Eltwise(Activation("tanh")),),
}
for _name, _ops in _PLAIN.items():
    converts(_name)(_plain(*_ops))


@converts("LEAKY_RELU")
def convert_leaky_relu(importer: Importer, operator: Operator) -> Value:
    alpha = float(operator.option("Alpha"))
    if not math.isfinite(alpha):
        raise operator.refuse(f"alpha={alpha}", "a finite number")
    op: Op = Eltwise(Activation("leaky_relu", alpha) if alpha > 0 else Activation("relu"))
    if alpha < 0:
        op = Binary("prelu", np.array([alpha]))
    return importer.emit(operator, operator.value().shape, op)


@converts("GELU")
def convert_gelu(importer: Importer, operator: Operator) -> Value:
    name = "gelu_tanh" if operator.option("Approximate") else "gelu"
    return importer.emit(operator, operator.value().shape, Eltwise(Activation(name)))

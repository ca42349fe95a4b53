"""Every activation, one row each: what it computes, and how others write it.

Front ends, passes and back ends read this table. Two readers do not, on purpose: the reader of
model files (:mod:`fastdigit.compiler.backends.fdm.unpack`) and the reference of the tests have
their own, so that a wrong row here cannot agree with itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastdigit.compiler.ir import Array

__all__ = ["ACTIVATIONS", "Function", "OnnxStep", "evaluate"]


@dataclass(frozen=True)
class OnnxStep:
    """An ONNX operator applied to the result of the step before it, at first to x.

    Parameters
    ----------
    op_type
        Of the operator.
    operands
        What it takes besides: numbers, the input "x", or the parameter, "alpha".
    alpha
        If the parameter is the operator's attribute of that name: ONNX's default for it.
    """

    op_type: str
    operands: tuple[float | Literal["x", "alpha"], ...] = ()
    alpha: float | None = None


@dataclass(frozen=True)
class Function:
    """A row of the table.

    Parameters
    ----------
    compute
        The function of (x, parameter), in float64.
    c
        The same in C, as an expression of the float ``x``, with ``{a}`` for the parameter.
    onnx
        The same in ONNX: in the pieces, and in the order, in which runtimes look for them.
    monotone
        Whether it never decreases, and so commutes with a maximum.
    keras
        Name of the function in ``keras.activations``.
    parameter
        What the parameter is; None if there is none. It is finite and not negative.
    default
        The parameter that ``keras`` has.
    """

    compute: Callable[[Array, float], Array]
    c: str
    onnx: tuple[OnnxStep, ...]
    monotone: bool = True
    keras: str | None = None
    parameter: str | None = None
    default: float = 0.0

    @property
    def at_zero(self) -> float:
        """Its value for an input of zero, whatever the parameter."""
        with np.errstate(divide="ignore"):
            return float(self.compute(np.zeros(1), self.default)[0])


# Klambauer et al., "Self-Normalizing Neural Networks" (2017), as Keras and ONNX have them.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _selu(x: Array, _alpha: float) -> Array:
    below = _SELU_SCALE * _SELU_ALPHA * np.expm1(np.minimum(x, 0.0))
    return np.where(x < 0, below, _SELU_SCALE * x)


def _tanh(x: Array, _alpha: float) -> Array:
    return np.asarray(np.tanh(x))


def _sigmoid(x: Array, _alpha: float) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def _gelu_tanh(x: Array, _alpha: float) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(x * (1 + np.tanh(inner)) / 2)


def _erf(x: Array, _alpha: float = 0.0) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


#: By name, in the order of their numbers in a model file, from 0.
ACTIVATIONS: Mapping[str, Function] = {
    "linear": Function(lambda x, _: x, "x", ()),
    "relu": Function(
        lambda x, _: np.maximum(x, 0.0),
        "x > 0.0f ? x : 0.0f",
        (OnnxStep("Relu"),),
        keras="relu",
    ),
    "leaky_relu": Function(
        lambda x, alpha: np.where(x < 0, alpha * x, x),
        "x > 0.0f ? x : {a} * x",
        (OnnxStep("LeakyRelu", alpha=0.01),),
        keras="leaky_relu",
        parameter="slope below zero",
        default=0.2,
    ),
    "elu": Function(
        _elu,
        "x > 0.0f ? x : {a} * expm1f(x)",
        (OnnxStep("Elu", alpha=1.0),),
        keras="elu",
        parameter="scale below zero",
        default=1.0,
    ),
    "selu": Function(
        _selu,
        "1.05070098f * (x > 0.0f ? x : 1.67326324f * expm1f(x))",
        (OnnxStep("Selu"),),
        keras="selu",
    ),
    "sigmoid": Function(
        _sigmoid, "1.0f / (1.0f + expf(-x))", (OnnxStep("Sigmoid"),), keras="sigmoid"
    ),
    "tanh": Function(_tanh, "tanhf(x)", (OnnxStep("Tanh"),), keras="tanh"),
    "clipped_relu": Function(
        lambda x, alpha: np.clip(x, 0.0, alpha),
        "x > 0.0f ? (x < {a} ? x : {a}) : 0.0f",
        (OnnxStep("Clip", (0.0, "alpha")),),
        keras="relu6",
        parameter="greatest value",
        default=6.0,
    ),
    "hard_sigmoid": Function(
        lambda x, alpha: np.asarray(np.clip(alpha * x + 0.5, 0.0, 1.0)),
        "fminf(fmaxf({a} * x + 0.5f, 0.0f), 1.0f)",
        (OnnxStep("HardSigmoid", alpha=0.2),),
        keras="hard_sigmoid",
        parameter="slope",
        default=1 / 6,
    ),
    "hard_swish": Function(
        lambda x, _: np.asarray(x * np.clip(x / 6 + 0.5, 0.0, 1.0)),
        "x * fminf(fmaxf(x / 6.0f + 0.5f, 0.0f), 1.0f)",
        (OnnxStep("HardSwish"),),
        monotone=False,
        keras="hard_silu",
    ),
    "silu": Function(
        lambda x, _: np.asarray(x * (0.5 + 0.5 * np.tanh(0.5 * x))),
        "x / (1.0f + expf(-x))",
        (OnnxStep("Sigmoid"), OnnxStep("Mul", ("x",))),
        monotone=False,
        keras="silu",
    ),
    "softplus": Function(
        lambda x, _: np.asarray(np.logaddexp(0.0, x)),
        "fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)))",
        (OnnxStep("Softplus"),),
        keras="softplus",
    ),
    # Keras has both forms of gelu as one function; its front end tells them apart.
    "gelu": Function(
        lambda x, _: np.asarray(x * (1 + _erf(x / math.sqrt(2))) / 2),
        "0.5f * x * (1.0f + erff(x * 0.707106781f))",
        (
            OnnxStep("Div", (math.sqrt(2),)),
            OnnxStep("Erf"),
            OnnxStep("Add", (1.0,)),
            OnnxStep("Mul", ("x",)),
            OnnxStep("Mul", (0.5,)),
        ),
        monotone=False,
        keras="gelu",
    ),
    "gelu_tanh": Function(
        _gelu_tanh,
        "0.5f * x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * x * x * x)))",
        (
            OnnxStep("Pow", (3.0,)),
            OnnxStep("Mul", (0.044715,)),
            OnnxStep("Add", ("x",)),
            OnnxStep("Mul", (math.sqrt(2 / math.pi),)),
            OnnxStep("Tanh"),
            OnnxStep("Add", (1.0,)),
            OnnxStep("Mul", ("x",)),
            OnnxStep("Mul", (0.5,)),
        ),
        monotone=False,
    ),
    "erf": Function(_erf, "erff(x)", (OnnxStep("Erf"),)),
    "exponential": Function(
        lambda x, _: np.asarray(np.exp(x)), "expf(x)", (OnnxStep("Exp"),), keras="exponential"
    ),
    "log": Function(lambda x, _: np.asarray(np.log(x)), "logf(x)", (OnnxStep("Log"),)),
    "sqrt": Function(lambda x, _: np.asarray(np.sqrt(x)), "sqrtf(x)", (OnnxStep("Sqrt"),)),
    "abs": Function(lambda x, _: np.abs(x), "fabsf(x)", (OnnxStep("Abs"),), monotone=False),
    "softsign": Function(
        lambda x, _: np.asarray(x / (1 + np.abs(x))),
        "x / (1.0f + fabsf(x))",
        (OnnxStep("Softsign"),),
        keras="softsign",
    ),
    "mish": Function(
        lambda x, _: np.asarray(x * np.tanh(np.logaddexp(0.0, x))),
        "x * tanhf(log1pf(expf(x)))",
        (OnnxStep("Mish"),),
        monotone=False,
        keras="mish",
    ),
}


def evaluate(name: str, alpha: float, x: Array) -> Array:
    """Return an activation of ``x``, in float64; infinite or NaN where it has no value."""
    with np.errstate(all="ignore"):
        return ACTIVATIONS[name].compute(x, alpha)

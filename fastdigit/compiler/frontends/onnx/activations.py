"""Functions of one element."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.frontends.common import clip, uniform
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import CONVERTERS, Convert, Operator, converts
from fastdigit.compiler.ir import Activation
from fastdigit.compiler.ops import Eltwise


@converts("Clip", elementwise=True)
def convert_clip(importer: Importer, operator: Operator) -> str:
    bounds = [-math.inf, math.inf]
    for index in (1, 2):
        given = operator.constant(index)
        if given is not None and given.size:
            bounds[index - 1] = float(given.ravel()[0])
    low, high = bounds
    if math.isnan(low) or math.isnan(high):
        raise operator.refuse(f"bounds {low} and {high}", "numbers")
    # Bounds beyond float32 bound nothing. With low > high, ONNX gives high.
    largest = float(np.finfo(np.float32).max)
    low, high = (-math.inf if low <= -largest else low), (math.inf if high >= largest else high)
    return importer.emit(operator, *clip(min(low, high), high))


@converts("HardSigmoid", elementwise=True)
def convert_hard_sigmoid(importer: Importer, operator: Operator) -> str:
    alpha = float(operator.attributes.get("alpha", 0.2))
    beta = float(operator.attributes.get("beta", 0.5))
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise operator.refuse(f"alpha={alpha}, beta={beta}", "finite numbers")
    if beta == 0.5 and alpha >= 0:
        return importer.emit(operator, Eltwise(Activation("hard_sigmoid", alpha)))
    scaled = Eltwise(affine=uniform(importer.shape(operator.value()), alpha, beta))
    return importer.emit(operator, scaled, *clip(0.0, 1.0))


@converts("Celu", elementwise=True)
def convert_celu(importer: Importer, operator: Operator) -> str:
    """``alpha * elu(x / alpha)``; as a maximum and a minimum, that holds for alpha > 0."""
    alpha = float(operator.attributes.get("alpha", 1.0))
    if not (math.isfinite(alpha) and alpha > 0):
        raise operator.refuse(f"alpha={alpha}", "finite and > 0")
    shape = importer.shape(operator.value())
    divided = Eltwise(affine=uniform(shape, 1.0 / alpha))
    return importer.emit(operator, divided, Eltwise(Activation("elu", 1.0), uniform(shape, alpha)))


@converts("Gelu", elementwise=True)
def convert_gelu(importer: Importer, operator: Operator) -> str:
    approximate = operator.text("approximate", "none")
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    if approximate not in names:
        raise operator.refuse(f"approximate={approximate}", " or ".join(names))
    return importer.emit(operator, Eltwise(Activation(names[approximate])))


@converts("Swish", elementwise=True)
def convert_swish(importer: Importer, operator: Operator) -> str:
    alpha = float(operator.attributes.get("alpha", 1.0))
    if alpha == 1.0:
        return importer.emit(operator, Eltwise(Activation("silu")))
    if not math.isfinite(alpha) or alpha == 0.0:
        raise operator.refuse(f"alpha={alpha}", "a finite number other than 0")
    # x sigmoid(alpha x) = silu(alpha x) / alpha
    shape = importer.shape(operator.value())
    scaled = Eltwise(affine=uniform(shape, alpha))
    silu = Eltwise(Activation("silu"), uniform(shape, 1.0 / alpha))
    return importer.emit(operator, scaled, silu)


@converts("Selu", elementwise=True)
def convert_selu(importer: Importer, operator: Operator) -> str:
    # The defaults of the operator, as float32: the constants of the paper.
    alpha = float(operator.attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(operator.attributes.get("gamma", 1.05070102214813232421875))
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return importer.emit(operator, Eltwise(Activation("selu")))
    if not (math.isfinite(gamma) and math.isfinite(alpha) and alpha >= 0):
        raise operator.refuse(f"alpha={alpha}, gamma={gamma}", "alpha >= 0, both finite")
    scaled = uniform(importer.shape(operator.value()), gamma)
    return importer.emit(operator, Eltwise(Activation("elu", alpha), scaled))


def _plain(name: str, default: float | None) -> Convert:
    """Return the converter of an operator that is an activation; ``default`` is of its alpha."""

    def convert(importer: Importer, operator: Operator) -> str:
        if default is None:  # no parameter
            return importer.emit(operator, Eltwise(Activation(name)))
        alpha = float(operator.attributes.get("alpha", default))
        if not (math.isfinite(alpha) and alpha >= 0):
            raise operator.refuse(f"alpha={alpha}", "finite and >= 0")
        if name == "leaky_relu" and alpha == 0:
            return importer.emit(operator, Eltwise(Activation("relu")))
        return importer.emit(operator, Eltwise(Activation(name, alpha)))

    return convert


# Those that ONNX has as an operator of one input, without attributes that need a converter.
for _name, _function in ACTIVATIONS.items():
    if len(_function.onnx) == 1 and not _function.onnx[0].operands:
        _step = _function.onnx[0]
        if _step.op_type not in CONVERTERS:
            converts(_step.op_type, elementwise=True)(_plain(_name, _step.alpha))

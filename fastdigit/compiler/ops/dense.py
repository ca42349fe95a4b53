"""Dense layers, and the precisions that their weights can have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastdigit.compiler.ir import LINEAR, Activation, Array, Layer, Shape
from fastdigit.compiler.limits import MAX_DYNAMIC_INPUTS, NARROW
from fastdigit.compiler.ops.rules import (
    check_activation,
    check_finite,
    check_matrix,
    check_vector,
    require,
)

__all__ = ["PRECISIONS", "Dense"]


#: How the weights of a dense layer can be stored; for int8-dynamic, its inputs become bytes too.
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")


@dataclass(frozen=True, eq=False)
class Dense(Layer):
    """Matrix product with ``weights`` (inputs, outputs), bias, activation.

    An input of rank 3 is read in row-major order, as if flattened.

    ``precision`` is how the file stores the weights: "fp32", "fp16" (IEEE 754 binary16) or "int8".
    ``weights`` holds the values that are used: numbers that binary16 has, or integers -128 to 127
    times the ``scale`` (outputs,) of their column, exact in float64. "int8-dynamic" is int8 without
    -128, and its inputs are quantised too, as csrc/FORMAT.md says. Only these two have a scale.
    """

    weights: Array
    bias: Array | None = None
    activation: Activation = LINEAR
    precision: str = "fp32"
    scale: Array | None = None

    @property
    def epilogue(self) -> tuple[str, ...]:
        return ("activation",)

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(len(shape) in (1, 3), f"Dense needs a vector or an image, got shape {shape}")
        require(
            self.weights.ndim == 2,
            f"Dense weights have shape {self.weights.shape}, expected 2 axes",
        )
        inputs, outputs = self.weights.shape
        require(
            inputs == math.prod(shape), f"Dense weights take {inputs} inputs, got shape {shape}"
        )
        check_vector("bias", self.bias, outputs)
        check_activation(self.activation)
        require(
            self.precision in PRECISIONS, f"precision {self.precision!r} is not one of {PRECISIONS}"
        )
        require(
            (self.scale is not None) == (self.precision in ("int8", "int8-dynamic")),
            f"weights of {self.precision} with{'' if self.scale is not None else 'out'} a scale",
        )
        check_vector("scale", self.scale, outputs)
        return (outputs,)

    def check_values(self) -> None:
        check_finite("Dense weights are not all finite", self.weights)
        check_finite("bias has values that are not finite", self.bias)
        check_finite("scale has values that are not finite", self.scale)
        self._check_precision()

    def _check_precision(self) -> None:
        """Check that the weights are numbers which their precision has."""
        if self.precision == "fp16":
            with np.errstate(over="ignore"):
                rounded = self.weights.astype(np.float16)
            same = bool((rounded == self.weights).all())
            require(same, "weights of fp16 are not binary16 numbers")
        if self.scale is not None:
            with np.errstate(over="ignore"):
                stored = self.scale.astype(np.float32)
            require(
                bool(((stored > 0) & (stored == self.scale)).all()),
                "scales of int8 weights are not float32 numbers greater than 0",
            )
            factors = self.scale.astype(np.float64)
            integers = np.rint(self.weights / factors)
            least = -127 if self.precision == "int8-dynamic" else -128
            require(
                bool((integers * factors == self.weights).all())
                and integers.min() >= least
                and integers.max() <= 127,
                f"weights of {self.precision} are not integers {least} to 127 times their scale",
            )

    def check_limits(self) -> None:
        check_matrix(self.weights)
        inputs, outputs = self.weights.shape
        require(
            self.precision == "fp32" or outputs > NARROW,
            f"weights of {self.precision} for {outputs} outputs; dense layers of up to {NARROW} "
            "outputs have fp32 weights",
        )
        require(
            self.precision != "int8-dynamic" or inputs <= MAX_DYNAMIC_INPUTS,
            f"{inputs} inputs; int8-dynamic is for dense layers of up to {MAX_DYNAMIC_INPUTS}, use "
            "precision int8",
        )

    def multiply_adds(self, shape: Shape, output: Shape) -> int:
        return self.weights.size

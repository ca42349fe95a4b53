"""Convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastdigit.compiler.ir import LINEAR, Activation, Affine, Array, Layer, Pair, Pool, Shape, Sides
from fastdigit.compiler.ops.rules import (
    check_activation,
    check_affine,
    check_affine_values,
    check_finite,
    check_matrix,
    check_pool,
    check_small,
    check_vector,
    pooled,
    pooled_from,
    require,
    windows,
)

__all__ = ["Conv2D", "ConvTranspose2D"]


@dataclass(frozen=True, eq=False)
class Conv2D(Layer):
    """Zero padding, cross-correlation, bias; then activation, affine and pooling, in this order.

    ``weights`` is (kernel height, kernel width, input channels / groups, output channels), ``bias``
    (output channels,). With ``groups``, equal shares of the input channels, in order, give equal
    shares of the output channels; only without is there a pooling.
    ``affine`` has one pair for each row, column or channel of the convolution's output before
    pooling.
    """

    weights: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Sides = (0, 0, 0, 0)
    activation: Activation = LINEAR
    affine: Affine | None = None
    pool: Pool | None = None
    groups: int = 1

    @property
    def epilogue(self) -> tuple[str, ...]:
        return ("activation", "affine", "pool") if self.groups == 1 else ("activation", "affine")

    @property
    def extent(self) -> Pair:
        """(height, width) of the kernel with its dilation."""
        height, width = (
            dilation * (taps - 1) + 1
            for dilation, taps in zip(self.dilation, self.weights.shape[:2], strict=True)
        )
        return height, width

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(len(shape) == 3, f"Conv2D needs (height, width, channels), got shape {shape}")
        require(
            self.weights.ndim == 4,
            f"Conv2D weights have shape {self.weights.shape}, expected 4 axes",
        )
        _, _, channels, outputs = self.weights.shape
        groups = self.groups
        require(
            channels * groups == shape[2],
            f"Conv2D weights take {channels * groups} channels, the input has {shape[2]}",
        )
        require(
            groups >= 1 and outputs % groups == 0,
            f"Conv2D has {groups} groups for {outputs} outputs",
        )
        require(groups == 1 or self.pool is None, f"Conv2D has {groups} groups and a pooling")
        check_vector("bias", self.bias, outputs)
        check_activation(self.activation)
        require(min(self.dilation) >= 1, f"dilation {self.dilation} is less than 1")
        out = self._convolved(shape)
        check_affine(self.affine, out)
        return out if self.pool is None else pooled(self.pool, out)

    def check_values(self) -> None:
        check_finite("Conv2D weights are not all finite", self.weights)
        check_finite("bias has values that are not finite", self.bias)
        check_affine_values(self.affine)

    def check_limits(self) -> None:
        check_pool(self.pool)
        check_small(*self.weights.shape[:2], *self.stride, *self.dilation, *self.pad)
        check_matrix(self.weights)

    def multiply_adds(self, shape: Shape, output: Shape) -> int:
        """Those of every output that the pooling reads."""
        height, width, _ = self._convolved(shape)
        if self.pool is not None:
            height, width = pooled_from(self.pool, (height, width), output)
        return height * width * self.weights.size

    def _convolved(self, shape: Shape) -> Shape:
        """Return the shape before pooling."""
        top, left, bottom, right = self.pad
        height = windows(shape[0], top, bottom, self.extent[0], self.stride[0])
        width = windows(shape[1], left, right, self.extent[1], self.stride[1])
        return height, width, self.weights.shape[3]


@dataclass(frozen=True, eq=False)
class ConvTranspose2D(Layer):
    """Transposed convolution, bias; then activation and affine, in this order.

    Each input is multiplied by the kernel and added to the output: tap k of input i goes to output
    i * stride + k * dilation - pad. ``pad`` (top, left, bottom, right) is cut off what all taps
    reach; ``output_padding`` adds rows at the bottom and columns at the right.
    ``weights`` is (kernel height, kernel width, input channels / groups, output channels), and the
    rest is as in :class:`Conv2D`.
    """

    weights: Array
    bias: Array | None = None
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Sides = (0, 0, 0, 0)
    output_padding: Pair = (0, 0)
    activation: Activation = LINEAR
    affine: Affine | None = None
    groups: int = 1

    @property
    def epilogue(self) -> tuple[str, ...]:
        return ("activation", "affine")

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(len(shape) == 3, f"ConvTranspose2D needs (height, width, channels), got {shape}")
        require(
            self.weights.ndim == 4,
            f"ConvTranspose2D weights have shape {self.weights.shape}, expected 4 axes",
        )
        *kernel, channels, outputs = self.weights.shape
        groups = self.groups
        require(
            channels * groups == shape[2],
            f"ConvTranspose2D weights take {channels * groups} channels, the input has {shape[2]}",
        )
        require(
            groups >= 1 and outputs % groups == 0,
            f"ConvTranspose2D has {groups} groups for {outputs} outputs",
        )
        check_vector("bias", self.bias, outputs)
        check_activation(self.activation)
        require(
            min(*kernel, *self.stride, *self.dilation) >= 1,
            f"kernel {tuple(kernel)}, stride {self.stride} or dilation {self.dilation} is less "
            "than 1",
        )
        require(
            min(*self.pad, *self.output_padding) >= 0,
            f"padding {self.pad} or output padding {self.output_padding} is negative",
        )
        height, width = (
            (shape[d] - 1) * self.stride[d]
            + self.dilation[d] * (kernel[d] - 1)
            + 1
            - self.pad[d]
            - self.pad[d + 2]
            + self.output_padding[d]
            for d in (0, 1)
        )
        require(
            height >= 1 and width >= 1, f"padding {self.pad} leaves an output of {height}x{width}"
        )
        out = (height, width, outputs)
        check_affine(self.affine, out)
        return out

    def check_values(self) -> None:
        check_finite("ConvTranspose2D weights are not all finite", self.weights)
        check_finite("bias has values that are not finite", self.bias)
        check_affine_values(self.affine)

    def check_limits(self) -> None:
        check_small(*self.weights.shape[:2], *self.stride, *self.dilation)
        check_small(*self.pad, *self.output_padding)
        check_matrix(self.weights)

    def multiply_adds(self, shape: Shape, output: Shape) -> int:
        """Those of each output with every tap that falls on it, also where it takes no input."""
        height, width = (
            sum(
                len(
                    range(
                        (tap * self.dilation[d] - self.pad[d]) % self.stride[d],
                        output[d],
                        self.stride[d],
                    )
                )
                for tap in range(self.weights.shape[d])
            )
            for d in (0, 1)
        )
        return height * width * math.prod(self.weights.shape[2:])

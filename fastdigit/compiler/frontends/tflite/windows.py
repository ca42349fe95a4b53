"""What convolution and pooling share: their images, weights, strides and padding."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.tflite.registry import Operator
from fastdigit.compiler.ir import Array, Pair, Shape, Sides
from fastdigit.compiler.ops import Conv2D
from fastdigit.errors import ModelFormatError

__all__ = ["SAME", "convolution_of", "image_of", "kernel_of", "pads_of", "strides_of"]

#: Padding of the schema.
SAME, VALID = 0, 1


def image_of(operator: Operator, index: int = 0) -> Shape:
    """Return (height, width, channels) of an input, which is one image."""
    shape = operator.value(index).shape
    if len(shape) != 4 or shape[0] != 1:
        raise operator.refuse(
            f"an input of shape {shape}", "one image, (1, height, width, channels)"
        )
    return shape[1:]


def strides_of(operator: Operator) -> Pair:
    stride = int(operator.option("StrideH")), int(operator.option("StrideW"))
    if min(stride) < 1:
        raise ModelFormatError(f"{operator.name}: strides {stride}, expected 1 and more")
    return stride


def pads_of(operator: Operator, size: Shape, extent: Pair, stride: Pair) -> Sides:
    """Return (top, left, bottom, right), with the odd row or column at the end."""
    padding = operator.option("Padding", SAME)
    if padding == VALID:
        return (0, 0, 0, 0)
    if padding != SAME:
        raise ModelFormatError(f"{operator.name}: padding {padding}, expected SAME or VALID")
    return same_padding(size, extent, stride)


def kernel_of(operator: Operator) -> Array:
    """Return weights of rank 4, (outputs, height, width, inputs)."""
    weights = operator.weights(1)
    if weights is None or weights.ndim != 4 or 0 in weights.shape:
        raise operator.refuse("weights are missing or not of rank 4", "constant weights")
    return weights


def _dilation(operator: Operator) -> Pair:
    dilation = (
        int(operator.option("DilationHFactor", 1)),
        int(operator.option("DilationWFactor", 1)),
    )
    if min(dilation) < 1:
        raise ModelFormatError(f"{operator.name}: dilation {dilation}, expected 1 and more")
    return dilation


def convolution_of(operator: Operator, image: Shape) -> Conv2D:
    """Return what CONV_2D or DEPTHWISE_CONV_2D does to an image of a size.

    Weights are (outputs, height, width, inputs), those of a depthwise one (1, height, width,
    outputs), with the outputs of a channel side by side.
    """
    weights, channels = kernel_of(operator), image[2]
    if operator.op_type == "CONV_2D":
        inputs = weights.shape[3]
        fits, groups, kernel = channels % inputs == 0, channels // inputs, (1, 2, 3, 0)
    else:
        fits = weights.shape[0] == 1 and weights.shape[3] % channels == 0
        groups, kernel = channels, (1, 2, 0, 3)
    if not fits:
        raise ModelFormatError(
            f"{operator.name}: weights of shape {weights.shape} for {channels} channels"
        )
    weights = weights.transpose(kernel)
    stride, dilation = strides_of(operator), _dilation(operator)
    height, width = (
        rate * (taps - 1) + 1 for rate, taps in zip(dilation, weights.shape[:2], strict=True)
    )
    pad = pads_of(operator, image, (height, width), stride)
    return Conv2D(weights, operator.weights(2), stride, dilation, pad, groups=groups)

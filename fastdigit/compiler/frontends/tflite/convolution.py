"""Convolution, and the blocks of which a dilated one is made."""

from __future__ import annotations

import math

from fastdigit.compiler.frontends.tflite.blocks import taken_apart
from fastdigit.compiler.frontends.tflite.importer import Formula, Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.frontends.tflite.windows import (
    SAME,
    convolution_of,
    image_of,
    kernel_of,
    strides_of,
)
from fastdigit.compiler.ops import ConvTranspose2D


@converts("CONV_2D", "DEPTHWISE_CONV_2D")
def convert_conv(importer: Importer, operator: Operator) -> Value:
    conv = convolution_of(operator, image_of(operator))
    value = importer.builder.add(operator.name, conv, operator.value().name)
    return Value(value, (1, *importer.shape(value)))


@converts("TRANSPOSE_CONV")
def convert_transpose_conv(importer: Importer, operator: Operator) -> Value:
    """The transpose of the convolution that makes its input of its output."""
    size, image, weights = operator.ints(0), image_of(operator, 2), kernel_of(operator)
    stride = strides_of(operator)
    if len(size) != 4 or size[0] != 1 or min(size) < 1 or size[3] != weights.shape[0]:
        raise operator.refuse(f"an output of shape {size}", "one image of all output channels")
    kernel = weights.transpose(1, 2, 3, 0)
    full = ConvTranspose2D(kernel, None, stride).infer(image)
    pad, added = [], []
    for axis in (0, 1):
        out, taps = size[1 + axis], kernel.shape[axis]
        before = 0
        if operator.option("Padding", SAME) == SAME:
            total = (math.ceil(out / stride[axis]) - 1) * stride[axis] + taps - out
            before = max(total, 0) // 2
        behind = full[axis] - before - out
        pad.append((before, max(behind, 0)))
        added.append(max(-behind, 0))
    (top, bottom), (left, right) = pad
    conv = ConvTranspose2D(
        kernel,
        operator.weights(3),
        stride,
        pad=(top, left, bottom, right),
        output_padding=(added[0], added[1]),
    )
    return importer.emit(operator, tuple(size), conv, source=operator.value(2).name)


@converts("SPACE_TO_BATCH_ND")
def convert_space_to_batch(importer: Importer, operator: Operator) -> Formula:
    blocks = taken_apart(importer, operator)
    return Formula(blocks, blocks.shape)


@converts("BATCH_TO_SPACE_ND")
def convert_batch_to_space(_importer: Importer, operator: Operator) -> Value:
    raise operator.refuse("blocks that are no image's", "one behind SPACE_TO_BATCH_ND")

"""Convolution."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.windows import channels_last_ops, pads_of, pair_of, spatial
from fastdigit.compiler.ops import Conv2D
from fastdigit.errors import ModelFormatError


@converts("Conv")
def convert_conv(importer: Importer, operator: Operator) -> str:
    size = spatial(importer, operator)
    weights, bias = operator.weights(1), operator.weights(2)
    rank = len(importer.shape(operator.value())) + 1
    if weights is None or weights.ndim != rank:
        raise operator.refuse(
            f"weights are missing or not of rank {rank}", "constant weights (O,I,H,W) or (O,I,W)"
        )
    if rank == 3:
        weights = weights[:, :, np.newaxis]
    stride = pair_of(importer, operator, "strides", (1, 1))
    dilation = pair_of(importer, operator, "dilations", (1, 1))
    kernel = (weights.shape[2], weights.shape[3])
    if pair_of(importer, operator, "kernel_shape", kernel) != kernel:
        raise ModelFormatError(f"{operator.name}: kernel_shape contradicts the weights {kernel}")
    extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    pad = pads_of(importer, operator, size, extent, stride)
    groups = int(operator.attributes.get("group", 1))
    conv = Conv2D(weights.transpose(2, 3, 1, 0), bias, stride, dilation, pad, groups=groups)
    return channels_last_ops(importer, operator, conv)

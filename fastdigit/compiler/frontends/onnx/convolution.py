"""Convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.frontends.onnx.windows import channels_last_ops, pads_of, pair_of, spatial
from fastdigit.compiler.ir import Pair
from fastdigit.compiler.ops import Conv2D, ConvTranspose2D
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


@converts("ConvTranspose")
def convert_conv_transpose(importer: Importer, operator: Operator) -> str:
    size = spatial(importer, operator)
    shape = importer.shape(operator.value())
    weights, bias = operator.weights(1), operator.weights(2)
    groups = int(operator.attributes.get("group", 1))
    if weights is None or weights.ndim != len(shape) + 1:
        raise operator.refuse(
            f"weights are missing or not of rank {len(shape) + 1}",
            "constant weights (I,O,H,W) or (I,O,W)",
        )
    if groups < 1 or weights.shape[0] != shape[0] or shape[0] % groups:
        raise ModelFormatError(
            f"{operator.name}: weights for {weights.shape[0]} channels in {groups} groups, the "
            f"input has {shape[0]}"
        )
    if weights.ndim == 3:
        weights = weights[:, :, np.newaxis]
    inputs, outputs, *kernel = weights.shape
    if pair_of(importer, operator, "kernel_shape", (kernel[0], kernel[1])) != tuple(kernel):
        raise ModelFormatError(f"{operator.name}: kernel_shape contradicts the weights {kernel}")
    # A group's outputs are together, as those of a convolution are.
    weights = weights.reshape(groups, inputs // groups, outputs, *kernel).transpose(3, 4, 1, 0, 2)
    conv = ConvTranspose2D(
        weights.reshape(*kernel, inputs // groups, groups * outputs),
        bias,
        pair_of(importer, operator, "strides", (1, 1)),
        pair_of(importer, operator, "dilations", (1, 1)),
        output_padding=_added(importer, operator),
        groups=groups,
    )
    return channels_last_ops(importer, operator, _cut(importer, operator, conv, size))


def _added(importer: Importer, operator: Operator) -> Pair:
    """Return output_padding, of which a row of an image of one row has none."""
    rows, columns = pair_of(importer, operator, "output_padding", (0, 0))
    return (0 if len(importer.shape(operator.value())) == 2 else rows), columns


def _cut(
    importer: Importer, operator: Operator, conv: ConvTranspose2D, size: Pair
) -> ConvTranspose2D:
    """Give a transposed convolution its padding: as it is given, or such that the output has the
    size that is given, with what is odd at the end for SAME_UPPER and at the beginning if not."""
    auto = operator.text("auto_pad", "NOTSET")
    wanted = operator.attributes.get("output_shape")
    same = auto in ("SAME_UPPER", "SAME_LOWER")
    if wanted is None and not same:
        pad = pads_of(importer, operator, size, (1, 1), conv.stride)
        return replace(conv, pad=pad)
    if wanted is not None:
        axes = len(importer.shape(operator.value())) - 1
        if len(wanted) not in (axes, axes + 2):
            raise operator.refuse(f"output_shape {list(wanted)}", f"{axes} numbers")
        out = [1, wanted[-1]] if axes == 1 else list(wanted[-2:])
    else:
        out = [size[d] * conv.stride[d] for d in (0, 1)]
    *full, _ = conv.infer((*size, conv.weights.shape[2] * conv.groups))
    if wanted is None and any(full[d] < out[d] for d in (0, 1)):
        # ONNX says that it is made longer, and ONNX Runtime leaves it as it is.
        raise operator.refuse(
            f"auto_pad {auto}, where the kernel is shorter than the stride",
            "output_shape or pads",
        )
    total = [max(full[d] - int(out[d]), 0) for d in (0, 1)]
    rows, columns = (conv.output_padding[d] + max(int(out[d]) - full[d], 0) for d in (0, 1))
    less = [count // 2 for count in total]
    more = [count - count // 2 for count in total]
    before, behind = (less, more) if auto == "SAME_UPPER" else (more, less)
    pad = (before[0], before[1], behind[0], behind[1])
    return replace(conv, pad=pad, output_padding=(rows, columns))

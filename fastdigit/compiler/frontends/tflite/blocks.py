"""Dilated convolutions, as TensorFlow writes them: on the blocks of an image.

SPACE_TO_BATCH_ND takes an image apart into several, one for each place in a block of pixels; a
convolution of each and BATCH_TO_SPACE_ND, which puts them together again, are a convolution whose
taps are as far apart as the block is large. What lies between is kept as a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastdigit.compiler.frontends.tflite.registry import Operator, Value
from fastdigit.compiler.frontends.tflite.windows import convolution_of
from fastdigit.compiler.ir import Op, Pair, Shape, Sides
from fastdigit.compiler.ops import Conv2D
from fastdigit.errors import ModelFormatError, UnsupportedError

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.tflite.importer import Importer

__all__ = ["Blocks", "between", "taken_apart"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """An image that was taken apart, and perhaps the convolution of its parts.

    Parameters
    ----------
    name
        Of the operator, for messages.
    source
        The value of the graph, an image; a sequence is one of a single row.
    block
        Height and width of a block.
    pad
        What is padded around the whole image.
    size
        (height, width, channels) of a part, as the file has it now.
    rank
        Of the tensor: 4, or 3 for a sequence.
    conv
        The convolution of the whole image; None before there is one.
    fused
        The activation behind it.
    """

    name: str
    source: str
    block: Pair
    pad: Sides
    size: Shape
    rank: int
    conv: Conv2D | None = None
    fused: tuple[Op, ...] = ()

    @property
    def shape(self) -> Shape:
        """Of the tensor in the file."""
        count = self.block[0] * self.block[1]
        return (count, *self.size) if self.rank == 4 else (count, *self.size[1:])

    def refused(self) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name}: the blocks of an image; supported is a convolution between "
            "SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, which is a dilated one"
        )


def taken_apart(importer: Importer, operator: Operator) -> Blocks:
    """Return what SPACE_TO_BATCH_ND makes of an image, or of a sequence."""
    value = operator.value()
    rank = len(value.shape)
    block, pads = operator.ints(1), operator.constant(2)
    if rank not in (3, 4) or value.shape[0] != 1 or len(block) != rank - 2 or min(block) < 1:
        raise operator.refuse(f"blocks of {block} in shape {value.shape}", "those of one image")
    if pads is None or pads.shape != (rank - 2, 2) or pads.min() < 0:
        raise ModelFormatError(f"{operator.name}: expected {rank - 2} pairs of widths")
    widths = [(int(before), int(behind)) for before, behind in pads]
    image = value.shape[1:]
    if rank == 3:
        block, widths, image = [1, *block], [(0, 0), *widths], (1, *image)
    whole = [n + sum(width) for n, width in zip(image[:2], widths, strict=True)]
    if any(n % size for n, size in zip(whole, block, strict=True)):
        raise ModelFormatError(f"{operator.name}: blocks of {block} in an image of {whole}")
    source = importer.viewed(operator, value, image)
    (top, bottom), (left, right) = widths
    part = (whole[0] // block[0], whole[1] // block[1], image[2])
    return Blocks(
        operator.name, source, (block[0], block[1]), (top, left, bottom, right), part, rank
    )


def between(importer: Importer, operator: Operator, blocks: Blocks) -> Blocks | Value:
    """Return what an operator makes of the parts of an image; its first input is not looked at."""
    match operator.op_type:
        case "EXPAND_DIMS" if blocks.rank == 3 and operator.ints(1) in ([1], [-3]):
            return replace(blocks, rank=4)
        case "RESHAPE" if blocks.rank == 4 and blocks.size[0] == 1 and blocks.block[0] == 1:
            known = len(operator.inputs) > 1 and operator.inputs[1] is not None
            target = operator.ints(1) if known else list(operator.option("NewShape", ()))
            if target in ([count, *blocks.size[1:]] for count in (-1, blocks.shape[0])):
                return replace(blocks, rank=3)
        case "SQUEEZE" if blocks.rank == 4 and blocks.size[0] == 1 and blocks.block[0] == 1:
            if tuple(operator.option("SqueezeDims", ())) in ((1,), (-3,)):
                return replace(blocks, rank=3)
        case "CONV_2D" | "DEPTHWISE_CONV_2D" if blocks.rank == 4 and blocks.conv is None:
            conv = convolution_of(operator, blocks.size)
            if conv.stride == (1, 1):
                height, width, channels = conv.infer(blocks.size)
                rows, columns = (
                    conv.dilation[0] * blocks.block[0],
                    conv.dilation[1] * blocks.block[1],
                )
                pad = _added(blocks.pad, conv.pad, blocks.block, 1)
                whole = replace(conv, dilation=(rows, columns))
                return replace(blocks, conv=whole, pad=pad, size=(height, width, channels))
        case "BATCH_TO_SPACE_ND":
            return _together(importer, operator, blocks)
    raise blocks.refused()


def _added(pad: Sides, more: Sequence[int], block: Pair, sign: int) -> Sides:
    top, left, bottom, right = (
        before + sign * count * block[side % 2]
        for side, (before, count) in enumerate(zip(pad, more, strict=True))
    )
    return top, left, bottom, right


def _together(importer: Importer, operator: Operator, blocks: Blocks) -> Value:
    """A crop of what comes out is as much less padding of what goes in."""
    axes = blocks.rank - 2
    crops, block = operator.constant(2), operator.ints(1)
    if crops is None or crops.shape != (axes, 2) or block != list(blocks.block[-axes:]):
        raise blocks.refused()
    cut = np.zeros((2, 2), dtype=int)
    cut[-axes:] = crops
    (top, bottom), (left, right) = cut.tolist()
    pad = _added(blocks.pad, (top, left, bottom, right), (1, 1), -1)
    if blocks.conv is None or min(pad) < 0:
        raise blocks.refused()
    ops = (replace(blocks.conv, pad=pad), *blocks.fused)
    value = blocks.source
    for op in ops:
        value = importer.builder.add(operator.name, op, value)
    image = importer.shape(value)
    return importer.emit(operator, (1, *image[-axes - 1 :]), source=value)

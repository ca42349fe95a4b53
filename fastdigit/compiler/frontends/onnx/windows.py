"""What convolution and pooling share: their layout, strides and padding."""

from __future__ import annotations

from fastdigit.compiler.frontends.common import same_padding
from fastdigit.compiler.frontends.layout import TO_NCHW, TO_NHWC
from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator
from fastdigit.compiler.ir import Op, Pair, Sides
from fastdigit.compiler.ops import Reshape, Transpose

__all__ = ["channels_last_ops", "pads_of", "pair_of", "spatial"]


def spatial(importer: Importer, operator: Operator) -> Pair:
    """Return (height, width) of the first input, which is NCHW, or NCW: an image of one row."""
    shape = importer.shape(operator.value())
    if len(shape) not in (2, 3):
        raise operator.refuse(f"an input of {len(shape) - 1} spatial dimensions", "1 or 2")
    return (1, shape[1]) if len(shape) == 2 else (shape[1], shape[2])


def channels_last_ops(importer: Importer, operator: Operator, *ops: Op) -> str:
    """Apply operators of NHWC images to the first input, which is NCHW or NCW."""
    shape = importer.shape(operator.value())
    if len(shape) == 3:
        return importer.emit(operator, TO_NHWC, *ops, TO_NCHW)
    channels, width = shape
    value = importer.emit(operator, Transpose((1, 0)), Reshape((1, width, channels)), *ops)
    row = importer.shape(value)[1:]
    return importer.emit(operator, Reshape(row), Transpose((1, 0)), source=value)


def pair_of(importer: Importer, operator: Operator, name: str, default: Pair) -> Pair:
    """Return an attribute with a number for each spatial axis of the first input."""
    values = operator.attributes.get(name)
    if values is None:
        return default
    axes = len(importer.shape(operator.value())) - 1
    if len(values) != axes:
        raise operator.refuse(f"{name} {list(values)}", f"{axes} numbers")
    return (1, int(values[0])) if axes == 1 else (int(values[0]), int(values[1]))


def pads_of(
    importer: Importer, operator: Operator, size: Pair, extent: Pair, stride: Pair
) -> Sides:
    auto = operator.text("auto_pad", "NOTSET")
    if min(stride) < 1:
        raise operator.refuse(f"strides {stride}", "1 and more")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return same_padding(size, extent, stride, extra_first=auto == "SAME_LOWER")
    if auto == "VALID":
        return (0, 0, 0, 0)
    axes = len(importer.shape(operator.value())) - 1
    pads = [int(pad) for pad in operator.attributes.get("pads", [0] * 2 * axes)]
    if auto != "NOTSET" or len(pads) != 2 * axes or min(pads) < 0:
        raise operator.refuse(
            f"auto_pad {auto}, pads {pads}", f"{2 * axes} pads >= 0, VALID or SAME"
        )
    return (0, pads[0], 0, pads[1]) if axes == 1 else (pads[0], pads[1], pads[2], pads[3])

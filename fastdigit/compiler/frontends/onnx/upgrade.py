"""What operators meant in older opsets, in terms of the newest.

A converter knows the newest form of its operator only. A rule here turns the form before an opset
into the form at that opset; what has several has several rules, which are applied one after the
other. Where a rule is missing, the operator means the same in all opsets, as far as its converter
reads it. Changes between opsets: https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fastdigit.compiler.frontends.onnx.registry import Operator
from fastdigit.compiler.ops import Binary, Reshape
from fastdigit.errors import ModelFormatError

if TYPE_CHECKING:
    from fastdigit.compiler.frontends.onnx.importer import Importer

__all__ = ["UPGRADES", "upgraded"]

#: Returns an operator of the form at an opset, or, if no single one does the same, its result.
Rule: TypeAlias = "Callable[[Importer, Operator], Operator | str]"

#: By the name of the operator: rules, with the opset at which their results are, in order.
UPGRADES: dict[str, list[tuple[int, Rule]]] = {}


def upgrades(*op_types: str, before: int) -> Callable[[Rule], Rule]:
    """Make a function the rule for operators of an opset before ``before``."""

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            rules = UPGRADES.setdefault(op_type, [])
            rules.append((before, rule))
            rules.sort(key=lambda entry: entry[0])
        return rule

    return register


def upgraded(importer: Importer, operator: Operator, opset: int) -> Operator | str:
    """Return an operator of an opset in its newest form, or its result."""
    for before, rule in UPGRADES.get(operator.op_type, ()):
        if opset < before:
            result = rule(importer, operator)
            if isinstance(result, str):
                return result
            operator = result
    return operator


# ---- attributes that became inputs -------------------------------------------------------------


def _as_input(operator: Operator, index: int, name: str, dtype: type) -> Operator:
    """Move an attribute to an input, if it is there."""
    if name not in operator.attributes:
        return operator
    return operator.with_inputs({index: np.asarray(operator.attributes[name], dtype=dtype)})


@upgrades("Squeeze", "Unsqueeze", "ReduceSum", before=13)
@upgrades(
    *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
    before=18,
)
def axes_are_an_input(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(operator, 1, "axes", np.int64)


@upgrades("Reshape", before=5)
def shape_is_an_input(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(operator, 1, "shape", np.int64)


@upgrades("Clip", before=11)
def bounds_are_inputs(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(_as_input(operator, 1, "min", np.float32), 2, "max", np.float32)


@upgrades("Slice", before=10)
def ranges_are_inputs(_importer: Importer, operator: Operator) -> Operator:
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        operator = _as_input(operator, index, name, np.int64)
    return operator


@upgrades("Split", before=13)
def lengths_are_an_input(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(operator, 1, "split", np.int64)


@upgrades("Pad", before=2)
def pads_had_another_name(_importer: Importer, operator: Operator) -> Operator:
    attributes = dict(operator.attributes)
    if "paddings" in attributes:
        attributes["pads"] = attributes.pop("paddings")
    return replace(operator, attributes=attributes)


@upgrades("Pad", before=11)
def pads_are_inputs(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(_as_input(operator, 1, "pads", np.int64), 2, "value", np.float32)


@upgrades("Upsample", before=7)
def scales_of_height_and_width(_importer: Importer, operator: Operator) -> Operator:
    height, width = (operator.attributes.get(f"{name}_scale") for name in ("height", "width"))
    if height is None or width is None:
        raise ModelFormatError(f"{operator.name}: height_scale or width_scale is missing")
    mode = operator.text("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    attributes = {"mode": mode.encode(), "scales": [1.0, 1.0, height, width]}
    return replace(operator, attributes=attributes)


@upgrades("Upsample", before=9)
def scales_are_an_input(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(operator, 1, "scales", np.float32)


@upgrades("Tile", before=6)
def repeats_of_an_axis(importer: Importer, operator: Operator) -> Operator:
    """The number and the axis were two inputs, of floats."""
    tiles, axis = operator.constant(1), operator.constant(2)
    rank = importer.rank(operator.inputs[0])
    if tiles is None or axis is None or tiles.size != 1 or axis.size != 1:
        raise ModelFormatError(f"{operator.name}: tiles or axis are missing")
    if not -rank <= axis.item() < rank:
        raise ModelFormatError(f"{operator.name}: axis {axis.item()} of rank {rank}")
    repeats = np.ones(rank, dtype=np.int64)
    repeats[int(axis.item())] = int(tiles.item())
    return operator.with_inputs({1: repeats, 2: None})


@upgrades("TopK", before=10)
def number_is_an_input(_importer: Importer, operator: Operator) -> Operator:
    return _as_input(operator, 1, "k", np.int64)


# ---- operands that are aligned by an attribute -------------------------------------------------


@upgrades(
    *("Add", "Sub", "Mul", "Div", "Pow"),
    *("And", "Or", "Xor", "Equal", "Greater", "Less"),
    before=7,
)
def operands_align_at_their_ends(importer: Importer, operator: Operator) -> Operator:
    """The second operand began at ``axis`` of the first."""
    if not operator.attributes.get("broadcast", 0) or "axis" not in operator.attributes:
        return operator
    left, right = operator.inputs
    rank, own = importer.rank(left), importer.rank(right)
    axis = int(operator.attributes["axis"])
    behind = rank - (axis + rank if axis < 0 else axis) - own
    if behind < 0:
        raise ModelFormatError(
            f"{operator.name}: an operand of rank {own} from axis {axis} of rank {rank}"
        )
    if not behind:
        return operator
    if isinstance(right, np.ndarray):
        return operator.with_inputs({1: right.reshape(*right.shape, *[1] * behind)})
    shape = (*importer.shape(operator.value(1)), *[1] * behind)
    moved = importer.emit(operator, Reshape(shape), source=operator.value(1))
    return operator.with_inputs({1: moved})


@upgrades("PRelu", before=7)
def slopes_of_channels(importer: Importer, operator: Operator) -> Operator:
    """A vector of slopes was one for each channel, axis 1."""
    slope, rank = operator.constant(1), importer.rank(operator.inputs[0])
    if slope is None or slope.ndim != 1 or slope.size == 1 or rank < 3:
        return operator
    return operator.with_inputs({1: slope.reshape(-1, *[1] * (rank - 2))})


# ---- normalization -----------------------------------------------------------------------------


@upgrades("BatchNormalization", "Dropout", before=7)
def trained_unless_is_test(_importer: Importer, operator: Operator) -> Operator:
    """The default of ``is_test`` is 0, but files without it are not meant for training."""
    if operator.attributes.get("is_test", 1) == 0:
        raise operator.refuse("is_test=0, which trains", "inference")
    return operator


@upgrades("BatchNormalization", before=9)
def statistics_of_each_element(importer: Importer, operator: Operator) -> Operator | str:
    """Without ``spatial``, each element of an image has a mean and variance of its own."""
    if operator.attributes.get("spatial", 1):
        return operator
    scale, bias, mean, variance = (operator.weights(index) for index in (1, 2, 3, 4))
    if scale is None or bias is None or mean is None or variance is None:
        raise ModelFormatError(f"{operator.name}: an input is missing")
    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    factor = scale / np.sqrt(variance.astype(np.float64) + epsilon)
    shift = bias - mean * factor
    return importer.emit(operator, Binary("mul", factor), Binary("add", shift))


@upgrades("Softmax", "LogSoftmax", "Hardmax", before=13)
def over_all_axes_behind(importer: Importer, operator: Operator) -> Operator | str:
    """All axes from ``axis`` were one."""
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    axis = int(operator.attributes.get("axis", 1))
    axis = axis + rank if axis < 0 else axis
    if not 1 <= axis < rank:
        raise operator.refuse(f"axis={axis}", "an axis behind the batch")
    last = replace(operator, attributes={**operator.attributes, "axis": -1})
    if axis == rank - 1:
        return last
    flat = Reshape((*shape[: axis - 1], math.prod(shape[axis - 1 :])))
    value = importer.emit(operator, flat)
    result = importer.converted(last.with_inputs({0: value}))
    return importer.emit(operator, Reshape(shape), source=result)


@upgrades("Split", before=2)
def axis_had_no_default(_importer: Importer, operator: Operator) -> Operator:
    if "axis" not in operator.attributes:
        raise operator.refuse("no axis", "one that is given")
    return operator


# ---- defaults and types ------------------------------------------------------------------------


@upgrades("Concat", before=4)
def axis_is_1_by_default(_importer: Importer, operator: Operator) -> Operator:
    return replace(operator, attributes={"axis": 1, **operator.attributes})


@upgrades("Selu", before=6)
def constants_of_selu_were_rounded(_importer: Importer, operator: Operator) -> Operator:
    return replace(operator, attributes={"alpha": 1.6732, "gamma": 1.0507, **operator.attributes})


@upgrades("Cast", before=6)
def types_had_names(_importer: Importer, operator: Operator) -> Operator:
    from onnx import TensorProto

    numbers = dict(TensorProto.DataType.items())
    name = operator.text("to", "")
    if name not in numbers:
        raise ModelFormatError(f"{operator.name}: there is no type {name!r}")
    return replace(operator, attributes={"to": numbers[name]})


@upgrades("Resize", before=11)
def resize_of_opset_10(importer: Importer, operator: Operator) -> Operator:
    """Positions were asymmetric; the nearest was the one before, or, of fewer, the one behind."""
    scales = operator.constant(1)
    if scales is None:
        raise ModelFormatError(f"{operator.name}: the scales are missing")
    fewer, more = bool((scales < 1).any()), bool((scales > 1).any())
    mode = operator.text("mode", "nearest")
    if fewer and more and mode == "nearest":
        raise operator.refuse(f"scales {scales.tolist()}", "all at most 1, or all at least 1")
    attributes = {
        "mode": mode.encode(),
        "coordinate_transformation_mode": b"asymmetric",
        "nearest_mode": b"ceil" if fewer else b"floor",
    }
    operator = replace(operator, attributes=attributes)
    return operator.with_inputs({1: None, 2: scales})

"""Operators as older opsets have them: held against ONNX Runtime, which runs opset 7 and newer, and
before against the specification in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.frontends.onnx.constants import EVALUATORS
from fastdigit.compiler.frontends.onnx.registry import CONVERTERS
from fastdigit.compiler.frontends.onnx.runner import source_runner
from fastdigit.compiler.frontends.onnx.upgrade import UPGRADES
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import ROOT, need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

onnx = need("onnx")
need("onnxruntime")

SHAPE = ("N", 3, 4, 5)
RNG = np.random.default_rng(0)
BATCH = RNG.normal(size=(2, 3, 4, 5))
V3, V5, V45 = RNG.uniform(0.5, 2, 3), RNG.uniform(0.5, 2, 5), RNG.uniform(0.5, 2, (4, 5))
V345, W345 = RNG.uniform(0.5, 2, (2, 3, 4, 5))


def f32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


def ours(net: OnnxNet, batch: np.ndarray) -> np.ndarray:
    """What the imported network computes, in float64, in the order of axes of the source."""
    imported = import_model(net.model())
    graph = optimize(imported.graph)
    if imported.inputs[0].layout == "NCHW":
        batch = batch.transpose(0, 2, 3, 1)
    return reference.run_graph(graph, batch.reshape(len(batch), *graph.shapes[graph.input]))


def agrees(net: OnnxNet, want: np.ndarray | None = None, batch: np.ndarray = BATCH) -> None:
    """What is imported, and what it is verified by, give what is wanted."""
    got, model = ours(net, batch), net.model()
    want = run_onnx(model, batch) if want is None else want
    assert np.ptp(want) > 0.1
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-5)
    name, run = source_runner(model, import_model(model))
    (theirs,) = run([f32(batch)])
    np.testing.assert_allclose(theirs.reshape(want.shape), want, rtol=0, atol=1e-5)
    assert ("rewritten as 7" in name) == (net.opset < 7)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def flattened(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax before opset 13."""
    rows = x.reshape(int(np.prod(x.shape[:axis])), -1)
    return softmax(rows, 1).reshape(x.shape)


def normalized(x: np.ndarray, shape: tuple[int, ...], four: list[np.ndarray]) -> np.ndarray:
    scale, bias, mean, variance = (array.reshape(shape) for array in four)
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


# ---- before opset 7: against the specification -------------------------------------------------

OLD = {"consumed_inputs": [0, 0]}
PLACES = {  # constant, axis, and how NumPy has the constant
    "channels": (V3, 1, V3.reshape(3, 1, 1)),
    "columns": (V5, 3, V5),
    "from the end": (V5, -1, V5),
    "no axis": (V45, None, V45),
    "rows and columns": (V45, 2, V45),
    "images": (V345, 1, V345),
    "a number": (np.float64(1.5), None, np.float64(1.5)),
}


@pytest.mark.parametrize(("opset", "size"), [(1, "N"), (5, "N"), (6, "N"), (6, 2), (6, 1)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
def test_operands_are_aligned_by_an_attribute(
    op_type: str, place: str, opset: int, size: str | int
) -> None:
    constant, axis, there = PLACES[place]
    attributes = {"broadcast": 1, **({} if axis is None else {"axis": axis})}
    net = OnnxNet((size, *SHAPE[1:]), opset).add(op_type, None, constant, **attributes)
    kinds = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
    agrees(net, kinds[op_type](BATCH, f32(there)))


@pytest.mark.parametrize("opset", [1, 6])
def test_a_value_of_fewer_axes_is_aligned(opset: int) -> None:
    net = OnnxNet(SHAPE, opset).add("GlobalMaxPool").add("Flatten")
    net.add("Mul", "input", net.last, broadcast=1, axis=0)
    agrees(net, BATCH * BATCH.max(axis=(2, 3), keepdims=True))


@pytest.mark.parametrize("opset", [1, 6])
def test_powers(opset: int) -> None:
    agrees(OnnxNet(SHAPE, opset).add("Pow", None, np.float32(2), broadcast=1), BATCH**2)


@pytest.mark.parametrize("opset", [1, 5])
def test_reshape(opset: int) -> None:
    net = OnnxNet(SHAPE, opset)
    if opset < 5:
        net.add("Reshape", shape=[0, -1, 5], consumed_inputs=[0])
    else:
        net.add("Reshape", None, np.array([0, -1, 5]))
    agrees(net.add("Softmax", axis=2), flattened(BATCH.reshape(2, 12, 5), 2))


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("spatial", [1, 0])
def test_batch_normalization(opset: int, spatial: int) -> None:
    shape = (3,) if spatial else (3, 4, 5)
    four = [RNG.uniform(0.5, 2, shape) for _ in range(4)]
    attributes: dict[str, Any] = {"is_test": 1}
    if not spatial:
        attributes["spatial"] = 0
    if opset == 1:
        attributes["consumed_inputs"] = [0, 0, 0, 1, 1]
    net = OnnxNet(SHAPE, opset).add("BatchNormalization", None, *four, **attributes)
    along = (3, 1, 1) if spatial else (3, 4, 5)
    agrees(net, normalized(BATCH, along, four))


@pytest.mark.parametrize("opset", [1, 6])
def test_what_trains_is_refused(opset: int) -> None:
    for op_type, weights in (("BatchNormalization", [np.ones(3)] * 4), ("Dropout", [])):
        old = {"consumed_inputs": [0] * 5} if opset == 1 else {}
        net = OnnxNet(SHAPE, opset).add(op_type, None, *weights, is_test=0, **old)
        with pytest.raises(UnsupportedError, match="is_test=0, which trains"):
            import_model(net.add("Neg").model())


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout(opset: int) -> None:
    agrees(OnnxNet(SHAPE, opset).add("Dropout", is_test=1, ratio=0.5).add("Neg"), -BATCH)


UNARY: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "Relu": ({}, lambda x: np.maximum(x, 0)),
    "LeakyRelu": ({"alpha": 0.2}, lambda x: np.where(x < 0, 0.2 * x, x)),
    "Elu": ({}, lambda x: np.where(x < 0, np.expm1(x), x)),
    "Selu": ({}, lambda x: 1.0507 * np.where(x < 0, 1.6732 * np.expm1(x), x)),
    "Sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": ({}, np.tanh),
    "HardSigmoid": ({}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    "Neg": ({}, np.negative),
    "Clip": ({"min": -0.5, "max": 0.75}, lambda x: np.clip(x, -0.5, 0.75)),
}


@pytest.mark.parametrize("op_type", UNARY)
def test_functions_of_one_element(op_type: str) -> None:
    attributes, function = UNARY[op_type]
    for old in ({}, {"consumed_inputs": [0]}):
        agrees(OnnxNet(SHAPE, 1).add(op_type, **attributes, **old), function(BATCH))


@pytest.mark.parametrize("opset", [1, 6])
def test_slopes_of_channels(opset: int) -> None:
    net = OnnxNet(SHAPE, opset).add("PRelu", None, V3)
    agrees(net, np.where(BATCH < 0, BATCH * V3.reshape(3, 1, 1), BATCH))


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm(opset: int) -> None:
    weights = RNG.normal(size=(60, 4))
    net = OnnxNet(SHAPE, opset).add("Flatten")
    net.add("Gemm", None, weights, RNG.normal(size=4) * 0, broadcast=1)
    agrees(net, BATCH.reshape(2, 60) @ f32(weights))


def test_operands_behind_what_onnx_knows_no_shape_of() -> None:
    """Ranks are found once the nodes before are rewritten: onnx has no shapes of the old ones."""
    net, want = OnnxNet((*SHAPE,), 6), BATCH
    for _ in range(3):
        net.add("Upsample", height_scale=2.0, width_scale=1.0, mode="nearest")
        net.add("Add", None, V3, broadcast=1, axis=1).add("PRelu", None, V3)
        want = want.repeat(2, axis=2) + V3.reshape(3, 1, 1)
        want = np.where(want < 0, want * V3.reshape(3, 1, 1), want)
    agrees(net, want)


@pytest.mark.parametrize("size", ["N", None, 1, 4])
def test_a_network_as_exporters_of_2017_wrote_it(size: str | int | None) -> None:
    """Biases are added apart, from axis 1 on, and all weights are inputs."""
    net = OnnxNet((size, 1, 12, 12), 6)
    for ins, outs in ((1, 6), (6, 8)):
        net.add("Conv", None, RNG.normal(size=(outs, ins, 3, 3)) / 3, pads=[1, 1, 1, 1])
        net.add("Add", None, RNG.normal(size=outs), broadcast=1, axis=1)
        net.add("PRelu", None, RNG.uniform(0.1, 0.5, outs))
        net.add("BatchNormalization", None, *RNG.uniform(0.5, 2, (4, outs)), is_test=1)
        net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.add("Flatten").add("Dropout", is_test=1)
    net.add("Gemm", None, RNG.normal(size=(72, 5)) / 9, RNG.normal(size=5), broadcast=1)
    model = net.add("Softmax").model()
    for tensor in model.graph.initializer:
        given = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(given)
    model.ir_version = 3
    found = compile_model(model, None, engine=engine).verification
    assert found.reference.endswith("(opset 6, rewritten as 7)")
    assert found.max_error <= 1e-5


def test_cast_to_a_type_by_name() -> None:
    agrees(OnnxNet(SHAPE, 1).add("Cast", to="FLOAT").add("Neg"), -BATCH)


def test_concat_is_along_axis_1_by_default() -> None:
    agrees(OnnxNet(SHAPE, 1).add("Concat", "input", "input"), np.concatenate([BATCH] * 2, 1))


def test_paddings() -> None:
    net = OnnxNet(SHAPE, 1).add("Pad", paddings=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5)
    widths = [(0, 0), (0, 0), (1, 3), (2, 0)]
    agrees(net, np.pad(BATCH, widths, constant_values=0.5))


def test_tile_of_one_axis() -> None:
    net = OnnxNet(SHAPE, 1).add("Tile", None, np.float32(3), np.float32(2))
    net.weights[-2:] = [
        onnx.numpy_helper.from_array(np.array(number, dtype=np.float32), f"w{index}")
        for index, number in enumerate((3, 2))
    ]
    agrees(net, np.tile(BATCH, (1, 1, 3, 1)))


def test_upsample_of_height_and_width() -> None:
    net = OnnxNet(SHAPE, 1).add("Upsample", height_scale=2.0, width_scale=3.0, mode="nearest")
    agrees(net, BATCH.repeat(2, axis=2).repeat(3, axis=3))


# ---- opset 7 and newer: against ONNX Runtime ---------------------------------------------------


@pytest.mark.parametrize("opset", [6, 7, 11, 12, 13])
@pytest.mark.parametrize("axis", [None, 1, 2, 3, -1])
@pytest.mark.parametrize("shape", [SHAPE, ("N", 3, 1, 1), ("N", 6, 4), ("N", 7)], ids=str)
def test_softmax(shape: tuple[Any, ...], axis: int | None, opset: int) -> None:
    if (axis is not None and axis >= len(shape)) or (axis == -1 and opset < 11):
        return
    batch = np.random.default_rng(1).normal(size=(2, *shape[1:]))
    attributes = {} if axis is None else {"axis": axis}
    net = OnnxNet(shape, opset).add("Softmax", **attributes).add("Sigmoid")
    got, want = ours(net, batch), run_onnx(net.model(), batch)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-6)
    if opset < 13:
        there = 1 if axis is None else axis % len(shape)
        spec = 1 / (1 + np.exp(-flattened(batch, there)))
        np.testing.assert_allclose(got.reshape(want.shape), spec, rtol=0, atol=1e-12)


@pytest.mark.parametrize("opset", [7, 8])
@pytest.mark.parametrize("spatial", [1, 0])
def test_batch_normalization_of_opset_7(opset: int, spatial: int) -> None:
    shape = (3,) if spatial else (3, 4, 5)
    four = [RNG.uniform(0.5, 2, shape) for _ in range(4)]
    net = OnnxNet(SHAPE, opset).add("BatchNormalization", None, *four, spatial=spatial)
    agrees(net)


@pytest.mark.parametrize("opset", [7, 10, 11])
@pytest.mark.parametrize(
    "bounds", [{"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}], ids=str
)
def test_clip(opset: int, bounds: dict[str, float]) -> None:
    net = OnnxNet(SHAPE, opset)
    if opset < 11:
        net.add("Clip", **bounds)
    else:
        net.add("Clip", None, *(f32(bounds[n]) if n in bounds else "" for n in ("min", "max")))
    agrees(net)


@pytest.mark.parametrize("opset", [7, 10, 11])
def test_pad(opset: int) -> None:
    pads, net = [0, 0, 1, 0, 0, 0, 0, 2], OnnxNet(SHAPE, opset)
    if opset < 11:
        net.add("Pad", pads=pads, value=0.25)
    else:
        net.add("Pad", None, np.array(pads), np.float32(0.25))
    agrees(net)


@pytest.mark.parametrize("opset", [7, 11, 13])
def test_squeeze_and_unsqueeze(opset: int) -> None:
    net = OnnxNet(SHAPE, opset).add("GlobalAveragePool")
    for op_type in ("Squeeze", "Unsqueeze"):
        if opset < 13:
            net.add(op_type, axes=[2, 3])
        else:
            net.add(op_type, None, np.array([2, 3]))
    agrees(net)


@pytest.mark.parametrize("opset", [7, 10, 11, 12, 13])
@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax", "ReduceSum"])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(op_type: str, keep: int, opset: int) -> None:
    net = OnnxNet(SHAPE, opset)
    if op_type == "ReduceSum" and opset == 13:
        net.add(op_type, None, np.array([2, 3]), keepdims=keep)
    else:
        net.add(op_type, axes=[2, 3], keepdims=keep)
    agrees(net)


@pytest.mark.parametrize("opset", [7, 8, 9])
@pytest.mark.parametrize("scales", [(2.0, 3.0), (1.5, 2.0), (1.0, 2.5)], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str, scales: tuple[float, float], opset: int) -> None:
    net = OnnxNet(SHAPE, opset)
    if opset < 9:
        net.add("Upsample", mode=mode, scales=[1.0, 1.0, *scales])
    else:
        net.add("Upsample", None, f32([1, 1, *scales]), mode=mode)
    agrees(net)


@pytest.mark.parametrize("scales", [(2.0, 3.0), (1.5, 1.0), (0.5, 0.6), (0.75, 0.4)], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_opset_10(mode: str, scales: tuple[float, float]) -> None:
    agrees(OnnxNet(SHAPE, 10).add("Resize", None, f32([1, 1, *scales]), mode=mode))


def test_resize_of_opset_10_up_and_down() -> None:
    net = OnnxNet(SHAPE, 10).add("Resize", None, f32([1, 1, 2, 0.5]), mode="nearest")
    with pytest.raises(UnsupportedError, match="all at most 1, or all at least 1"):
        import_model(net.model())


# ---- no opset is forgotten ---------------------------------------------------------------------

#: Opsets at which an operator changed, but not what it means to its converter.
SAME = {
    "Clip": {6},  # bounds beyond float32 as the default, for none
    "Dropout": {12},  # the ratio, which inference doesn't use, is an input
    "GRU": {3, 7},  # output_sequence: whether there is an output of all states
    "LSTM": {7},
    "RNN": {7},
    "Gemm": {7},  # the bias broadcasts without an attribute
}


def test_each_change_of_an_operator_has_a_rule_or_changes_nothing() -> None:
    """An attribute that is gone or has another default: a rule knows it, or it changes nothing."""
    history: dict[str, list[Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            history.setdefault(schema.name, []).append(schema)
    forgotten = []
    for op_type in {*CONVERTERS, *EVALUATORS} & set(history):
        schemas = sorted(history[op_type], key=lambda schema: schema.since_version)
        ruled = {before for before, _ in UPGRADES.get(op_type, ())}
        for old, new in pairwise(schemas):
            kept = _interface(old).items() <= _interface(new).items()
            if not kept and new.since_version not in ruled | SAME.get(op_type, set()):
                forgotten.append((op_type, new.since_version, _interface(old), _interface(new)))
    assert forgotten == []


#: Attributes that no converter reads, in any opset.
UNREAD = {"consumed_inputs", "is_test", "momentum", "training_mode", "storage_order"}


def _interface(schema: Any) -> dict[str, Any]:
    """Names and defaults of attributes, and the number of inputs."""
    found: dict[str, Any] = {"inputs": [given.name for given in schema.inputs][:1]}
    for name, attribute in schema.attributes.items():
        if name not in UNREAD:
            found[name] = (attribute.type, str(attribute.default_value))
    return found


#: Attributes that change nothing here: hints, and what only matters in training or to outputs and
#: modes that are refused.
NO_MATTER = {
    *("cubic_coeff_a", "exclude_outside", "extrapolation_value", "momentum", "round_mode"),
    *("num_outputs", "saturate", "seed", "stash_type", "storage_order"),
}


def test_no_attribute_is_overlooked() -> None:
    """Of the newest form of an operator: a converter reads each, or it changes nothing."""
    folder = ROOT / "fastdigit" / "compiler" / "frontends" / "onnx"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    overlooked = {
        (op_type, name)
        for op_type, known in CONVERTERS.items()
        if not known.domain and op_type != "Upsample"
        for name in onnx.defs.get_schema(op_type).attributes
        if f'"{name}"' not in text and name not in NO_MATTER
    }
    assert overlooked == set()

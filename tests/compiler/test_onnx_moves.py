"""What ONNX has for taking parts of values and repeating them, held against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

need("onnx")
need("onnxruntime")

SHAPE = ("N", 4, 6, 5)
MOST = (1 << 31) - 1
LEAST = -(1 << 31)


def agrees(net: OnnxNet) -> None:
    model = net.model()
    imported = import_model(model)
    graph = optimize(imported.graph)
    batch = np.random.default_rng(0).normal(size=(2, *net.shape[1:])).astype(np.float32)
    images = batch.transpose(0, 2, 3, 1) if imported.inputs[0].layout == "NCHW" else batch
    got = reference.run_graph(graph, images.reshape(2, *graph.shapes[graph.input]))
    want = run_onnx(model, batch)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=1e-5)


def opcodes(net: OnnxNet) -> list[str]:
    data = compile_model(net.model(), None, engine=engine).data
    return [record.opcode for record in unpack(data).records[1:]]


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], None),
        ([0, 1, -3], [MOST, 3, MOST], [0, 1, 2], None),
        ([1, 2], [-1, 4], [-1, -2], None),
        ([1], [MOST], [2], [2]),
        ([-1], [LEAST], [3], [-1]),
        ([4, 0], [0, MOST], [2, 1], [-2, 3]),
        ([0, 0, 0, 1], [MOST, 2, 3, 4], None, None),
    ],
)
def test_slice(opset: int, starts: Any, ends: Any, axes: Any, steps: Any) -> None:
    net = OnnxNet(SHAPE, opset).add("Tanh")
    if opset < 10:
        if steps is not None:
            return
        net.add("Slice", starts=starts, ends=ends, **({} if axes is None else {"axes": axes}))
    else:
        more = ["" if given is None else ints(*given) for given in (axes, steps)]
        net.add("Slice", None, ints(*starts), ints(*ends), *more)
    agrees(net.add("Neg"))


def test_a_slice_whose_bounds_are_computed() -> None:
    """Half of the channels, as PyTorch writes chunk()."""
    net = OnnxNet(SHAPE).add("Tanh")
    image = net.last
    net.add("Shape").add("Gather", None, ints(1), axis=0).add("Div", None, ints(2))
    half = net.last
    net.add("Slice", image, ints(0), half, ints(1))
    first = net.last
    net.add("Slice", image, half, ints(MOST), ints(1))
    agrees(net.add("Max", first, None))


@pytest.mark.parametrize("opset", [2, 11, 13, 18])
@pytest.mark.parametrize("lengths", [None, [1, 3]])
@pytest.mark.parametrize("axis", [1, -3])
def test_split(opset: int, lengths: Any, axis: int) -> None:
    net = OnnxNet(SHAPE, opset).add("Tanh")
    if opset < 13:
        net.add("Split", axis=axis, **({} if lengths is None else {"split": lengths}))
    elif lengths is None:
        net.add("Split", axis=axis, **({"num_outputs": 2} if opset >= 18 else {}))
    else:
        net.add("Split", None, ints(*lengths), axis=axis)
    net.nodes[-1].output.append("second")
    if lengths is None:
        net.add("Mul", None, "second")
    else:
        net.add("Concat", "second", None, axis=1)
    if opset >= 7:
        agrees(net)
    else:
        assert len(import_model(net.model()).graph.nodes) > 3


def test_gated_linear_units() -> None:
    net = OnnxNet(("N", 1, 8, 8)).conv(1, 6, (3, 3)).add("Split", axis=1, num_outputs=2)
    first, net.last = net.last, "gate"
    net.nodes[-1].output.append("gate")
    net.add("Sigmoid").add("Mul", first, None).add("Flatten").gemm(108, 3)
    assert "TRANSPOSE" not in opcodes(net)


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("indices", [ints(2), ints(0, 2, 1, 1), np.int64(-1), np.int64(0)], ids=str)
def test_gather(axis: int, indices: Any) -> None:
    agrees(OnnxNet(SHAPE).add("Tanh").add("Gather", None, np.asarray(indices), axis=axis))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize(
    "pads",
    [
        [0, 0, 1, 1, 0, 0, 1, 1],
        [0, 0, 2, 0, 0, 0, 1, 3],
        [0, 1, 0, 0, 0, 2, 0, 0],
        [0, 0, -1, 2, 0, 0, -2, 0],
        [0, 0, 0, -1, 0, -1, 0, 0],
    ],
    ids=str,
)
def test_pad(mode: str, pads: list[int]) -> None:
    if min(pads) < 0 and mode != "constant":
        return  # ONNX Runtime crops behind some modes and before others
    net = OnnxNet(SHAPE, 19 if mode == "wrap" else 18).add("Tanh")
    value = [np.float32(0.5)] if mode == "constant" else []
    agrees(net.add("Pad", None, ints(*pads), *value, mode=mode))


def test_a_convolution_with_reflected_borders() -> None:
    net = OnnxNet(("N", 2, 8, 8)).add("Pad", None, ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    net.conv(2, 3, (3, 3)).add("Relu").add("Flatten").gemm(192, 3)
    assert "TRANSPOSE" not in opcodes(net)


@pytest.mark.parametrize("target", [(1, 4, 6, 5), (1, 1, 6, 5), (6, 5), (2, 4, 6, 5)], ids=str)
def test_expand(target: tuple[int, ...]) -> None:
    batch = 2 if target[0] == 2 else "N"
    net = OnnxNet((batch, 4, 1, 5)).add("Tanh")
    agrees(net.add("Expand", None, ints(*target)))


@pytest.mark.parametrize("mode", ["DCR", "CRD", None])
def test_depth_to_space(mode: str | None) -> None:
    attributes = {} if mode is None else {"mode": mode}
    net = OnnxNet(("N", 8, 3, 4)).add("Tanh").add("DepthToSpace", blocksize=2, **attributes)
    agrees(net)


def test_space_to_depth() -> None:
    agrees(OnnxNet(("N", 2, 6, 4)).add("Tanh").add("SpaceToDepth", blocksize=2))


def test_reversed_sequences() -> None:
    net = OnnxNet((3, 5, 4)).add("Tanh")
    agrees_3 = net.add("ReverseSequence", None, ints(5, 5, 5), batch_axis=0, time_axis=1)
    model = agrees_3.model()
    batch = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    graph = optimize(import_model(model).graph)
    got = reference.run_graph(graph, batch.reshape(3, *graph.shapes[graph.input]))
    np.testing.assert_allclose(got.reshape(3, 5, 4), run_onnx(model, batch), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_slice(data: st.DataObject) -> None:
    """Of any steps, in any order of axes."""
    axes = data.draw(st.permutations([1, 2, 3]))[: data.draw(st.integers(1, 3))]
    starts, ends, steps = [], [], []
    for axis in axes:
        size = SHAPE[axis]
        step = data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
        start, end = (data.draw(st.integers(-size, size)) for _ in range(2))
        if not range(size)[start:end:step]:
            return
        starts.append(start)
        ends.append(end)
        steps.append(step)
    net = OnnxNet(SHAPE).add("Tanh")
    agrees(net.add("Slice", None, ints(*starts), ints(*ends), ints(*axes), ints(*steps)))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (OnnxNet(SHAPE).add("Slice", None, ints(1), ints(2), ints(0)), "a part of the batch"),
        (OnnxNet(SHAPE).add("Slice", None, ints(0), ints(4), ints(0)), "a part of the batch"),
        (OnnxNet(SHAPE).add("Gather", None, ints(0), axis=0), "axis=0 of rank 4"),
        (OnnxNet(SHAPE).add("Gather", None, ints(0, 1).reshape(1, 2), axis=1), "indices"),
        (OnnxNet(SHAPE).add("Pad", None, ints(1, *[0] * 7), mode="edge"), "not of the batch"),
        (
            OnnxNet(SHAPE).add("Pad", None, ints(0, 0, 6, 0, 0, 0, 0, 0), mode="reflect"),
            "reflect within the image",
        ),
        (OnnxNet(SHAPE).add("Expand", None, ints(3, 4, 6, 5)), "the batch as it is"),
        (OnnxNet(SHAPE).add("DepthToSpace", blocksize=3), "whole blocks"),
        (OnnxNet(SHAPE).add("SpaceToDepth", blocksize=4), "whole blocks"),
        (
            OnnxNet((2, 5, 4)).add("ReverseSequence", None, ints(5, 3), batch_axis=0, time_axis=1),
            "supported is all steps",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.nodes[-1].op_type,
)
def test_refuses(net: OnnxNet, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        import_model(net.add("Neg").model(check=False, infer=False))

"""The TensorFlow Lite front end, held against the evaluator in float64, and LiteRT where it is."""

from __future__ import annotations

import builtins
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model, verify_model
from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.frontends.tflite import SUPPORTED_OPERATORS, importer
from fastdigit.compiler.frontends.tflite.evaluator import FUNCTIONS, evaluate
from fastdigit.compiler.frontends.tflite.reader import Quantization, Tensor, read_model
from fastdigit.compiler.frontends.tflite.weights import dequantized
from fastdigit.errors import (
    FastDigitError,
    InputError,
    MissingExtraError,
    ModelFormatError,
    UnsupportedError,
)
from tests.support import need, reference
from tests.support.compiler_cases import engine
from tests.support.tflite_files import RELU, RELU6, RELU_N1_TO_1, SAME, TANH, VALID, TFLiteNet

need("tflite")

BATCH = 3


def compiled(net: TFLiteNet, folder: Path, **options: Any) -> Any:
    """Compile and verify; hold what it computes for several images against the file's own
    definition; return the program."""
    path = net.save(folder)
    result = compile_model(path, None, engine=engine, **options)
    program, model = unpack(result.data), read_model(path.name, path.read_bytes())
    shape = model.tensors[model.inputs[0]].shape
    images = np.random.default_rng(1).uniform(0, 1, (BATCH, *shape)).astype(np.float32)
    source, outputs = model.inputs[0], model.outputs
    want = np.stack([evaluate(model, {source: image}, outputs)[0] for image in images])
    got = reference.run_graph(
        program.graph, images.reshape(BATCH, *program.graph.shapes[program.graph.input])
    )
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=2e-6 * scale)
    return program


def ops(program: Any) -> str:
    return " ".join(record.opcode for record in program.records[1:])


# ---- operators ---------------------------------------------------------------------------------


def lenet() -> TFLiteNet:
    net = TFLiteNet(1, 12, 12, 1).conv(1, 4, 3, 3, FusedActivationFunction=RELU)
    net.pool("MAX", 2, 2).conv(4, 6, 3, 3, Padding=SAME, FusedActivationFunction=RELU)
    return net.add("RESHAPE", None, [1, 150]).dense(150, 5).add("SOFTMAX", Beta=1.0)


def windows() -> TFLiteNet:
    """Strides and dilations of even sizes, where SAME has an odd pixel to give."""
    net = TFLiteNet(1, 10, 11, 3).conv(3, 4, 3, 2, Padding=SAME, StrideH=2, StrideW=3)
    net.conv(4, 4, 2, 3, Padding=SAME, DilationHFactor=2, DilationWFactor=2)
    net.pool("AVERAGE", 3, 2, SAME).pool("MAX", 2, 1, SAME)
    return net.depthwise(4, 2, 2, Padding=SAME, FusedActivationFunction=RELU6)


def groups() -> TFLiteNet:
    net = TFLiteNet(1, 6, 6, 4).conv(2, 6, 3, 3)
    return net.depthwise(12, 3, 3, DepthMultiplier=2, FusedActivationFunction=RELU6)


def transposed() -> TFLiteNet:
    net = TFLiteNet(1, 4, 5, 3)
    same = {"StrideH": 2, "StrideW": 3, "Padding": SAME}
    net.add("TRANSPOSE_CONV", [1, 8, 15, 2], net.weights(2, 3, 4, 3), None, **same)
    net.add(
        *("TRANSPOSE_CONV", [1, 18, 31, 2], net.weights(2, 3, 2, 2), None, net.weights(2)),
        **{"StrideH": 2, "StrideW": 2, "Padding": VALID, "FusedActivationFunction": RELU},
    )
    # Shorter than the stride, and an output that has more than all taps reach.
    return net.add(
        "TRANSPOSE_CONV", [1, 54, 93, 2], net.weights(2, 2, 2, 2), None, **{**same, "StrideH": 3}
    )


def dilated() -> TFLiteNet:
    """As TensorFlow writes it where it does not know the batch."""
    net = TFLiteNet(1, 9, 10, 3)
    net.add("SPACE_TO_BATCH_ND", None, [2, 3], [[1, 2], [2, 3]]).conv(3, 4, 2, 2)
    net.add("BATCH_TO_SPACE_ND", None, [2, 3], [[0, 1], [1, 2]])
    net.add("SPACE_TO_BATCH_ND", None, [2, 2], [[2, 3], [2, 3]])
    net.depthwise(4, 3, 3, Padding=SAME, FusedActivationFunction=RELU)
    return net.add("BATCH_TO_SPACE_ND", None, [2, 2], [[0, 1], [1, 0]]).add("ELU")


def dilated_sequence() -> TFLiteNet:
    net = TFLiteNet(1, 14, 4).add("SPACE_TO_BATCH_ND", None, [2], [[4, 0]])
    net.add("EXPAND_DIMS", None, np.int32(-3)).conv(4, 3, 1, 3).add("RESHAPE", None, [-1, 7, 3])
    net.add("BATCH_TO_SPACE_ND", None, [2], [[0, 0]])
    net.add("SPACE_TO_BATCH_ND", None, [2], [[0, 0]]).add("EXPAND_DIMS", None, np.int32(1))
    net.conv(3, 3, 1, 3).add("SQUEEZE", None, SqueezeDims=(1,))
    return net.add("BATCH_TO_SPACE_ND", None, [2], [[0, 0]])


def pixels() -> TFLiteNet:
    """Products of each pixel, of rows, and of a vector."""
    net = TFLiteNet(1, 3, 4, 5).dense(5, 6, KeepNumDims=True)
    net.add("BATCH_MATMUL", None, net.weights(6, 4)).add("RESHAPE", None, [12, 4]).dense(4, 3)
    net.add("BATCH_MATMUL", None, net.weights(1, 5, 3), AdjY=True)
    net.add("RESHAPE", None, [1, 60]).dense(60, 8)
    return net.add("BATCH_MATMUL", None, net.weights(8, 2))


def arithmetic() -> TFLiteNet:
    net = TFLiteNet(1, 3, 4, 2)
    source = net.last
    net.add("MUL", None, np.float32(0.5)).add("SUB", np.float32([1, 2]), None)
    net.add("ADD", None, net.rng.normal(size=(1, 3, 1, 1)), FusedActivationFunction=RELU_N1_TO_1)
    net.add("DIV", None, np.float32([2, -4])).add("SUB", None, source).add("MUL", None, source)
    net.add("MAXIMUM", None, np.float32([0.1, -0.1])).add("MINIMUM", np.float32(0.3), None)
    square = net.add("SQUARE", None).last
    net.add("ADD", None, np.float32(2)).add("DIV", square, None).add("NEG").add("ABS")
    net.add("SQUARED_DIFFERENCE", None, source).add("SQUARED_DIFFERENCE", np.float32(0.5), None)
    return (
        net.add("POW", None, np.float32(3))
        .add("MAXIMUM", None, source)
        .add("MINIMUM", None, square)
    )


def ranks() -> TFLiteNet:
    """Operands of other ranks, aligned from the last axis, and of the image's mean."""
    net = TFLiteNet(1, 4, 5, 3)
    source = net.last
    mean = net.add("MEAN", None, [1, 2]).last
    product = net.add("RESHAPE", mean, [1, 1, 3]).add("MUL", source, None).last
    net.add("RESHAPE", mean, [3]).add("ADD", product, None)
    return net.add("PRELU", None, np.float32([[0.5, -0.25, 2]]))


def activations() -> TFLiteNet:
    net = TFLiteNet(1, 4, 4, 3)
    kinds = (
        "ELU",
        "HARD_SWISH",
        "LOGISTIC",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "TANH",
    )
    for kind in kinds:
        net.conv(3, 3, 1, 1).add(kind)
    for alpha in (0.25, 0.0, -0.5):
        net.conv(3, 3, 1, 1).add("LEAKY_RELU", None, Alpha=alpha)
    net.conv(3, 3, 1, 1).add("GELU", None, Approximate=False)
    return net.conv(3, 3, 1, 1).add("GELU", None, Approximate=True).add("CAST", None, OutDataType=0)


def exponentials(scale: float, alpha: float) -> TFLiteNet:
    """selu, or a scaled elu, then elu of another scale, then softplus."""
    net = TFLiteNet(1, 4, 4, 2).add("SUB", None, np.float32(0.5))
    x = net.last
    above = x if scale == 1 else net.add("MUL", x, np.float32(scale)).last
    net.add("EXP", x).add("SUB", None, np.float32(1))
    below = net.add("MUL", None, np.float32(scale * alpha)).last
    x = net.add("GREATER", x, np.float32(0)).add("SELECT_V2", None, above, below).last
    elu = net.add("ELU", x).last
    below = net.add("MUL", elu, np.float32(0.5)).last
    x = net.add("GREATER", x, np.float32(0)).add("SELECT", None, elu, below).last
    net.add("EXP", x).add("ADD", np.float32(1), None).add("LOG")
    return net


def norm(axes: list[int]) -> TFLiteNet:
    """Layer normalization as Keras has it."""
    net = TFLiteNet(1, 4, 5, 3).conv(3, 3, 1, 1)
    for _ in range(2):
        x, shape = net.last, [4 if 1 in axes else 1, 5 if 2 in axes else 1, 3]
        mean = net.add("MEAN", x, axes, KeepDims=True).last
        net.add("SQUARED_DIFFERENCE", x, mean).add("MEAN", None, axes, KeepDims=True)
        net.add("ADD", None, np.float32(1e-3)).add("RSQRT")
        inverse = net.add("MUL", None, net.rng.normal(size=(1, *shape))).last
        negative = net.add("NEG", mean).last
        net.add("MUL", negative, inverse).add("ADD", None, net.rng.normal(size=(1, *shape)))
        shift = net.last
        net.add("MUL", x, inverse).add("ADD", None, shift)
    return net


def reductions() -> TFLiteNet:
    net = TFLiteNet(1, 4, 5, 6)
    source = net.last
    net.add("REDUCE_MAX", source, [1], KeepDims=True).add("ADD", source, None)
    net.add("SUM", None, [2], KeepDims=True).add("MUL", source, None)
    net.add("REDUCE_MIN", None, [-1], KeepDims=True).add("MUL", source, None)
    net.add("REDUCE_MIN", None, [1, 2], KeepDims=True).add("ADD", source, None)
    net.add("MEAN", None, [0]).add("MEAN", None, [0, 2])
    return net


def moves() -> TFLiteNet:
    net = TFLiteNet(1, 4, 6, 3)
    net.add("TRANSPOSE", None, [0, 2, 3, 1]).add("PAD", None, [[0, 0], [1, 0], [0, 2], [0, 0]])
    net.add("PADV2", None, [[0, 0], [0, 1], [0, 0], [1, 1]], np.float32(0.5))
    net.add("TRANSPOSE", None, [1, 0, 2, 3]).add("TRANSPOSE", None, [1, 0, 3, 2])
    net.add("TILE", None, [1, 2, 1, 3]).add("RESHAPE", None, [1, -1, 5, 2])
    first = net.last
    net.add("CONCATENATION", None, first, None, Axis=-1)
    net.add("SQUEEZE").add("EXPAND_DIMS", None, np.int32(0))
    net.add("EXPAND_DIMS", None, np.int32(-1))
    net.add("SQUEEZE", None, SqueezeDims=(4,)).add("CONCATENATION", None, None, Axis=3)
    return net.add("RESHAPE", None, NewShape=(1, -1)).add("PACK", None, None, Axis=1, ValuesCount=2)


def depth_to_space() -> TFLiteNet:
    net = TFLiteNet(1, 4, 6, 4).add("DEPTH_TO_SPACE", None, BlockSize=2).conv(1, 3, 1, 1)
    return net.add("SPACE_TO_DEPTH", None, BlockSize=4)


def slices() -> TFLiteNet:
    net = TFLiteNet(1, 6, 8, 5)
    net.add("SLICE", None, [0, 1, 0, 2], [1, 4, -1, 3]).add(
        *("STRIDED_SLICE", None, [0, -4, 7, 1], [1, 9, -9, 3], [1, 1, -2, 1]), EndMask=4
    )
    net.add("STRIDED_SLICE", None, [0, 1], [0, 2], [1, 1], BeginMask=1, EndMask=1, ShrinkAxisMask=2)
    net.add("EXPAND_DIMS", None, np.int32(2)).add("TILE", None, [1, 1, 3, 1])
    net.add("SPLIT", np.int32(1), None, outputs=2, NumSplits=2)
    first, second = net.last, net.last + 1
    net.add("SPLIT_V", second, [1, -1], np.int32(-2), outputs=2, NumSplits=2)
    net.add("CONCATENATION", None, first, net.last + 1, Axis=2)
    net.add("UNPACK", None, outputs=2, Axis=3, Num=2)
    net.add("PACK", net.last + 1, net.last, Axis=-1, ValuesCount=2)
    net.add("MIRROR_PAD", None, [[0, 0], [1, 1], [2, 3], [1, 0]], Mode=0)
    net.add("MIRROR_PAD", None, [[0, 0], [2, 0], [0, 1], [3, 3]], Mode=1)
    return net.add("GATHER", None, [2, 0, 2], Axis=-1)


def steps() -> TFLiteNet:
    """A product of each step, as Keras' TimeDistributed is written; the steps come first."""
    net = TFLiteNet(1, 3, 4).add("TRANSPOSE", None, [1, 0, 2])
    net.add("UNPACK", None, outputs=3, Axis=0, Num=3)
    parts, weights = range(net.last, net.last + 3), net.weights(5, 4)
    made = [net.add("FULLY_CONNECTED", part, weights, -1).last for part in parts]
    net.add("PACK", *made, Axis=0, ValuesCount=3).add("TRANSPOSE", None, [1, 0, 2])
    return net.add("GATHER", None, [2, 0], Axis=1)


def logarithms() -> TFLiteNet:
    net = TFLiteNet(1, 4, 3).add("EXP").add("MUL", None, np.float32(0.5)).add("SQRT")
    net.add("ADD", None, np.float32(1)).add("LOG").add("ABS")
    net.add("RESHAPE", None, [1, 12]).dense(12, 5)
    return net.add("LOG_SOFTMAX")


def joined_batch() -> TFLiteNet:
    """Along the first axis, which is no batch any more."""
    net = TFLiteNet(1, 5)
    net.add("CONCATENATION", None, net.add("TANH").last, Axis=0).dense(5, 3)
    return net.add("PACK", None, None, Axis=0, ValuesCount=2).add("SOFTMAX", Beta=2.0)


def resized(kind: str, align: bool, half: bool) -> TFLiteNet:
    net = TFLiteNet(1, 5, 6, 2)
    for size in ([10, 12], [7, 9], [3, 25], [1, 1], [4, 5]):
        net.add(f"RESIZE_{kind}", None, size, AlignCorners=align, HalfPixelCenters=half)
    return net


def shapes() -> TFLiteNet:
    """What converters compute of shapes, for a flatten and for products of steps."""
    net, whole = TFLiteNet(1, 4, 5, 3), {"result": "INT32"}
    source = net.last
    size = net.add("SHAPE", source, OutType=2, **whole).last
    net.add("STRIDED_SLICE", size, [0], [1], [1], ShrinkAxisMask=1, **whole)
    net.add("PACK", None, np.int32(60), Axis=0, ValuesCount=2, **whole)
    flat = net.add("RESHAPE", source, net.last).dense(60, 4).last
    net.add("GATHER", size, [1, 2], Axis=0, **whole)
    steps = net.add("REDUCE_PROD", None, [0], KeepDims=True, **whole).last
    net.add("CONCATENATION", [1], steps, [3], Axis=0, **whole)
    net.add("CAST", None, InDataType=2, OutDataType=2, **whole)
    net.add("RESHAPE", source, net.last).dense(3, 4, KeepNumDims=True)
    return net.add("MUL", None, flat)


def folded() -> TFLiteNet:
    """Weights that the file computes from others."""
    net = TFLiteNet(1, 6)
    weights = net.add("TRANSPOSE", net.weights(6, 4), [1, 0]).last
    weights = net.add("MUL", weights, np.float32(0.5)).last
    bias = net.add("SUB", net.weights(4), net.add("SQRT", np.float32([4, 1, 0, 9])).last).last
    return net.add("FULLY_CONNECTED", 0, weights, bias)


NETWORKS: dict[str, Callable[[], TFLiteNet]] = {
    "lenet": lenet,
    "windows": windows,
    "groups": groups,
    "transposed": transposed,
    "dilated": dilated,
    "dilated-sequence": dilated_sequence,
    "pixels": pixels,
    "arithmetic": arithmetic,
    "ranks": ranks,
    "activations": activations,
    "selu": lambda: exponentials(1.0507009873554805, 1.6732632423543772),
    "elu": lambda: exponentials(1.0, 0.75),
    "scaled-elu": lambda: exponentials(0.5, 1.5),
    "norm-channels": lambda: norm([3]),
    "norm-rows": lambda: norm([2, 3]),
    "norm-all": lambda: norm([1, 2, 3]),
    "reductions": reductions,
    "moves": moves,
    "depth-to-space": depth_to_space,
    "slices": slices,
    "steps": steps,
    "logarithms": logarithms,
    "joined-batch": joined_batch,
    "shapes": shapes,
    "folded": folded,
    "bilinear": lambda: resized("BILINEAR", False, False),
    "bilinear-corners": lambda: resized("BILINEAR", True, False),
    "bilinear-centers": lambda: resized("BILINEAR", False, True),
    "nearest": lambda: resized("NEAREST_NEIGHBOR", False, False),
    "nearest-corners": lambda: resized("NEAREST_NEIGHBOR", True, False),
    "nearest-centers": lambda: resized("NEAREST_NEIGHBOR", False, True),
    "nearest-both": lambda: resized("NEAREST_NEIGHBOR", True, True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tmp_path: Path) -> None:
    compiled(NETWORKS[name](), tmp_path)


def test_every_operator_is_in_a_network_and_evaluated() -> None:
    used = {node.type for build in NETWORKS.values() for node in build().nodes}
    used |= {"DEQUANTIZE"}  # in tests of its own
    assert used >= set(SUPPORTED_OPERATORS)
    assert set(FUNCTIONS) >= used


def test_what_becomes_of_pieces(tmp_path: Path) -> None:
    """No operator is left of what only serves a batch, a shape or a formula."""
    assert ops(compiled(lenet(), tmp_path)) == "CONV2D CONV2D DENSE SOFTMAX"
    assert ops(compiled(dilated(), tmp_path)) == "CONV2D CONV2D ELTWISE"
    assert ops(compiled(norm([3]), tmp_path)) == "CONV2D LAYERNORM LAYERNORM"
    selu = compiled(exponentials(1.0507009873554805, 1.6732632423543772), tmp_path)
    names = [node.op.activation.name for node in selu.graph.nodes]
    assert names == ["linear", "selu", "elu", "softplus"]


def test_meta(tmp_path: Path) -> None:
    meta = compiled(lenet(), tmp_path).meta
    assert meta["source"] == {"kind": "tflite", "layout": "NHWC", "shape": [12, 12, 1]}
    assert meta["name"] == "net"
    assert meta["classes"] == ["0", "1", "2", "3", "4"]


def test_evaluated_where_litert_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "ai_edge_litert")
    meta = compiled(lenet(), tmp_path).meta
    assert meta["verification"]["reference"] == f"numpy {np.__version__} in float64"


def test_without_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lenet().save(tmp_path)
    hide(monkeypatch, "tflite")
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[compile\]"'):
        open_source(path)


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


def bytes_first(kind: str) -> TFLiteNet:
    known = Quantization(np.float64([0.5]), np.array([128]), 0) if kind == "DEQUANTIZE" else None
    net = TFLiteNet(1, 4, 4, 3, type="UINT8", quantization=known)
    net.add("CAST", None, InDataType=3, OutDataType=0) if kind == "CAST" else net.add(kind)
    net.add("MUL", None, np.float32(1 / 255))
    return net.conv(3, 2, 3, 3).add("LOGISTIC")


@pytest.mark.parametrize("kind", ["CAST", "DEQUANTIZE"])
def test_images_of_bytes(kind: str, tmp_path: Path) -> None:
    """They are taken as they are, 0 to 255."""
    path = bytes_first(kind).save(tmp_path)
    result = compile_model(path, None, engine=engine)
    program, model = unpack(result.data), read_model(path.name, path.read_bytes())
    assert program.meta["input"]["because"] == "the source takes bytes"
    image = np.random.default_rng(2).integers(0, 256, (1, 4, 4, 3), dtype=np.uint8)
    (want,) = evaluate(model, {0: image}, model.outputs)
    got = reference.run_graph(program.graph, image.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


# ---- inputs and outputs ------------------------------------------------------------------------


def heads() -> TFLiteNet:
    """Two inputs; of the outputs, the first depends on both and the second on one."""
    net = TFLiteNet(1, 4, 4, 3)
    other = net.input(1, 5)
    net.conv(3, 2, 3, 3).add("RELU").dense(8, 5)
    features = net.last
    total = net.add("ADD", features, other).add("SOFTMAX", Beta=1.0).last
    net.outputs = (total, net.add("TANH", other).last)
    return net


@pytest.mark.parametrize("litert", [True, False])
def test_several_inputs_and_outputs(
    litert: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not litert:
        hide(monkeypatch, "ai_edge_litert")
    path = heads().save(tmp_path)
    model, read = compile_model(path, None, engine=engine), read_model("net", path.read_bytes())
    loaded = fastdigit.Model(model.data)
    first, second = (read.tensors[number].name for number in read.outputs)
    assert loaded.inputs == {"input": (4, 4, 3), "other": (5,)}
    assert list(loaded.outputs) == [first, second]
    rng = np.random.default_rng(3)
    image, other = (
        rng.uniform(0, 1, (2, *shape)).astype(np.float32) for shape in ((4, 4, 3), (5,))
    )
    got = loaded.run({"other": other, "input": image})
    for index in range(2):
        inputs = {read.inputs[0]: image[index, None], read.inputs[1]: other[index, None]}
        want = evaluate(read, inputs, read.outputs)
        np.testing.assert_allclose(got[first][index], want[0][0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(got[second][index], want[1][0], rtol=0, atol=1e-6)


def test_an_output_and_what_it_needs(tmp_path: Path) -> None:
    path = heads().save(tmp_path)
    name = heads().model().tensors[heads().model().outputs[1]].name
    loaded = fastdigit.Model(compile_model(path, None, engine=engine, outputs=[name]).data)
    assert (loaded.inputs, loaded.outputs) == ({"other": (5,)}, {name: (5,)})
    other = np.float32([[0, 0.25, 0.5, 0.75, 1]])
    np.testing.assert_allclose(loaded.run(other), np.tanh(other), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"there is no output 'x'; the model has 'softmax\d', "):
        compile_model(path, None, engine=engine, outputs=["x"])


def free_size() -> TFLiteNet:
    net = TFLiteNet(1, 1, 1, 3, free=(0, 1, 2)).conv(3, 2, 3, 3).add("RELU")
    return net.add("MEAN", None, np.int32([1, 2])).dense(2, 3)


@pytest.mark.parametrize("shape", [(5, 7, 3), (8, 3, 3)])
@pytest.mark.parametrize("litert", [True, False])
def test_sizes_that_the_file_leaves_free(
    shape: tuple[int, int, int], litert: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not litert:
        hide(monkeypatch, "ai_edge_litert")
    path = free_size().save(tmp_path)
    result = compile_model(path, None, engine=engine, input_shape=shape)
    model = fastdigit.Model(result.data)
    assert model.input_shape == shape
    image = np.random.default_rng(4).uniform(0, 1, (1, *shape)).astype(np.float32)
    read = read_model("net", path.read_bytes())
    (want,) = evaluate(read, {0: image}, read.outputs)
    np.testing.assert_allclose(model.run(image), want, rtol=0, atol=1e-6)
    verify_model(result.data, path, engine=engine)


@pytest.mark.parametrize("shape", [(5, 7, 1), (5, 7)])
def test_refuses_shapes_that_the_file_does_not_leave_free(shape: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'input' has shape \['\?', '\?', '\?', 3\]"):
        compile_model(free_size().save(tmp_path), None, engine=engine, input_shape=shape)


# ---- weights -----------------------------------------------------------------------------------


def test_weights_of_float16(tmp_path: Path) -> None:
    net = TFLiteNet(1, 5)
    half = net.rng.normal(size=(3, 5)).astype(np.float16)
    net.add("DEQUANTIZE", half)
    program = compiled(net.add("FULLY_CONNECTED", 0, net.last, -1), tmp_path)
    np.testing.assert_array_equal(program.graph.nodes[0].op.weights, half.T.astype(np.float64))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights_of_integers(dtype: str, tmp_path: Path) -> None:
    """With one scale for all: the numbers that integers stand for, rounded to float32."""
    net = TFLiteNet(1, 5)
    integers = net.rng.integers(-100 if dtype == "int8" else 0, 100, (3, 5)).astype(dtype)
    zero = 0 if dtype == "int8" else 7
    weights = net.constant(integers, 0.01, zero)
    program = compiled(net.add("FULLY_CONNECTED", None, weights, -1), tmp_path)
    want = ((integers.astype(int) - zero) * np.float64(np.float32(0.01))).astype(np.float32)
    np.testing.assert_array_equal(program.graph.nodes[0].op.weights, want.T)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_weights_with_a_scale_for_each_channel(kind: str, tmp_path: Path) -> None:
    net = TFLiteNet(1, 5, 5, 4)
    axis = 0 if kind == "CONV_2D" else 3
    shape = (4, 3, 3, 4) if kind == "CONV_2D" else (1, 3, 3, 4)
    integers = net.rng.integers(-127, 128, shape).astype(np.int8)
    scale = np.float32([0.01, 0.002, 0.03, 0.0004])
    weights = net.constant(integers, scale, 0, axis)
    net.add(kind, None, weights, net.weights(4), StrideH=1, StrideW=1, Padding=VALID)
    program = compiled(net, tmp_path)
    along = scale.astype(np.float64).reshape([-1 if a == axis else 1 for a in range(4)])
    want = (integers * along).transpose((1, 2, 3, 0) if axis == 0 else (1, 2, 0, 3))
    np.testing.assert_array_equal(program.graph.nodes[0].op.weights, want.astype(np.float32))


def test_integers_of_four_bits() -> None:
    """Two in a byte, the first one low; the last byte has one."""
    data = np.array([0x21, 0xF8, 0x07], np.uint8)
    tensor = Tensor("w", (5,), "INT4", data=data)
    assert dequantized(tensor).tolist() == [1, 2, -8, -1, 7]


def test_scales_that_do_not_fit() -> None:
    net = TFLiteNet(1, 5)
    weights = net.constant(np.zeros((3, 5), np.int8), np.ones(4), 0, 0)
    net.add("FULLY_CONNECTED", None, weights, -1)
    with pytest.raises(ModelFormatError, match=r"shape \(3, 5\) has 4 scales along axis 0"):
        import_model(net.model())


# ---- what is refused ---------------------------------------------------------------------------


def quantized() -> TFLiteNet:
    net = TFLiteNet(1, 4).add("QUANTIZE")
    known = net.tensors[net.constant(np.zeros(1, np.int8), 0.5)].quantization
    net.tensors[net.last] = Tensor("q", (1, 4), "INT8", quantization=known)
    return net.add("TANH").add("DEQUANTIZE")


def sparse() -> TFLiteNet:
    net = TFLiteNet(1, 4)
    weights = net.raw(Tensor("w", (3, 4), "FLOAT32", data=np.zeros(8, np.uint8), sparse=True))
    return net.add("FULLY_CONNECTED", None, weights, -1)


def batch() -> TFLiteNet:
    net = TFLiteNet(32, 4).add("TANH")
    net.tensors[net.last] = Tensor("tanh", (32, 4), "FLOAT32")
    return net


REFUSED: dict[str, tuple[Callable[[], TFLiteNet], str]] = {
    "quantized": (quantized, "fully quantized.*convert without full-integer quantization"),
    "sparse": (sparse, "'w' is stored without its zeros"),
    "batch": (batch, "takes 32 images at a time; supported is 1"),
    "free size": (
        lambda: TFLiteNet(1, 1, 1, 3, free=(0, 1, 2)).conv(3, 2, 1, 1),
        r"has shape \['\?', '\?', '\?', 3\]; give the shape of an image: "
        r"input_shape=\(height, width, channels\)",
    ),
    "bytes": (
        lambda: TFLiteNet(1, 4, type="UINT8").add("ADD", None, np.uint8(3)),
        "'input' has type UINT8, and ADD computes with its bytes",
    ),
    "type": (lambda: TFLiteNet(1, 4, type="INT32").add("TANH"), "'input' has type INT32"),
    "recurrent": (
        lambda: TFLiteNet(1, 4, 3).add("UNIDIRECTIONAL_SEQUENCE_LSTM"),
        "UNIDIRECTIONAL_SEQUENCE_LSTM .* is a recurrent layer, which is not supported",
    ),
    "loop": (lambda: TFLiteNet(1, 4).add("WHILE"), r"operator 0 WHILE \('while0'\)"),
    "custom": (
        lambda: TFLiteNet(1, 4).add("CUSTOM", custom="Mine"),
        "is a custom operator, 'Mine', which is not supported",
    ),
    "flex": (
        lambda: TFLiteNet(1, 4).add("CUSTOM", custom="FlexErf"),
        r"an operator of TensorFlow \(Erf\) that TensorFlow Lite does not have",
    ),
    "edge tpu": (
        lambda: TFLiteNet(1, 4).add("CUSTOM", custom="edgetpu-custom-op"),
        "compiled for an Edge TPU, and its network is hidden in it",
    ),
    "fused": (
        lambda: TFLiteNet(1, 4).dense(4, 2, FusedActivationFunction=TANH),
        "fused activation 4; supported are NONE, RELU",
    ),
    "root": (lambda: TFLiteNet(1, 4).add("RSQRT"), "as a piece of layer normalization"),
    "blocks": (
        lambda: TFLiteNet(1, 4, 4, 2).add("SPACE_TO_BATCH_ND", None, [2, 2], [[0, 0], [0, 0]]),
        "the blocks of an image; supported is a convolution between",
    ),
    "power": (
        lambda: TFLiteNet(1, 4).add("POW", None, np.float32(0.3)),
        r"exponent 0\.3\d*; supported is 1, 2 or 3",
    ),
    "enlarging": (
        lambda: TFLiteNet(1, 4, 1, 2).add("ADD", None, np.zeros((1, 4, 3, 2))),
        "enlarges a value of shape",
    ),
    "matrices": (
        lambda: TFLiteNet(1, 4, 3).add("BATCH_MATMUL", None, np.zeros((2, 3, 2))),
        "no single matrix; supported is a constant matrix",
    ),
    "not finite": (
        lambda: TFLiteNet(1, 3).add("FULLY_CONNECTED", None, np.full((2, 3), np.nan), -1),
        "input 1 has values that are not finite",
    ),
    "crop": (
        lambda: TFLiteNet(1, 4, 4, 2).add("PAD", None, [[0, 0], [0, -1], [0, 0], [0, 0]]),
        "supported is padding, not cropping",
    ),
    "constant": (
        lambda: TFLiteNet(1, 3).add("ADD", np.zeros(3), np.ones(3)),
        "the output 'add0' does not depend on the input",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    build, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        compile_model(build().save(tmp_path), None, engine=engine) if name != "sparse" else (
            import_model(build().model())
        )
    assert "\n" not in str(caught.value)


def test_all_that_is_not_supported_is_told(tmp_path: Path) -> None:
    net = TFLiteNet(1, 4, 4, 3).add("CUMSUM")
    net.tensors[net.last] = Tensor("sum", (1, 4, 4, 3), "FLOAT32")
    net.conv(3, 2, 3, 3).add("COS")
    with pytest.raises(UnsupportedError) as caught:
        compile_model(net.save(tmp_path), None, engine=engine)
    assert [reason.split(" (")[0] for reason in caught.value.reasons] == [
        "operator 0 CUMSUM",
        "operator 2 COS",
    ]


# ---- files that contradict themselves, or are damaged ------------------------------------------

CONTRADICTING: dict[str, tuple[Callable[[], TFLiteNet], str]] = {
    "reshape": (lambda: TFLiteNet(1, 4).add("RESHAPE", None, [1, 5]), "a reshape from"),
    "channels": (lambda: TFLiteNet(1, 5, 5, 4).conv(3, 2, 3, 3), "for 4 channels"),
    "inputs": (lambda: TFLiteNet(1, 5).dense(4, 2), "weights take 4 inputs"),
    "stride": (
        lambda: TFLiteNet(1, 5, 5, 3).conv(3, 2, 3, 3, StrideH=0),
        r"strides \(0, 1\), expected 1 and more",
    ),
    "padding": (lambda: TFLiteNet(1, 5, 5, 3).conv(3, 2, 3, 3, Padding=7), "padding 7, expected"),
    "operands": (
        lambda: TFLiteNet(1, 5).add("ADD", None, np.zeros(3)),
        r"combines shapes \(\(1, 5\), \(3,\)\)",
    ),
    "permutation": (
        lambda: TFLiteNet(1, 5, 4).add("TRANSPOSE", None, [0, 1, 1]),
        r"axes \[0, 1, 1\] of rank 3",
    ),
    "nothing": (lambda: TFLiteNet(1, 5).add("TANH", 2).add("TANH", 1), "nothing computes tensor"),
}


@pytest.mark.parametrize("name", CONTRADICTING)
def test_contradictions(name: str) -> None:
    build, message = CONTRADICTING[name]
    net = build()
    if name == "nothing":
        net.nodes = net.nodes[1:]
    with pytest.raises(ModelFormatError, match=message) as caught:
        import_model(net.model())
    assert "\n" not in str(caught.value)


def test_too_few_bytes() -> None:
    net = TFLiteNet(1, 4)
    weights = net.raw(Tensor("w", (3, 4), "FLOAT32", data=np.zeros(47, np.uint8)))
    net.add("FULLY_CONNECTED", None, weights, -1)
    with pytest.raises(ModelFormatError, match=r"shape \(3, 4\) has 47 bytes, expected 48"):
        import_model(net.model())


@pytest.mark.parametrize("length", [0, 4, 7, 8, 12, 100, 1000])
def test_files_that_end_early(length: int, tmp_path: Path) -> None:
    data = lenet().bytes()
    path = tmp_path / "net.tflite"
    path.write_bytes(data[:length])
    with pytest.raises(ModelFormatError) as caught:
        import_model(open_source(path))
    assert str(caught.value).startswith("net.tflite: ") and "\n" not in str(caught.value)


def test_another_version(tmp_path: Path) -> None:
    import tflite

    data = bytearray(lenet().bytes())
    table = tflite.Model.GetRootAs(data, 0)._tab
    place = table.Pos + table.Offset(4)
    data[place : place + 4] = (2).to_bytes(4, "little")
    with pytest.raises(UnsupportedError, match="version 2 of TensorFlow Lite's format"):
        read_model("net.tflite", bytes(data))


FILES = [build().bytes() for build in (lenet, dilated_sequence, arithmetic, quantized, shapes)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Whatever the bytes, they are read as some network or refused in a line."""
    file = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, len(file) - 1))
        width = data.draw(st.sampled_from([1, 2, 4]))
        word = data.draw(
            st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x1000])
            | st.integers(0, 0xFFFFFFFF)
        )
        file[place : place + width] = (word & (1 << 8 * width) - 1).to_bytes(width, "little")
    file = file[: data.draw(st.sampled_from([len(file)] * 4 + [len(file) - 5]))]
    try:
        import_model(read_model("net.tflite", bytes(file)))
    except FastDigitError as error:
        assert len(str(error)) < 2000 and "\n" not in str(error)


def test_the_same_bytes_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes must not become much memory."""
    monkeypatch.setattr(importer, "MAX_NUMBERS", 1000)
    net = TFLiteNet(1, 400)
    net.add("ADD", None, np.zeros(400))
    for _ in range(2):
        net.add("ADD", None, net.raw(net.tensors[1]))
    with pytest.raises(UnsupportedError, match="the constants have more than"):
        import_model(net.model())


# ---- labels ------------------------------------------------------------------------------------


def with_zip(data: bytes, **files: bytes) -> bytes:
    """Append files as the tools for metadata do."""
    archive = io.BytesIO(data)
    with zipfile.ZipFile(archive, "a") as zipped:
        for name, content in files.items():
            zipped.writestr(f"{name}.txt", content)
    return archive.getvalue()


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ({"labels": b"zero\none\r\ntwo\nthree\n\nfour\n"}, ["zero", "one", "two", "three", "four"]),
        ({"labels": b"zero\none\n"}, None),
        ({"labels": b"\xff\xfe\n" * 5}, None),
        ({"labels": b"x\n" * (1 << 20)}, None),
        ({"labels": b"a\nb\nc\nd\ne", "other": b"a\nb\nc\nd\ne"}, None),
    ],
    ids=["labels", "too few", "no text", "too long", "two files"],
)
def test_labels(files: dict[str, bytes], classes: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(with_zip(lenet().bytes(), **files))
    result = compile_model(path, None, engine=engine)
    assert result.meta["classes"] == (classes or ["0", "1", "2", "3", "4"])
    given_names = compile_model(path, None, engine=engine, classes=list("vwxyz"))
    assert given_names.meta["classes"] == list("vwxyz")


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_network_without_inputs_or_outputs(kind, tmp_path):
    """Found by fuzzing."""
    net = TFLiteNet(1, 6).dense(6, 4)
    if kind == "input":
        net.inputs = ()
    else:
        net.outputs = ()
    with pytest.raises(FastDigitError, match=kind):
        import_model(open_source(net.save(tmp_path)))

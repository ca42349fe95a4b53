"""What a network takes, from how it begins, and what users say of it. The oracle for the same
images, as bytes or floats, is ONNX Runtime."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.compiler import compile_model, unpack
from fastdigit.compiler.driver import verify_model
from fastdigit.compiler.frontends.common import batchnorm
from fastdigit.compiler.inputs import Inputs, Preprocessing, find_inputs, preprocess
from fastdigit.compiler.ir import Activation, Affine, Op, Pool
from fastdigit.compiler.ops import (
    Binary,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Transpose,
)
from fastdigit.compiler.verify import check, make_samples
from fastdigit.errors import InputError, ModelFormatError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx
from tests.support.networks import Net, chain, conv

need("onnx")
need("onnxruntime")

BYTES, UNIT, ANY = (0.0, 255.0), (0.0, 1.0), (-np.inf, np.inf)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in 0..1
COLOUR = np.array(MEAN).reshape(1, 3, 1, 1), np.array(STD).reshape(1, 3, 1, 1)

#: How networks begin, in ONNX's words, on (N, 3, 8, 8); and what they take.
BEGINNINGS: dict[str, tuple[list[tuple[Any, ...]], tuple[float, float]]] = {
    "x / 255": ([("Div", None, np.array(255.0))], BYTES),
    "x * (1 / 255)": ([("Mul", None, np.array(1 / 255))], BYTES),
    "x / 256": ([("Div", None, np.array([256.0]))], BYTES),
    "x / 255 - 0.5": ([("Div", None, np.array(255.0)), ("Sub", None, np.array(0.5))], BYTES),
    "x / 127.5 - 1": ([("Div", None, np.array(127.5)), ("Sub", None, np.array(1.0))], BYTES),
    "(x - 128) / 128": ([("Sub", None, np.array(128.0)), ("Div", None, np.array(128.0))], BYTES),
    "1 - x / 255": ([("Div", None, np.array(255.0)), ("Sub", np.array(1.0), None)], BYTES),
    "255 - x": ([("Sub", np.array(255.0), None), ("Div", None, np.array(255.0))], BYTES),
    "ImageNet of bytes": (
        [("Sub", None, 255 * COLOUR[0]), ("Div", None, 255 * COLOUR[1])],
        BYTES,
    ),
    "x / 255, then ImageNet": (
        [("Div", None, np.array(255.0)), ("Sub", None, COLOUR[0]), ("Div", None, COLOUR[1])],
        BYTES,
    ),
    "mean alone": ([("Sub", None, np.array([103.9, 116.8, 123.7]).reshape(1, 3, 1, 1))], BYTES),
    "ImageNet": ([("Sub", None, COLOUR[0]), ("Div", None, COLOUR[1])], UNIT),
    "MNIST": ([("Sub", None, np.array(0.1307)), ("Div", None, np.array(0.3081))], UNIT),
    "2 * x - 1": ([("Mul", None, np.array(2.0)), ("Sub", None, np.array(1.0))], UNIT),
    "1 - x": ([("Sub", np.array(1.0), None)], UNIT),
    "x * 255, mean alone": (
        [("Mul", None, np.array(255.0)), ("Sub", None, np.array(120.0))],
        UNIT,
    ),
    # Before and between: what leaves values as they are, or moves them.
    "moved": (
        [
            ("Identity", None),
            ("Transpose", None, {"perm": [0, 2, 3, 1]}),
            ("Div", None, np.array([255.0, 254.0, 253.0])),
            ("Transpose", None, {"perm": [0, 3, 1, 2]}),
            ("Reshape", None, np.array([-1, 3, 8, 8])),
        ],
        BYTES,
    ),
    "pooled": (
        [("MaxPool", None, {"kernel_shape": [1, 1]}), ("Div", None, np.array(255.0))],
        BYTES,
    ),
}


def network(begins: list[tuple[Any, ...]], pads: int = 0, size: int = 8) -> Any:
    net = OnnxNet(("N", 3, size, size))
    for op_type, *inputs in begins:
        attributes = inputs.pop() if isinstance(inputs[-1], dict) else {}
        net.add(op_type, *inputs, **attributes)
    net.conv(3, 5, (3, 3), pads=[pads] * 4).add("Relu").add("GlobalMaxPool").add("Flatten")
    return net.gemm(5, 4).add("Softmax").model()


def pictures(count: int = 20, size: int = 8) -> np.ndarray:
    images = np.random.default_rng(3).integers(0, 256, (count, size, size, 3), np.uint8)
    images[0], images[1] = 0, 255
    return images


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_bytes_mean_what_the_network_begins_with(name: str, pads: int) -> None:
    begins, want = BEGINNINGS[name]
    source = network(begins, pads)
    result = compile_model(source, None, engine=engine)
    assert result.inputs.range == want and not result.inputs.assumed
    assert unpack(result.data).u8_divisor == (1 if want == BYTES else 255)
    assert result.meta["input"]["because"].startswith("the network begins with ")
    model, images = fastdigit.Model(result.data), pictures()
    values = images.astype(np.float32) * np.float32(want[1] / 255)
    answers = run_onnx(source, values.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(model.predict_proba(images), answers, atol=2e-5)
    np.testing.assert_allclose(model.predict_proba(values), answers, atol=2e-5)
    verify_model(result.data, source, engine=engine, samples=images)


def found(*ops: Op, shape: tuple[int, ...] = (8, 8, 3), **options: Any) -> Inputs:
    return find_inputs(chain(shape, ops), **options)


def uniform(scale: float, shift: float = 0.0) -> Eltwise:
    return Eltwise(affine=Affine(2, np.full(3, scale), np.full(3, shift)))


RNG = np.random.default_rng(0)
FIRST = conv(RNG, (3, 3), 3, 4)


def learned(mean: float, gamma: float = 1.0) -> Eltwise:
    """A batch normalization that has seen a mean, and whose scale is small."""
    deviation, beta = np.full(3, 100.0**2), np.full(3, 0.3)
    means = mean * np.array([1.0, 0.5, 0.9])
    return Eltwise(affine=batchnorm(2, means, deviation, np.full(3, gamma), beta, 1e-3))


X255, X127 = uniform(1 / 255), uniform(1 / 127.5, -1.0)
CUT = Crop(((1, 1), (0, 0), (0, 0)))

#: Branches that read one input, and what it takes; whether that is assumed, with a warning.
BRANCHES: dict[str, tuple[list[tuple[Op, ...]], tuple[float, float], bool]] = {
    "all alike": ([(X255, FIRST), (X255, FIRST)], BYTES, False),
    "of one range": ([(X255, FIRST), (X127, FIRST)], BYTES, False),
    "behind parts": ([(CUT, X255, FIRST), (CUT, X127, FIRST)], BYTES, False),
    "one as it is": ([(X255,), ()], BYTES, True),
    "one unknown": ([(X255, FIRST), (FIRST,)], BYTES, True),
    "contradicting": ([(X255, FIRST), (uniform(2.0, -1.0), FIRST)], UNIT, True),
    "nothing": ([(FIRST,), (FIRST,)], UNIT, False),
}


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("before", [(), (CUT,)])
def test_branches_of_one_input(name: str, before: tuple[Op, ...]) -> None:
    branches, want, doubtful = BRANCHES[name]
    net = Net((8, 8, 3))
    start = net.last
    for op in before:
        start = net.add(op, start)
    ends = []
    for branch in branches:
        end = start
        for op in branch:
            end = net.add(op, end)
        ends.append(end)
    net.add(Binary("add"), *ends)
    inputs = find_inputs(net.graph())
    assert inputs.range == want
    assert inputs.doubtful == doubtful


#: Nothing is known of what these take.
UNKNOWN: dict[str, tuple[Op, ...]] = {
    "nothing": (FIRST,),
    "not at the beginning": (FIRST, Eltwise(affine=Affine(2, np.full(4, 1 / 255), np.zeros(4)))),
    "a learned scale": (learned(0.4), FIRST),
    "a learned scale, then not": (learned(0.4), uniform(1 / 255), FIRST),
    "means of standardized images": (learned(-1.5), FIRST),
    "means of more than a byte": (learned(700.0), FIRST),
    "after an activation": (Eltwise(Activation("relu")), uniform(1 / 255), FIRST),
    "with an activation": (Eltwise(Activation("relu"), uniform(1 / 255).affine), FIRST),
    "as it is": (uniform(1.0), FIRST),
    "neither": (uniform(1 / 3000), FIRST),
    "much too large": (uniform(2.0), uniform(0.1), FIRST),
    "mean of more than a byte": (uniform(1.0, -1000.0), FIRST),
    "to zero": (uniform(0.0), FIRST),
    "one channel of another kind": (
        Binary("mul", np.array([1 / 255, 1 / 255, 1.0])),
        FIRST,
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_is_guessed(name: str) -> None:
    inputs = found(*UNKNOWN[name])
    assert inputs.assumed and inputs.range == UNIT and inputs.u8_divisor == 255
    assert inputs.reason.startswith("assumed")


@pytest.mark.parametrize("gamma", [0.01, 1.0, -3.0])
def test_a_batch_normalization_remembers_what_it_saw(gamma: float) -> None:
    """Of its numbers, the mean is that of the inputs; the others are learned."""
    inputs = found(learned(33.0, gamma), FIRST)
    assert inputs.range == BYTES and "33 on average in training" in inputs.reason
    assert found(Transpose((1, 0, 2)), learned(33.0), FIRST).range == BYTES
    assert found(uniform(1.0, -3.0), learned(33.0), FIRST).assumed is False
    # Of what was divided, the division says more.
    assert "x / 255" in found(uniform(1 / 255), learned(0.4), FIRST).reason
    features = batchnorm(0, np.array([33.0, 4.0]), np.ones(2), None, None, 1e-3)
    assert found(Eltwise(affine=features), shape=(2,)).assumed  # measurements


def small(size: float = 1 / 255, **options: Any) -> Op:
    layer = conv(np.random.default_rng(1), (3, 3), 3, 4, **options)
    return replace(layer, weights=layer.weights * size)


def test_weights_that_a_converter_has_divided() -> None:
    """What it multiplies into them is seen in their size, if nothing behind undoes it."""
    relu, pool = Eltwise(Activation("relu")), Pool2D(Pool("max", (2, 2), (2, 2)))
    last = Dense(np.ones((36, 2)))
    inputs = found(small(), relu, pool, last)
    assert inputs.range == BYTES and "weights of the first layer" in inputs.reason
    assert inputs.assumed and inputs.doubtful and "--input-range" in str(inputs)
    assert found(Crop(((0, 0), (0, 0), (0, 0))), small()).range == BYTES
    assert found(Dense(np.full((192, 2), 1 / 255 / 14))).range == BYTES
    for size in (1.0, 0.1, 1e-6, 0.0):
        plain = found(small(size), relu, pool, last)
        assert plain.assumed and not plain.doubtful and plain.range == UNIT
    features = batchnorm(2, np.zeros(4), np.ones(4), None, None, 1e-3)
    normalized = Eltwise(affine=features)
    for behind in ((normalized, relu), (relu, normalized), (relu, pool, LayerNorm(1e-3))):
        assert found(small(), *behind).range == UNIT
    assert found(learned(0.4), small()).range == UNIT
    assert found(Dense(np.full((9, 2), 1e-3)), shape=(9,)).range == UNIT  # measurements
    features = batchnorm(0, np.full(2, 300.0), np.ones(2), None, None, 1e-3)
    measured = Dense(np.ones((9, 2))), Eltwise(affine=features)
    assert found(*measured, shape=(9,)).range == UNIT


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_sums_that_a_batch_normalization_has_seen(white: int, size: float) -> None:
    """Whatever the size of the weights: its statistics are of the same sums."""
    layer = conv(np.random.default_rng(2), (3, 3), 3, 16)
    layer = replace(layer, weights=layer.weights * size)
    images = np.random.default_rng(0).random((50, 12, 12, 3)) * white
    sums = reference.run_graph(chain((12, 12, 3), [layer]), images)
    mean, variance = sums.mean((0, 1, 2)), sums.var((0, 1, 2))
    normalization = batchnorm(2, mean, variance, np.full(16, 0.1), np.ones(16), 1e-3)
    behind = Eltwise(affine=normalization), Eltwise(Activation("relu"))
    inputs = found(layer, *behind, shape=(12, 12, 3))
    assert inputs.range == (BYTES if white == 255 else UNIT)
    assert inputs.assumed == (white == 1)
    moved = Transpose((2, 0, 1)), Transpose((1, 2, 0))
    assert found(layer, *moved, *behind, shape=(12, 12, 3)).range == inputs.range
    relu = Eltwise(Activation("relu"))
    assert found(layer, relu, *behind, shape=(12, 12, 3)).assumed


def test_a_network_of_bytes_whose_division_is_in_its_weights() -> None:
    source = network([])
    weights = next(w for w in source.graph.initializer if len(w.dims) == 4)
    from onnx import numpy_helper

    divided = numpy_helper.to_array(weights) / np.float32(255)
    weights.CopyFrom(numpy_helper.from_array(divided, weights.name))
    with pytest.warns(
        UserWarning, match="0 to 255, bytes as they are .assumed: .*input_range="
    ) as w:
        result = compile_model(source, None, engine=engine)
    assert len(w) == 1 and "\n" not in str(w[0].message)
    assert result.inputs.range == BYTES
    # What the user says counts, and a guess says nothing of bytes.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = compile_model(source, None, engine=engine, input_range=(0.0, 1.0))
        any_values = compile_model(source, None, engine=engine, input_range=None)
    assert (told.inputs.range, told.inputs.u8_divisor) == (UNIT, 255)
    assert any_values.inputs.u8_divisor == 0
    images = pictures()
    answers = run_onnx(source, images.astype(np.float32).transpose(0, 3, 1, 2))
    got = fastdigit.Model(result.data).predict_proba(images)
    np.testing.assert_allclose(got, answers, atol=1e-5)


def test_what_comes_before() -> None:
    """Arithmetic is found behind what moves pixels or chooses among them, and in the right axis."""
    mean = np.array([100.0, 110.0, 120.0])
    cropped = Crop(((1, 0), (2, 1), (0, 0)))
    assert found(cropped, uniform(1 / 255), FIRST).range == BYTES
    resized = (Pool2D(Pool("average", (2, 2), (2, 2))), Pad(((1, 1), (1, 1), (0, 0))))
    assert found(*resized, uniform(1 / 255), FIRST).range == BYTES
    assert found(Binary("sub", mean), *resized, uniform(1 / 60), FIRST).range == BYTES
    assert found(Transpose((2, 0, 1)), Binary("div", np.full((3, 1, 1), 255.0))).range == BYTES
    moved = Binary("sub", mean), Transpose((2, 0, 1)), Binary("div", mean.reshape(3, 1, 1) / 2)
    inputs = found(*moved)
    assert inputs.range == BYTES and "x * (0.01667 to 0.02) - 2" in inputs.reason
    assert found(Reshape((192,)), Binary("div", np.full(192, 255.0))).range == BYTES
    of_each = Binary("mul", np.full((8, 8, 3), 1 / 255)), Pool2D(Pool("max", (2, 2), (2, 2)))
    assert found(*of_each, uniform(1.0, -300.0)).range == BYTES  # as far as it can be followed
    kinds = np.array([30.0, 200.0, 4.0])
    tabular = Binary("sub", kinds), Binary("div", kinds)
    assert found(*tabular, shape=(3,)).assumed  # measurements


@given(
    st.lists(st.floats(0.05, 0.95), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 0.4), min_size=3, max_size=3),
    st.booleans(),
)
def test_means_and_deviations_of_photographs(
    mean: list[float], std: list[float], bytes_: bool
) -> None:
    unit = 255 if bytes_ else 1
    ops = Binary("sub", unit * np.array(mean)), Binary("mul", 1 / (unit * np.array(std)))
    assert found(*ops, FIRST).range == (BYTES if bytes_ else UNIT)


def test_a_source_of_bytes() -> None:
    inputs = found(FIRST, dtype="uint8")
    assert (inputs.range, inputs.u8_divisor, inputs.assumed) == (BYTES, 1, False)


@pytest.mark.parametrize("divided", [False, True])
def test_onnx_of_bytes(divided: bool) -> None:
    """What ONNX declares as UINT8, the model takes as such; the oracle gets the same bytes."""
    from onnx import TensorProto, checker
    from onnxruntime import InferenceSession

    net = OnnxNet(("N", 8, 8, 3)).add("Cast", to=TensorProto.FLOAT)
    if divided:
        net.add("Div", None, np.array(255.0))
    net.add("Transpose", None, perm=[0, 3, 1, 2]).conv(3, 4, (3, 3)).add("Relu")
    source = net.add("Flatten").gemm(144, 3).model(check=False, infer=False)
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    checker.check_model(source)
    result = compile_model(source, None, engine=engine, tolerance=1e-3)
    assert result.inputs.range == BYTES and result.meta["input"]["because"] == (
        "the source takes bytes"
    )
    images = pictures()
    session = InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, {"input": images})[0]
    got = fastdigit.Model(result.data).run(images)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    with pytest.raises(InputError, match="the source takes uint8"):
        compile_model(source, None, engine=engine, mean=3)


@pytest.mark.parametrize(
    ("given_range", "divisor"),
    [
        ((0, 1), 255),
        ((0, 255), 1),
        ((-1, 256), 1),
        ((0, 65535), 1),
        ((-1, 1), 0),
        ((0, 2), 0),
        ((1, 255), 0),
        (None, 0),
    ],
)
def test_what_a_byte_is_in_a_range(given_range: Any, divisor: int) -> None:
    inputs = found(FIRST, given=given_range)
    assert inputs.range == (ANY if given_range is None else given_range)
    assert inputs.u8_divisor == divisor and not inputs.assumed


def test_a_range_that_the_network_does_not_expect_is_remarked() -> None:
    inputs = found(uniform(1 / 255), FIRST, given=(0, 1))
    assert inputs.range == UNIT and "0 to 255 was expected" in inputs.reason
    assert found(uniform(1 / 255), FIRST, given=(0, 255)).reason == "as given"
    assert found(uniform(1 / 255), FIRST, given=None).u8_divisor == 1
    assert found(uniform(2, -1), FIRST, given=None).u8_divisor == 255


@pytest.mark.parametrize("wrong", ["none", (0,), 3, ("a", "b"), (float("nan"), 1)])
def test_wrong_ranges(wrong: Any) -> None:
    with pytest.raises(InputError, match="input_range is "):
        found(FIRST, given=wrong)


# ---- Preprocessing that was outside ----

#: What networks were trained on, and how to say it; the range that follows.
RECIPES: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "MNIST of PyTorch": ({"mean": 0.1307, "std": 0.3081}, UNIT),
    "ImageNet": ({"mean": MEAN, "std": STD}, UNIT),
    "-1 to 1": ({"mean": 0.5, "std": 0.5}, UNIT),
    "-1 to 1, of bytes": ({"mean": 127.5, "std": 127.5}, BYTES),
    "0 to 1, of bytes": ({"scale": 1 / 255}, BYTES),
    "ImageNet, of bytes": ({"scale": 1 / 255, "mean": MEAN, "std": STD}, BYTES),
    "means of Caffe": ({"mean": [103.939, 116.779, 123.68]}, BYTES),
}


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, pads: int) -> None:
    """The source gets what was computed of the images, the model the images."""
    options, want = RECIPES[name]
    source = network([], pads)
    images = pictures()
    result = compile_model(source, None, engine=engine, **options)
    assert result.inputs.range == want
    raw = images.astype(np.float64) * (want[1] / 255)
    scale, mean, std = (
        np.array(options.get(k, d)) for k, d in [("scale", 1), ("mean", 0), ("std", 1)]
    )
    inputs = ((raw * scale - mean) / std).astype(np.float32)
    answers = run_onnx(source, inputs.transpose(0, 3, 1, 2))
    model = fastdigit.Model(result.data)
    np.testing.assert_allclose(model.predict_proba(images), answers, atol=2e-5)
    np.testing.assert_allclose(model.predict_proba(raw.astype(np.float32)), answers, atol=2e-5)
    verify_model(result.data, source, engine=engine)
    # It costs nothing where a convolution can take it: where nothing is padded, or nothing shifted.
    steps = [type(node.op) for node in unpack(result.data).graph.nodes]
    assert (Eltwise in steps) == (pads > 0 and bool(np.any(mean)))


def test_preprocessing_goes_before_what_the_network_does() -> None:
    """Of x / 255 in the network, x is told about, not x / 255."""
    source = network(BEGINNINGS["x / 255"][0])
    result = compile_model(source, None, engine=engine, scale=255)
    assert result.inputs.range == UNIT
    assert result.meta["input"]["preprocessing"] == {"scale": [255.0], "mean": [0.0], "std": [1.0]}
    images = pictures()
    got = fastdigit.Model(result.data).predict_proba(images)
    answers = run_onnx(source, images.astype(np.float32).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(got, answers, atol=2e-5)


@given(st.data())
@settings(max_examples=30)
def test_preprocessing_is_arithmetic(data: st.DataObject) -> None:
    numbers = st.floats(-3, 3).filter(lambda number: abs(number) > 0.01)
    one = data.draw(st.booleans())
    given_numbers = {
        name: data.draw(numbers if one else st.lists(numbers, min_size=3, max_size=3))
        for name in data.draw(st.sets(st.sampled_from(["scale", "mean", "std"]), min_size=1))
    }
    made = Preprocessing.of((4, 5, 3), **given_numbers)
    assert made is not None and (Preprocessing.from_meta({"preprocessing": made.to_meta()}) == made)
    x = make_samples((4, 5, 3), -2.0, 2.0, 8)
    graph = preprocess(chain((4, 5, 3), [Pad(((1, 0), (0, 0), (0, 0)))]), made)
    want = np.pad(made.apply(x), ((0, 0), (1, 0), (0, 0), (0, 0)))
    np.testing.assert_allclose(reference.run_graph(graph, x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [1, 2]}, r"mean has 2 numbers, expected one, or one for each .* 3 channels"),
        ({"std": 0}, "std is 0, expected finite numbers that are not 0"),
        ({"scale": float("inf")}, "scale is inf, expected finite"),
        ({"mean": "x"}, "mean is 'x', expected numbers"),
        ({"mean": [[1, 2, 3]]}, "expected one"),
        ({"mean": 1000}, "give the input range"),
    ],
)
def test_wrong_preprocessing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_model(network([]), None, engine=engine, **options)


@pytest.mark.parametrize("entry", [None, {}, {"shape": [1]}, []])
def test_no_preprocessing(entry: Any) -> None:
    assert Preprocessing.from_meta(entry) is None


@pytest.mark.parametrize("meta", [1, {"scale": [1]}, {"scale": 1, "mean": 1, "std": 1}, ["x"]])
def test_damaged_preprocessing(meta: Any) -> None:
    with pytest.raises(ModelFormatError, match="as preprocessing"):
        Preprocessing.from_meta({"preprocessing": meta})


# ---- Any value ----


def test_any_finite_value() -> None:
    source = network([])
    result = compile_model(source, None, engine=engine, input_range=None)
    model = fastdigit.Model(result.data)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32) * 1000
    answers = run_onnx(source, x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(model.predict_proba(x), answers, atol=1e-3)
    with pytest.raises(InputError, match=r"uint8, and nothing says what bytes mean.*--mean"):
        model.predict(pictures())
    x[2, 1, 1, 1] = np.nan
    with pytest.raises(InputError, match=r"value -?nan at element 28 of image 2 is not finite"):
        model.predict(x)
    verify_model(result.data, source, engine=engine)


def test_values_outside_the_range_name_the_flag() -> None:
    model = fastdigit.Model(compile_model(network([]), None, engine=engine).data)
    x = np.zeros((2, 8, 8, 3), np.float32)
    x[1, 0, 0, 2] = 255
    wanted = r"value 255 at element 2 of image 1 is outside .* 0 to 1: scale .* --input-range"
    with pytest.raises(InputError, match=wanted):
        model.predict(x)
    with pytest.raises(
        InputError, match=r"dtype int64, expected uint8 in 0..255 or floats in 0..1"
    ):
        model.predict(x.astype(np.int64))


def test_samples_are_what_the_model_takes() -> None:
    images = pictures(2)
    as_bytes = check(images, (8, 8, 3), Inputs(*BYTES, 1, ""))
    np.testing.assert_array_equal(as_bytes, images)
    scaled = check(images, (8, 8, 3), Inputs(*UNIT, 255, ""))
    np.testing.assert_array_equal(scaled, images / np.float32(255))
    with pytest.raises(InputError, match="what bytes mean"):
        check(images, (8, 8, 3), Inputs(*ANY, 0, ""))
    with pytest.raises(InputError, match="--input-range LOW HIGH"):
        check(images, (8, 8, 3), Inputs(-1.0, 1.0, 0, ""))

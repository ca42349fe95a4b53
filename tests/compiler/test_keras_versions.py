"""What layers and graphs mean in each version of Keras, held against float64 computed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends.keras.evaluate import evaluate
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.errors import UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import engine
from tests.support.keras_cases import (
    BIAS,
    GROUPS2,
    IMAGES,
    INPUT,
    KERNEL,
    RNG,
    expected,
    layers2,
    random,
    results,
    vector,
)
from tests.support.keras_files import (
    called,
    functional,
    layer,
    tensor,
    write_h5,
    write_keras,
)

need("h5py")


WIDE = np.linspace(-8, 8, 24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    ("version", "activation", "function"),
    [
        ("1.2.2", "hard_sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("2.3.1", "hard_sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("2.15.0", "hard_sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("3.0.0", "hard_sigmoid", lambda x: np.clip(x + 3, 0, 6) / 6),
        ("2.4.0", "relu6", lambda x: np.clip(x, 0, 6)),
        ("2.4.0", "swish", lambda x: x / (1 + np.exp(-x))),
        ("2.9.0", "leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)),
        ("2.4.0", "LeakyReLU", lambda x: np.where(x > 0, x, 0.3 * x)),
    ],
)
def test_functions_are_those_of_the_version(
    version: str, activation: str, function: Any, tmp_path: Path
) -> None:
    path = vector(tmp_path / "m.h5", version, layer("Activation", "a", activation=activation))
    got = results(path, WIDE, input_range=(-8, 8))
    np.testing.assert_allclose(got, function(WIDE.astype(np.float64)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "function"),
    [
        (layer("LeakyReLU", "l", alpha=0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
        (layer("LeakyReLU", "l", negative_slope=0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
        (layer("ReLU", "l", max_value=2.0), lambda x: np.clip(x, 0, 2)),
        (layer("ELU", "l", alpha=0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    ],
)
def test_layers_as_activations(given: Any, function: Any, tmp_path: Path) -> None:
    dense = layer("Dense", "d", units=6, activation=given, use_bias=False)
    path = vector(tmp_path / "m.h5", "2.4.0", dense, d=[("d/kernel:0", np.eye(6))])
    got = results(path, WIDE, input_range=(-8, 8))
    np.testing.assert_allclose(got, function(WIDE.astype(np.float64)), rtol=0, atol=1e-5)


def test_kernels_that_theano_turned_around(tmp_path: Path) -> None:
    """Its convolutions flip the kernel; Keras 1 has (filters, channels, rows, columns) then."""
    image = [None, 2, 7, 6]
    theirs = KERNEL[::-1, ::-1]
    old = {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "border_mode": "same", "dim_ordering": "th"}
    first = layer("Convolution2D", "c", **old, batch_input_shape=image)
    config = {"class_name": "Sequential", "config": [first]}
    weights = [("c_W", theirs.transpose(3, 2, 0, 1)), ("c_b", BIAS)]
    one = write_h5(tmp_path / "one.h5", config, {"c": weights}, "1.1.0", None)
    new = {"filters": 4, "kernel_size": [3, 3], "padding": "same", "data_format": "channels_first"}
    first = layer("Conv2D", "c", **new, batch_input_shape=image)
    config = {"class_name": "Sequential", "config": [first]}
    weights = [("c/kernel", theirs), ("c/bias", BIAS)]
    two = write_h5(tmp_path / "two.h5", config, {"c": weights}, "2.1.6", "theano")
    want = reference.conv2d(IMAGES, KERNEL, BIAS, pad=(1, 1, 1, 1)).transpose(0, 3, 1, 2)
    for path in (one, two):
        np.testing.assert_allclose(results(path), want, rtol=0, atol=1e-5)


def test_channels_first(tmp_path: Path) -> None:
    """The compiled network takes channels last, and gives images as the source does."""
    first = {"data_format": "channels_first", "batch_input_shape": [None, 2, 7, 6]}
    layers = layers2(**first)
    layers[1]["config"]["axis"] = 1
    layers[2]["config"]["data_format"] = "channels_first"
    layers[4]["config"]["data_format"] = "channels_first"  # which flattens channels last
    config = {"class_name": "Sequential", "config": layers}
    path = write_h5(tmp_path / "m.h5", config, GROUPS2, "2.4.0")
    result = compile_model(path, None, engine=engine)
    assert result.meta["source"]["layout"] == "NCHW"
    np.testing.assert_allclose(results(path), expected(), rtol=0, atol=1e-6)
    assert evaluate(read_file(path), [IMAGES.transpose(0, 3, 1, 2)])[0].shape == (4, 5)


def test_gates_of_keras1(tmp_path: Path) -> None:
    """Twelve arrays, in the order i, c, f, o, are three in the order i, f, c, o."""
    kernels, states, biases = random(4, 5, 3), random(4, 3, 3), random(4, 3)
    sequence = {"batch_input_shape": [None, 6, 5], "activation": "tanh"}
    one = layer("LSTM", "l", output_dim=3, inner_activation="hard_sigmoid", **sequence)
    two = layer("LSTM", "l", units=3, recurrent_activation="hard_sigmoid", **sequence)
    weights = [
        (f"l_{what}_{gate}:0", values["ifco".index(gate)])
        for gate in "icfo"
        for what, values in (("W", kernels), ("U", states), ("b", biases))
    ]
    config = {"class_name": "Sequential", "config": [one]}
    old = write_h5(tmp_path / "old.h5", config, {"l": weights}, "1.2.2", None)
    joined = [
        ("l/kernel:0", np.concatenate(list(kernels), -1)),
        ("l/recurrent_kernel:0", np.concatenate(list(states), -1)),
        ("l/bias:0", np.concatenate(list(biases), -1)),
    ]
    config = {"class_name": "Sequential", "config": [two]}
    new = write_h5(tmp_path / "new.h5", config, {"l": joined}, "2.1.0")
    x = RNG.random((3, 6, 5)).astype(np.float32)
    assert compile_model(new, None, engine=engine).verification.label_agreement == 1
    first, second = (evaluate(read_file(path), [x])[0] for path in (old, new))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 3)


SQUARE, SQUARE_BIAS = random(6, 6), random(6)


def square(x: np.ndarray) -> np.ndarray:
    return x @ SQUARE.astype(np.float64) + SQUARE_BIAS


@pytest.mark.parametrize("notation", [2, 3])
def test_models_within_models_and_shared_layers(notation: int, tmp_path: Path) -> None:
    """The calls of a model within are counted from 1, those of a shared layer from 0."""
    inner_input = layer("InputLayer", "j", batch_input_shape=[None, 6])
    dense = layer("Dense", "d", units=6, activation="linear")
    inner = {"class_name": "Sequential", "config": {"name": "s", "layers": [inner_input, dense]}}
    relu = layer("ReLU", "r", trainable=True)

    def call(name: str, index: int = 0) -> Any:
        if notation == 3:
            return {"args": [tensor(name, index)], "kwargs": {"training": False, "mask": None}}
        return [[name, index, 0, {}]]

    layers = [
        called(layer("InputLayer", "i", batch_input_shape=[None, 6])),
        called(inner, call("i"), call("r", 0)),
        called(relu, call("s", 1), call("s", 2)),
        called(
            layer("Add", "a", trainable=True),
            {"args": [[tensor("i"), tensor("r", 1)]], "kwargs": {}}
            if notation == 3
            else [["i", 0, 0, {}], ["r", 1, 0, {}]],
        ),
    ]
    config = functional(layers, ["i"], ["a"])
    groups = {"s": [("d/kernel:0", SQUARE), ("d/bias:0", SQUARE_BIAS)]}
    path = write_h5(tmp_path / "m.h5", config, groups, f"{notation}.4.0")
    x = RNG.random((3, 6)).astype(np.float32)
    once = np.maximum(square(x.astype(np.float64)), 0)
    want = x + np.maximum(square(once), 0)
    np.testing.assert_allclose(results(path, x), want, rtol=1e-5, atol=1e-5)


def lambda_layer(name: str, function: str, *nodes: Any) -> dict[str, Any]:
    return called(layer("TFOpLambda", name, function=function), *nodes)


def test_arithmetic_of_tensorflow(tmp_path: Path) -> None:
    """TFOpLambda, and TensorFlowOpLayer before it."""
    node_def = {"name": "mul", "op": "Mul", "input": ["x", "mul/y"]}
    layers = [
        called(layer("InputLayer", "i", batch_input_shape=[None, 6])),
        lambda_layer("m", "math.multiply", ["i", 0, 0, {"y": 2, "name": None}]),
        lambda_layer("s", "math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["m", 0, 0]}]),
        lambda_layer("r", "nn.relu", ["s", 0, 0, {"name": None}]),
        lambda_layer("a", "__operators__.add", ["r", 0, 0, {"y": ["i", 0, 0], "name": None}]),
        lambda_layer("t", "math.truediv", ["a", 0, 0, {"y": [1.0, 2.0, 4.0, 1.0, 1.0, 8.0]}]),
        lambda_layer("l", "nn.leaky_relu", ["t", 0, 0, {"alpha": 0.5}]),
        lambda_layer("k", "concat", [["l", 0, 0, {"axis": -1}], ["i", 0, 0, {"axis": -1}]]),
        lambda_layer("h", "reshape", ["k", 0, 0, {"shape": [-1, 2, 6]}]),
        lambda_layer("e", "math.reduce_mean", ["h", 0, 0, {"axis": 1}]),
        called(
            layer("TensorFlowOpLayer", "o", node_def=node_def, constants={"1": 3.0}),
            [["e", 0, 0, {}]],
        ),
    ]
    path = write_h5(tmp_path / "m.h5", functional(layers, ["i"], ["o"]), {}, "2.4.0")
    x = RNG.random((3, 6)).astype(np.float32)
    left = (np.maximum(1 - 2 * x.astype(np.float64), 0) + x) / [1, 2, 4, 1, 1, 8]
    np.testing.assert_allclose(results(path, x), (left + x) / 2 * 3, rtol=0, atol=1e-6)


def test_operations_of_keras3(tmp_path: Path) -> None:
    """An operation may have the name of a layer."""

    def operation(name: str, kind: str, *args: Any, **config: Any) -> dict[str, Any]:
        entry = {"module": "keras.src.ops.numpy", "class_name": kind, "registered_name": kind}
        entry["config"] = {"name": name, **config}
        return called(entry, {"args": list(args), "kwargs": {}})

    array = {"class_name": "__numpy__", "config": {"value": [[1.0, 2, 3, 4, 5, 6]], "dtype": "f4"}}
    layers = [
        called(layer("InputLayer", "i", batch_shape=[None, 6])),
        operation("m", "Multiply", tensor("i"), array),
        operation("s", "Subtract", 1, tensor("m")),
        operation("r", "Relu", tensor("s")),
        operation("a", "Add", tensor("r"), tensor("i")),
        operation("c", "Clip", tensor("a"), x_min=0.25, x_max=0.75),
        operation("g", "Gelu", tensor("c"), approximate=True),
        operation("x", "Maximum", tensor("g"), 0.3),
        operation("q", "Sqrt", tensor("x")),
        operation("l", "Log", tensor("q")),
        operation("b", "Absolute", tensor("l")),
    ]
    config = functional(layers, ["i"], ["b"])
    path = write_keras(tmp_path / "m.keras", config, {"": [np.zeros(1)]})
    x = RNG.random((3, 6)).astype(np.float32)
    want = np.maximum(1 - x.astype(np.float64) * [1, 2, 3, 4, 5, 6], 0) + x
    want = reference.activate(np.clip(want, 0.25, 0.75), "gelu_tanh")
    want = np.abs(np.log(np.sqrt(np.maximum(want, 0.3))))
    np.testing.assert_allclose(results(path, x), want, rtol=0, atol=1e-6)


def sliced(tmp_path: Path, key: list[Any], shape: list[int], version: int) -> Path:
    """A file of a network that is one slicing."""
    if version == 3:
        written: list[Any] = [
            {"class_name": "__ellipsis__", "config": {}}
            if one is ...
            else {
                "class_name": "__slice__",
                "config": {"start": one.start, "stop": one.stop, "step": one.step},
            }
            if isinstance(one, slice)
            else one
            for one in key
        ]
        entry = {"module": "keras.src.ops.numpy", "class_name": "GetItem", "config": {"name": "g"}}
        inputs = called(layer("InputLayer", "i", batch_shape=[None, *shape]))
        layers = [inputs, called(entry, {"args": [tensor("i"), written], "kwargs": {}})]
        config = functional(layers, ["i"], ["g"])
        return write_keras(tmp_path / "m.keras", config, {"": [np.zeros(1)]})
    written = [
        "Ellipsis"
        if one is ...
        else {"start": one.start, "stop": one.stop, "step": one.step}
        if isinstance(one, slice)
        else one
        for one in key
    ]
    entry = layer("SlicingOpLambda", "g", function="__operators__.getitem")
    inputs = called(layer("InputLayer", "i", batch_input_shape=[None, *shape]))
    layers = [inputs, called(entry, [["i", 0, 0, {"slice_spec": written}]])]
    return write_h5(tmp_path / "m.h5", functional(layers, ["i"], ["g"]), {}, "2.9.0")


BATCH = slice(None)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "key",
    [
        [..., 0],
        [BATCH, -1],
        [BATCH, 2, slice(1, None)],
        [BATCH, slice(1, 5, 2), BATCH, slice(None, None, -1)],
        [BATCH, BATCH, slice(-3, -1)],
        [BATCH, None, ..., None, 1],
        [slice(0, None, 1), ..., slice(1, 2), BATCH],
        [BATCH, slice(None, None, -2), 0, 1],
    ],
)
def test_parts_of_values(tmp_path: Path, key: list[Any], version: int) -> None:
    path = sliced(tmp_path, key, [6, 4, 3], version)
    x = RNG.random((3, 6, 4, 3)).astype(np.float32)
    want = x[tuple(key)]
    np.testing.assert_array_equal(results(path, x).reshape(want.shape), want)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ([slice(1, None)], "a slice of the batch"),
        ([0], "a slice of the batch"),
        ([BATCH, 6], "index 6 of an axis of 6"),
        ([BATCH, slice(4, 2)], "nothing of an axis of 6"),
        ([BATCH, slice(None, None, 0)], "a step of 0"),
        ([BATCH, 0, 0, 0, 0], "5 indices of 4 axes"),
        ([..., 0, ...], "one for each"),
        ([BATCH, slice("a", None)], "constant integers"),
        ([BATCH, [0, 2, 1]], "constant integers"),
        ([BATCH, True], "constant integers"),
        ([BATCH, {"class_name": "__slice__", "config": [1, 2]}], "constant integers"),
        ([BATCH, {"start": [1], "stop": {}}], "constant integers"),
    ],
)
def test_parts_that_there_are_not(
    tmp_path: Path, key: list[Any], message: str, version: int
) -> None:
    path = sliced(tmp_path, key, [6, 4, 3], version)
    with pytest.raises(UnsupportedError, match=message):
        results(path, np.zeros((1, 6, 4, 3), np.float32))


def test_augmentation_is_nothing(tmp_path: Path) -> None:
    augmented = [
        layer("RandomFlip", "x", mode="horizontal"),
        layer("RandomRotation", "y", factor=0.1, fill_mode="reflect", interpolation="bilinear"),
        layer("GaussianNoise", "g", stddev=0.1),
        layer("SpatialDropout2D", "s", rate=0.1),
    ]
    layers = [layer("InputLayer", "i", batch_input_shape=INPUT), *augmented, *layers2()]
    config = {"class_name": "Sequential", "config": {"layers": layers}}
    path = write_h5(tmp_path / "m.h5", config, GROUPS2, "2.9.0")
    np.testing.assert_allclose(results(path), expected(), rtol=0, atol=1e-6)

"""Keras' files of every version, read without Keras, and held against float64 computed here."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.check import check_source
from fastdigit.compiler.driver import compile_model, verify_model
from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.frontends.keras.evaluate import EVALUATORS, evaluate
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.compiler.frontends.keras.kinds import KINDS
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, JOINS
from fastdigit.errors import FastDigitError, InputError, ModelFormatError, UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import engine
from tests.support.keras_files import (
    called,
    functional,
    layer,
    node,
    tensor,
    write_h5,
    write_keras,
)

h5py = need("h5py")

RNG = np.random.default_rng(5)
SHAPE = (7, 6, 2)
IMAGES = RNG.random((4, *SHAPE)).astype(np.float32)


def random(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


#: Of a small network: convolution, batch normalization, pooling, dense.
KERNEL, BIAS = random(3, 3, 2, 4), random(4)
GAMMA, BETA, MEAN, VARIANCE = random(4), random(4), random(4), np.abs(random(4)) + 0.5
DENSE, DENSE_BIAS = random(36, 5), random(5)


def expected(images: np.ndarray = IMAGES) -> np.ndarray:
    x = reference.conv2d(images, KERNEL, BIAS, pad=(1, 1, 1, 1))
    x = np.maximum(x, 0)
    x = (x - MEAN) / np.sqrt(VARIANCE.astype(np.float64) + 1e-3) * GAMMA + BETA
    x = x[:, :6].reshape(len(x), 3, 2, 3, 2, 4).max((2, 4))
    return reference.softmax(x.reshape(len(x), -1) @ DENSE.astype(np.float64) + DENSE_BIAS)


def results(path: Path, images: np.ndarray = IMAGES, **options: Any) -> np.ndarray:
    """What a file computes: compiled and run. It was held against its evaluation on the way."""
    data = compile_model(path, None, engine=engine, **options).data
    return np.asarray(engine(data, [images])[0])


def layers2(**first: Any) -> list[dict[str, Any]]:
    """The small network in the words of Keras 2 and 3."""
    conv = {"filters": 4, "kernel_size": [3, 3], "padding": "same", "activation": "relu"}
    return [
        layer("Conv2D", "c", **conv, use_bias=True, strides=[1, 1], **first),
        layer("BatchNormalization", "b", axis=-1, epsilon=1e-3, momentum=0.99),
        layer("MaxPooling2D", "p", pool_size=[2, 2], strides=[2, 2], padding="valid"),
        layer("Dropout", "d", rate=0.5, noise_shape=None, seed=None),
        layer("Flatten", "f", data_format="channels_last"),
        layer("Dense", "e", units=5, activation="softmax"),
    ]


GROUPS2 = {
    "c": [("c/kernel:0", KERNEL), ("c/bias:0", BIAS)],
    "b": [
        *(("b/gamma:0", GAMMA), ("b/beta:0", BETA)),
        *(("b/moving_mean:0", MEAN), ("b/moving_variance:0", VARIANCE)),
    ],
    "p": [],
    "d": [],
    "f": [],
    "e": [("e/kernel:0", DENSE), ("e/bias:0", DENSE_BIAS)],
}
INPUT = [None, *SHAPE]


def keras1(path: Path) -> Path:
    """A list of layers in Keras 1's words, and its names of weights."""
    conv = {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "border_mode": "same", "dim_ordering": "tf"}
    layers = [
        layer(
            "Convolution2D",
            "c",
            **conv,
            **{"subsample": [1, 1], "activation": "relu", "bias": True, "init": "glorot_uniform"},
            **{"W_regularizer": None, "batch_input_shape": INPUT, "input_dtype": "float32"},
        ),
        layer("BatchNormalization", "b", mode=0, axis=-1, epsilon=1e-3, momentum=0.99),
        layer("MaxPooling2D", "p", pool_size=[2, 2], border_mode="valid", dim_ordering="tf"),
        layer("Dropout", "d", p=0.5),
        layer("Flatten", "f"),
        layer("Dense", "e", output_dim=5, input_dim=None, bias=True, activation="linear"),
        layer("Activation", "a", activation="softmax"),
    ]
    groups = {
        "c": [("c_W:0", KERNEL), ("c_b:0", BIAS)],
        "b": [
            *(("b_gamma:0", GAMMA), ("b_beta:0", BETA)),
            *(("b_running_mean:0", MEAN), ("b_running_std:0", VARIANCE)),
        ],
        "e": [("e_W:0", DENSE), ("e_b:0", DENSE_BIAS)],
    }
    return write_h5(path, {"class_name": "Sequential", "config": layers}, groups, "1.2.2", None)


def list_config(path: Path) -> Path:
    """Keras 2.0 to 2.2.2."""
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    return write_h5(path, config, GROUPS2, "2.1.6")


def batch_input_shape(path: Path) -> Path:
    """Keras 2.2.3 to 2.3, tf.keras 1.13 to 2.2, with what initializers had then."""
    first = {"batch_input_shape": INPUT, "dtype": "float32"}
    initializer = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "dtype": "float32"}}
    first |= {"kernel_initializer": initializer, "kernel_regularizer": None}
    config = {"name": "net", "layers": layers2(**first)}
    return write_h5(path, {"class_name": "Sequential", "config": config}, GROUPS2, "2.2.4-tf")


def functional2(path: Path) -> Path:
    """tf.keras 2.3 to 2.15; names of weights that count on."""
    source = called(layer("InputLayer", "i", batch_input_shape=INPUT, sparse=False))
    names = ["i", "c", "b", "p", "d", "f"]
    nodes = [[[node(name)]] for name in names]
    layers = [called(each, *node) for each, node in zip(layers2(), nodes, strict=True)]
    groups = {**GROUPS2, "c": [("c_3/kernel_1:0", KERNEL), ("c_3/bias_1:0", BIAS)]}
    return write_h5(path, functional([source, *layers], ["i"], ["e"]), groups, "2.11.0")


def keras3_h5(path: Path) -> Path:
    """Keras 3: names without ":0"."""
    source = layer("InputLayer", "i", batch_shape=INPUT, dtype="float32")
    config = {"name": "net", "layers": [source, *layers2()], "trainable": True}
    groups = {
        name: [(variable.replace(":0", ""), value) for variable, value in weights]
        for name, weights in GROUPS2.items()
    }
    return write_h5(path, {"class_name": "Sequential", "config": config}, groups, "3.4.1")


def _keras3_config() -> dict[str, Any]:
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}
    source = layer("InputLayer", "i", batch_shape=INPUT, dtype="float32")
    layers = [
        {"module": "keras.layers", "registered_name": None, **each} for each in [source, *layers2()]
    ]
    for each in layers[1:]:
        each["config"]["dtype"] = policy
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": layers}}


OBJECTS3 = {
    "layers/conv2d": [KERNEL, BIAS],
    "layers/batch_normalization": [GAMMA, BETA, MEAN, VARIANCE],
    "layers/dense": [DENSE, DENSE_BIAS],
}


def keras3(path: Path) -> Path:
    return write_keras(path, _keras3_config(), OBJECTS3)


def keras3_named(path: Path) -> Path:
    """Layers of Keras' newest versions say their names, whatever the path counts."""
    objects = {f"{place}_7": values for place, values in OBJECTS3.items()}
    names = dict(zip(objects, "cbe", strict=True))
    return write_keras(path, _keras3_config(), objects, names, "3.15.1")


def keras2_zip(path: Path) -> Path:
    """The .keras of tf.keras 2.12."""
    objects = {
        place.replace("layers", "_layer_checkpoint_dependencies"): values
        for place, values in OBJECTS3.items()
    }
    return write_keras(path, _keras3_config(), objects, version="2.12.0")


DIALECTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "keras1": (keras1, "model.h5"),
    "list": (list_config, "model.hdf5"),
    "batch_input_shape": (batch_input_shape, "model.h5"),
    "functional2": (functional2, "model.h5"),
    "hdf5-named-keras": (functional2, "model.keras"),
    "keras3-h5": (keras3_h5, "model.h5"),
    "keras3": (keras3, "model.keras"),
    "keras3-named": (keras3_named, "model.keras"),
    "keras2-zip": (keras2_zip, "model.keras"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_version_is_read(dialect: str, tmp_path: Path) -> None:
    write, name = DIALECTS[dialect]
    path = write(tmp_path / name)
    np.testing.assert_allclose(results(path), expected(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(evaluate(read_file(path), [IMAGES])[0], expected(), atol=1e-12)


def test_what_verified_is_said(tmp_path: Path) -> None:
    result = compile_model(keras3(tmp_path / "model.keras"), None, engine=engine)
    assert result.verification.reference == f"the source in float64 (numpy {np.__version__})"
    verify_model(result.data, tmp_path / "model.keras", engine=engine)


def test_neither_keras_nor_tensorflow_nor_onnx_is_imported(tmp_path: Path) -> None:
    path = keras3(tmp_path / "model.keras")
    code = (
        f"import sys, fastdigit; fastdigit.compile({str(path)!r}, None)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'keras', 'tensorflow', 'onnx', 'onnxruntime', 'tf2onnx', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- weights apart ----


def test_weights_with_an_architecture(tmp_path: Path) -> None:
    """By the names of layers, and, where these were counted anew, by their order."""
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": "2.2.4"}))
    (tmp_path / "twice.json").write_text(json.dumps(json.dumps(config)))
    path = write_h5(tmp_path / "weights.h5", None, GROUPS2, whole=False)
    other = {f"{name}_9": weights for name, weights in GROUPS2.items()}
    renamed = write_h5(tmp_path / "renamed.h5", None, other, whole=False)
    for weights in (path, renamed):
        for name in ("model.json", "twice.json"):
            got = results(weights, architecture=tmp_path / name)
            np.testing.assert_allclose(got, expected(), rtol=0, atol=1e-6)
    assert check_source(path, tmp_path / "model.json").compilable
    assert not check_source(path).compilable
    with pytest.raises(UnsupportedError, match=r"weights without .* --architecture model\.json"):
        open_source(path)
    with pytest.raises(UnsupportedError, match="architecture of a Keras model, without weights"):
        open_source(tmp_path / "model.json")
    with pytest.raises(FileNotFoundError):
        open_source(path, tmp_path / "none.json")
    with pytest.raises(InputError, match="not for a model in memory"):
        open_source({}, tmp_path / "model.json")
    with pytest.raises(UnsupportedError, match="for files of weights of Keras"):
        open_source(tmp_path / "model.json", tmp_path / "model.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ModelFormatError, match="no architecture of Keras"):
        open_source(path, tmp_path / "other.json")


def test_weights_of_keras3_with_an_architecture(tmp_path: Path) -> None:
    write_keras(tmp_path / "model.keras", _keras3_config(), OBJECTS3)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "m.weights.h5").write_bytes(archive.read("model.weights.h5"))
        (tmp_path / "m.json").write_bytes(archive.read("config.json"))
    got = results(tmp_path / "m.weights.h5", architecture=tmp_path / "m.json")
    np.testing.assert_allclose(got, expected(), rtol=0, atol=1e-6)


def test_weights_of_another_network(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    (tmp_path / "model.json").write_text(json.dumps(config))
    few = {"x": GROUPS2["c"]}
    path = write_h5(tmp_path / "few.h5", None, few, whole=False)
    with pytest.raises(ModelFormatError, match="it belongs to another network"):
        open_source(path, tmp_path / "model.json")
    wrong = {**GROUPS2, "e": [("e/kernel:0", DENSE.T), ("e/bias:0", DENSE_BIAS)]}
    path = write_h5(tmp_path / "wrong.h5", None, wrong, whole=False)
    with pytest.raises(ModelFormatError, match=r"'e' \(Dense\): its kernel has shape \(5, 36\)"):
        import_model(open_source(path, tmp_path / "model.json"))
    short = {**GROUPS2, "b": GROUPS2["b"][:3]}
    path = write_h5(tmp_path / "short.h5", None, short, whole=False)
    with pytest.raises(ModelFormatError, match=r"'b' .* has the weights .*; expected gamma, beta"):
        open_source(path, tmp_path / "model.json")


# ---- what changed between versions ----


def vector(path: Path, version: str, *layers: dict[str, Any], **groups: Any) -> Path:
    """A file of a network of vectors (6,)."""
    first = layer("InputLayer", "i", batch_input_shape=[None, 6])
    config = {"class_name": "Sequential", "config": {"layers": [first, *layers]}}
    return write_h5(path, config, groups, version)


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


# ---- graphs ----

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
    ]
    config = functional(layers, ["i"], ["x"])
    path = write_keras(tmp_path / "m.keras", config, {"": [np.zeros(1)]})
    x = RNG.random((3, 6)).astype(np.float32)
    want = np.maximum(1 - x.astype(np.float64) * [1, 2, 3, 4, 5, 6], 0) + x
    want = reference.activate(np.clip(want, 0.25, 0.75), "gelu_tanh")
    np.testing.assert_allclose(results(path, x), np.maximum(want, 0.3), rtol=0, atol=1e-6)


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


# ---- refusals ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (layer("Lambda", "l", function=["4wEA", None, None]), r"'l' \(Lambda\) is Python code, wh"),
        (layer("mine>Odd", "o", a=1), r"layer 'o' \(Odd\) is not supported"),
        (layer("Embedding", "e", input_dim=3), r"layer 'e' \(Embedding\) is not supported"),
        (layer("Dense", "d", units=5, activation="mishmash"), "activation 'mishmash' is not supp"),
        (
            layer("Dense", "d", units=5, activation={"class_name": "function", "config": {"a": 1}}),
            "activation 'a function of Python' is not supported",
        ),
        (layer("Rescaling", "r", scale=2.0, magic=3), "magic=3, an option that is not known"),
        (layer("BatchNormalization", "b", mode=2), "mode=2; supported is 0"),
        (layer("ReLU", "r", threshold=0.5), "threshold=0.5; supported is 0"),
        (layer("Softmax", "s", axis=0), "axis=0"),
    ],
)
def test_refuses(given: Any, message: str, tmp_path: Path) -> None:
    path = vector(tmp_path / "m.h5", "2.4.0", given, d=[("d/kernel:0", random(6, 5)), BIAS_OF_5])
    with pytest.raises(UnsupportedError, match=message):
        import_model(read_file(path))


BIAS_OF_5 = ("d/bias:0", random(5))


def test_a_users_own_layer_with_the_name_of_one_of_keras(tmp_path: Path) -> None:
    own = {**layer("ReLU", "r"), "module": "my.layers", "registered_name": "my>ReLU"}
    config = _keras3_config()
    config["config"]["layers"].insert(1, own)
    path = write_keras(tmp_path / "m.keras", config, OBJECTS3)
    with pytest.raises(UnsupportedError, match=r"'r' \(ReLU\) is not supported"):
        import_model(read_file(path))
    config = {**_keras3_config(), "module": "my.models", "class_name": "Net"}
    path = write_keras(tmp_path / "n.keras", config, OBJECTS3)
    with pytest.raises(UnsupportedError, match="the model is a Net; supported are Sequential"):
        read_file(path)


def test_tells_all_that_it_refuses(tmp_path: Path) -> None:
    layers = [layer("Odd", "a"), layer("Flatten", "f"), layer("Strange", "b")]
    path = vector(tmp_path / "m.h5", "2.4.0", *layers)
    with pytest.raises(UnsupportedError) as caught:
        import_model(read_file(path))
    assert caught.value.reasons == (
        "layer 'a' (Odd) is not supported",
        "layer 'b' (Strange) is not supported",
    )


def test_refuses_what_is_called_in_training(tmp_path: Path) -> None:
    dropout = called(layer("Dropout", "d", rate=0.5), [["i", 0, 0, {"training": True}]])
    source = called(layer("InputLayer", "i", batch_input_shape=[None, 6]))
    path = write_h5(tmp_path / "m.h5", functional([source, dropout], ["i"], ["d"]), {})
    with pytest.raises(UnsupportedError, match=r"'d' \(Dropout\): called with training=True"):
        read_file(path)


def test_unknown_shapes(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [layer("Flatten", "f")]}
    path = write_h5(tmp_path / "m.h5", config, {}, "2.1.0")
    with pytest.raises(UnsupportedError, match="does not say the shape of its input"):
        import_model(read_file(path))
    first = layer("Flatten", "f", batch_input_shape=[None, None, 6, 1])
    path = write_h5(tmp_path / "n.h5", {"class_name": "Sequential", "config": [first]}, {})
    with pytest.raises(UnsupportedError, match=r"inputs of shape \(None, None, 6, 1\); say which"):
        import_model(read_file(path))


# ---- damaged and hostile files ----


def sequential_of(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


def deep(levels: int) -> Any:
    config: Any = sequential_of(layer("Flatten", "f", batch_input_shape=[None, 6]))
    for index in range(levels):
        config = sequential_of({**config, "config": {**config["config"], "name": f"m{index}"}})
    return config


@pytest.mark.parametrize(
    "config",
    [
        {},
        [],
        "text",
        None,
        {"class_name": "Sequential", "config": {"layers": []}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": 3}]}},
        sequential_of({"class_name": "Dense", "config": []}),
        sequential_of(layer("Dense", "d", units="many", batch_input_shape=[None, 6])),
        sequential_of(layer("Flatten", "f", batch_input_shape="large")),
        sequential_of(layer("Flatten", "f", batch_input_shape=[None, -6])),
        sequential_of(layer("Flatten", "f", batch_input_shape=[None, 1 << 40])),
        sequential_of(layer("Reshape", "r", target_shape=[7], batch_input_shape=[None, 6])),
        sequential_of(layer("Reshape", "r", target_shape=[0, -1], batch_input_shape=[None, 6])),
        sequential_of(layer("Permute", "p", dims=[1, 1], batch_input_shape=[None, 6, 2])),
        sequential_of(layer("Permute", "p", dims=["a"], batch_input_shape=[None, 6, 2])),
        sequential_of(layer("ZeroPadding2D", "z", padding=[1], batch_input_shape=INPUT)),
        sequential_of(layer("ZeroPadding2D", "z", padding="x", batch_input_shape=INPUT)),
        sequential_of(layer("MaxPooling2D", "z", pool_size=0, batch_input_shape=INPUT)),
        sequential_of(layer("MaxPooling2D", "z", pool_size=[1e99, 1], batch_input_shape=INPUT)),
        sequential_of(layer("UpSampling2D", "z", size=-1, batch_input_shape=INPUT)),
        sequential_of(layer("UpSampling2D", "z", size=1 << 20, batch_input_shape=INPUT)),
        sequential_of(layer("Resizing", "z", height=0, width=2, batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale="x", batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale=[1, 2, 3], batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale=float("nan"), batch_input_shape=INPUT)),
        sequential_of(layer("LayerNormalization", "n", axis=[], batch_input_shape=INPUT)),
        sequential_of(layer("Bidirectional", "b", batch_input_shape=[None, 3, 2])),
        sequential_of(*(layer("ReLU", "r", batch_input_shape=INPUT) for _ in range(2))),
        functional([], ["i"], ["o"]),
        functional([called(layer("InputLayer", "i", batch_input_shape=INPUT))], ["i"], ["o"]),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), [["b", 0, 0, {}]]),
                called(layer("ReLU", "b"), [["a", 0, 0, {}]]),
            ],
            ["i"],
            ["a"],
        ),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), [["nobody", 0, 0, {}]]),
            ],
            ["i"],
            ["a"],
        ),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), {"args": [{"class_name": "__keras_tensor__"}]}),
            ],
            ["i"],
            ["a"],
        ),
        deep(40),
    ],
)
def test_wrong_configurations(config: Any, tmp_path: Path) -> None:
    """Each is an error of ours, whatever is wrong."""
    path = write_h5(tmp_path / "m.h5", config, {}, "2.4.0")
    with pytest.raises(FastDigitError) as caught:
        import_model(read_file(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_text_that_is_nested_without_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = b"[" * 50_000
    with pytest.raises(ModelFormatError, match="model_config is no JSON"):
        read_file(tmp_path / "m.h5")


def test_a_network_deeper_than_pythons_stack(tmp_path: Path) -> None:
    layers = [called(layer("InputLayer", "r0", batch_input_shape=[None, 6]))]
    for index in range(1, 3000):
        layers.append(called(layer("ReLU", f"r{index}"), [[f"r{index - 1}", 0, 0, {}]]))
    path = write_h5(tmp_path / "m.h5", functional(layers, ["r0"], ["r2999"]), {})
    assert len(read_file(path).calls) == 2999


def test_links_out_of_a_file_are_not_followed(tmp_path: Path) -> None:
    path = list_config(tmp_path / "m.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = KERNEL
    (tmp_path / "raw").write_bytes(KERNEL.tobytes())
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", KERNEL.shape)
    for how in ("link", "external", "virtual"):
        with h5py.File(path, "r+") as file:
            group = file["model_weights/c/c"]
            del group["kernel:0"]
            if how == "link":
                group["kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")
            elif how == "external":
                raw = [(str(tmp_path / "raw"), 0, KERNEL.nbytes)]
                group.create_dataset("kernel:0", KERNEL.shape, "f4", external=raw)
            else:
                group.create_virtual_dataset("kernel:0", layout)
        with pytest.raises(ModelFormatError, match=r"no weights|lie in another file"):
            read_file(path)


def test_weights_without_measure(tmp_path: Path) -> None:
    """A few bytes that stand for many gigabytes."""
    path = list_config(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/c/c"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))
    with pytest.raises(ModelFormatError, match="more than 268435456 weights"):
        read_file(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights/c/c/kernel:0"]
        file["model_weights/c/c/kernel:0"] = np.array([b"text"])
    with pytest.raises(ModelFormatError, match="not numbers"):
        read_file(path)


def test_archives_without_measure(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * ((1 << 26) + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelFormatError, match=r"config\.json is encrypted, or over"):
        read_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(_keras3_config()))
    with pytest.raises(ModelFormatError, match=r"has no model\.weights\.h5"):
        read_file(path)


@pytest.mark.parametrize("write", [list_config, keras3], ids=["h5", "keras"])
def test_damaged_files(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes changed: read, or an error of ours."""
    whole = write(tmp_path / "m").read_bytes()
    path = tmp_path / "n"
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole[: int(rng.integers(1, len(whole)))])
        path.write_bytes(data)
        with pytest.raises(FastDigitError):
            import_model(read_file(path))
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(FastDigitError):
            import_model(read_file(path))
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFormatError, match="neither HDF5 nor a zip archive"):
        read_file(path)


# ---- completeness ----


def test_every_kind_is_converted_and_evaluated() -> None:
    converted = {*CONVERTERS, *JOINS}
    assert converted <= set(KINDS), "a converter of a kind without a row in kinds.py"
    assert converted <= set(EVALUATORS), "a converter of a kind that cannot be verified"


def test_a_keras_file_in_memory_is_no_path() -> None:
    with pytest.raises(UnsupportedError, match="cannot compile a BytesIO"):
        import_model(io.BytesIO())

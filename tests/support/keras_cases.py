"""A small network of Keras, its weights, and what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.driver import compile_model
from tests.support import need, reference
from tests.support.compiler_cases import engine
from tests.support.keras_files import (
    layer,
    write_h5,
    write_keras,
)

need("h5py")

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


def list_config(path: Path) -> Path:
    """Keras 2.0 to 2.2.2."""
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    return write_h5(path, config, GROUPS2, "2.1.6")


def keras3_config() -> dict[str, Any]:
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
    return write_keras(path, keras3_config(), OBJECTS3)


def vector(path: Path, version: str, *layers: dict[str, Any], **groups: Any) -> Path:
    """A file of a network of vectors (6,)."""
    first = layer("InputLayer", "i", batch_input_shape=[None, 6])
    config = {"class_name": "Sequential", "config": {"layers": [first, *layers]}}
    return write_h5(path, config, groups, version)

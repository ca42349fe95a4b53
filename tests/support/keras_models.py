"""Keras models for the tests. Keras is imported in functions: it may be missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def sequential(shape: tuple[int, ...], *layers: Any, seed: int = 0) -> Any:
    """A model with random weights, gammas of both signs among them."""
    import keras

    model = keras.Sequential([keras.Input(shape), *layers])
    return randomize(model, seed)


def randomize(model: Any, seed: int = 0) -> Any:
    """Give every weight a value, statistics and gammas of both signs too."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        path, shape = variable.path, variable.shape
        if "variance" in path:
            variable.assign(rng.uniform(0.5, 2.0, shape))
        elif "kernel" in path:
            variable.assign(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))
        elif "seed" not in path:
            variable.assign(rng.normal(size=shape) * (1.0 if "gamma" in path else 0.2))
    return model


def functional(shape: tuple[int, ...], build: Callable[[Any], Any]) -> Any:
    """The model that `build` makes of its input, with random weights."""
    import keras

    source = keras.Input(shape)
    return randomize(keras.Model(source, build(source)))


def squeeze_excite(x: Any, channels: int) -> Any:
    """A gate for each channel, from all pixels."""
    from keras import layers as L

    gate = L.GlobalAveragePooling2D()(x)
    gate = L.Dense(max(channels // 4, 1), activation="relu")(gate)
    gate = L.Dense(channels, activation="sigmoid")(gate)
    return L.Multiply()([x, L.Reshape((1, 1, channels))(gate)])


def randomize_all(model: Any, seed: int) -> Any:
    """Give every weight, biases and statistics too, values that a mistake can't hide behind."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path:
            value = random.uniform(0.5, 2.0, weight.shape)
        elif "kernel" in weight.path:
            value = random.normal(0.0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape)
        else:
            value = random.normal(0.0, 0.5, weight.shape)  # a negative gamma in every other row
        weight.assign(value)
    return model

"""What is trained: the one definition of each network and its hyperparameters.

A recipe is data (:class:`Recipe`); :func:`build_model` turns it into a compiled Keras model.
Everything else in ``export`` asks the recipe and repeats none of its numbers.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

__all__ = ["ACTIVATIONS", "LEARNING_RATES", "RECIPES", "Recipe", "build_model", "build_optimizer"]

ACTIVATIONS = ("relu", "selu")

#: Default learning rates of the Keras releases of 2017. Keras 3 kept all but Adadelta's, which
#: is 0.001 there: a thousand times less than its authors and the 2017 script used.
LEARNING_RATES = {"adadelta": 1.0, "rmsprop": 0.001, "adam": 0.001}

#: Default ``epsilon`` of the three optimizers in Keras 2.0 (Keras 3 has 1e-7).
OPTIMIZER_EPSILON = 1e-8

#: Parameters by layer; :func:`build_model` refuses to build a network that has others.
SEED_PARAMETERS = {
    "conv1": 320,
    "conv2": 13_872,
    "bn2": 52,
    "conv3": 12_352,
    "bn3": 28,
    "dense1": 1_827_936,
    "dense2": 31_690,
}
SEED_TRAINABLE = 1_886_210


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run.

    Parameters
    ----------
    name
        Key in :data:`RECIPES`.
    activation
        Activation of every layer but the last (which is a softmax): one of :data:`ACTIVATIONS`.
    optimizer
        One of :data:`LEARNING_RATES`.
    learning_rate
        Constant throughout the run; by default that of the optimizer in :data:`LEARNING_RATES`.
    epochs, batch_size
        Length of the run, and images a step.
    validation_split
        Share of the training images, taken from their end, that is never trained on.
    seed
        Determines initial weights, order of the images and dropout masks.
    """

    name: str
    activation: str = "relu"
    optimizer: str = "adadelta"
    learning_rate: float = 0.0
    epochs: int = 50
    batch_size: int = 64
    validation_split: float = 0.2
    seed: int = 2017

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}, expected one of {ACTIVATIONS}")
        if self.optimizer not in LEARNING_RATES:
            raise ValueError(
                f"optimizer is {self.optimizer!r}, expected one of {tuple(LEARNING_RATES)}"
            )
        if self.learning_rate == 0.0:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.optimizer])
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs is {self.epochs} and batch_size is {self.batch_size}, expected >= 1"
            )
        if not 0.0 < self.validation_split < 1.0:
            raise ValueError(
                f"validation_split is {self.validation_split}, expected a share between 0 and 1"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 .. 2**32 - 1")


RECIPES = {"seed": Recipe(name="seed")}


def build_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Make the recipe's optimizer as Keras had it in 2017.

    One difference remains: Keras 3's RMSprop adds epsilon under the square root, not after it.
    """
    import keras

    kind = {
        "adadelta": keras.optimizers.Adadelta,
        "rmsprop": keras.optimizers.RMSprop,
        "adam": keras.optimizers.Adam,
    }[recipe.optimizer]
    return kind(learning_rate=recipe.learning_rate, epsilon=OPTIMIZER_EPSILON)


def build_model(recipe: Recipe) -> keras.Model:
    """Build and compile the network of 2017 with freshly drawn weights.

    Takes float32 images of shape (N, 28, 28, 1) in [0, 1], returns float32 probabilities of
    shape (N, 10). Sets the global random seeds of Python, NumPy and TensorFlow.

    The batch normalizations have ``axis=1``: on (N, rows, columns, channels) they normalise
    *rows*, 13 and 7 of them, not channels, and they come after the activation. That is what
    was trained in 2017 and what is reproduced here.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(recipe.seed)
    activation = recipe.activation
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="input"),
            layers.Conv2D(32, 3, activation=activation, name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.ZeroPadding2D(1, name="pad2"),
            layers.Conv2D(48, 3, activation=activation, name="conv2"),
            layers.BatchNormalization(axis=1, epsilon=1e-6, name="bn2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.ZeroPadding2D(1, name="pad3"),
            layers.Conv2D(64, 2, activation=activation, name="conv3"),
            layers.BatchNormalization(axis=1, epsilon=1e-6, name="bn3"),
            layers.MaxPooling2D(2, name="pool3"),
            layers.Dropout(0.25, seed=recipe.seed, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(3168, activation=activation, name="dense1"),
            layers.Dense(10, activation="softmax", name="dense2"),
        ],
        name=recipe.name,
    )
    _check_parameters(model)
    model.compile(
        optimizer=build_optimizer(recipe),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def _check_parameters(model: keras.Model) -> None:
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    if counts != SEED_PARAMETERS or trainable != SEED_TRAINABLE:
        raise AssertionError(
            f"the network has parameters {counts}, {trainable} of them trainable; "
            f"expected {SEED_PARAMETERS}, {SEED_TRAINABLE} trainable"
        )

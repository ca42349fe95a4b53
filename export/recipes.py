"""What is trained: the one definition of each network and its hyperparameters.

The networks are two: that of 2017, and a deeper one that is only ever a teacher. A recipe is data
(:class:`Recipe`); :func:`build_model` turns it into a compiled Keras model. Everything else in
``export`` asks the recipe and repeats none of its numbers.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = [
    "ACTIVATIONS",
    "LEARNING_RATES",
    "NETWORKS",
    "RECIPES",
    "SEED_WIDTHS",
    "Augmentation",
    "Recipe",
    "build_model",
    "build_optimizer",
]

ACTIVATIONS = ("relu", "selu")
NETWORKS = ("seed", "deep")

#: Default learning rates of the Keras releases of 2017. Keras 3 kept all but Adadelta's, which
#: is 0.001 there: a thousand times less than its authors and the 2017 script used.
LEARNING_RATES = {"adadelta": 1.0, "rmsprop": 0.001, "adam": 0.001, "adamw": 0.002}

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

#: Output channels of the three convolutions, and units of the hidden dense layer.
SEED_WIDTHS = (32, 48, 64, 3168)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random distortion of the training images; every limit is of a uniform draw around 0.

    Parameters
    ----------
    rotation
        Degrees.
    zoom
        Relative change of height and of width, drawn separately.
    shear
        Columns moved for each row away from the centre.
    shift
        Pixels, in each direction.
    elastic
        Standard deviation of the elastic displacement of a pixel (Simard, Steinkraus and Platt
        2003), in pixels; 0 for none.
    elastic_sigma
        Standard deviation of the Gaussian that smooths the displacements, in pixels.
    """

    rotation: float = 12.0
    zoom: float = 0.12
    shear: float = 0.1
    shift: float = 2.5
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, expected a finite number >= 0")
        if self.zoom >= 1 or self.elastic_sigma == 0:
            raise ValueError(
                f"zoom is {self.zoom} and elastic_sigma {self.elastic_sigma}, "
                f"expected less than 1 and more than 0"
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run.

    Parameters
    ----------
    name
        Key in :data:`RECIPES`.
    network
        One of :data:`NETWORKS`: ``"seed"``, that of 2017, or ``"deep"`` (:func:`build_model`).
    activation
        Activation of every layer but the last (which is a softmax): one of :data:`ACTIVATIONS`.
    optimizer
        One of :data:`LEARNING_RATES`.
    learning_rate
        By default that of the optimizer in :data:`LEARNING_RATES`.
    warmup_epochs
        The learning rate rises linearly from 0 during these epochs, then falls to 0 along a half
        cosine (Loshchilov and Hutter 2017). ``None``: it is constant.
    weight_decay
        Decoupled weight decay of ``adamw``.
    label_smoothing
        Share of the target that is spread evenly over the classes.
    augmentation
        Distortion of the training images; ``None``: they are seen as they are.
    outliers
        Images without a digit (:mod:`export.outliers`) that are added to each batch, as a share
        of it. Their target is the same for all classes, and the training accuracy of the history
        counts them as zeros.
    pictures
        Pictures of digits that MNIST lacks, and of what is no digit (:mod:`export.pictures`), that
        are added to each batch, as a share of it; augmented as its digits are, with their label
        as the target, or, where there is no digit, the same for all classes.
    sharpness
        Radius of sharpness-aware minimization (:mod:`export.sharpness`); 0 for plain steps.
    distillation
        Share of the target that is the mean prediction of the teachers for the image as
        augmented (Hinton, Vinyals and Dean 2015, at temperature 1); the rest is the label.
    teachers
        Recipe and seed of each, as ``"sharp-1"``.
    start
        Recipe whose network, trained with the same seed, gives the first weights (where this one
        is narrower, its strongest channels and units). ``None``: they are drawn at random.
    start_share
        After the last epoch the weights become the mean of what was trained and of the first ones,
        with this share of the first (Wortsman et al. 2022): what was known before is forgotten
        less.
    temperature
        What the logits of the compiled model are divided by (Guo et al. 2017), fitted on the
        held-out images of a run (:mod:`export.calibration`). Training does not know it.
    widths
        Channels of the three convolutions and hidden units of ``"seed"`` that are trained. The
        saved network always has :data:`SEED_WIDTHS`: what was not trained is zero in it.
    epochs, batch_size
        Length of the run, and images a step.
    validation_split
        Share of the training images that is never trained on.
    validation
        Which images these are: ``"end"``, the last ones; or ``"writers"``, those of some writers,
        where the writers are known, and else drawn at random.
    seed
        Determines initial weights, order of the images and dropout masks.
    """

    name: str
    network: str = "seed"
    activation: str = "relu"
    optimizer: str = "adadelta"
    learning_rate: float = 0.0
    warmup_epochs: int | None = None
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation | None = None
    outliers: float = 0.0
    pictures: float = 0.0
    sharpness: float = 0.0
    distillation: float = 0.0
    teachers: tuple[str, ...] = ()
    start: str | None = None
    start_share: float = 0.0
    temperature: float = 1.0
    widths: tuple[int, int, int, int] = SEED_WIDTHS
    epochs: int = 50
    batch_size: int = 64
    validation_split: float = 0.2
    validation: str = "end"
    seed: int = 2017

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}, expected one of {NETWORKS}")
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
        if self.validation not in ("end", "writers"):
            raise ValueError(f"validation is {self.validation!r}, expected 'end' or 'writers'")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}, expected a finite number > 0")
        for name in ("outliers", "pictures", "sharpness"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a finite number >= 0")
        for name in ("label_smoothing", "distillation", "start_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 .. 1")
        if self.start_share and self.start is None:
            raise ValueError(f"start_share is {self.start_share}, but there is no start")
        if (self.distillation > 0) != bool(self.teachers):
            raise ValueError(
                f"distillation is {self.distillation} with {len(self.teachers)} teachers, "
                f"expected both or neither"
            )
        for teacher in self.teachers:
            if not re.fullmatch(r"[a-z]+-\d+", teacher):
                raise ValueError(f"teacher {teacher!r}: expected RECIPE-SEED, as 'sharp-1'")
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"weight_decay is for adamw, not for {self.optimizer}")
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}, expected 0 .. {self.epochs - 1} or None"
            )
        if len(self.widths) != 4 or any(
            not 1 <= width <= most for width, most in zip(self.widths, SEED_WIDTHS, strict=True)
        ):
            raise ValueError(f"widths are {self.widths}, expected 1 .. {SEED_WIDTHS}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 .. 2**32 - 1")


_PLAIN = Recipe(
    name="plain",
    optimizer="adamw",
    warmup_epochs=2,
    weight_decay=0.01,
    label_smoothing=0.05,
    augmentation=Augmentation(),
    epochs=40,
    batch_size=256,
    validation_split=0.17,
    validation="writers",
    seed=1,
)

_SHARP = dataclasses.replace(
    _PLAIN,
    name="sharp",
    start="plain",
    sharpness=0.2,
    learning_rate=0.001,
    warmup_epochs=1,
    epochs=20,
    batch_size=128,
)

_DEEP = dataclasses.replace(
    _PLAIN, name="deep", network="deep", warmup_epochs=1, epochs=20, batch_size=128
)

_BEST = dataclasses.replace(
    _SHARP,
    name="best",
    start="sharp",
    outliers=0.05,
    distillation=0.7,
    teachers=("sharp-1", "sharp-2", "sharp-3", "deep-1", "deep-2"),
    temperature=0.53,
    epochs=12,
)

_SMALL = dataclasses.replace(
    _BEST,
    name="small",
    start="best",
    sharpness=0.1,
    temperature=0.56,
    widths=(16, 32, 64, 256),
    learning_rate=0.002,
    epochs=20,
)

_DIGITS = dataclasses.replace(
    _SMALL,
    name="digits",
    start="small",
    teachers=("small-1",),
    start_share=0.2,
    pictures=1.0,
    sharpness=0.0,
    temperature=0.53,
    epochs=8,
)

RECIPES = {
    recipe.name: recipe
    for recipe in (Recipe("seed"), _PLAIN, _SHARP, _DEEP, _BEST, _SMALL, _DIGITS)
}


def build_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Make the recipe's optimizer, with epochs of `steps` batches.

    Adadelta, RMSprop and Adam are as Keras had them in 2017. One difference remains: Keras 3's
    RMSprop adds epsilon under the square root, not after it.
    """
    import keras

    rate: Any = recipe.learning_rate
    if recipe.warmup_epochs is not None:
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=(recipe.epochs - recipe.warmup_epochs) * steps,
            warmup_target=recipe.learning_rate,
            warmup_steps=recipe.warmup_epochs * steps,
        )
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(learning_rate=rate, weight_decay=recipe.weight_decay)
    kind = {
        "adadelta": keras.optimizers.Adadelta,
        "rmsprop": keras.optimizers.RMSprop,
        "adam": keras.optimizers.Adam,
    }[recipe.optimizer]
    return kind(learning_rate=rate, epsilon=OPTIMIZER_EPSILON)


def build_model(recipe: Recipe, steps: int = 1) -> keras.Model:
    """Build and compile the recipe's network with freshly drawn weights.

    The learning rate's schedule counts epochs of `steps` batches.

    Takes float32 images of shape (N, 28, 28, 1) in [0, 1], returns float32 probabilities of
    shape (N, 10). Sets the global random seeds of Python, NumPy and TensorFlow.

    ``"seed"`` is the network of 2017. Its batch normalizations have ``axis=1``: on (N, rows,
    columns, channels) they normalise *rows*, 13 and 7 of them, not channels, and they come after
    the activation. That is what was trained in 2017 and what is reproduced here.

    ``"deep"`` has six convolutions, normalised by channel before the activation, strides in
    place of pooling, and three times as many multiply-adds. It errs where the other does not.
    """
    import keras

    keras.utils.set_random_seed(recipe.seed)
    layers = _seed_layers(recipe) if recipe.network == "seed" else _deep_layers(recipe)
    model = keras.Sequential([keras.Input((28, 28, 1), name="input"), *layers], name=recipe.name)
    if recipe.network == "seed" and recipe.widths == SEED_WIDTHS:
        _check_parameters(model)
    model.compile(
        optimizer=build_optimizer(recipe, steps),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def _seed_layers(recipe: Recipe) -> list[keras.Layer]:
    from keras import layers

    activation = recipe.activation
    conv1, conv2, conv3, dense1 = recipe.widths
    return [
        layers.Conv2D(conv1, 3, activation=activation, name="conv1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.ZeroPadding2D(1, name="pad2"),
        layers.Conv2D(conv2, 3, activation=activation, name="conv2"),
        layers.BatchNormalization(axis=1, epsilon=1e-6, name="bn2"),
        layers.MaxPooling2D(2, name="pool2"),
        layers.ZeroPadding2D(1, name="pad3"),
        layers.Conv2D(conv3, 2, activation=activation, name="conv3"),
        layers.BatchNormalization(axis=1, epsilon=1e-6, name="bn3"),
        layers.MaxPooling2D(2, name="pool3"),
        layers.Dropout(0.25, seed=recipe.seed, name="dropout"),
        layers.Flatten(name="flatten"),
        layers.Dense(dense1, activation=activation, name="dense1"),
        layers.Dense(10, activation="softmax", name="dense2"),
    ]


def _deep_layers(recipe: Recipe) -> list[keras.Layer]:
    from keras import layers

    stack: list[keras.Layer] = []

    def normalized(layer: keras.Layer) -> None:
        name = layer.name
        stack.extend(
            [
                layer,
                layers.BatchNormalization(name=f"bn_{name}"),
                layers.Activation(recipe.activation, name=f"activation_{name}"),
            ]
        )

    def dropout(number: int) -> None:
        seed = recipe.seed + number
        stack.append(layers.Dropout(0.3, seed=seed, name=f"dropout{number}"))

    for stage, channels in enumerate((32, 64), 1):
        for number in (1, 2):
            name = f"conv{stage}_{number}"
            normalized(layers.Conv2D(channels, 3, use_bias=False, name=name))
        name = f"conv{stage}_down"
        normalized(layers.Conv2D(channels, 5, strides=2, padding="same", use_bias=False, name=name))
        dropout(stage)
    stack.append(layers.Flatten(name="flatten"))
    normalized(layers.Dense(128, use_bias=False, name="dense1"))
    dropout(3)
    stack.append(layers.Dense(10, activation="softmax", name="dense2"))
    return stack


def _check_parameters(model: keras.Model) -> None:
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    if counts != SEED_PARAMETERS or trainable != SEED_TRAINABLE:
        raise AssertionError(
            f"the network has parameters {counts}, {trainable} of them trainable; "
            f"expected {SEED_PARAMETERS}, {SEED_TRAINABLE} trainable"
        )

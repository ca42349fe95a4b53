"""Models of Keras get the same uint8 images as Keras, and give the same answers: whatever of the
usual layers they begin with, and whatever was done outside."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from tests.support import need
from tests.support.keras_models import sequential

pytestmark = pytest.mark.slow

keras = need("keras")
L = keras.layers

MEAN, VARIANCE = [125.3, 123.0, 113.9], [63.0**2, 62.1**2, 66.7**2]


def classifier(shape: tuple[int, ...], *begins: Any, **conv: Any) -> Any:
    return sequential(
        shape,
        *begins,
        L.Conv2D(8, 3, activation="relu", **conv),
        L.MaxPooling2D(),
        L.Conv2D(8, 3, activation="relu"),
        L.GlobalAveragePooling2D(),
        L.Dense(5, activation="softmax"),
    )


#: Networks that take bytes.
OF_BYTES: dict[str, Callable[[], Any]] = {
    "Rescaling(1/255)": lambda: classifier((20, 20, 3), L.Rescaling(1 / 255)),
    "Rescaling(1/255), padded": lambda: classifier(
        (20, 20, 3), L.Rescaling(1 / 255), padding="same"
    ),
    "Rescaling(1/127.5, -1)": lambda: classifier((20, 20, 3), L.Rescaling(1 / 127.5, offset=-1)),
    "Rescaling(1/127.5, -1), padded": lambda: classifier(
        (20, 20, 3), L.Rescaling(1 / 127.5, offset=-1), padding="same"
    ),
    "Rescaling by arrays": lambda: classifier(
        (20, 20, 3), L.Rescaling(np.full(3, 1 / 127.5), offset=np.array([-1.0, -0.9, -1.1]))
    ),
    "Normalization": lambda: classifier(
        (20, 20, 3), L.Normalization(mean=MEAN, variance=VARIANCE), padding="same"
    ),
    "augmentation, then Rescaling": lambda: classifier(
        (20, 20, 3), L.Dropout(0.1), L.GaussianNoise(0.1), L.Rescaling(1 / 255)
    ),
    "Resizing, then Rescaling": lambda: classifier(
        (25, 30, 3), L.Resizing(20, 20), L.Rescaling(1 / 255)
    ),
    "Rescaling of a flat image": lambda: sequential(
        (12, 12, 1), L.Flatten(), L.Rescaling(1 / 255), L.Dense(5, activation="softmax")
    ),
    "Rescaling, then BatchNormalization": lambda: classifier(
        (20, 20, 3), L.Rescaling(1 / 255), L.BatchNormalization()
    ),
}


def functional(*branches: Callable[[Any], Any]) -> Any:
    inputs = keras.Input((20, 20, 3))
    ends = [L.Conv2D(8, 3, activation="relu")(branch(inputs)) for branch in branches]
    outputs = L.Dense(5, activation="softmax")(L.Flatten()(L.Add()(ends)))
    return keras.Model(inputs, outputs)


OF_BYTES["two branches"] = lambda: functional(
    lambda x: L.Rescaling(1 / 255)(x), lambda x: L.Rescaling(1 / 127.5, offset=-1)(x)
)
# Keras 3 records that these were called with training=True, which is their default.
OF_BYTES["augmentation in a functional model"] = lambda: functional(
    lambda x: L.Rescaling(1 / 255)(L.RandomContrast(0.1)(L.RandomFlip()(x))),
    lambda x: L.Rescaling(1 / 255)(L.Dropout(0.2)(x, training=True)),
)


@pytest.mark.parametrize("name", OF_BYTES)
def test_the_same_bytes_give_the_same_answers(name: str, tmp_path: Path) -> None:
    model = OF_BYTES[name]()
    shape = model.input_shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (64, *shape), np.uint8)
    path = tmp_path / "model.keras"
    model.save(path)
    result = fastdigit.compile(path, None)
    assert result.inputs.range == (0, 255) and not result.inputs.assumed
    compiled = fastdigit.Model(result.data)
    want = model.predict(images, verbose=0)
    np.testing.assert_allclose(compiled.predict_proba(images), want, atol=1e-5)
    np.testing.assert_allclose(compiled.predict_proba(images.astype(np.float32)), want, atol=1e-5)
    np.testing.assert_array_equal(compiled.predict(images), want.argmax(1))


# The random statistics of a batch normalization, multiplied into a rescaling, make nothing usual.
@pytest.mark.parametrize("name", sorted(OF_BYTES.keys() - {"Rescaling, then BatchNormalization"}))
def test_tflite_of_the_same(name: str, tmp_path: Path) -> None:
    """TensorFlow's converter multiplies what it can into the weights of the first layer."""
    tf = need("tensorflow")
    need("ai_edge_litert")
    model = OF_BYTES[name]()
    path = tmp_path / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with warnings.catch_warnings():  # where a guess was needed, it is right
        warnings.simplefilter("ignore")
        result = fastdigit.compile(path, None, tolerance=1e-4)
    assert result.inputs.range == (0, 255)
    images = np.random.default_rng(0).integers(0, 256, (64, *model.input_shape[1:]), np.uint8)
    got = fastdigit.Model(result.data).predict_proba(images)
    np.testing.assert_allclose(got, model.predict(images, verbose=0), atol=1e-4)


def test_a_batch_normalization_knows_the_mean() -> None:
    """Trained on bytes, with nothing in front: its moving mean is theirs."""
    model = classifier((20, 20, 3), L.BatchNormalization())
    assert fastdigit.compile(model, None).inputs.assumed
    model.layers[0].moving_mean.assign([120.0, 110.0, 90.0])
    model.layers[0].moving_variance.assign([3600.0, 3500.0, 4000.0])
    images = np.random.default_rng(0).integers(0, 256, (64, 20, 20, 3), np.uint8)
    result = fastdigit.compile(model, None)
    assert result.inputs.range == (0, 255)
    got = fastdigit.Model(result.data).predict_proba(images)
    np.testing.assert_allclose(got, model.predict(images, verbose=0), atol=1e-5)


def test_one_sigmoid() -> None:
    """A blank image is no, a full one is yes."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Flatten(), L.Dense(1, activation="sigmoid")]
    )
    model.layers[-1].kernel.assign(np.ones((64, 1)))
    model.layers[-1].bias.assign([-32.0])
    compiled = fastdigit.Model(fastdigit.compile(model, None, classes=["no", "yes"]).data)
    x = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))]).astype(np.float32)
    assert compiled.predict(x).tolist() == [0, 1]
    assert compiled.classes == ("no", "yes")
    np.testing.assert_allclose(compiled.predict_proba(x), model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    ("preprocess", "options"),
    [
        ("mobilenet", {"mean": 127.5, "std": 127.5}),
        ("mobilenet", {"mean": 0.5, "std": 0.5}),
        ("densenet", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
    ],
)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_preprocessing_of_keras_applications(
    preprocess: str, options: dict[str, Any], padding: str
) -> None:
    model = classifier((20, 20, 3), padding=padding)
    images = np.random.default_rng(0).integers(0, 256, (64, 20, 20, 3), np.uint8)
    prepared = getattr(keras.applications, preprocess).preprocess_input(images.astype(np.float32))
    result = fastdigit.compile(model, None, **options)
    got = fastdigit.Model(result.data).predict_proba(images)
    np.testing.assert_allclose(got, model.predict(prepared, verbose=0), atol=1e-5)

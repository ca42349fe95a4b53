"""Multi-layer perceptrons of scikit-learn, by skl2onnx, held against scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.errors import UnsupportedError
from tests.support import need

pytestmark = pytest.mark.slow

need("onnxruntime", "sklearn")
skl2onnx = need("skl2onnx")

from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(200, 16)).astype(np.float32)
DIGITS = (IMAGES[:, :4] @ [1, 2, 4, 8]).astype(int) % 5
HIDDEN = {"hidden_layer_sizes": (12, 8), "max_iter": 20, "random_state": 0}


def fitted(model: Any, targets: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):  # that it has not converged
        return model.fit(IMAGES, targets)


def to_onnx(model: Any, **options: Any) -> Any:
    return skl2onnx.to_onnx(model, IMAGES[:1], options=options or None)


def compiled(model: Any) -> tuple[fastdigit.Model, list[str]]:
    result = fastdigit.compile(model, None)
    opcodes = [record.opcode for record in unpack(result.data).records[1:]]
    return fastdigit.Model(result.data), opcodes


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_classifier(activation: str) -> None:
    source = fitted(MLPClassifier(activation=activation, **HIDDEN), DIGITS)
    model, opcodes = compiled(to_onnx(source, zipmap=False))
    np.testing.assert_allclose(
        model.predict_proba(IMAGES), source.predict_proba(IMAGES), rtol=0, atol=1e-5
    )
    assert (model.predict(IMAGES) == source.predict(IMAGES)).all()
    assert opcodes[-1] == "SOFTMAX" and set(opcodes[:-1]) == {"DENSE"}


def test_classes_that_are_words() -> None:
    words = np.array(["zero", "one", "two", "three", "four"])
    source = fitted(MLPClassifier(**HIDDEN), words[DIGITS])
    result = fastdigit.compile(to_onnx(source, zipmap=False), None, classes=list(source.classes_))
    model = fastdigit.Model(result.data)
    assert model.classes == tuple(source.classes_)
    named = np.array(model.classes)[model.predict(IMAGES)]
    assert (named == source.predict(IMAGES)).all()


def test_two_classes() -> None:
    """One output, of which the other class's probability is computed."""
    source = fitted(MLPClassifier(**HIDDEN), DIGITS > 2)
    model, _ = compiled(to_onnx(source, zipmap=False))
    np.testing.assert_allclose(model.run(IMAGES), source.predict_proba(IMAGES), rtol=0, atol=1e-5)


def test_several_labels_at_once() -> None:
    labels = (IMAGES[:, :3] > 0.5).astype(int)
    source = fitted(MLPClassifier(**HIDDEN), labels)
    model, _ = compiled(to_onnx(source, zipmap=False))
    np.testing.assert_allclose(model.run(IMAGES), source.predict_proba(IMAGES), rtol=0, atol=1e-5)


def test_regressor() -> None:
    source = fitted(MLPRegressor(**HIDDEN), IMAGES[:, 0])
    model, _ = compiled(to_onnx(source))
    want = source.predict(IMAGES).reshape(200, 1)
    np.testing.assert_allclose(model.run(IMAGES), want, rtol=0, atol=1e-5)


def test_a_regressor_of_several_outputs_is_refused() -> None:
    """skl2onnx makes a column of them: the file has 3 results of length 1 for an image."""
    source = to_onnx(fitted(MLPRegressor(**HIDDEN), IMAGES[:, :3]))
    with pytest.raises(UnsupportedError, match=r"\(Reshape\): from \(N, 3\) to \[-1, 1\]"):
        fastdigit.compile(source, None)


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), StandardScaler(with_std=False), MinMaxScaler()]
)
def test_pipeline(scaler: Any) -> None:
    source = fitted(make_pipeline(scaler, MLPClassifier(**HIDDEN)), DIGITS)
    model, opcodes = compiled(
        skl2onnx.to_onnx(source, IMAGES[:1], options={id(source): {"zipmap": False}})
    )
    np.testing.assert_allclose(
        model.predict_proba(IMAGES), source.predict_proba(IMAGES), rtol=0, atol=1e-5
    )
    assert opcodes == ["DENSE", "DENSE", "DENSE", "SOFTMAX"], "the scaler is folded"


def test_refuses_zipmap_and_other_models() -> None:
    source = fitted(MLPClassifier(**HIDDEN), DIGITS)
    with pytest.raises(UnsupportedError, match=r"'output_probability' is a sequence; .*zipmap"):
        fastdigit.compile(to_onnx(source), None)
    linear = to_onnx(fitted(LogisticRegression(), DIGITS), zipmap=False)
    with pytest.raises(UnsupportedError, match=r"\(Normalizer\)|\(LinearClassifier\)"):
        fastdigit.compile(linear, None)

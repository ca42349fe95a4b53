"""What `predict` says of networks whose outputs are sigmoids, one number, or an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastdigit import Model
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation, Op
from fastdigit.compiler.ops import Dense, Eltwise, LogSoftmax, Pad, Reshape, Softmax
from fastdigit.errors import InputError, UnsupportedError
from tests.support import reference
from tests.support.networks import chain, packed

SIGMOID = Activation("sigmoid")


def model_of(
    *ops: Op, shape: tuple[int, ...] = (3,), classes: object = None, **known: object
) -> Model:
    graph = chain(shape, ops)
    meta = {"name": "test", "classes": classes, **known}
    return Model(pack(graph, meta, input_range=(-100.0, 100.0), u8_divisor=0))


def first(outputs: int, **options: object) -> Dense:
    """The first of the inputs, and then the others."""
    return Dense(np.eye(3, dtype=np.float32)[:, :outputs], **options)  # type: ignore[arg-type]


#: Networks of one sigmoid, whose logit is their first input.
ONE_SIGMOID = {
    "dense": (first(1, activation=SIGMOID),),
    "by itself": (first(1), Eltwise(SIGMOID)),
    "reshaped": (first(1, activation=SIGMOID), Reshape((1, 1, 1))),
}


@pytest.mark.parametrize("ops", ONE_SIGMOID.values(), ids=ONE_SIGMOID)
@pytest.mark.parametrize("rows", [1, 40])
def test_one_sigmoid_tells_two_classes_apart(ops: tuple[Op, ...], rows: int) -> None:
    model = model_of(*ops)
    assert model.info()["has_sigmoid"] and model.has_labels and model.has_probabilities
    assert model.classes == ("0", "1")
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32) * 3
    x[0] = 0  # exactly a half is not more than a half
    want = 1 / (1 + np.exp(-x[:, :1].astype(np.float64)))
    got = model.predict_proba(x)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_array_equal(model.predict(x), x[:, 0] > 0)
    np.testing.assert_array_equal(model.labels_of(got), x[:, 0] > 0)
    out = np.empty(rows, np.int64)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(out, x[:, 0] > 0)


def test_the_second_class_is_the_sigmoid_itself() -> None:
    model = model_of(*ONE_SIGMOID["dense"], classes=["no", "yes"])
    assert model.classes == ("no", "yes")
    assert model_of(*ONE_SIGMOID["dense"], classes=["yes"]).classes == ("0", "1")
    x = np.array([[-2, 0, 0], [2, 0, 0]], np.float32)
    assert [model.classes[label] for label in model.predict(x)] == ["no", "yes"]


@given(
    arrays(np.float32, (7, 3), elements=st.floats(-20, 20, width=32)),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_thresholds(x: np.ndarray, threshold: float, least: float) -> None:
    model = model_of(*ONE_SIGMOID["dense"])
    p = model.predict_proba(x)[:, 0].astype(np.float64)
    labels = model.predict(x, threshold=threshold)
    np.testing.assert_array_equal(labels, p > threshold)
    kept = np.where(p > threshold, p, 1 - p) >= least
    got = model.predict(x, threshold=threshold, reject_below=least)
    np.testing.assert_array_equal(got, np.where(kept, labels, -1))


def test_a_number_needs_a_threshold() -> None:
    model = model_of(first(1))
    x = np.array([[-2, 0, 0], [2, 0, 0], [4, 0, 0]], np.float32)
    assert not model.has_labels and not model.has_probabilities
    with pytest.raises(UnsupportedError, match=r"no probability.*threshold="):
        model.predict(x)
    with pytest.raises(UnsupportedError, match="no label"):
        model.labels_of(model.run(x))
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model.predict_proba(x)
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model.predict(x, threshold=0, reject_below=0.5)
    assert model.predict(x, threshold=0).tolist() == [0, 1, 1]
    assert model.predict(x, threshold=3).tolist() == [0, 0, 1]
    # What is computed with a sigmoid may be anything.
    assert not model_of(first(1, activation=SIGMOID), Dense(np.ones((1, 1)))).info()["has_sigmoid"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), True, "0.5"])
def test_a_threshold_is_a_number(threshold: object) -> None:
    model = model_of(*ONE_SIGMOID["dense"])
    with pytest.raises(InputError, match=r"threshold is .* expected a number from 0 to 1"):
        model.predict(np.zeros((1, 3), np.float32), threshold=threshold)  # type: ignore[arg-type]


def test_several_sigmoids() -> None:
    """Probabilities, each of its own; the label is that of the greatest."""
    model = model_of(first(3, activation=SIGMOID))
    x = np.array([[-2, 1, 3], [9, 1, 8], [-4, -5, -6]], np.float32)
    np.testing.assert_allclose(model.predict_proba(x), 1 / (1 + np.exp(-x)), atol=1e-6)
    assert model.predict(x).tolist() == [2, 0, 0]
    assert model.predict(x, reject_below=0.5).tolist() == [2, 0, -1]
    with pytest.raises(UnsupportedError, match="threshold is for networks of one output"):
        model.predict(x, threshold=0.5)


def test_the_logarithm_of_a_softmax() -> None:
    """As networks of PyTorch end: probabilities are asked for, and not their logarithms."""
    model = model_of(first(3), LogSoftmax(), log_softmax=True)
    x = np.array([[-2, 1, 3], [9, 1, 8], [0, 0, 0]], np.float32)
    powers = np.exp(x.astype(np.float64))
    want = powers / powers.sum(axis=1, keepdims=True)
    for output in (None, "output"):
        np.testing.assert_allclose(model.predict_proba(x, output=output), want, atol=1e-6)
    out = np.empty((3, 3), np.float32)
    assert model.predict_proba(x, out=out) is out
    np.testing.assert_allclose(out, want, atol=1e-6)
    np.testing.assert_allclose(model.run(x), np.log(want), atol=1e-5)
    assert model.predict(x).tolist() == [2, 0, 0]
    assert model.predict(x, reject_below=0.7).tolist() == [2, 0, -1]
    assert model.info()["has_log_softmax"] and not model.info()["has_softmax"]
    # What only says so returns numbers like any other network.
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model_of(first(3), LogSoftmax(), log_softmax="yes").predict_proba(x)


def test_a_softmax_of_one_is_no_sigmoid() -> None:
    model = model_of(first(1), Softmax())
    x = np.ones((2, 3), np.float32)
    assert model.classes == ("0",) and model.predict(x).tolist() == [0, 0]
    assert model.labels_of(model.predict_proba(x)).tolist() == [0, 0]


def test_an_image_is_no_label() -> None:
    graph = chain((2, 2, 1), [Pad(((1, 0), (0, 0), (0, 0)))])
    model = Model(packed(graph))
    x = np.ones((2, 2, 2), np.float32)
    with pytest.raises(UnsupportedError, match=r"returns shape \(3, 2, 1\).* use Model.run"):
        model.predict(x)
    np.testing.assert_array_equal(model.run(x), reference.run_graph(graph, x[..., None]))

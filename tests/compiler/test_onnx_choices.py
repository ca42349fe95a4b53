"""Comparisons and Where in ONNX, held against ONNX Runtime at, below and above each bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.errors import UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx

need("onnx")
need("onnxruntime")

F = np.float32
TO_FLOAT = {"to": 1}


def net() -> OnnxNet:
    return OnnxNet(("N", 3, 4))


def thresholded(kind: str, bound: float) -> OnnxNet:
    """x where it is beyond a bound, else 0."""
    return net().add(kind, "input", F(bound)).add("Where", None, "input", F(0))


def clipped() -> OnnxNet:
    """By two choices."""
    made = net().add("Less", "input", F(-0.5)).add("Where", None, F(-0.5), "input")
    low = made.last
    return made.add("Greater", low, F(0.75)).add("Where", None, F(0.75), low)


def hard_sigmoid() -> OnnxNet:
    made = net().add("Mul", "input", F(0.25)).add("Add", None, F(0.5))
    x = made.last
    made.add("LessOrEqual", x, F(0)).add("Where", None, F(0), x)
    low = made.last
    return made.add("GreaterOrEqual", low, F(1)).add("Where", None, F(1), low)


def leaky() -> OnnxNet:
    made = net().add("Mul", "input", F(0.25))
    below = made.last
    return made.add("Greater", "input", F(0)).add("Where", None, "input", below)


def elu() -> OnnxNet:
    made = net().add("Exp", "input").add("Sub", None, F(1)).add("Mul", None, F(0.5))
    below = made.last
    return made.add("LessOrEqual", "input", F(0)).add("Where", None, below, "input")


def two_values() -> OnnxNet:
    """The greater of two values, by way of a comparison of both."""
    made = net().add("Neg", "input")
    other = made.last
    return made.add("Less", "input", other).add("Where", None, other, "input")


def booleans() -> OnnxNet:
    """Within two bounds, or equal to a third, and not above a fourth, in both forms of Not."""
    made = net().add("Greater", "input", F(-0.5))
    above = made.last
    made.add("Less", "input", F(0.5))
    within = made.add("And", above, made.last).last
    made.add("Equal", "input", F(0.75))
    made.add("Or", within, made.last)
    either = made.last
    made.add("Xor", either, made.add("GreaterOrEqual", "input", F(0.25)).last)
    return made.add("Not").add("Where", None, F(2), "input")


def mask() -> OnnxNet:
    """A value times a comparison as numbers."""
    made = net().add("Greater", F(0.25), "input").add("Identity").add("Cast", **TO_FLOAT)
    return made.add("Mul", "input", None)


def step() -> OnnxNet:
    return net().add("Greater", "input", F(0)).add("Where", None, F(1), F(-1))


def known_condition() -> OnnxNet:
    """Some elements are taken from a value, the others are numbers."""
    which = np.arange(12).reshape(1, 3, 4) % 3 == 0
    made = net().add("Where", which, "input", F(0.5))
    return made.add("Where", ~which, np.arange(4, dtype=F), None)


def bounds_of_their_own() -> OnnxNet:
    bounds = np.linspace(-1, 1, 4, dtype=F)
    return net().add("Greater", "input", bounds).add("Where", None, "input", bounds)


def zeros() -> OnnxNet:
    return net().add("Greater", "input", F(0)).add("Where", None, F(0), F(0))


#: Networks, and the activation that they become; "" where they are computed with zeros and ones.
NETWORKS: dict[str, tuple[Callable[[], OnnxNet], str]] = {
    "relu": (lambda: thresholded("Greater", 0.0), "relu"),
    "relu or equal": (lambda: thresholded("GreaterOrEqual", 0.0), "relu"),
    "relu of less": (
        lambda: net().add("Less", "input", F(0)).add("Where", None, F(0), "input"),
        "relu",
    ),
    "relu of not": (
        lambda: net().add("Less", "input", F(0)).add("Not").add("Where", None, "input", F(0)),
        "relu",
    ),
    "leaky relu": (leaky, "leaky_relu"),
    "elu": (elu, "elu"),
    **{
        f"{kind} {bound}": (lambda kind=kind, bound=bound: thresholded(kind, bound), "")  # type: ignore[misc]
        for kind in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
        for bound in (0.5, -0.25)
    },
    **{
        made.__name__: (made, "")
        for made in (
            *(clipped, hard_sigmoid, two_values, booleans, mask, step, known_condition),
            *(bounds_of_their_own, zeros),
        )
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_choices(name: str) -> None:
    build, activation = NETWORKS[name]
    model = build().model()
    result = compile_model(model, None, engine=engine, input_range=None)
    program = unpack(result.data)
    if activation:
        kinds = [record.activation for record in program.records[1:]]
        assert [kind for kind in kinds if kind != "linear"] == [activation]
    bounds = np.array([-1, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 3, -40, 1e-30, 90], F)
    around = [np.nextafter(bounds, F(-np.inf)), bounds, np.nextafter(bounds, F(np.inf))]
    rng = np.random.default_rng(0)
    x = np.stack([*around, *rng.permuted(np.stack(around * 3), axis=1)]).reshape(-1, 3, 4)
    got = fastdigit.Model(result.data).run(
        x.reshape(len(x), *program.graph.shapes[program.graph.input])
    )
    want = run_onnx(model, x)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-6, atol=1e-6)


def exponential() -> OnnxNet:
    made = net().add("Exp", "input")
    return made.add(
        "Where", made.add("Greater", "input", F(0.5)).last, F(0), made.nodes[0].output[0]
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: net().add("Greater", "input", F(0)), "is the truth of a comparison"),
        (
            lambda: net().add("Greater", "input", F(0)).add("Reshape", None, np.array([0, 12])),
            r"\(Reshape\): works on the truth of a comparison; supported are And, Cast, Equal",
        ),
        (exponential, "may be infinite or no number elsewhere"),
        (
            lambda: net().add("Greater", "input", F(0)).add("Where", None, F(np.inf), "input"),
            "numbers that are not finite",
        ),
    ],
    ids=["output", "moved", "exponential", "infinite"],
)
def test_refused(build: Any, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        compile_model(build().model(), None, engine=engine)


def test_a_comparison_of_an_old_opset() -> None:
    """Its second operand is aligned by an attribute."""
    made = OnnxNet(("N", 3, 4), opset=6)
    made.add("Greater", "input", np.array([-0.5, 0.0, 0.5], F), axis=1, broadcast=1)
    made.add("Cast", **TO_FLOAT).add("Mul", "input", None)
    graph = import_model(made.model()).graph
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(F)
    bounds = np.array([-0.5, 0.0, 0.5])[:, None]
    got = reference.run_graph(graph, x)
    np.testing.assert_allclose(got, np.where(x > bounds, x, 0), rtol=1e-6, atol=1e-6)

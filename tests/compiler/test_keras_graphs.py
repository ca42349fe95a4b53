"""Random Keras networks, chains and graphs, from the front end to the engine, held against Keras
and float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fastdigit import Model
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import need, reference
from tests.support.keras_models import randomize

pytestmark = pytest.mark.slow

keras = need("keras")
L = keras.layers

ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "gelu", "silu"),
    *("hard_silu", "hard_sigmoid", "softplus", "softmax"),
)
JOINS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")


@dataclass(frozen=True)
class Plan:
    """A layer with its settings, and which of the values so far it reads, from the last one on."""

    kind: str
    settings: dict[str, Any]
    reads: tuple[int, ...] = (0,)


def window(draw: st.DrawFn, *, square: bool = False) -> dict[str, Any]:
    """Kernel, stride, dilation and padding; dilation and strides exclude each other in Keras."""
    small = st.integers(1, 3)
    stride = draw(st.sampled_from([1, 2]) if square else st.tuples(*[st.integers(1, 2)] * 2))
    dilation = 1 if stride not in (1, (1, 1)) else draw(st.integers(1, 2))
    return {
        "kernel_size": (draw(small), draw(small)),
        "strides": stride,
        "dilation_rate": dilation,
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(ACTIVATIONS)),
    }


def pooling(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "pool_size": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "strides": draw(st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.sampled_from(["same", "valid"])),
    }


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[int, int, int], bool, list[Plan], str]:
    """Input shape, whether it is a chain, layers, head."""
    chain = draw(st.booleans())
    shape = (draw(st.integers(5, 8)), draw(st.integers(5, 8)), draw(st.integers(1, 3)))
    layers: list[Plan] = []
    kinds = "ccdsbblpprzanow" if chain else "ccdsbblpprzanowjjjkke"
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8)):
        reads = (0,) if chain else (draw(st.integers(0, 2)), draw(st.integers(0, 4)))
        options: dict[str, Any] = {}
        match kind:
            case "c":
                options = {"filters": draw(st.integers(1, 18)), **window(draw)}
            case "d":
                options = {**window(draw, square=True), "depth_multiplier": draw(st.integers(1, 2))}
            case "s":
                options = {**window(draw, square=True), "filters": draw(st.integers(1, 9))}
            case "b":
                options = {
                    "axis": draw(st.sampled_from([1, 2, 3, -1])),
                    "scale": draw(st.booleans()),
                }
            case "l":
                options = {"axis": draw(st.sampled_from([-1, [2, 3], [1, 2, 3]]))}
            case "p":
                options = {"mode": draw(st.sampled_from(["Max", "Average"])), **pooling(draw)}
            case "z":
                sides = st.tuples(st.integers(0, 2), st.integers(0, 2))
                options = {"padding": (draw(sides), draw(sides))}
            case "a":
                options = {"activation": draw(st.sampled_from(ACTIVATIONS))}
            case "r":
                options = {"shared_axes": draw(st.sampled_from([None, [1, 2], [1], [3]]))}
            case "n":
                options = {"units": draw(st.integers(1, 9)), "activation": "relu"}
            case "o":
                options = {"axis": draw(st.sampled_from([1, 2, 3]))}
            case "w":
                options = {"dims": draw(st.permutations([1, 2, 3]))}
            case "j":
                options = {"join": draw(st.sampled_from(JOINS))}
            case "k":
                options = {"axis": draw(st.integers(1, 3))}
        layers.append(Plan(kind, options, reads))
    head = draw(st.sampled_from(["image", "flatten", "pooled", "scores"]))
    return shape, chain, layers, head


def build(plan: Plan, values: list[Any]) -> Any | None:
    """The value that a layer returns; None if it does not fit what there is."""
    value = values[-1 - plan.reads[0] % len(values)]
    other = values[-1 - plan.reads[-1] % len(values)]
    _, height, width, channels = value.shape
    options = dict(plan.settings)
    if "kernel_size" in options or "pool_size" in options:
        sizes = options.get("kernel_size") or options["pool_size"]
        extents = [(size - 1) * options.get("dilation_rate", 1) + 1 for size in sizes]
        if options["padding"] == "valid" and (extents[0] > height or extents[1] > width):
            return None
    match plan.kind:
        case "c":
            return L.Conv2D(**options)(value)
        case "d":
            return L.DepthwiseConv2D(**options)(value)
        case "s":
            return L.SeparableConv2D(**options)(value)
        case "b":
            return L.BatchNormalization(**options)(value)
        case "l":
            return L.LayerNormalization(**options)(value)
        case "p":
            return getattr(L, f"{options.pop('mode')}Pooling2D")(**options)(value)
        case "z":
            return L.ZeroPadding2D(**options)(value)
        case "a":
            return L.Activation(**options)(value)
        case "r":
            return L.PReLU(**options)(value)
        case "n":
            return L.Dense(**options)(value)
        case "o":
            return L.Softmax(**options)(value)
        case "w":
            return L.Permute(tuple(options["dims"]))(value)
        case "e":  # a gate for each channel
            gate = L.Dense(channels, activation="sigmoid")(L.GlobalAveragePooling2D()(value))
            return L.Multiply()([value, L.Reshape((1, 1, channels))(gate)])
        case "j" if value.shape == other.shape:
            return getattr(L, options["join"])()([value, other])
        case "k":
            same = [m == n for m, n in zip(value.shape, other.shape, strict=True)]
            same[options["axis"]] = True
            return L.Concatenate(**options)([value, other]) if all(same) else None
    return None


def network(
    shape: tuple[int, int, int], chain: bool, layers: list[Plan], head: str, seed: int
) -> Any:
    """The model of a plan. A chain is a Sequential model of the same layers."""
    source = keras.Input(shape)
    values = [source]
    for plan in layers:
        value = build(plan, values)
        if value is not None and np.prod(value.shape[1:]) <= 4000:
            values.append(value)
    value = values[-1]
    if len(values) == 1:
        value = L.Activation("tanh")(value)
    match head:
        case "flatten":
            value = L.Dense(5)(L.Flatten()(value))
        case "pooled":
            value = L.Softmax()(L.GlobalMaxPooling2D()(value))
        case "scores":
            value = L.Dense(40, activation="relu")(L.Dropout(0.5)(L.Flatten()(value)))
            value = L.Dense(3, activation="softmax")(L.BatchNormalization()(value))
    model = keras.Model(source, value)
    if chain:
        model = keras.Sequential([keras.Input(shape), *model.layers[1:]])
    return randomize(model, seed)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), seed=st.integers(0, 2**32 - 1))
def test_random_networks(plan: tuple[Any, ...], seed: int) -> None:
    keras.utils.clear_session(free_memory=False)
    model = network(*plan, seed)
    images = np.random.default_rng(seed).normal(size=(3, *plan[0])).astype(np.float32)
    want = np.asarray(model(images, training=False))
    try:
        graph = optimize(import_model(model).graph)
    except UnsupportedError as error:  # nothing is left of a network that does nothing
        assume("has no operators" not in str(error))
        raise
    there = images.reshape(3, *graph.shapes[graph.input])
    exact = reference.run_graph(graph, there)
    got = Model(pack(graph, {})).run(there)
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(exact.reshape(want.shape), want, rtol=0, atol=2e-5 * scale)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2e-5 * scale)

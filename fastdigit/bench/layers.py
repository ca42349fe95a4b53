"""Where fastdigit's time goes: each op of a model beside the least time that it could take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastdigit._core import Core
from fastdigit.bench.arrays import FloatArray, whole_batches
from fastdigit.bench.machine import choose_cpus, pinned
from fastdigit.bench.measure import Spread, spread
from fastdigit.bench.roofline import FMA, INT8, Probe, Roofline
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.backends.fdm.unpack import Program, unpack
from fastdigit.compiler.ops import with_nodes
from fastdigit.errors import InputError
from fastdigit.model import Model

__all__ = ["Layer", "Limit", "Profile", "describe", "limit", "profile", "skip_zeros"]

ROUNDS = 9
IMAGES = 2048  # in a round, for small batches
CALLS = 16  # in a round, at least
SAMPLE = 512  # images to count zeros in


@dataclass(frozen=True)
class Layer:
    """One op of the program.

    Attributes
    ----------
    name
        What it does, such as "conv 3x3".
    input_shape, output_shape
        Of an image.
    algorithm
        How a convolution is computed: "direct", "abreast n" (n neighbouring outputs share a vector
        of channels), "grouped", "depthwise", or Winograd's "F(mxm,rxr)"; otherwise "".
    multiply_adds
        For an image, by the layer's definition, without outputs that pooling never reads.
    executed
        Multiply-adds for an image that its algorithm needs. For Winograd these are the products,
        without transforms; for outputs abreast those with zeros, too; for a dense layer with a
        single image those of inputs that are not zero.
    weight_bytes
        Weights that its algorithm reads in a call, at least; with a single image, those of zero
        inputs are left out.
    nonzero
        Share of the inputs that are not zero; None where it doesn't matter.
    arithmetic
        What its multiply-adds are of: "FMA" for floats, "INT8" for bytes.
    """

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    algorithm: str
    multiply_adds: int
    executed: float
    weight_bytes: float
    nonzero: float | None = None
    arithmetic: str = FMA


@dataclass(frozen=True)
class Limit:
    """The least time that a layer needs for an image.

    Attributes
    ----------
    nanoseconds
        The greater of the time for its multiply-adds and the time to read its weights.
    bound_by
        Which that is: "FMA" or "INT8", or the level of memory that holds the weights.
    """

    nanoseconds: float
    bound_by: str


@dataclass(frozen=True)
class Profile:
    """A model's layers at one batch size.

    Attributes
    ----------
    batch
        Images a call.
    layers
        In the order of the program, the check of the input first.
    times
        Of each layer: nanoseconds an image, median and quartiles over the rounds.
    total
        The same of all layers together.
    """

    batch: int
    layers: tuple[Layer, ...]
    times: tuple[Spread, ...]
    total: Spread


def limit(layer: Layer, batch: int, model_bytes: float, roofline: Roofline) -> Limit:
    """Work out the least time of a layer on this machine.

    Parameters
    ----------
    layer
        What it has to do.
    batch
        Images a call; weights are read once a call, at least.
    model_bytes
        Bytes of all layers' weights. Every call reads them all, so they come from the nearest level
        that holds them together.
    roofline
        What the machine can do.
    """
    arithmetic = 2 * layer.executed / roofline.peak(layer.arithmetic)
    level = roofline.level_of(math.ceil(model_bytes))
    reading = layer.weight_bytes / batch / level.best
    if arithmetic >= reading:
        return Limit(arithmetic, layer.arithmetic)
    return Limit(reading, level.name)


def profile(
    data: bytes,
    images: FloatArray,
    batches: Sequence[int],
    probe: Probe,
    rounds: int = ROUNDS,
) -> list[Profile]:
    """Time each op of a model, on one thread and pinned to one CPU.

    Parameters
    ----------
    data
        The model file.
    images
        float32 (N, *input shape); every call gets the next ones.
    batches
        Images a call.
    probe
        Measures the machine before each round.
    rounds
        Of each batch size.

    Raises
    ------
    InputError
        The model takes another input.
    """
    core = Core(data, 1)
    program = unpack(data)
    expected = core.facts()["input_shape"]
    if math.prod(images.shape[1:]) != math.prod(expected):
        raise InputError(f"the images are {images.shape[1:]}, the model takes {expected}")
    profiles = []
    with pinned(choose_cpus(1)):
        for batch in batches:
            count = max(IMAGES, CALLS * batch)
            some = whole_batches(np.resize(images, (count, *images.shape[1:])), batch)
            calls = len(some) // batch
            medians = []
            for _ in range(rounds):
                probe.sample()
                # Twice: the first brings the model back into the caches, which the probe filled.
                for _ in range(2):
                    times = np.zeros((calls, len(program.records)), np.uint64)
                    core.profile(some, calls, batch, times)
                totals = times.sum(axis=1, keepdims=True)
                medians.append(np.median(np.hstack([times, totals]), axis=0) / batch)
            *each, total = (spread(column) for column in np.array(medians).T)
            layers = describe(core)
            if batch == 1:
                layers = skip_zeros(layers, program, images[:SAMPLE])
            profiles.append(Profile(batch, layers, tuple(each), total))
    return profiles


def describe(core: Core) -> tuple[Layer, ...]:
    """List the layers of a model as the engine has planned them."""
    arithmetic = {"float": FMA, "bytes": INT8}
    return tuple(
        Layer(
            name=op["label"],
            input_shape=op["input_shape"],
            output_shape=op["output_shape"],
            algorithm=op["algorithm"],
            multiply_adds=op["multiply_adds"],
            executed=op["executed"],
            weight_bytes=op["weight_bytes"],
            arithmetic=arithmetic[op["arithmetic"]],
        )
        for op in core.plan()
    )


def skip_zeros(
    layers: tuple[Layer, ...], program: Program, images: FloatArray
) -> tuple[Layer, ...]:
    """Leave out what a single image's zeros make unnecessary in dense layers of float arithmetic.

    How many there are is found by running the layers before: those of `images`, on average.
    """
    skipped = [layers[0]]
    for index, (layer, node) in enumerate(zip(layers[1:], program.graph.nodes, strict=True)):
        skips = program.records[index + 1].opcode == "DENSE" and layer.arithmetic == FMA
        if not skips or index == 0:
            skipped.append(layer)
            continue
        graph = program.graph
        before = graph.nodes[:index]
        part = with_nodes(graph, before, outputs=[node.inputs[0]])
        low, high = program.input_range
        model = Model(pack(part, {}, input_range=(low, high)))
        nonzero = float((model.logits(images) != 0).mean())
        skipped.append(
            replace(
                layer,
                executed=layer.executed * nonzero,
                weight_bytes=layer.weight_bytes * nonzero,
                nonzero=nonzero,
            )
        )
    return tuple(skipped)

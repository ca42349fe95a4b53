"""Where fastdigit's time goes: each op of a model beside the least time that it could take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastdigit import _testing
from fastdigit._core import Core
from fastdigit.bench.arrays import FloatArray, whole_batches
from fastdigit.bench.machine import choose_cpus, pinned
from fastdigit.bench.measure import Spread, spread
from fastdigit.bench.roofline import FMA, INT8, Probe, Roofline
from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.fdm.pack import POOL_MODES, pack
from fastdigit.compiler.backends.fdm.unpack import Program, Record, unpack
from fastdigit.compiler.ops import make_graph
from fastdigit.errors import InputError
from fastdigit.model import Model

__all__ = ["Layer", "Limit", "Profile", "describe", "limit", "profile", "skip_zeros"]

ROUNDS = 9
IMAGES = 2048  # in a round, for small batches
CALLS = 16  # in a round, at least
PANEL_ALIGN = 16  # columns that a row of weights is padded to, csrc/FORMAT.md
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
        How a convolution is computed: "direct", or Winograd's "F(mxm,rxr)"; otherwise "".
    multiply_adds
        For an image, by the layer's definition, without outputs that pooling never reads.
    executed
        Multiply-adds for an image that its algorithm needs. For Winograd these are the products,
        without transforms; for a dense layer with a single image those of inputs that are not zero.
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
            layers = describe(program, core.facts()["isa"])
            if batch == 1:
                layers = skip_zeros(layers, program, images[:SAMPLE])
            profiles.append(Profile(batch, layers, tuple(each), total))
    return profiles


def describe(program: Program, isa: str) -> tuple[Layer, ...]:
    """List the layers of a program, as planned for an ISA."""
    vector = _testing.Kernels(isa).vector_floats
    return tuple(
        _describe(record, size, vector)
        for record, size in zip(program.records, program.weight_bytes, strict=True)
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
        part = make_graph(graph.input, graph.shapes[graph.input], before, node.inputs[0])
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


def _describe(record: Record, weight_bytes: int, vector: int) -> Layer:
    multiply_adds = record.multiply_adds()
    layer = Layer(
        name=_name(record),
        input_shape=record.input_shape,
        output_shape=record.output_shape,
        algorithm="",
        multiply_adds=multiply_adds,
        executed=multiply_adds,
        weight_bytes=weight_bytes,
        arithmetic=INT8 if record.precision == "int8-dynamic" else FMA,
    )
    if record.opcode != "CONV2D":
        return layer
    if record.groups > 1:
        return replace(layer, algorithm="direct")
    depth, channels = record.weights
    in_channels = record.input_shape[2]
    rows, cols = _convolved(record)
    algorithm, _ = _testing.algorithm_costs(
        (in_channels, rows, cols, channels),
        vector,
        record.kernel,
        record.stride,
        record.dilation,
        activation=list(ACTIVATIONS).index(record.activation),
        pool_mode=POOL_MODES.get(record.pool_mode, 0),
        pool=record.pool,
        pool_stride=record.pool_stride,
    )
    m, r, positions = _testing.winograd_sizes(algorithm)
    if not positions or any(record.pool_pad):
        return replace(layer, algorithm="direct")
    patches = math.ceil(rows / m) * math.ceil(cols / m)
    padded = math.ceil(channels / PANEL_ALIGN) * PANEL_ALIGN
    return replace(
        layer,
        algorithm=f"F({m}x{m},{r}x{r})",
        executed=patches * positions * in_channels * channels,
        weight_bytes=weight_bytes + 4 * (positions * in_channels - depth) * padded,
    )


def _convolved(record: Record) -> tuple[int, int]:
    """Return the rows and columns of a convolution, before pooling, that pooling reads."""
    height, width = record.output_shape[:2]
    if record.pool_mode == "none":
        return height, width
    return (
        (height - 1) * record.pool_stride[0] + record.pool[0],
        (width - 1) * record.pool_stride[1] + record.pool[1],
    )


def _name(record: Record) -> str:
    """Return a layer's name, such as "conv 3x3"; the first only checks the input's range."""
    match record.opcode:
        case "INPUT":
            return "check input"
        case "CONV2D":
            return f"conv {record.kernel[0]}x{record.kernel[1]}"
        case "POOL2D":
            return f"{record.pool_mode} pool {record.pool[0]}x{record.pool[1]}"
        case "BINARY":
            return record.binary
        case "DENSE" if record.precision == "int8-dynamic":
            return "dense dynamic"  # what fits the table
        case "DENSE" if record.precision != "fp32":
            return f"dense {record.precision}"
        case opcode:
            return opcode.lower()

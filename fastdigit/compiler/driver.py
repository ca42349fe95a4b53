"""Compiles a model: front end, passes, packer, verification, file."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.accuracy import Network
from fastdigit.compiler.arguments import (
    check_blank,
    check_provenance,
    name_classes,
    take_inputs,
    take_samples,
)
from fastdigit.compiler.backends.fdm.listing import listing
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.describe import changes
from fastdigit.compiler.files import write_whole
from fastdigit.compiler.frontends import Imported, ImportOptions, import_model, open_source
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.heads import (
    gives_probabilities,
    head_of,
    is_binary,
)
from fastdigit.compiler.inputs import (
    InputRange,
    Inputs,
    Numbers,
    Preprocessing,
    preprocess,
)
from fastdigit.compiler.ir import Graph, Shape
from fastdigit.compiler.limits import NARROW
from fastdigit.compiler.meta import describe, options_of, plain, ports_of
from fastdigit.compiler.ops import PRECISIONS, Softmax, with_nodes
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.compiler.verify import (
    ENGINE_FACTOR,
    PROMISE_FACTOR,
    TOLERANCES,
    Verification,
    check_labels,
    check_small_inputs,
    check_tolerance,
    compare,
    compare_outputs,
    source_runner,
)
from fastdigit.errors import InputError, UnsupportedError, VerificationError

__all__ = [
    "Compiled",
    "Step",
    "compile_model",
    "verify_model",
]

#: (bytes of a model file, images for each input) -> each output (N, ...).
Engine = Callable[[bytes, Sequence[NDArray[np.float32]]], list[NDArray[Any]]]


@dataclass(frozen=True)
class Step:
    """What a pass did.

    Parameters
    ----------
    name
        Of the pass.
    operators
        How many operators the graph has behind it.
    changes
        Operators that are gone (``- ``) and new (``+ ``), as :func:`.describe.changes` writes them.
    """

    name: str
    operators: int
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Compiled:
    """What :func:`compile_model` did.

    Parameters
    ----------
    data
        The model file.
    verification
        How it compares with its source.
    steps
        The passes that changed the graph, in order.
    takes
        What the model takes as each of its inputs, and why.
    """

    data: bytes
    verification: Verification
    steps: tuple[Step, ...]
    takes: tuple[Inputs, ...]

    @property
    def inputs(self) -> Inputs:
        """What the model takes as its first input, and why."""
        return self.takes[0]

    @property
    def meta(self) -> dict[str, Any]:
        """The META section of the file."""
        return unpack(self.data).meta

    def listing(self) -> str:
        """Return the program as a readable table."""
        return listing(unpack(self.data))


def compile_model(
    source: Any,
    output: str | os.PathLike[str] | None,
    *,
    engine: Engine,
    architecture: str | os.PathLike[str] | None = None,
    name: str | None = None,
    outputs: Sequence[str] | None = None,
    input_shape: Shape | Mapping[str, Shape] | None = None,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ctc_blank: int | None = None,
    input_range: InputRange | Mapping[str, InputRange] = "auto",
    mean: Numbers | None = None,
    std: Numbers | None = None,
    scale: Numbers | None = None,
    samples: Any = None,
    labels: Any = None,
    precision: str = "fp32",
    compact: bool = True,
    temperature: float = 1.0,
    tolerance: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile ``source``, verify the result against it, and write the model file.

    Parameters
    ----------
    source
        A model that a front end knows (:data:`fastdigit.compiler.frontends.FRONT_ENDS`), or the
        path of one.
    output
        Path of the model file, which is replaced at once or not at all; None: write nothing.
    engine
        Runs a model file on images (N, *shape) for each input; returns each output.
    architecture
        Path of the JSON that ``model.to_json()`` of Keras gives, if ``source`` is a file of weights
        alone.
    name
        Stored in the file; by default the source's name.
    outputs
        Names of the outputs to keep, in this order; by default all. What only others need is left
        out. The first is the one that :meth:`fastdigit.Model.predict` is about if none is named.
    input_shape
        (height, width, channels) of an input whose size the source leaves free, as networks of
        convolutions do; shapes by name if there are several such inputs.
    classes
        A name for each value of the (first) output, or such names by the names of outputs; two, if
        an output is a single sigmoid: for its 0 and for its 1. By default "0", "1", ...
        With ``ctc_blank``, what each class of a step is written as; that of the blank may be
        missing.
    ctc_blank
        Of a network that was trained with CTC, whose (first) output is (steps, classes): index of
        the class that stands for nothing, from the end if negative. -1 for Keras'
        ``ctc_batch_cost``, 0 for PyTorch's ``CTCLoss``, by their defaults. It is kept in the file,
        for :meth:`fastdigit.Model.predict_text`.
    input_range
        Least and greatest value of an input; None: any finite value. "auto": as the network says,
        if it begins with x / 255 or the like (:func:`fastdigit.compiler.inputs.find_inputs`), else
        (0, 1). The model takes bytes too if it is (0, 1), where b stands for b / 255, or if 0 to
        255 lie in it; if it is None, where the network says what they mean. Of several inputs: of
        all of them, or by name ("auto" for those that are left out).
    mean, std, scale
        The source was trained on ``(x * scale - mean) / std``: the model takes x, and computes this
        itself. Each is one number, or one for each channel. ``input_range`` is that of x; "auto" is
        (0, 1) or (0, 255), whichever these numbers fit.
    samples
        Images x (N, *input shape) to verify with, channels-last; by default generated ones. Of
        several inputs, such arrays by name, or in order.
    labels
        The right label (N,) for each of ``samples``, as an integer from 0: the accuracy of the
        source and of the compiled model are measured and stored. Of several outputs, for the first.
    precision
        Of the weights of dense layers with more than 32 outputs: "fp32", "fp16" or "int8" (with a
        scale for each output), see :mod:`fastdigit.compiler.passes.quantize_weights`. What is
        computed with them is float32. "int8-dynamic": weights as for "int8", and the layer's inputs
        are quantised too, each image's by their own range, and multiplied as integers.
    compact
        Whether to remove units and channels that make no difference to the result, see
        :mod:`fastdigit.compiler.passes.remove_dead_units`; False is for comparing.
    temperature
        What logits are divided by before the final softmax, so that probabilities mean what they
        say; labels and logits stay as they are, to the last bit. Rounded to float32. See Guo et
        al., "On Calibration of Modern Neural Networks" (2017); ``export/calibration.py`` fits one.
        The source is verified without it, then the probabilities with it against the logits.
    tolerance
        Largest error allowed, as :class:`fastdigit.compiler.verify.Verification` defines it; by
        default 1e-5 with fp32, 1e-2 with fp16, and 1e-1 with the others. With any but fp32, the
        same network in fp32 is verified before, by the default of fp32: what differs then is due to
        rounding alone. Where float32 cannot keep 1e-5, the default of fp32 allows what float32 can
        attain, see :func:`fastdigit.compiler.verify.compare`; of probabilities of inputs in 0..1,
        for which 1e-5 is promised, a few times that at most.
    provenance
        Where the weights come from, as JSON has it; stored as it is, for people and tools.

    Warns
    -----
    UserWarning
        If the input range was not given, and what the network takes is a guess, or 0 to 1 is
        assumed though the network begins with something else: what was assumed, and why.

    Raises
    ------
    UnsupportedError
        If the compiler does not support the network, or the network cannot have that precision;
        the message names the layer.
    ModelFormatError
        If the source is damaged.
    VerificationError
        If source and compiled model differ by more than ``tolerance``. Nothing is written.
    InputError
        If another argument is wrong.
    MissingExtraError
        If a package is missing that the source needs.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if labels is not None and samples is None:
        raise InputError("labels given without samples, expected both: labels are of samples")
    origin = check_provenance(provenance)
    model = open_source(source, architecture)
    kept = None if outputs is None else tuple(outputs)
    imported = import_model(model, ImportOptions(kept, input_shape))
    several = len(imported.inputs) > 1 or len(imported.outputs) > 1
    steps: list[Step] = []
    start, preprocessing, takes = take_inputs(imported, input_range, mean, std, scale)
    for taken in takes:
        if taken.doubtful:
            warnings.warn(f"{imported.name}: inputs are {taken}", UserWarning, stacklevel=3)
    last = start

    def observe(step: str, now: Graph) -> None:
        nonlocal last
        steps.append(Step(step, len(now.nodes), tuple(changes(last, now))))
        last = now

    graph = optimize(start, observe, compact=compact)
    blank = None if ctc_blank is None else check_blank(imported.outputs[0].shape, ctc_blank)
    names = name_classes(graph, imported, classes, blank)
    if labels is not None and (not names[0] or blank is not None):
        raise InputError("labels given, but the network returns no vector of scores")
    inputs = take_samples(samples, graph, takes, imported)
    right = None if labels is None else check_labels(labels, len(inputs[0]), len(names[0]))
    rounded = _round(graph, precision)
    if temperature != 1 and several:
        raise UnsupportedError(
            "temperature is for networks of one input and one output: choose it (outputs=, --keep)"
        )
    calibrated = _with_temperature(rounded, temperature)
    check_tolerance(tolerance)
    asked = tolerance is not None
    if tolerance is None:
        tolerance = TOLERANCES[precision]

    meta = describe(imported, calibrated, name, names, precision)
    if blank is not None:
        meta["ctc_blank"] = meta.get("outputs", [{}])[0]["ctc_blank"] = blank
    for entry, taken in zip(ports_of(meta, "input"), takes, strict=True):
        entry["because"] = taken.reason
    if preprocessing is not None:
        meta["input"]["preprocessing"] = preprocessing.to_meta()
    if input_shape is not None:
        meta["input_shape"] = plain(input_shape)
    called = ([port.name for port in imported.inputs], [port.name for port in imported.outputs])

    def packed(graph: Graph) -> bytes:
        return pack(
            graph,
            meta,
            input_range=[taken.range for taken in takes],
            u8_divisor=[taken.u8_divisor for taken in takes],
            names=called if several or kept is not None else None,
        )

    def run(file: bytes, inputs: Sequence[NDArray[np.float32]] = inputs) -> list[NDArray[Any]]:
        return _as_source(engine(file, inputs), imported)

    reference, run_source = _source_runner(model, imported, preprocessing)
    want = run_source(inputs)
    network = Network(start, inputs)
    factors = _factors(start, takes)
    exact = packed(graph)
    if rounded is not graph:
        compare_outputs(
            *(reference, called[1], want, run(exact), TOLERANCES["fp32"]),
            network=network,
            factors=factors,
        )
        observe(quantize_weights.__name__, rounded)
    verification = compare_outputs(
        *(reference, called[1], want, run(exact if rounded is graph else packed(rounded))),
        *(tolerance, right),
        binary=is_binary(graph),
        network=network,
        factors=() if asked or rounded is not graph else factors,
    )
    if _takes_small(imported):
        zero = all(taken.low <= 0 <= taken.high for taken in takes)
        run_small = (lambda small: run(exact, small)) if zero else None
        small_tolerance = tolerance if rounded is graph else TOLERANCES["fp32"]
        check_small_inputs(reference, run_source, run_small, network, small_tolerance)
    if calibrated is not rounded:
        _check_temperature(calibrated, inputs[0], lambda graph: engine(packed(graph), inputs)[0])
    meta["verification"] = asdict(verification)
    if origin is not None:
        meta["provenance"] = origin
    data = packed(calibrated)
    if output is not None:
        write_whole(Path(output), data)
    return Compiled(data, verification, tuple(steps), tuple(takes))


def verify_model(
    data: bytes,
    source: Any,
    *,
    engine: Engine,
    architecture: str | os.PathLike[str] | None = None,
    samples: Any = None,
    labels: Any = None,
    tolerance: float | None = None,
) -> Verification:
    """Hold a compiled model against its source again.

    Parameters
    ----------
    data
        A model file.
    source, engine, architecture, samples, labels
        As for :func:`compile_model`.
    tolerance
        Largest error allowed; by default that of the precision the model was compiled with.

    Raises
    ------
    ModelFormatError
        If the model file or the source is damaged.
    UnsupportedError
        If the source is no network that the compiler knows.
    VerificationError
        If they differ by more than ``tolerance``, or take other inputs or return other outputs.
    InputError
        If the samples or labels are wrong.
    """
    program = unpack(data)
    takes = [Inputs(*port.range, port.u8_divisor, "of the file") for port in program.inputs]
    precision = str(program.meta.get("precision", "fp32"))
    check_tolerance(tolerance)
    asked = tolerance is not None
    if tolerance is None:
        tolerance = TOLERANCES.get(precision, TOLERANCES["fp32"])
    if labels is not None and samples is None:
        raise InputError("labels given without samples, expected both: labels are of samples")
    model = open_source(source, architecture)
    imported = import_model(model, options_of(program))
    shapes = [program.graph.shapes[value] for value in program.graph.inputs]
    theirs = [imported.graph.shapes[value] for value in imported.graph.inputs]
    if list(map(math.prod, shapes)) != list(map(math.prod, theirs)):
        raise VerificationError(
            f"the model takes images of shape {_listed(shapes)}, its source of {_listed(theirs)}"
        )
    if len(program.graph.outputs) != len(imported.outputs):
        counts = len(program.graph.outputs), len(imported.outputs)
        raise VerificationError(f"the model has {counts[0]} outputs, its source {counts[1]}")
    inputs = take_samples(samples, program.graph, takes, imported)
    size = math.prod(program.graph.shapes[program.graph.output])
    binary = is_binary(program.graph)
    right = None if labels is None else check_labels(labels, len(inputs[0]), size + binary)
    preprocessing = Preprocessing.from_meta(program.meta.get("input"))
    if preprocessing is not None:
        preprocessing.require_fit(imported.graph.shapes[imported.graph.input])
    reference, run_source = _source_runner(model, imported, preprocessing)
    head = head_of(program.graph)
    temperature = head.op.temperature if head and isinstance(head.op, Softmax) else 1.0

    def tempered(outputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        if temperature == 1:
            return outputs
        powers = outputs[0] ** outputs[0].dtype.type(1 / temperature)
        return [powers / powers.sum(axis=-1, keepdims=True), *outputs[1:]]

    want = tempered([np.asarray(output, dtype=np.float64) for output in run_source(inputs)])
    got = _as_source(engine(data, inputs), imported)
    names = [port.name for port in imported.outputs]
    graph = imported.graph if preprocessing is None else preprocess(imported.graph, preprocessing)
    network = Network(graph, inputs, tempered)
    result = compare_outputs(
        *(reference, names, want, got, tolerance, right),
        binary=binary,
        network=network,
        factors=() if asked or precision != "fp32" else _factors(graph, takes),
    )
    if _takes_small(imported):
        check_small_inputs(reference, run_source, None, network, tolerance)
    return result


def _source_runner(
    model: Any, imported: Imported, preprocessing: Preprocessing | None
) -> tuple[str, Runner]:
    """Return what runs a source on images as the compiled model takes them."""
    reference, run = source_runner(model, imported)
    if preprocessing is None:
        return reference, run
    return reference, lambda inputs: run([preprocessing.apply(inputs[0]), *inputs[1:]])


def _factors(graph: Graph, takes: Sequence[Inputs]) -> list[float]:
    """What each output may be off where float32 cannot keep 1e-5, as :func:`.verify.compare` has
    it: 1e-5 is promised of probabilities, for inputs in 0..1."""
    small = all(taken.low >= 0 and taken.high <= 1 for taken in takes)
    return [
        PROMISE_FACTOR if small and gives_probabilities(graph, value) else ENGINE_FACTOR
        for value in graph.outputs
    ]


def _takes_small(imported: Imported) -> bool:
    """Whether inputs of a source can be made small: not if they are integers."""
    return all(port.dtype.startswith("float") for port in imported.inputs)


def _as_source(outputs: list[NDArray[Any]], imported: Imported) -> list[NDArray[Any]]:
    """Give outputs the shapes of the source: the passes may have changed them, but not the
    order."""
    return [
        given.reshape(len(given), *port.shape) if given[:1].size == math.prod(port.shape) else given
        for given, port in zip(outputs, imported.outputs, strict=True)
    ]


def _round(graph: Graph, precision: str) -> Graph:
    rounded = quantize_weights(graph, precision)
    if rounded is graph and precision != "fp32":
        raise UnsupportedError(
            f"precision {precision} is for dense layers of more than {NARROW} outputs, and the "
            "network has none: use fp32"
        )
    return rounded


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))


def _with_temperature(graph: Graph, temperature: float) -> Graph:
    with np.errstate(over="ignore"):
        stored = float(np.float32(temperature))
    if not (math.isfinite(stored) and stored > 0):
        raise InputError(f"temperature is {temperature}, expected a number > 0 that float32 has")
    if stored == 1:
        return graph
    last = graph.nodes[-1]
    if not isinstance(last.op, Softmax):
        raise UnsupportedError(
            f"temperature is {temperature}, but the network does not end in a softmax: it has no "
            "probabilities to calibrate"
        )
    nodes = (*graph.nodes[:-1], replace(last, op=Softmax(stored)))
    return with_nodes(graph, nodes)


def _check_temperature(
    graph: Graph, images: NDArray[np.float32], run: Callable[[Graph], NDArray[Any]]
) -> None:
    """Hold the probabilities of a graph that ends in a softmax against its logits."""
    softmax = graph.nodes[-1]
    assert isinstance(softmax.op, Softmax)
    nodes, value = graph.nodes[:-1], softmax.inputs[0]
    headless = with_nodes(graph, nodes, outputs=[value])
    logits: NDArray[Any] = run(headless) if nodes else images
    scaled = logits.astype(np.float64) / softmax.op.temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    want = powers / powers.sum(axis=-1, keepdims=True)
    compare("the softmax of its logits", want, run(graph), TOLERANCES["fp32"])

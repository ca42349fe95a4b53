"""Holds a compiled model against its source, which its front end knows how to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.accuracy import Exact, Network, beyond, choose_images, scaled_error
from fastdigit.compiler.evaluate import multiply_adds
from fastdigit.compiler.frontends import Imported, Port, front_end_of
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.inputs import Inputs
from fastdigit.compiler.ir import Graph
from fastdigit.errors import InputError, VerificationError

__all__ = [
    "ENGINE_FACTOR",
    "PROMISE_FACTOR",
    "TOLERANCES",
    "Verification",
    "check",
    "check_labels",
    "check_small_inputs",
    "check_tolerance",
    "compare",
    "compare_outputs",
    "count_samples",
    "make_samples",
    "source_runner",
]

F32 = NDArray[np.float32]

#: Images to verify with: as many as cost so many multiply-adds, within these bounds.
SAMPLES = 64
FEWEST = 8
WORK = 1 << 30
SEED = 20170
#: Largest error allowed by default, for each precision of the weights.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-1, "int8-dynamic": 1e-1}
#: How many times what float32 can attain a source may be off the network that was read from it,
#: and a compiled model, which may compute convolutions by Winograd's algorithm: 11 times was seen,
#: in networks that people have. Of what is promised, no more than an order of summation explains.
REFERENCE_FACTOR = 8.0
ENGINE_FACTOR = 32.0
PROMISE_FACTOR = 4.0


@dataclass(frozen=True)
class Verification:
    """How a compiled model compares with its source.

    Parameters
    ----------
    reference
        What ran the source, and its version.
    samples
        Number of images compared.
    label_agreement
        Share of images for which the largest output is the same; of sequences, share of steps.
    max_error
        Largest ``|compiled - source| / max(1, |source|)`` over all outputs: for probabilities, the
        absolute difference.
    mean_error
        Mean of the same over all outputs of all images.
    error_quantiles
        Of the largest error of each image: the median, and the 0.9 and 0.99 quantiles.
    evaluated
        Number of images for which the network itself was evaluated, in float64; the next three are
        largest errors on these, against it.
    exact_error
        Of the compiled model.
    reference_error
        Of the source.
    attainable_error
        Of plain float32 arithmetic, see :mod:`fastdigit.compiler.accuracy`.
    source_accuracy, accuracy
        Shares of images for which the largest output of the source, and of the compiled model, is
        the right one; None where that is not known.
    """

    reference: str
    samples: int
    label_agreement: float
    max_error: float
    mean_error: float
    error_quantiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source_accuracy: float | None = None
    accuracy: float | None = None
    evaluated: int = 0
    exact_error: float | None = None
    reference_error: float | None = None
    attainable_error: float | None = None

    @property
    def beyond_float32(self) -> bool:
        """Whether the error is greater than what is allowed of float32, and float32 explains it."""
        if self.exact_error is None or self.attainable_error is None:
            return False
        explained = self.exact_error <= ENGINE_FACTOR * self.attainable_error
        return self.max_error > TOLERANCES["fp32"] and explained


def count_samples(graph: Graph) -> int:
    """Return how many images to verify a network with: fewer of a large one."""
    return min(SAMPLES, max(FEWEST, WORK // max(1, multiply_adds(graph))))


def make_samples(shape: tuple[int, ...], low: float, high: float, count: int = SAMPLES) -> F32:
    """Return (count, *shape) images in [low, high], always the same ones.

    The first is blank, the second full; the others are, in turn, noise, a few random pixels on a
    blank ground, and (for images) a rectangle of noise on one.
    """
    rng = np.random.default_rng(SEED)
    images = np.full((count, *shape), low, dtype=np.float32)
    noise = rng.uniform(low, high, (count, *shape)).astype(np.float32)
    images[1:2] = high
    for index in range(2, count):
        mask = np.ones(shape, dtype=bool)
        if index % 3 == 1:
            mask = rng.random(shape) < 0.1
        elif index % 3 == 2:
            for axis in range(min(2, len(shape))):
                first, last = np.sort(rng.integers(0, shape[axis] + 1, 2))
                along = (np.arange(shape[axis]) >= first) & (np.arange(shape[axis]) < last)
                mask &= along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        images[index][mask] = noise[index][mask]
    return np.clip(images, np.float32(low), np.float32(high))


def source_runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    """Return (name and version, function) that runs the source.

    The function takes inputs as the compiled model does. What runs it is the front end's choice.

    Raises
    ------
    MissingExtraError
        If what has to run the source is not installed.
    """
    name, run = front_end_of(model).runner(model, imported)
    return name, lambda inputs: run(list(map(_as_source, inputs, imported.inputs)))


def _as_source(images: F32, port: Port) -> F32:
    """Put images, as the compiled model takes them, in the shape and order of axes of the source.

    The passes may have given the front end's input another shape, but not another order.
    """
    if port.layout == "NCHW":
        channels, height, width = port.shape
        images = images.reshape(len(images), height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(len(images), *port.shape))


def check(images: Any, shape: tuple[int, ...], inputs: Inputs) -> F32:
    """Return samples as float32 (N, *shape).

    Raises
    ------
    InputError
        If they have another shape, are not numbers, or are not what the model takes.
    """
    array = np.asarray(images)
    if array.ndim < 2 or array.shape[0] == 0 or array[0].size != np.prod(shape):
        raise InputError(
            f"samples have shape {array.shape}, expected (N, {', '.join(map(str, shape))}), N > 0"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"samples have dtype {array.dtype}, expected float32")
    if array.dtype == np.uint8 and inputs.u8_divisor:
        array = array / np.float32(inputs.u8_divisor)
    elif array.dtype == np.uint8 and inputs.range == (-math.inf, math.inf):
        raise InputError(
            "samples are uint8, and nothing says what bytes mean to this network: give floats, or "
            "an input range"
        )
    array = array.astype(np.float32).reshape(len(array), *shape)
    if not (np.isfinite(array).all() and array.min() >= inputs.low and array.max() <= inputs.high):
        raise InputError(
            f"samples lie between {array.min()} and {array.max()}, expected {inputs.low:g} to "
            f"{inputs.high:g}: compile it for another input range (input_range=, --input-range LOW "
            "HIGH), or for all numbers (none)"
        )
    return array


def check_tolerance(tolerance: float | None) -> None:
    """Refuse what is no tolerance.

    Raises
    ------
    InputError
        If it is negative, or no number.
    """
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}, expected a number >= 0")


def check_labels(labels: Any, samples: int, classes: int) -> NDArray[np.int64]:
    """Return the right outputs of samples as int64 (samples,).

    Raises
    ------
    InputError
        If they are not one integer 0 to ``classes`` - 1 for each sample.
    """
    array = np.asarray(labels)
    if array.shape != (samples,) or array.dtype.kind not in "iu":
        raise InputError(
            f"labels have shape {array.shape} and dtype {array.dtype}, expected ({samples},) "
            "integers: one for each sample"
        )
    if array.min() < 0 or array.max() >= classes:
        raise InputError(
            f"labels lie between {array.min()} and {array.max()}, expected 0 to {classes - 1}"
        )
    return array.astype(np.int64)


def check_small_inputs(
    reference: str,
    run_source: Runner,
    run: Runner | None,
    network: Network,
    tolerance: float,
) -> None:
    """Hold source and compiled model against the network that was read, on its inputs made small.

    On great inputs a softmax is all 0 and 1 and an activation one of its ends, and they hide what
    is wrong before them. ``run`` runs the compiled model; None if that does not take small inputs.

    Raises
    ------
    VerificationError
        If one of them is beyond ``tolerance`` and what float32 explains.
    """
    size = max(float(np.abs(images).max()) for images in network.inputs)
    if size <= 1:
        return
    chosen = choose_images(network.graph, np.zeros(len(network.inputs[0])))
    small: list[F32] = [(images[chosen] / size).astype(np.float32) for images in network.inputs]
    exact = replace(network, inputs=small).exact()
    for want, known in zip(network.finish(run_source(small)), exact, strict=True):
        _check_translation(reference, want, known, tolerance)
    if run is None:
        return
    for got, known in zip(run(small), exact, strict=True):
        ours = known.errors(got)
        if beyond(ours, known.attainable, ENGINE_FACTOR, tolerance):
            raise VerificationError(
                f"the compiled model differs by {ours.max():.3g} from its network, evaluated in "
                f"float64 on small inputs, and float32 can attain {known.attainable.max():.2g}; a "
                "greater --tolerance accepts it"
            )


def _check_translation(reference: str, want: NDArray[Any], exact: Exact, tolerance: float) -> None:
    """Hold an output (N, ...) of a source against the network that was read from it."""
    theirs = exact.errors(np.asarray(want, dtype=np.float64))
    if beyond(theirs, exact.attainable, REFERENCE_FACTOR, tolerance):
        raise VerificationError(
            f"{reference} differs by {theirs.max():.3g} from the network that was read from the "
            f"source, evaluated in float64, and float32 explains {exact.attainable.max():.2g}: the "
            "source was not read as it is meant, which is a fault of fastdigit's, please report "
            "it; a greater --tolerance accepts the difference"
        )


def compare_outputs(
    reference: str,
    names: Sequence[str],
    want: Sequence[NDArray[Any]],
    got: Sequence[NDArray[Any]],
    tolerance: float,
    labels: NDArray[np.int64] | None = None,
    *,
    binary: bool = False,
    network: Network | None = None,
    factors: Sequence[float] = (),
) -> Verification:
    """Compare each output of source and compiled model, as :func:`compare` does.

    Of several, the worst figures are returned; ``labels`` and ``binary`` are of the first.
    ``network`` is what was read from the source; ``factors`` are of each output.

    Raises
    ------
    VerificationError
        If one of them differs.
    """
    for name, theirs in zip(names, want, strict=True):
        bad = ~np.isfinite(np.asarray(theirs, np.float64)).reshape(len(theirs), -1).all(axis=1)
        if bad.any():
            raise VerificationError(
                f"{reference} itself returns no finite number at output {name!r} for sample "
                f"{int(bad.argmax())} of {len(theirs)}: give images that the model is made for "
                "(samples=, --calibrate)"
            )
    exact: list[Exact | None] = [None] * len(names)
    if network is not None and [out.shape for out in want] == [out.shape for out in got]:
        errors = [scaled_error(b, a).reshape(len(a), -1) for a, b in zip(want, got, strict=True)]
        exact = [*network.exact(np.maximum.reduce([error.max(axis=1) for error in errors]))]
    results: list[Verification] = []
    for index, (name, theirs, ours) in enumerate(zip(names, want, got, strict=True)):
        first = index == 0
        try:
            results.append(
                compare(
                    *(reference, theirs, ours, tolerance, labels if first else None),
                    binary=binary and first,
                    exact=exact[index],
                    factor=factors[index] if factors else 0.0,
                )
            )
        except VerificationError as error:
            if len(names) == 1:
                raise
            raise VerificationError(f"output {name!r}: {error}") from None
    if len(results) == 1:
        return results[0]
    return replace(
        max(results, key=lambda result: result.max_error),
        label_agreement=min(result.label_agreement for result in results),
        source_accuracy=results[0].source_accuracy,
        accuracy=results[0].accuracy,
    )


def compare(
    reference: str,
    want: NDArray[Any],
    got: NDArray[Any],
    tolerance: float,
    labels: NDArray[np.int64] | None = None,
    *,
    binary: bool = False,
    exact: Exact | None = None,
    factor: float = 0.0,
) -> Verification:
    """Compare an output (N, ...) of source and compiled model.

    Parameters
    ----------
    labels
        The right ones (N,).
    binary
        Whether the only output is the probability of label 1.
    exact
        What the network that was read gives; on some of the images.
    factor
        What is allowed beyond ``tolerance``, which float32 may not be able to keep: so many times
        as far from the network itself as float32 can attain, or as the source is. 0 where the
        tolerance was asked for, :data:`PROMISE_FACTOR` where it is a promise, else
        :data:`ENGINE_FACTOR`.

    Raises
    ------
    VerificationError
        If they differ by more than is allowed, or in shape, or are not finite.
    """
    want, got = np.asarray(want, dtype=np.float64), np.asarray(got, dtype=np.float64)
    if want.shape != got.shape:
        raise VerificationError(
            f"the compiled model returned shape {got.shape}, {reference} {want.shape}"
        )
    theirs, ours = (_labels(values, binary) for values in (want, got))
    agree, several = theirs == ours, want.ndim > 3 and not binary
    want, got = want.reshape(len(want), -1), got.reshape(len(got), -1)
    if several:  # maps, in which more than one element may be the largest
        agree = got[np.arange(len(got)), theirs] == got.max(axis=1)
    error = scaled_error(got, want)
    largest = error.max(axis=1)
    median, q90, q99 = np.quantile(largest, (0.5, 0.9, 0.99))
    result = Verification(
        reference,
        samples=len(want),
        label_agreement=float(agree.mean()),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        error_quantiles=(float(median), float(q90), float(q99)),
        source_accuracy=None if labels is None else float((theirs == labels).mean()),
        accuracy=None if labels is None else float((ours == labels).mean()),
    )
    allowed = bool(error.max() <= tolerance)  # not for NaN
    told = ""
    if exact is not None:
        _check_translation(reference, want, exact, tolerance)
        mine, other = exact.errors(got), exact.errors(want)
        result = replace(
            result,
            evaluated=len(exact.chosen),
            exact_error=float(mine.max()),
            reference_error=float(other.max()),
            attainable_error=float(exact.attainable.max()),
        )
        told = (
            f"; against float64 it is off by {result.exact_error:.2g}, {reference} by "
            f"{result.reference_error:.2g}, and float32 can attain {result.attainable_error:.2g}"
        )
        limit = np.maximum(exact.attainable, other)
        allowed = allowed or (factor > 0 and not beyond(mine, limit, factor, tolerance))
    if not allowed:
        worst = int(np.nan_to_num(largest, nan=np.inf).argmax())
        raise VerificationError(
            f"the compiled model differs from {reference} by {result.max_error:.3g} on sample "
            f"{worst} of {len(want)}, more than the tolerance {tolerance:.3g}; labels agree on "
            f"{result.label_agreement:.2%}{told}; a greater --tolerance accepts it"
        )
    return result


def _labels(outputs: NDArray[np.float64], binary: bool) -> NDArray[Any]:
    """Return the labels of outputs (N, ...): (N,), of sequences (N, steps, classes) (N, steps)."""
    if outputs.ndim == 3:
        return np.asarray(outputs.argmax(axis=2))
    flat = outputs.reshape(len(outputs), -1)
    return np.asarray(flat[:, 0] > 0.5 if binary else flat.argmax(axis=1))

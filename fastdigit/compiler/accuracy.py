"""How near to a network itself its runtimes come, and how near float32 can come.

A source and its compiled model are both right if each is as near to the network, evaluated in
float64, as float32 allows; how far they are from one another says less, for that depends on how big
the sums are that the network makes of its inputs. What float32 allows is measured, not bounded: see
:mod:`fastdigit.compiler.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.evaluate import evaluate, multiply_adds
from fastdigit.compiler.ir import Graph

__all__ = ["QUANTILES", "Exact", "Network", "beyond", "choose_images", "scaled_error"]

F64 = NDArray[np.float64]

#: Multiply-adds in float64 that verifying may cost: images beyond are not evaluated.
WORK = 1 << 27
FEWEST = 3
#: Ways to add in which float32 is tried, as an order and a number of chains: blocks of a BLAS, also
#: of terms at random; one chain, and four that are interleaved, as engines for small networks add.
ORDERS = ((0, 0), (2, 0), (0, 1), (0, 4))
#: Of the largest error of each image: what is compared.
QUANTILES = (0.5, 0.9, 1.0)
#: Half the distance between float32 numbers around 1: what rounding a result alone costs.
ROUNDING = 2.0**-24


@dataclass(frozen=True, eq=False)
class Exact:
    """What an output of a network is for some images.

    Parameters
    ----------
    chosen
        Which images (n,).
    values
        In float64 (n, elements).
    attainable
        Largest error of each image (n,), as :func:`scaled_error` has it, of the same network in
        float32; infinite where float32 overflows.
    """

    chosen: NDArray[np.intp]
    values: F64
    attainable: F64

    def errors(self, outputs: NDArray[Any]) -> F64:
        """Return the largest error of each chosen image (n,), of outputs (N, ...) for all."""
        given = outputs[self.chosen].reshape(self.values.shape)
        return _largest(scaled_error(given, self.values))


@dataclass(frozen=True, eq=False)
class Network:
    """A network as it was read from a source, and images for each of its inputs.

    Parameters
    ----------
    graph, inputs
        As for :func:`.evaluate.evaluate`.
    finish
        What is done to the outputs behind the graph.
    """

    graph: Graph
    inputs: Sequence[NDArray[Any]]
    finish: Callable[[list[NDArray[Any]]], list[NDArray[Any]]] = lambda outputs: outputs

    def exact(self, differences: F64 | None = None) -> list[Exact]:
        """Evaluate some of the images, among them those of the greatest ``differences`` (N,)."""
        if differences is None:
            differences = np.zeros(len(self.inputs[0]))
        chosen = choose_images(self.graph, differences)
        given = [images[chosen] for images in self.inputs]
        values = self.finish(evaluate(self.graph, given))
        tried = [self.finish(evaluate(self.graph, given, np.float32, *how)) for how in ORDERS]
        return [
            Exact(
                chosen,
                output.reshape(len(chosen), -1),
                np.maximum.reduce([_attained(found[index], output) for found in tried]),
            )
            for index, output in enumerate(values)
        ]


def _attained(found: NDArray[Any], want: NDArray[Any]) -> F64:
    errors = _largest(scaled_error(found, want))
    errors[np.isnan(errors)] = np.inf
    return errors


def choose_images(graph: Graph, differences: F64) -> NDArray[np.intp]:
    """Return which images to evaluate: as many as the work allows, from first to last, and those
    of the greatest ``differences`` (N,)."""
    count = min(len(differences), max(FEWEST, WORK // max(1, multiply_adds(graph))))
    if count == len(differences):
        return np.arange(count)
    worst = np.argsort(-np.nan_to_num(differences, nan=np.inf), kind="stable")[: max(1, count // 4)]
    spread = np.linspace(0, len(differences) - 1, count - len(worst)).astype(np.intp)
    return np.unique(np.concatenate([worst, spread]))


def scaled_error(got: NDArray[Any], want: NDArray[Any]) -> F64:
    """Return ``|got - want| / max(1, |want|)``: for probabilities, the absolute difference."""
    want = np.asarray(want, dtype=np.float64)
    return np.asarray(np.abs(got - want) / np.maximum(1.0, np.abs(want)))


def beyond(errors: F64, limit: F64, factor: float, tolerance: float) -> bool:
    """Whether errors (n,) of images are greater than ``tolerance`` and than ``factor`` times those
    of ``limit``: their median, those of nine in ten, or the greatest."""
    if not (np.isfinite(errors).all() and np.isfinite(limit).all()):
        return not bool((errors <= tolerance).all())  # also for NaN
    found, most = np.quantile(errors, QUANTILES), np.quantile(limit, QUANTILES)
    allowed = np.maximum(factor * np.maximum(most, ROUNDING), tolerance)
    return not bool((found <= allowed).all())


def _largest(error: F64) -> F64:
    return np.asarray(error.reshape(len(error), -1).max(axis=1))

"""A model of Keras in memory, read as its file would be: its configuration and its weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.common import Imported
from fastdigit.compiler.frontends.keras.configs import major_version, read_config
from fastdigit.compiler.frontends.keras.network import Layer, Network
from fastdigit.compiler.frontends.keras.weights import Variable, named, with_weights
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.ir import Array
from fastdigit.errors import UnsupportedError, VerificationError

__all__ = ["is_keras", "live_runner", "read_live"]

#: Packages whose models are read.
PACKAGES = ("keras", "tf_keras")


def _package(model: Any) -> str | None:
    roots = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    return next((root for root in roots if root in PACKAGES), None)


def is_keras(model: Any) -> bool:
    """Whether a model is one of Keras, without importing Keras."""
    return _package(model) is not None


def _version(model: Any) -> str:
    package = sys.modules[str(_package(model))]
    return str(getattr(package, "__version__", ""))


def read_live(model: Any) -> Network:
    """Return the network of a model in memory.

    Raises
    ------
    UnsupportedError
        If it is no Sequential or functional model, or not built.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "layers", None):
        raise UnsupportedError(
            f"expected a built Sequential or functional Keras model, got {type(model).__name__}; "
            "give its first layer an input shape, or call it once"
        )
    try:
        config = json.loads(model.to_json())
    except (NotImplementedError, TypeError, ValueError) as error:
        own = [type(layer).__name__ for layer in model.layers if not _is_own_class(layer)]
        raise UnsupportedError(
            f"Keras cannot write down the model {model.name!r}, which has layers of the classes "
            f"{', '.join(own) or 'of Keras'}: {str(error).splitlines()[0] if str(error) else error}"
        ) from error
    version = major_version(_version(model), config)
    return with_weights(read_config(config, version, str(model.name)), _Live(model))


def _is_own_class(layer: Any) -> bool:
    return type(layer).__module__.split(".")[0] in PACKAGES


def live_runner(model: Any, network: Network, imported: Imported) -> tuple[str, Runner]:
    """Return what runs a model: Keras itself.

    Raises
    ------
    VerificationError
        If Keras cannot run it here, or computes in half precision.
    """
    half = _half_precision(json.loads(model.to_json()))
    if half is not None:
        raise VerificationError(f"Keras computes it in {half}")
    names = [port.name for port in imported.inputs]

    def run(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        count = len(inputs[0])
        given = [
            inputs[names.index(each.name)]
            if each.name in names  # of the others, nothing depends
            else np.zeros((count, *(size or 1 for size in each.shape or ())), np.float32)
            for each in network.inputs
        ]
        try:
            found = model.predict(given if len(given) > 1 else given[0], verbose=0)
        except Exception as error:  # of its backend, such as a layout for which that has no kernels
            reason = " ".join(str(error).split())[:200]
            raise VerificationError(
                f"Keras cannot run the model, so the result cannot be verified: {reason}"
            ) from error
        if isinstance(found, dict):
            found = [found[name] for name in network.output_names]
        results = list(found) if isinstance(found, list | tuple) else [found]
        by_name = dict(zip(network.output_names, results, strict=True))
        return [np.asarray(by_name[port.name]) for port in imported.outputs]

    try:
        run([np.zeros((1, *port.shape), np.float32) for port in imported.inputs])
    except VerificationError as error:
        raise VerificationError("Keras cannot run it here") from error
    return f"{_package(model)} {_version(model)}", run


def _half_precision(config: Any) -> str | None:
    """Return the type of less than 32 bits that a layer of a configuration computes in."""
    if isinstance(config, list):
        return next(filter(None, map(_half_precision, config)), None)
    if not isinstance(config, dict):
        return None
    policy = config.get("dtype")
    if isinstance(policy, dict):
        policy = policy.get("config")
        policy = policy.get("name") if isinstance(policy, dict) else None
    if isinstance(policy, str) and policy.endswith("float16"):
        return policy.removeprefix("mixed_")
    return next(filter(None, map(_half_precision, config.values())), None)


class _Live:
    """The weights of a layer in memory, and of those within it."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def enter(self, _network: Network) -> _Live:
        return self

    def within(self, layer: Layer) -> _Live:
        found = {each.name: each for each in self.layer.layers}
        return _Live(found.get(layer.name))

    def wrapped(self, layer: Layer, index: int) -> _Live:
        names = ("forward_layer", "backward_layer") if len(layer.layers) == 2 else ("layer",)
        return _Live(getattr(self.layer, names[index]))

    def variables(self, layer: Layer) -> dict[str, Array]:
        return named(layer, [_variable(weight) for weight in self.layer.weights])


def _variable(weight: Any) -> Variable:
    def read() -> Array:
        found = np.asarray(weight.numpy())
        return found if found.dtype == np.float64 else found.astype(np.float32)

    return Variable(str(weight.name), read)

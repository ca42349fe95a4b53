"""Gives the layers of a network their weights, found by name, else in order.

What holds the weights is a :class:`Store`: the legacy layout of HDF5 (a group for each layer, with
the names of its variables in order), or that of Keras 3 (a path for each object, variables by
number).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fastdigit.compiler.frontends.keras.keras1 import modern_weights
from fastdigit.compiler.frontends.keras.kinds import KINDS
from fastdigit.compiler.frontends.keras.network import Call, Layer, Network, describe
from fastdigit.compiler.ir import Array
from fastdigit.errors import ModelFormatError

__all__ = ["Legacy", "Numbered", "Store", "Variable", "expected_weights", "named", "with_weights"]


@dataclass(frozen=True)
class Variable:
    """An array that is read when it is asked for, and its full name, "conv2d/kernel:0"."""

    name: str
    read: Callable[[], Array]

    @property
    def path(self) -> list[str]:
        return self.name.partition(":")[0].split("/")


class Store(Protocol):
    """Where weights lie."""

    def within(self, layer: Layer) -> Store:
        """Return what belongs to a layer of a model."""

    def enter(self, network: Network) -> Store:
        """Prepare for the layers of a network."""

    def wrapped(self, layer: Layer, index: int) -> Store:
        """Return what belongs to a layer that ``layer`` wraps."""

    def variables(self, layer: Layer) -> dict[str, Array]:
        """Return the variables of a layer that has no others within."""


def with_weights(network: Network, store: Store) -> Network:
    """Return a network whose layers have their weights.

    Raises
    ------
    ModelFormatError
        If a layer's weights are not there.
    """
    store = store.enter(network)
    done: dict[int, Layer] = {}
    calls = []
    for call in network.calls:
        if id(call.layer) not in done:
            done[id(call.layer)] = _weighted(call.layer, store.within(call.layer))
        calls.append(Call(done[id(call.layer)], call.index, call.operands))
    return replace(network, calls=tuple(calls))


def _weighted(layer: Layer, store: Store) -> Layer:
    if layer.network is not None:
        return replace(layer, network=with_weights(layer.network, store))
    if layer.layers:
        inner = (_weighted(each, store.wrapped(layer, i)) for i, each in enumerate(layer.layers))
        return replace(layer, layers=tuple(inner))
    options = dict(layer.options)
    if isinstance(own := options.get("activation"), Layer) and expected_weights(own):
        raise layer.refuse(f"an activation with weights, {own.kind}", "such a layer behind it")
    if not expected_weights(layer):
        return layer
    return replace(layer, weights=store.variables(layer))


def expected_weights(layer: Layer) -> list[str]:
    """Return the names of a layer's variables, in Keras' order; none for a kind not known."""
    row = KINDS.get(layer.kind)
    if row is None or not layer.options:
        return []
    if layer.kind == "Normalization" and layer.options["mean"] is not None:
        return []
    found = []
    for name in row.weights:
        name, _, option = name.partition(" ")
        if not option or layer.options[option]:
            found.append(name)
    return found


def named(layer: Layer, given: Sequence[Variable]) -> dict[str, Array]:
    """Match a layer's variables by their last names, else by their order."""
    names = expected_weights(layer)
    renamed = {**KINDS[layer.kind].renamed}
    last = [re.sub(r"_\d+$", "", variable.path[-1]) for variable in given]
    last = [renamed.get(name, name) for name in last]
    if sorted(last) == sorted(names):
        return {name: variable.read() for name, variable in zip(last, given, strict=True)}
    if len(given) != len(names):
        have = ", ".join(variable.name for variable in given) or "none"
        raise ModelFormatError(
            f"layer {describe(layer)}: the file has the weights {have:.300}; "
            f"expected {', '.join(names)}"
        )
    return {name: variable.read() for name, variable in zip(names, given, strict=True)}


# ---- a group for each layer ----


class Legacy:
    """Weights by the names of layers; ``groups`` is in the order of the file.

    Parameters
    ----------
    groups
        Variables of each layer, or of each model within.
    version
        Major version of the Keras that wrote them.
    flip
        Whether the backend turned the kernels of convolutions around, as Theano did.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[Variable]], version: int, flip: bool = False
    ) -> None:
        self.groups = groups
        self.version = version
        self.flip = flip
        #: For layers that are found by order: the group of each.
        self.order: dict[int, Sequence[Variable]] = {}

    def enter(self, network: Network) -> Legacy:
        """Match layers with groups by order, where their names do not match."""
        needing = [layer for layer in network.listed if not layer.network and _any_weights(layer)]
        if all(layer.name in self.groups or self._inside(layer) for layer in needing):
            return self
        full = [group for group in self.groups.values() if group]
        tops = [layer for layer in network.listed if _any_weights(layer)]
        if len(full) != len(tops):
            missing = [layer.name for layer in needing if layer.name not in self.groups]
            raise ModelFormatError(
                f"the file has no weights for the layers {', '.join(map(repr, missing[:5]))}, and "
                f"weights of {len(full)} layers where the network has {len(tops)}: it belongs to "
                "another network"
            )
        matched = Legacy(self.groups, self.version, self.flip)
        matched.order = {id(layer): group for layer, group in zip(tops, full, strict=True)}
        return matched

    def _inside(self, layer: Layer) -> list[Variable]:
        """The variables that have the name of a layer in their path."""
        return [
            variable
            for group in self.groups.values()
            for variable in group
            if layer.name in variable.path[:-1]
        ]

    def within(self, layer: Layer) -> Legacy:
        found = self.order.get(id(layer))
        if found is None:
            found = self.groups.get(layer.name)
        if found is None and layer.network is None:
            found = self._inside(layer)
        if found is None:
            return self  # of Keras 1, which has the layers of all models side by side
        if layer.network is None:
            return Legacy({layer.name: found}, self.version, self.flip)
        return Legacy(self._split(layer.network, found), self.version, self.flip)

    def _split(
        self, network: Network, given: Sequence[Variable]
    ) -> Mapping[str, Sequence[Variable]]:
        """Share the variables of a model out to its layers, by name, else by order."""
        layers = [layer for layer in network.listed if _any_weights(layer)]
        groups = {layer.name: [v for v in given if layer.name in v.path[:-1]] for layer in layers}
        counts = {layer.name: len(list(_names(layer))) for layer in layers}
        if all(len(groups[name]) == count for name, count in counts.items()):
            return groups
        if len(given) != sum(counts.values()):
            raise ModelFormatError(
                f"model {network.name!r}: the file has {len(given)} weights, the layers "
                f"{sum(counts.values())}"
            )
        # Keras has what is trained before what is not.
        trained = iter([v for v in given if not _is_statistic(v)])
        statistics = iter([v for v in given if _is_statistic(v)])
        return {
            layer.name: [
                next(statistics if name.startswith("moving_") else trained, given[0])
                for name in _names(layer)
            ]
            for layer in layers
        }

    def wrapped(self, layer: Layer, index: int) -> Legacy:
        (given,) = self.groups.values()
        counts = [len(list(_names(each))) for each in layer.layers]
        total, start = sum(counts), sum(counts[:index])
        if self.version == 1 and len(layer.layers) == 2:
            total, counts = len(given), [len(given) // 2] * 2
            start = counts[0] * index
        if len(given) != total and self.version > 1:
            raise ModelFormatError(
                f"layer {describe(layer)}: the file has {len(given)} weights, expected {total}"
            )
        inner = layer.layers[index]
        found = given[start : start + counts[index]]
        if inner.network is not None:
            return Legacy(self._split(inner.network, found), self.version, self.flip)
        return Legacy({inner.name: found}, self.version, self.flip)

    def variables(self, layer: Layer) -> dict[str, Array]:
        (given,) = self.groups.values()
        if self.version > 1:
            found = named(layer, given)
        else:
            layout = str(layer.options.get("data_format", "channels_last"))
            arrays = modern_weights(layer.kind, layout, [variable.read() for variable in given])
            names = expected_weights(layer)
            if len(arrays) != len(names):
                raise ModelFormatError(
                    f"layer {describe(layer)}: the file has {len(arrays)} weights, expected "
                    f"{', '.join(names)}"
                )
            found = dict(zip(names, arrays, strict=True))
        if self.flip and layer.kind in ("Conv1D", "Conv2D", "Conv2DTranspose"):
            kernel = found["kernel"]
            found["kernel"] = np.flip(kernel, axis=tuple(range(kernel.ndim - 2)))
        return found


def _is_statistic(variable: Variable) -> bool:
    return variable.path[-1].startswith(("moving_", "running_"))


def _names(layer: Layer) -> Iterator[str]:
    """The names of the variables of a layer, with those within it."""
    if layer.network is not None:
        for each in layer.network.listed:
            yield from _names(each)
    for inner in layer.layers:
        yield from _names(inner)
    yield from expected_weights(layer)


def _any_weights(layer: Layer) -> bool:
    return next(_names(layer), None) is not None


# ---- a path for each object ----


class Numbered:
    """Weights by the paths of Keras 3: ``layers/conv2d_1/vars/0``.

    Parameters
    ----------
    objects
        The variables of each path ("layers/conv2d_1"), by number.
    names
        Of the layers at paths, where the file has them.
    """

    def __init__(
        self,
        objects: Mapping[str, Mapping[int, Variable]],
        names: Mapping[str, str],
        path: str = "",
        network: Network | None = None,
    ) -> None:
        self.objects = objects
        self.names = names
        self.path = path
        self.paths = {} if network is None else self._paths(network)

    def _paths(self, network: Network) -> dict[int, str]:
        """Return the path of each layer: by its name, or as the count of its class tells."""
        found: dict[int, str] = {}
        groups = {  # of objects, and of those that objects are in
            "/".join(parts[:count])
            for parts in (place.split("/") for place in self.objects)
            for count in range(1, len(parts) + 1)
        }
        for container in ("layers", "_layer_checkpoint_dependencies"):
            prefix = f"{self.path}{container}/"
            members = {
                path: name
                for path, name in self.names.items()
                if path.startswith(prefix) and "/" not in path[len(prefix) :]
            }
            by_name = {name: path for path, name in members.items()}
            if len(by_name) == len(members):
                for layer in network.listed:
                    if layer.name in by_name:
                        found.setdefault(id(layer), by_name[layer.name])
            used: dict[str, int] = {}
            for layer in network.listed:
                base = _snake_case(layer.kind)
                count = used[base] = used.get(base, -1) + 1
                path = f"{prefix}{base}_{count}" if count else f"{prefix}{base}"
                if path in groups:
                    found.setdefault(id(layer), path)
        return found

    def enter(self, network: Network) -> Numbered:
        return Numbered(self.objects, self.names, self.path, network)

    def within(self, layer: Layer) -> Numbered:
        path = self.paths.get(id(layer), f"{self.path}layers/{layer.name}")
        return Numbered(self.objects, self.names, f"{path}/")

    def wrapped(self, layer: Layer, index: int) -> Numbered:
        names = ("forward_layer", "backward_layer") if len(layer.layers) == 2 else ("layer",)
        return Numbered(self.objects, self.names, f"{self.path}{names[index]}/")

    def variables(self, layer: Layer) -> dict[str, Array]:
        path = self.path.rstrip("/")
        own = self.objects.get(path) or self.objects.get(f"{path}/cell") or {}
        return named(layer, [own[index] for index in sorted(own)])


def _snake_case(kind: str) -> str:
    """Return how Keras 3 writes the name of a class in paths."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()

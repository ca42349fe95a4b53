"""From the configuration of a model, as any version of Keras writes it, to a :class:`Network`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.keras.keras1 import modern_class, modern_options
from fastdigit.compiler.frontends.keras.kinds import KINDS, is_ignored
from fastdigit.compiler.frontends.keras.network import (
    Call,
    Input,
    Layer,
    Network,
    Operand,
    Value,
    describe,
)
from fastdigit.compiler.frontends.keras.operations import (
    keras_operation,
    read_key,
    tensorflow_function,
    tensorflow_node,
)
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["MODELS", "major_version", "read_config"]

#: Classes of models.
MODELS = ("Sequential", "Functional", "Model")
#: Models within models, at most.
MAX_DEPTH = 16
_ALIASES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "RandomWidth": "Identity",
    "RandomHeight": "Identity",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
}
_FUNCTIONS = {"swish": "silu", "hard_swish": "hard_silu", "softmax_v2": "softmax"}
_OWN_MODULES = ("keras", "tf_keras", "tensorflow", "builtins")
_WRAPPERS = ("Bidirectional", "TimeDistributed")
#: What Keras 3 writes arrays and tensors as.
_ARRAYS = ("__numpy__", "__tensor__")


def major_version(written_by: str | None, config: Any) -> int:
    """Return the major version of the Keras that wrote a configuration.

    ``written_by`` is what the file says; without it, the configuration's own notation tells.
    """
    found = re.match(r"(\d+)\.", str(written_by or ""))
    if found:
        return int(found[1])
    text = repr(config)
    if "'batch_shape'" in text or "__keras_tensor__" in text or "'DTypePolicy'" in text:
        return 3
    return 1 if "'border_mode'" in text or "'output_dim'" in text else 2


def read_config(config: Any, version: int, name: str = "model") -> Network:
    """Return the network of a model's configuration, without weights.

    Parameters
    ----------
    config
        The JSON of the model: a mapping with "class_name" and "config".
    version
        Major version of the Keras that wrote it: functions and defaults have changed.
    name
        Of a model that does not say its own.

    Raises
    ------
    ModelFormatError
        If it is no configuration of a model.
    UnsupportedError
        If a layer has an option that is not known, or the model is one of the user's own class.
    """
    return _Reader(version).model(config, name, 0)


class _Reader:
    def __init__(self, version: int) -> None:
        self.version = version

    def model(self, entry: Any, name: str, depth: int) -> Network:
        kind, config = _class_and_config(entry)
        if depth > MAX_DEPTH:
            raise ModelFormatError(f"models within models, more than {MAX_DEPTH} deep")
        layers = config.get("layers") if isinstance(config, dict) else config
        if _is_own(entry) or kind not in MODELS or not isinstance(layers, list):
            raise UnsupportedError(
                f"the model is a {kind}; supported are Sequential and functional models, whose "
                "files say what the layers are: one that is written as a class is code. Build the "
                "same network with keras.Sequential or keras.Model(inputs, outputs)"
            )
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            name = config["name"]
        if kind == "Sequential":
            build = config.get("build_input_shape") if isinstance(config, dict) else None
            return self.sequential(name, layers, build, depth)
        return self.functional(name, config, depth)

    # ---- Sequential ----

    def sequential(self, name: str, entries: list[Any], build: Any, depth: int) -> Network:
        shape: Any = None
        layers: list[Layer] = []
        source = "input"
        for index, entry in enumerate(entries):
            kind, config = _class_and_config(entry)
            if kind == "InputLayer":
                shape, source = _input_shape(config), str(_get(config, "name") or source)
                continue
            if index == 0:
                shape = _input_shape(config) if isinstance(config, dict) else None
            layer = self.layer(entry, f"{kind.lower()}_{index}", depth)
            if not layers and shape is None and layer.network is not None:
                shape = layer.network.inputs[0].shape if len(layer.network.inputs) == 1 else None
            layers.append(layer)
        if shape is None and isinstance(build, list) and build:
            shape = _shape(build)
        if not layers:
            raise ModelFormatError(f"model {name!r} has no layers")
        names = [layer.name for layer in layers]
        if source in names:
            source = next(new for i in range(len(names) + 1) if (new := f"input_{i}") not in names)
        if len(set(names)) != len(names):
            raise ModelFormatError(f"model {name!r} has two layers of one name")
        calls, value = [], (source, 0, 0)
        for layer in layers:
            calls.append(Call(layer, 0, (value,)))
            value = (layer.name, 0, 0)
        given = Input(source, shape)
        return Network(name, (given,), tuple(calls), (value,), (value[0],), tuple(layers))

    # ---- functional ----

    def functional(self, name: str, config: Mapping[str, Any], depth: int) -> Network:
        layers: dict[str, Layer] = {}
        inputs: dict[str, Input] = {}
        nodes: dict[str, list[Any]] = {}
        for index, entry in enumerate(config["layers"]):
            kind, options = _class_and_config(entry)
            own = str(entry.get("name") or _get(options, "name") or f"layer_{index}")
            if own in layers or own in inputs:
                raise ModelFormatError(f"model {name!r} has two layers {own!r}")
            if kind == "InputLayer":
                inputs[own] = Input(own, _input_shape(options))
                continue
            nodes[own] = _list(entry.get("inbound_nodes"), f"inbound_nodes of {own!r}")
            layers[own] = self.layer(entry, own, depth, nodes[own])
        known = {*layers, *inputs}
        sources = list(_references(config.get("input_layers"), known))
        outputs = list(_references(config.get("output_layers"), known))
        if not outputs or not sources or any(source not in inputs for source, _, _ in sources):
            raise ModelFormatError(f"model {name!r} does not say its inputs and outputs")
        calls: dict[tuple[str, int], Call] = {}
        for own, layer in layers.items():
            for index, node in enumerate(nodes[own]):
                calls[own, index] = self.call(layer, index, node, known)
        first = _first_calls(calls, outputs)
        calls = {
            (own, index): Call(call.layer, index, tuple(_shifted(o, first) for o in call.operands))
            for (own, index), call in calls.items()
        }
        outputs = [_shifted(value, first) for value in outputs]
        given = tuple(inputs[source] for source, _, _ in sources)
        ordered = _in_order(name, calls, outputs, given)
        names = _output_names(config["output_layers"], outputs)
        listed = tuple(layers.values())
        return Network(name, given, ordered, tuple(outputs), names, listed)

    def call(self, layer: Layer, index: int, node: Any, known: set[str]) -> Call:
        """Read one entry of inbound_nodes."""
        if isinstance(node, Mapping):
            operands = list(_keras3_operands(node.get("args"), layer))
            arguments = dict(node.get("kwargs") or {})
        else:
            operands, arguments = _keras2_operands(node, known, layer)
        if layer.kind in ("TFOpLambda", "TensorFlowOpLayer"):
            return Call(*self.tensorflow(layer, index, operands, arguments, known))
        if layer.kind in ("ops.GetItem", "SlicingOpLambda"):
            key = arguments.get("slice_spec", arguments.get("key"))
            if isinstance(node, Mapping) and len(args := _list(node.get("args"), "args")) > 1:
                key = args[1]
            values = [operand for operand in operands if isinstance(operand, tuple)]
            key = read_key(layer, key)
            return Call(self.known("ops.GetItem", layer.name, {"key": key}), index, tuple(values))
        for key, value in list(arguments.items()):
            found = list(_keras3_operands(value, layer)) if isinstance(node, Mapping) else []
            if key in ("inputs", "x", "x1", "x2", "xs", "values") and found:
                operands += found  # the call named its arguments
                del arguments[key]
        if isinstance(node, Mapping):
            # Keras 3 records the default of augmentation, True, and predicts with False.
            arguments.pop("training", None)
        for key, value in arguments.items():
            if value is not None and value is not False:
                raise layer.refuse(f"called with {key}={value!r:.80}", "a call without")
        if layer.kind.partition(".")[0] not in ("ops", "activations"):
            operands = [operand for operand in operands if isinstance(operand, tuple)]
        return Call(layer, index, tuple(operands))

    def tensorflow(
        self, layer: Layer, index: int, operands: list[Operand], arguments: Any, known: set[str]
    ) -> tuple[Layer, int, tuple[Operand, ...]]:
        """Return layer, index and operands of a call of a function of TensorFlow."""
        if layer.kind == "TFOpLambda":
            kind, found, options = tensorflow_function(
                str(layer.options["function"]), list(operands), arguments
            )
        else:
            kind, found, options = tensorflow_node(
                layer.options["node_def"], layer.options["constants"] or {}, list(operands)
            )
        values = [
            operand
            if isinstance(operand, np.ndarray | tuple)
            else next(iter(_references(operand, known)), None) or _constant(operand, layer)
            for operand in found
        ]
        operation = self.known(kind, layer.name, options)
        return operation, index, tuple(values)

    # ---- layers ----

    def layer(self, entry: Any, name: str, depth: int, nodes: list[Any] | None = None) -> Layer:
        """Read a layer; a user's own is left for the importer to refuse."""
        build = entry.get("build_config") if isinstance(entry, Mapping) else None
        shape = _get(build, "input_shape")
        known = isinstance(shape, list) and all(isinstance(size, int) for size in shape[1:])
        layer = self._layer(entry, name, depth, nodes)
        return replace(layer, input_shape=tuple(shape[1:])) if known and len(shape) > 1 else layer

    def _layer(self, entry: Any, name: str, depth: int, nodes: list[Any] | None) -> Layer:
        kind, config = _class_and_config(entry)
        if isinstance(config, Mapping) and isinstance(config.get("name"), str):
            name = config["name"] if nodes is None else name
        if _is_own(entry):
            return Layer(f"{_own_package(entry)}>{kind.rpartition('>')[2]}", name, {})
        if kind in MODELS:
            network = self.model(entry, name, depth + 1)
            return Layer(kind, name, {}, network=network)
        if not isinstance(config, Mapping):
            raise ModelFormatError(f"layer {name!r} ({kind}): its config is no mapping")
        config = dict(config)
        if self.is_operation(entry, config):
            config.pop("name", None)
            if kind == "Gelu":
                config.setdefault("approximate", True)
            return self.known(keras_operation(kind), name, config)
        if kind == "TFOpLambda":
            return Layer(kind, name, {"function": config.get("function")})
        if kind == "TensorFlowOpLayer":
            return Layer(
                kind,
                name,
                {"node_def": config.get("node_def"), "constants": config.get("constants")},
            )
        wrapped: tuple[Layer, ...] = ()
        if kind in _WRAPPERS:
            wrapped = self.wrapped(kind, name, config, depth)
        options = modern_options(kind, config)
        kind = modern_class(_ALIASES.get(kind, kind), config)
        return self.known(kind, name, options, wrapped)

    def is_operation(self, entry: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
        """Whether an entry is an operation of Keras 3, which may have the name of a layer."""
        if isinstance(module := entry.get("module"), str):
            return ".ops" in module
        return self.version >= 3 and "inbound_nodes" in entry and "trainable" not in config

    def wrapped(
        self, kind: str, name: str, config: dict[str, Any], depth: int
    ) -> tuple[Layer, ...]:
        """Take the layers that a wrapper has out of its config: of Bidirectional, forward first."""
        inner = config.pop("layer", None)
        if inner is None:
            raise ModelFormatError(f"layer {name!r} ({kind}) has no layer")
        first = self.layer(inner, name, depth + 1)
        if kind == "TimeDistributed":
            return (first,)
        if (given := config.pop("backward_layer", None)) is not None:
            return first, self.layer(given, name, depth + 1)
        reverse = {**first.options, "go_backwards": not first.options.get("go_backwards", False)}
        return first, Layer(first.kind, first.name, reverse)

    def known(
        self, kind: str, name: str, config: Mapping[str, Any], wrapped: tuple[Layer, ...] = ()
    ) -> Layer:
        """Return a layer with every option that its kind has."""
        row = KINDS.get(kind)
        if row is None:
            return Layer(kind, name, {}, layers=wrapped)
        if row.options is None:
            return Layer(kind, name, {})
        layer = Layer(kind, name, {})
        options = dict(row.options)
        for key, value in config.items():
            key = row.renamed.get(key, key)
            if key in options:
                options[key] = _plain(value)
            elif key in row.fixed:
                if value != row.fixed[key] and value is not None:
                    raise layer.refuse(f"{key}={value!r:.80}", repr(row.fixed[key]))
            elif not is_ignored(key) and value is not None and value is not False:
                raise layer.refuse(f"{key}={value!r:.80}, an option that is not known", "none")
        for key in ("activation", "recurrent_activation"):
            if key in options:
                options[key] = self.activation(options[key], name, kind)
        if kind == "activations.hard_sigmoid" and self.version < 3:
            options["slope"] = 0.2
        if kind == "ReLU" and options["negative_slope"] is None:
            options["negative_slope"] = 0.0
        return Layer(kind, name, options, layers=wrapped)

    def activation(self, given: Any, name: str, kind: str) -> Layer | None:
        """Read the ``activation=`` of a layer; None if it does nothing."""
        if given is None or given == "linear":
            return None
        if isinstance(given, Mapping):
            inner, config = given.get("class_name"), given.get("config")
            if inner == "function" and isinstance(config, str):
                given = config if not _is_own(given) else f"{given.get('registered_name')}"
            elif isinstance(config, Mapping) and inner not in (
                None,
                "__lambda__",
                "lambda",
                "function",
            ):
                layer = self.layer(given, name, 0)
                return Layer(layer.kind, name, layer.options, layer.weights, layer.layers)
            else:
                given = "a function of Python"
        if not isinstance(given, str):
            raise ModelFormatError(f"layer {name!r} ({kind}): activation is {given!r:.80}")
        if given in KINDS:
            return self.known(given, name, {})
        given = _FUNCTIONS.get(given, given)
        return None if given == "linear" else self.known(f"activations.{given}", name, {})


# ---- entries ----


def _class_and_config(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
        raise ModelFormatError(
            f"expected the configuration of a Keras model or layer, got {entry!r:.80}"
        )
    return entry["class_name"], entry.get("config", {})


def _own_package(entry: Mapping[str, Any]) -> str:
    name = entry.get("registered_name") or entry["class_name"]
    return str(name).rpartition(">")[0] or str(entry.get("module") or "Custom")


def _is_own(entry: Mapping[str, Any]) -> bool:
    """Whether the class of a layer is not Keras' own, whatever it is called."""
    if ">" in entry["class_name"]:
        return True
    if "module" not in entry:
        return False
    module = entry["module"]
    if module is None:
        return bool(entry.get("registered_name"))
    return str(module).split(".")[0] not in _OWN_MODULES


def _plain(value: Any) -> Any:
    """Return what Keras 3 has written for an array as nested lists, and all else as it is."""
    if _get(value, "class_name") in _ARRAYS:
        return _get(value["config"], "value")
    return value


def _get(options: Any, key: str) -> Any:
    return options.get(key) if isinstance(options, Mapping) else None


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFormatError(f"{what}: expected a list, got {value!r:.80}")
    return value


def _input_shape(config: Any) -> tuple[int | None, ...] | None:
    """Return the shape of an image that a layer's options say, None if they do not."""
    for key in ("batch_shape", "batch_input_shape"):
        if _get(config, key) is not None:
            return _shape(config[key])
    return None


def _shape(given: Any) -> tuple[int | None, ...]:
    valid = isinstance(given, list | tuple) and all(
        size is None or (isinstance(size, int) and size >= 1) for size in given
    )
    if not valid or not given:
        raise ModelFormatError(f"the input has shape {given!r:.80}, expected a list of sizes")
    return tuple(given[1:])


def _output_names(given: Any, outputs: list[Value]) -> tuple[str, ...]:
    """Return the keys of outputs that are a mapping; else the names of their layers, each once."""
    names = [value[0] for value in outputs]
    if isinstance(given, Mapping) and len(given) == len(outputs):
        names = [str(key) for key in given]
    found: list[str] = []
    for name in names:
        count = 1
        unique = name
        while unique in found:
            unique, count = f"{name}_{count}", count + 1
        found.append(unique)
    return tuple(found)


# ---- operands ----


def _is_reference(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) in (3, 4)
        and isinstance(given[0], str)
        and all(isinstance(index, int) for index in given[1:3])
    )


def _references(given: Any, known: set[str]) -> Iterator[Value]:
    """Find [layer, call, result] in nested lists or mappings."""
    if _is_reference(given) and given[0] in known:
        yield given[0], given[1], given[2]
    elif isinstance(given, list | Mapping):
        for each in given.values() if isinstance(given, Mapping) else given:
            yield from _references(each, known)


def _keras2_operands(
    node: Any, known: set[str], layer: Layer
) -> tuple[list[Operand], dict[str, Any]]:
    """Read [[layer, call, result, arguments], ...], or one of these alone."""
    operands: list[Operand] = []
    arguments: dict[str, Any] = {}

    def visit(given: Any) -> None:
        if isinstance(given, list) and len(given) == 4 and given[0] == "_CONSTANT_VALUE":
            operands.append(_constant(given[2], layer))
        elif _is_reference(given):
            if given[0] not in known:
                raise ModelFormatError(f"layer {describe(layer)} reads {given[0]!r}, which is none")
            operands.append((given[0], given[1], given[2]))
        elif isinstance(given, list):
            for each in given:
                visit(each)
            return
        else:
            raise ModelFormatError(f"layer {describe(layer)}: inbound_nodes has {given!r:.80}")
        if len(given) == 4 and isinstance(given[3], Mapping):
            arguments.update(given[3])

    visit(node)
    return operands, arguments


def _keras3_operands(given: Any, layer: Layer) -> Iterator[Operand]:
    """Find the tensors and constants in the arguments of a call."""
    if isinstance(given, Mapping):
        config = given.get("config")
        if given.get("class_name") == "__keras_tensor__":
            history = _get(config, "keras_history")
            if not _is_reference(history):
                raise ModelFormatError(f"layer {describe(layer)}: keras_history is {history!r:.80}")
            yield history[0], history[1], history[2]
        elif given.get("class_name") in _ARRAYS:
            yield _constant(_get(config, "value"), layer)
        elif "class_name" not in given:
            for each in given.values():
                yield from _keras3_operands(each, layer)
    elif isinstance(given, list):
        if given and all(isinstance(each, int | float) for each in given):
            yield _constant(given, layer)
        else:
            for each in given:
                yield from _keras3_operands(each, layer)
    elif isinstance(given, int | float) and not isinstance(given, bool):
        yield _constant(given, layer)


def _constant(given: Any, layer: Layer) -> Operand:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelFormatError(
            f"layer {describe(layer)}: an operand is {given!r:.80}, expected numbers"
        ) from None


# ---- order ----


def _first_calls(calls: Mapping[tuple[str, int], Call], outputs: list[Value]) -> dict[str, int]:
    """Return, for layers whose calls are not counted from 0, the number of the first.

    A model within a model has a call of its own before those that the file has.
    """
    counts: dict[str, int] = {}
    for name, _ in calls:
        counts[name] = counts.get(name, 0) + 1
    last: dict[str, int] = {}
    for value in [*outputs, *(value for call in calls.values() for value in call.values)]:
        last[value[0]] = max(last.get(value[0], 0), value[1])
    return {name: max(last[name] - counts[name] + 1, 0) for name in last if name in counts}


def _shifted(operand: Any, first: Mapping[str, int]) -> Any:
    if not isinstance(operand, tuple):
        return operand
    name, index, result = operand
    return name, index - first.get(name, 0), result


def _in_order(
    model: str,
    calls: Mapping[tuple[str, int], Call],
    outputs: list[Value],
    inputs: tuple[Input, ...],
) -> tuple[Call, ...]:
    """Return the calls that the outputs need, each behind those that it reads."""
    done = {given.value[:2] for given in inputs}
    ordered: list[Call] = []
    waiting_for: set[tuple[str, int]] = set()
    # Depth first, without recursion: a network may be deeper than Python's stack.
    stack = [value[:2] for value in reversed(outputs)]
    while stack:
        key = stack[-1]
        if key in done:
            stack.pop()
            continue
        if key not in calls:
            raise ModelFormatError(
                f"model {model!r}: nothing writes the value {key[0]!r}, {key[1]}"
            )
        missing = [value[:2] for value in calls[key].values if value[:2] not in done]
        if missing:
            if key in waiting_for:
                raise ModelFormatError(f"model {model!r}: layer {key[0]!r} reads its own result")
            waiting_for.add(key)
            stack += reversed(missing)  # the first operand first
            continue
        stack.pop()
        done.add(key)
        ordered.append(calls[key])
    return tuple(ordered)

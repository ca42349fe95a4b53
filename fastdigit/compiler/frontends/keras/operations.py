"""Functions that were applied to values without a layer: by operators, and by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastdigit.compiler.frontends.keras.network import Layer

__all__ = ["ELLIPSIS", "keras_operation", "read_key", "tensorflow_function", "tensorflow_node"]

#: In the key of a slicing, stands for all axes that nothing is said of.
ELLIPSIS: Final = "..."

_UNARY = {
    "abs": "ops.Absolute",
    "absolute": "ops.Absolute",
    "elu": "activations.elu",
    "exp": "activations.exponential",
    "gelu": "activations.gelu",
    "hard_sigmoid": "activations.hard_sigmoid",
    "hard_silu": "activations.hard_silu",
    "hard_swish": "activations.hard_silu",
    "identity": "ops.Identity",
    "leaky_relu": "activations.leaky_relu",
    "log": "ops.Log",
    "log_softmax": "activations.log_softmax",
    "negative": "ops.Negative",
    "relu": "activations.relu",
    "relu6": "activations.relu6",
    "selu": "activations.selu",
    "sigmoid": "activations.sigmoid",
    "silu": "activations.silu",
    "softmax": "activations.softmax",
    "softplus": "activations.softplus",
    "softsign": "activations.softsign",
    "sqrt": "ops.Sqrt",
    "square": "ops.Square",
    "stop_gradient": "ops.Identity",
    "swish": "activations.silu",
    "tanh": "activations.tanh",
}
_BINARY = {
    "add": "ops.Add",
    "divide": "ops.Divide",
    "maximum": "ops.Maximum",
    "minimum": "ops.Minimum",
    "multiply": "ops.Multiply",
    "subtract": "ops.Subtract",
    "truediv": "ops.Divide",
    "sub": "ops.Subtract",
    "mul": "ops.Multiply",
}
_OTHER = {
    "cast": "ops.Cast",
    "clip_by_value": "ops.Clip",
    "concat": "ops.Concatenate",
    "expand_dims": "ops.ExpandDims",
    "reduce_max": "ops.Max",
    "reduce_mean": "ops.Mean",
    "reduce_sum": "ops.Sum",
    "reshape": "ops.Reshape",
    "squeeze": "ops.Squeeze",
    "transpose": "ops.Transpose",
}
#: Arguments of TensorFlow's functions, by what Keras calls the same.
_ARGUMENTS = {
    "clip_value_max": "x_max",
    "clip_value_min": "x_min",
    "alpha": "negative_slope",
    "perm": "axes",
    "shape": "newshape",
}
#: Names of arguments that are values.
_OPERANDS = frozenset({"x", "y", "features", "logits", "input", "tensor", "input_tensor"})
_NODES = {
    "Add": "add",
    "AddV2": "add",
    "Elu": "elu",
    "Exp": "exp",
    "Identity": "identity",
    "LeakyRelu": "leaky_relu",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Mul": "multiply",
    "Neg": "negative",
    "RealDiv": "divide",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Square": "square",
    "Sub": "subtract",
    "Tanh": "tanh",
}


def keras_operation(name: str) -> str:
    """Return the kind of an operation of Keras 3, by its class."""
    snake = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)[1:]
    special = {"true_divide": "truediv", "stop_gradient": "identity", "relu6": "relu6"}
    return {**_UNARY, **_BINARY}.get(special.get(snake, snake), f"ops.{name}")


def tensorflow_function(
    name: str, operands: list[Any], arguments: Mapping[str, Any]
) -> tuple[str, list[Any], dict[str, Any]]:
    """Return kind, operands and options of a call of a function of TensorFlow.

    ``name`` is as TFOpLambda writes it, without "tf.": "math.add", "nn.relu".
    """
    short = name.rpartition(".")[2]
    known = {**_UNARY, **_BINARY, **_OTHER}
    ours = name.split(".")[0] in ("math", "nn", "__operators__") or "." not in name
    kind = known.get(short, f"tf.{name}") if ours else f"tf.{name}"
    values, options = list(operands), {}
    for key, value in arguments.items():
        named = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
        if key in _OPERANDS and (kind in _BINARY.values() or named):
            values.append(value)
        elif key != "name":
            options[_ARGUMENTS.get(key, key)] = value
    if short in ("silu", "swish") and options.get("beta") == 1.0:
        del options["beta"]
    return kind, values, options


def tensorflow_node(
    definition: Any, constants: Mapping[str, Any], operands: list[Any]
) -> tuple[str, list[Any], dict[str, Any]]:
    """Return kind, operands and options of a TensorFlowOpLayer, of TensorFlow 1.13 to 2.3.

    ``constants`` has operands of the node by their index; ``operands`` are the others.
    """
    if isinstance(definition, str):
        try:
            definition = json.loads(definition)
        except ValueError:
            definition = {}
    definition = definition if isinstance(definition, Mapping) else {}
    op, values = str(definition.get("op")), list(operands)
    for index, constant in sorted((int(key), value) for key, value in constants.items()):
        values.insert(index, constant)
    known = {**_UNARY, **_BINARY}
    kind = known[_NODES[op]] if op in _NODES else f"tf.{op}"
    options = {}
    if op == "LeakyRelu":
        options["negative_slope"] = definition.get("attr", {}).get("alpha", {}).get("f")
    return kind, values, options


def read_key(layer: Layer, given: Any) -> list[Any]:
    """Return the key of ``x[...]`` as Keras 3 (GetItem) and tf.keras (SlicingOpLambda) write it.

    Returns
    -------
    list
        For each axis an integer, [start, stop, step], None (a new one), or ELLIPSIS.

    Raises
    ------
    UnsupportedError
        If it has anything else, such as a value of the network.
    """
    key: list[Any] = []
    for entry in given if isinstance(given, list) else [given]:
        kind = entry.get("class_name") if isinstance(entry, Mapping) else entry
        if kind in ("__ellipsis__", "Ellipsis"):
            key.append(ELLIPSIS)
            continue
        parts = [entry]
        if isinstance(entry, Mapping):
            config = entry.get("config") if kind == "__slice__" else entry
            if isinstance(config, Mapping):
                parts = [config.get(name, entry) for name in ("start", "stop", "step")]
        # A list is no slice: it picks one by one.
        if any(part is not None and type(part) is not int for part in parts):
            raise layer.refuse(f"x[{entry!r:.80}]", "constant integers and slices of them")
        key.append(parts if len(parts) > 1 else entry)
    return key

"""From a Keras 3 model (Sequential or functional, with one input and one output) to the IR.

A layer is a function in one of the files by family here, marked with
:func:`~fastdigit.compiler.frontends.keras.registry.converts`, or with
:func:`~fastdigit.compiler.frontends.keras.registry.joins` if it has several inputs.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import (
    DEFAULTS,
    GraphBuilder,
    Imported,
    ImportOptions,
    Port,
    not_supported,
)
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.keras.joins import convert_operation
from fastdigit.compiler.frontends.keras.layers import describe, qualified_class
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, JOINS, supported_layers
from fastdigit.compiler.frontends.runners import Runner, onnx_runtime
from fastdigit.compiler.ir import Shape
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError, pip_install

__all__ = ["FRONT_END", "SUPPORTED_LAYERS", "import_keras", "load_keras"]

# Each file of this folder registers its converters.
for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

#: Names of the Keras layers that :func:`import_keras` reads.
SUPPORTED_LAYERS = ("InputLayer", *supported_layers())


def load_keras(path: Path) -> Any:
    """Return the Keras model in a ``.keras`` or ``.h5`` file.

    Raises
    ------
    MissingExtraError
        If Keras is not installed.
    ModelFormatError
        If Keras cannot read the file. Files that contain code (Lambda layers) are not executed.
    """
    keras = _import_keras()
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its readers raise
        raise ModelFormatError(f"{path.name}: Keras cannot load this file: {error}") from error


def import_keras(model: Any, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a Keras model.

    Raises
    ------
    UnsupportedError
        Naming the layer and what is supported.
    """
    keras = _import_keras()
    if not isinstance(model, keras.Sequential | keras.Model) or not getattr(model, "inputs", None):
        raise UnsupportedError(
            f"expected a built Sequential or functional Keras model, got {type(model).__name__}; "
            "give its first layer an input shape, or call it once"
        )
    source_shape = _input_shape(model)
    builder = GraphBuilder()
    value = _convert_model(model, builder, builder.input("input", source_shape))
    graph = builder.build(value)
    source, result = Port("input", source_shape), Port("output", graph.shapes[value])
    return Imported(graph, "keras", str(model.name), (source,), (result,))


def _import_keras() -> Any:
    try:
        import keras
    except ImportError as error:
        raise MissingExtraError(
            f"reading a Keras model needs Keras: {pip_install('export')}"
        ) from error
    return keras


def _input_shape(model: Any) -> Shape:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedError(
            f"model {model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} "
            "outputs; supported is one of each"
        )
    shape = tuple(model.inputs[0].shape)
    if None in shape[1:] or not 2 <= len(shape) <= 4:
        raise UnsupportedError(
            f"model {model.name!r} takes inputs of shape {shape}; "
            "supported are 1 to 3 fixed dimensions behind the batch"
        )
    return shape[1:]


def _convert_model(model: Any, builder: GraphBuilder, source: str) -> str:
    """Add the layers of a model that reads value ``source``; return the value of its output."""
    import keras

    values = {id(model.inputs[0]): source}
    # Depth first, without recursion: a network may be deeper than Python's stack.
    stack = [model.outputs[0]]
    while stack:
        tensor = stack[-1]
        if id(tensor) in values:
            stack.pop()
            continue
        layer, index, _ = tensor._keras_history
        node = layer._inbound_nodes[index]
        if waiting := [given for given in node.input_tensors if id(given) not in values]:
            stack += reversed(waiting)  # the first operand first
            continue
        inputs = [values[id(given)] for given in node.input_tensors]
        shape = tuple(tensor.shape[1:])
        try:
            if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
                _input_shape(layer)
                value = _convert_model(layer, builder, inputs[0])
            else:
                value = _convert_layer(builder, layer, node, inputs, shape)
        except UnsupportedError as error:
            value = builder.stand_in(layer.name, error, None if None in shape else shape)
        values[id(tensor)] = value
    return values[id(model.outputs[0])]


def _convert_layer(
    builder: GraphBuilder, layer: Any, node: Any, inputs: list[str], shape_out: Shape
) -> str:
    import keras

    kind = qualified_class(layer)
    name = describe(layer)
    if not isinstance(layer, keras.layers.Layer):
        return convert_operation(builder, layer, node, dict(_pairs(node, inputs)))
    if kind in JOINS:
        return JOINS[kind](builder, layer, inputs)
    convert = CONVERTERS.get(kind)
    if convert is None or len(inputs) != 1:
        raise not_supported(f"layer {name}", kind)
    value = inputs[0]
    for op in convert(layer, builder.shapes[value], shape_out):
        value = builder.add(name, op, value)
    return value


def _pairs(node: Any, inputs: list[str]) -> list[tuple[int, str]]:
    return [(id(given), value) for given, value in zip(node.input_tensors, inputs, strict=True)]


def _is_keras(model: Any) -> bool:
    return "keras" in {kind.__module__.split(".")[0] for kind in type(model).__mro__}


def _runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    """ONNX Runtime, on what tf2onnx makes of the model, if that is had and right; else Keras.

    tf2onnx writes some transposed convolutions with negative padding, which no runtime takes, and
    some resizes of another size.
    """
    import keras

    def alone(inputs: Sequence[Any]) -> list[Any]:
        return [np.asarray(model.predict(inputs[0], verbose=0))]

    keras_alone = (f"keras {keras.__version__}", alone)
    try:
        import onnxruntime  # noqa: F401
        import tensorflow as tf
        import tf2onnx
    except ImportError:
        return keras_alone
    if keras.backend.backend() != "tensorflow":
        return keras_alone
    shape = imported.inputs[0].shape
    signature = [tf.TensorSpec((None, *shape), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    if not _is_valid(converted):
        return keras_alone
    try:
        name, run = onnx_runtime(converted.SerializeToString())
        found = run([np.zeros((1, *shape), np.float32)])[0].shape
    except Exception:  # of no common class; what tf2onnx wrote is at fault, and Keras can judge
        return keras_alone
    return (name, run) if found[1:] == model.output_shape[1:] else keras_alone


def _is_valid(model: Any) -> bool:
    """Whether tf2onnx knew all of the network: what it did not, it leaves as TensorFlow has it."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return len(model.graph.input) == 1


FRONT_END = FrontEnd(
    name="keras",
    title="Keras",
    model="a Keras model",
    suffixes=(".keras", ".h5", ".hdf5"),
    marker=None,
    extra="export",
    verified_by="ONNX Runtime by tf2onnx, else Keras",
    summary="Sequential or functional, channels last; code in a file is not run",
    read=load_keras,
    owns=_is_keras,
    import_model=import_keras,
    runner=_runner,
    matches=lambda content: content.is_hdf5 or "config.json" in content.members,
)

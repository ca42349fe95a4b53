"""From a Keras 3 model (Sequential, or functional with one path) to the IR."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, Imported, batchnorm, same_padding
from fastdigit.compiler.ir import (
    Activation,
    Affine,
    Array,
    Conv2D,
    Dense,
    Eltwise,
    Op,
    Pad,
    Pair,
    Pool,
    Pool2D,
    Reshape,
    Shape,
    Softmax,
    Transpose,
)
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError

__all__ = ["SUPPORTED_LAYERS", "import_keras", "load_keras"]

Ops = list[Op]


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


def import_keras(model: Any) -> Imported:
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
    builder = GraphBuilder("input", source_shape)
    value = builder.input
    for layer, shape_out in _chain(model):
        convert = _CONVERTERS.get(_qualified_class(layer))
        if convert is None:
            raise UnsupportedError(
                f"layer {_describe(layer)} is not supported; "
                f"supported are {', '.join(SUPPORTED_LAYERS)}"
            )
        shape = builder.shapes[value]
        for op in convert(layer, shape, shape_out):
            value = builder.add(_describe(layer), op, value)
    return Imported(builder.build(value), "keras", str(model.name), source_shape)


def _import_keras() -> Any:
    try:
        import keras
    except ImportError as error:
        raise MissingExtraError(
            "reading a Keras model needs Keras: pip install fastdigit[export]"
        ) from error
    return keras


def _describe(layer: Any) -> str:
    return f"{layer.name!r} ({type(layer).__name__})"


def _qualified_class(layer: Any) -> str:
    """Return the class of a layer, telling Keras' own from a user's of the same name."""
    kind = type(layer)
    return kind.__name__ if kind.__module__.split(".")[0] == "keras" else kind.__qualname__ + "!"


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


def _chain(model: Any) -> list[tuple[Any, Shape]]:
    """Return (layer, shape of its output for one image) from input to output, models inlined."""
    import keras

    steps: list[tuple[Any, Shape]] = []
    tensor = model.outputs[0]
    while True:
        layer, index, _ = tensor._keras_history
        if isinstance(layer, keras.layers.InputLayer):
            break
        inputs = layer._inbound_nodes[index].input_tensors
        if len(inputs) != 1:
            raise UnsupportedError(
                f"layer {_describe(layer)} joins {len(inputs)} branches; "
                "supported is one path from input to output"
            )
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            _input_shape(layer)
            steps += reversed(_chain(layer))
        else:
            steps.append((layer, tuple(tensor.shape[1:])))
        tensor = inputs[0]
    return steps[::-1]


# ---- activations -------------------------------------------------------------------------------


def _activation(layer: Any) -> Ops:
    """Convert the ``activation=`` of a layer."""
    import keras

    function = layer.activation
    if function is None or function is keras.activations.linear:
        return []
    if function is keras.activations.softmax:
        return [Softmax()]
    # The defaults are those of keras.activations; a layer that sets another is a class of its own.
    table: dict[Any, Activation] = {
        keras.activations.relu: Activation("relu"),
        keras.activations.leaky_relu: Activation("leaky_relu", 0.2),
        keras.activations.elu: Activation("elu", 1.0),
        keras.activations.selu: Activation("selu"),
        keras.activations.sigmoid: Activation("sigmoid"),
        keras.activations.tanh: Activation("tanh"),
    }
    if isinstance(function, keras.layers.Layer):
        convert = _CONVERTERS.get(_qualified_class(function))
        if convert in (_convert_relu, _convert_leaky_relu, _convert_elu):
            return convert(function, (), ())
    elif function in table:
        return [Eltwise(table[function])]
    name = getattr(function, "__name__", getattr(function, "name", type(function).__name__))
    supported = ", ".join(["linear", *(a.name for a in table.values()), "softmax"])
    raise UnsupportedError(
        f"layer {_describe(layer)}: activation {name!r} is not supported; supported are {supported}"
    )


def _slope(layer: Any, alpha: float) -> Activation:
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UnsupportedError(
            f"layer {_describe(layer)}: a negative slope of {alpha}; supported are finite >= 0"
        )
    return Activation("leaky_relu", alpha) if alpha else Activation("relu")


def _convert_relu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    if layer.max_value is not None or layer.threshold:
        raise UnsupportedError(
            f"layer {_describe(layer)}: max_value={layer.max_value}, threshold={layer.threshold}; "
            "supported is negative_slope alone"
        )
    return [Eltwise(_slope(layer, float(layer.negative_slope or 0.0)))]


def _convert_leaky_relu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(_slope(layer, float(layer.negative_slope)))]


def _convert_elu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(Activation("elu", float(layer.alpha)))]


def _convert_activation(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return _activation(layer)


def _convert_softmax(layer: Any, shape: Shape, _out: Shape) -> Ops:
    if layer.axis not in (-1, len(shape)):
        raise UnsupportedError(
            f"layer {_describe(layer)}: axis={layer.axis}; supported is the last one"
        )
    return [Softmax()]


# ---- layers with weights -----------------------------------------------------------------------


def _require_channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedError(
            f"layer {_describe(layer)}: data_format={layer.data_format!r}; supported is "
            "'channels_last' (export to ONNX to compile a channels-first model)"
        )


def _array(variable: Any) -> Array:
    array: Array = np.asarray(variable)
    return array.astype(np.float32) if array.dtype != np.float64 else array


def _bias(layer: Any) -> Array | None:
    return _array(layer.bias) if layer.use_bias else None


def _convert_conv2d(layer: Any, shape: Shape, _out: Shape) -> Ops:
    _require_channels_last(layer)
    if layer.groups != 1:
        raise UnsupportedError(f"layer {_describe(layer)}: groups={layer.groups}; supported is 1")
    weights = _array(layer.kernel)
    stride, dilation = _pair(layer.strides), _pair(layer.dilation_rate)
    pad = (0, 0, 0, 0)
    if layer.padding == "same":
        extent = (
            dilation[0] * (weights.shape[0] - 1) + 1,
            dilation[1] * (weights.shape[1] - 1) + 1,
        )
        pad = same_padding(shape, extent, stride)
    return [Conv2D(weights, _bias(layer), stride, dilation, pad), *_activation(layer)]


def _convert_dense(layer: Any, shape: Shape, _out: Shape) -> Ops:
    if len(shape) != 1:
        raise UnsupportedError(
            f"layer {_describe(layer)}: applied to each row of shape {shape}; "
            "supported is a vector: add a Flatten layer before it"
        )
    return [Dense(_array(layer.kernel), _bias(layer)), *_activation(layer)]


def _convert_batchnorm(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    axis = axis - 1 if axis > 0 else axis + len(shape)
    gamma = _array(layer.gamma) if layer.scale else None
    beta = _array(layer.beta) if layer.center else None
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    return [Eltwise(affine=batchnorm(axis, mean, variance, gamma, beta, float(layer.epsilon)))]


def _convert_rescaling(layer: Any, shape: Shape, _out: Shape) -> Ops:
    size = shape[-1]
    scale = np.broadcast_to(np.asarray(layer.scale, dtype=np.float64), (size,))
    shift = np.broadcast_to(np.asarray(layer.offset, dtype=np.float64), (size,))
    return [Eltwise(affine=Affine(len(shape) - 1, scale, shift))]


# ---- pooling, padding, layout ------------------------------------------------------------------


def _pair(value: Any) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _pooling(mode: str) -> Callable[[Any, Shape, Shape], Ops]:
    def convert(layer: Any, shape: Shape, _out: Shape) -> Ops:
        _require_channels_last(layer)
        size = _pair(layer.pool_size)
        stride = size if layer.strides is None else _pair(layer.strides)
        same = layer.padding == "same"
        pad = same_padding(shape, size, stride) if same else (0, 0, 0, 0)
        return [Pool2D(Pool(mode, size, stride, pad))]

    return convert


def _global_pooling(mode: str) -> Callable[[Any, Shape, Shape], Ops]:
    def convert(layer: Any, shape: Shape, out: Shape) -> Ops:
        _require_channels_last(layer)
        size = (shape[0], shape[1])
        reshape: Ops = [] if layer.keepdims else [Reshape(out)]
        return [Pool2D(Pool(mode, size, size)), *reshape]

    return convert


def _convert_zero_padding(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    _require_channels_last(layer)
    vertical, horizontal = layer.padding
    return [Pad((_pair(vertical), _pair(horizontal), (0, 0)))]


def _convert_reshape(_layer: Any, _shape: Shape, out: Shape) -> Ops:
    return [Reshape(out)]


def _convert_flatten(layer: Any, _shape: Shape, out: Shape) -> Ops:
    _require_channels_last(layer)
    return [Reshape(out)]


def _convert_permute(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Transpose(tuple(int(axis) - 1 for axis in layer.dims))]


def _identity(_layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return []


_CONVERTERS: Mapping[str, Callable[[Any, Shape, Shape], Ops]] = {
    "Conv2D": _convert_conv2d,
    "Dense": _convert_dense,
    "BatchNormalization": _convert_batchnorm,
    "Activation": _convert_activation,
    "ReLU": _convert_relu,
    "LeakyReLU": _convert_leaky_relu,
    "ELU": _convert_elu,
    "Softmax": _convert_softmax,
    "MaxPooling2D": _pooling("max"),
    "AveragePooling2D": _pooling("average"),
    "GlobalMaxPooling2D": _global_pooling("max"),
    "GlobalAveragePooling2D": _global_pooling("average"),
    "ZeroPadding2D": _convert_zero_padding,
    "Flatten": _convert_flatten,
    "Reshape": _convert_reshape,
    "Permute": _convert_permute,
    "Rescaling": _convert_rescaling,
    # Active in training only.
    "Dropout": _identity,
    "SpatialDropout2D": _identity,
    "AlphaDropout": _identity,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "ActivityRegularization": _identity,
    "Identity": _identity,
}

#: Names of the Keras layers that :func:`import_keras` reads.
SUPPORTED_LAYERS = ("InputLayer", *_CONVERTERS)

"""From a Keras 3 model (Sequential or functional, with one input and one output) to the IR."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import (
    GraphBuilder,
    Imported,
    batchnorm,
    clip,
    same_padding,
    uniform,
)
from fastdigit.compiler.ir import Activation, Affine, Array, Op, Pair, Pool, Shape
from fastdigit.compiler.ops import (
    Binary,
    Conv2D,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
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
    value = _convert_model(model, builder, builder.input)
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
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            _input_shape(layer)
            value = _convert_model(layer, builder, inputs[0])
        else:
            value = _convert_layer(builder, layer, node, inputs, tuple(tensor.shape[1:]))
        values[id(tensor)] = value
    return values[id(model.outputs[0])]


def _convert_layer(
    builder: GraphBuilder, layer: Any, node: Any, inputs: list[str], shape_out: Shape
) -> str:
    import keras

    kind = _qualified_class(layer)
    name = _describe(layer)
    if not isinstance(layer, keras.layers.Layer):
        return _convert_operation(builder, layer, node, dict(_pairs(node, inputs)))
    if kind in _JOINS:
        return _JOINS[kind](builder, layer, inputs)
    convert = _CONVERTERS.get(kind)
    if convert is None or len(inputs) != 1:
        raise UnsupportedError(
            f"layer {name} is not supported; supported are {', '.join(SUPPORTED_LAYERS)}"
        )
    value = inputs[0]
    for op in convert(layer, builder.shapes[value], shape_out):
        value = builder.add(name, op, value)
    return value


def _pairs(node: Any, inputs: list[str]) -> list[tuple[int, str]]:
    return [(id(given), value) for given, value in zip(node.input_tensors, inputs, strict=True)]


# ---- layers that join branches -----------------------------------------------------------------


def _join(kind: str) -> Callable[[GraphBuilder, Any, list[str]], str]:
    def convert(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
        value = inputs[0]
        for other in inputs[1:]:
            value = builder.combine(_describe(layer), kind, value, other)
        return value

    return convert


def _convert_average(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    value = _join("add")(builder, layer, inputs)
    scaled = Eltwise(affine=uniform(builder.shapes[value], 1.0 / len(inputs)))
    return builder.add(_describe(layer), scaled, value)


def _convert_concatenate(builder: GraphBuilder, layer: Any, inputs: list[str]) -> str:
    rank = len(builder.shapes[inputs[0]]) + 1
    axis = layer.axis + rank if layer.axis < 0 else layer.axis
    if not 0 < axis < rank:
        raise UnsupportedError(
            f"layer {_describe(layer)}: axis={layer.axis}; supported is one behind the batch"
        )
    return builder.concat(_describe(layer), axis - 1, inputs)


def _convert_operation(
    builder: GraphBuilder, operation: Any, node: Any, values: Mapping[int, str]
) -> str:
    """Convert arithmetic that was written with operators, such as ``x * 2 + y``."""
    kind = _OPERATIONS.get(type(operation).__name__)
    arguments = list(node.arguments.args)
    name = _describe(operation)
    if kind is None or len(arguments) != 2 or node.arguments.kwargs:
        raise UnsupportedError(
            f"operation {name} is not supported; supported are layers, and "
            f"{', '.join(_OPERATIONS)} of two operands"
        )
    operands = [values.get(id(argument), argument) for argument in arguments]
    left, right = operands
    if isinstance(left, str) and isinstance(right, str):
        return builder.combine(name, kind, left, right)
    value, other = (left, right) if isinstance(left, str) else (right, left)
    constant = np.asarray(other, dtype=np.float64)
    if constant.size != 1 or not np.isfinite(constant).all():
        raise UnsupportedError(f"operation {name}: a constant of shape {constant.shape}, not 1")
    number, shape = float(constant.ravel()[0]), builder.shapes[value]
    match kind, value is left:
        case "add", _:
            affine = uniform(shape, 1.0, number)
        case "sub", first:
            affine = uniform(shape, 1.0, -number) if first else uniform(shape, -1.0, number)
        case "mul", _:
            affine = uniform(shape, number)
        case _, first:
            if not first or number == 0:
                raise UnsupportedError(f"operation {name}: a division by the image or by zero")
            affine = uniform(shape, 1.0 / number)
    return builder.add(name, Eltwise(affine=affine), value)


_OPERATIONS = {
    **{"Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "TrueDivide": "div"}
}

_JOINS: Mapping[str, Callable[[GraphBuilder, Any, list[str]], str]] = {
    "Add": _join("add"),
    "Subtract": _join("sub"),
    "Multiply": _join("mul"),
    "Maximum": _join("max"),
    "Minimum": _join("min"),
    "Average": _convert_average,
    "Concatenate": _convert_concatenate,
}


# ---- activations -------------------------------------------------------------------------------


def _gelu_approximates() -> bool:
    """Whether Keras' gelu without arguments is the one by tanh: its default has changed before."""
    import inspect

    import keras

    return bool(inspect.signature(keras.activations.gelu).parameters["approximate"].default)


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
        keras.activations.relu6: Activation("clipped_relu", 6.0),
        keras.activations.silu: Activation("silu"),
        keras.activations.hard_silu: Activation("hard_swish"),
        keras.activations.hard_sigmoid: Activation("hard_sigmoid", 1 / 6),
        keras.activations.softplus: Activation("softplus"),
        keras.activations.gelu: Activation("gelu_tanh" if _gelu_approximates() else "gelu"),
    }
    if isinstance(function, keras.layers.Layer):
        convert = _CONVERTERS.get(_qualified_class(function))
        if convert in (_convert_relu, _convert_leaky_relu, _convert_elu, _convert_prelu):
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
    if layer.threshold:
        raise UnsupportedError(
            f"layer {_describe(layer)}: threshold={layer.threshold}; supported is 0"
        )
    slope = _slope(layer, float(layer.negative_slope or 0.0))
    if layer.max_value is None:
        return [Eltwise(slope)]
    high = float(layer.max_value)
    return clip(0.0, high) if slope.name == "relu" else [Eltwise(slope), *clip(-math.inf, high)]


def _convert_prelu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Binary("prelu", _array(layer.alpha))]


def _convert_leaky_relu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(_slope(layer, float(layer.negative_slope)))]


def _convert_elu(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return [Eltwise(Activation("elu", float(layer.alpha)))]


def _convert_activation(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    return _activation(layer)


def _convert_softmax(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if len(axes) != 1 or axes[0] == 0:
        raise UnsupportedError(
            f"layer {_describe(layer)}: axis={layer.axis}; supported is one behind the batch"
        )
    axis = axes[0] - 1 if axes[0] > 0 else axes[0] + len(shape)
    if axis == len(shape) - 1:
        return [Softmax()]
    perm = [other for other in range(len(shape)) if other != axis] + [axis]
    back = tuple(np.argsort(perm).tolist())
    return [Transpose(tuple(perm)), Softmax(), Transpose(back)]


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


def _window(layer: Any, shape: Shape, kernel: Shape) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution."""
    _require_channels_last(layer)
    stride, dilation = _pair(layer.strides), _pair(layer.dilation_rate)
    pad = (0, 0, 0, 0)
    if layer.padding == "same":
        extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        pad = same_padding(shape, extent, stride)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _convert_conv2d(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights = _array(layer.kernel)
    window = _window(layer, shape, weights.shape[:2])
    return [Conv2D(weights, _bias(layer), groups=layer.groups, **window), *_activation(layer)]


def _depthwise(kernel: Array) -> tuple[Array, int]:
    """Return weights (height, width, 1, outputs) and groups, from (..., inputs, multiplier)."""
    height, width, inputs, multiplier = kernel.shape
    return kernel.reshape(height, width, 1, inputs * multiplier), inputs


def _convert_depthwise(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights, groups = _depthwise(_array(layer.kernel))
    window = _window(layer, shape, weights.shape[:2])
    return [Conv2D(weights, _bias(layer), groups=groups, **window), *_activation(layer)]


def _convert_separable(layer: Any, shape: Shape, _out: Shape) -> Ops:
    weights, groups = _depthwise(_array(layer.depthwise_kernel))
    window = _window(layer, shape, weights.shape[:2])
    pointwise = Conv2D(_array(layer.pointwise_kernel), _bias(layer))
    return [Conv2D(weights, groups=groups, **window), pointwise, *_activation(layer)]


def _convert_dense(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, bias = _array(layer.kernel), _bias(layer)
    if len(shape) == 1:
        return [Dense(weights, bias), *_activation(layer)]
    # The same for each pixel, or each step of a sequence.
    image = (math.prod(shape[:-2]), *shape[-2:])
    pointwise = Conv2D(weights[np.newaxis, np.newaxis], bias)
    return [*_on(image, shape, [pointwise], out), *_activation(layer)]


def _on(image: Shape, shape: Shape, ops: Ops, out: Shape) -> Ops:
    """Apply operators of images to a value of another shape, and give the result shape ``out``."""
    return ops if image == shape else [Reshape(image), *ops, Reshape(out)]


# Layers of sequences (steps, channels) are those of images of one row.


def _sequence_window(layer: Any, shape: Shape, size: int) -> dict[str, Any]:
    """Stride, dilation and padding of a convolution."""
    _require_channels_last(layer)
    stride, dilation = (1, _single(layer.strides)), (1, _single(layer.dilation_rate))
    extent = dilation[1] * (size - 1) + 1
    pad = (0, 0, 0, 0)
    if layer.padding == "same":
        pad = same_padding((1, shape[0]), (1, extent), stride)
    elif layer.padding == "causal":
        pad = (0, extent - 1, 0, 0)
    return {"stride": stride, "dilation": dilation, "pad": pad}


def _convert_conv1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights = _array(layer.kernel)[np.newaxis]
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, _bias(layer), groups=layer.groups, **window)
    return [*_on((1, *shape), shape, [conv], out), *_activation(layer)]


def _convert_depthwise1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, groups = _depthwise(_array(layer.kernel)[np.newaxis])
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, _bias(layer), groups=groups, **window)
    return [*_on((1, *shape), shape, [conv], out), *_activation(layer)]


def _convert_separable1d(layer: Any, shape: Shape, out: Shape) -> Ops:
    weights, groups = _depthwise(_array(layer.depthwise_kernel)[np.newaxis])
    window = _sequence_window(layer, shape, weights.shape[1])
    conv = Conv2D(weights, groups=groups, **window)
    pointwise = Conv2D(_array(layer.pointwise_kernel)[np.newaxis], _bias(layer))
    return [*_on((1, *shape), shape, [conv, pointwise], out), *_activation(layer)]


def _convert_layernorm(layer: Any, shape: Shape, _out: Shape) -> Ops:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    axes = sorted(axis - 1 if axis > 0 else axis + len(shape) for axis in axes)
    if getattr(layer, "rms_scaling", False) or axes != list(range(axes[0], len(shape))):
        raise UnsupportedError(
            f"layer {_describe(layer)}: axis={layer.axis}; supported are the last ones, without "
            "rms_scaling"
        )
    lead, size = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] :])
    scale = _array(layer.gamma).ravel() if layer.scale else None
    shift = _array(layer.beta).ravel() if layer.center else None
    norm = LayerNorm(float(layer.epsilon), scale, shift)
    if len(axes) == 1:
        return [norm]
    flat = (size,) if axes[0] == 0 else (lead, 1, size)
    return [Reshape(flat), norm, Reshape(shape)]


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


def _convert_normalization(layer: Any, shape: Shape, _out: Shape) -> Ops:
    mean, variance = (np.asarray(given, np.float64) for given in (layer.mean, layer.variance))
    mean, variance = (given[0] if given.ndim > len(shape) else given for given in (mean, variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # the smallest that Keras divides by
    if layer.invert:
        return [Binary("mul", deviation), Binary("add", mean)]
    return [Binary("add", -mean), Binary("mul", 1.0 / deviation)]


# ---- pooling, padding, layout ------------------------------------------------------------------


def _pair(value: Any) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _single(value: Any) -> int:
    return int(value if isinstance(value, int) else value[0])


def _pooling(mode: str) -> Callable[[Any, Shape, Shape], Ops]:
    def convert(layer: Any, shape: Shape, _out: Shape) -> Ops:
        _require_channels_last(layer)
        size = _pair(layer.pool_size)
        stride = size if layer.strides is None else _pair(layer.strides)
        same = layer.padding == "same"
        pad = same_padding(shape, size, stride) if same else (0, 0, 0, 0)
        return [Pool2D(Pool(mode, size, stride, pad))]

    return convert


def _sequence_pooling(mode: str) -> Callable[[Any, Shape, Shape], Ops]:
    def convert(layer: Any, shape: Shape, out: Shape) -> Ops:
        _require_channels_last(layer)
        size = (1, _single(layer.pool_size))
        stride = size if layer.strides is None else (1, _single(layer.strides))
        same = layer.padding == "same"
        pad = same_padding((1, shape[0]), size, stride) if same else (0, 0, 0, 0)
        return _on((1, *shape), shape, [Pool2D(Pool(mode, size, stride, pad))], out)

    return convert


def _global_sequence_pooling(mode: str) -> Callable[[Any, Shape, Shape], Ops]:
    def convert(layer: Any, shape: Shape, out: Shape) -> Ops:
        _require_channels_last(layer)
        size = (1, shape[0])
        return _on((1, *shape), shape, [Pool2D(Pool(mode, size, size))], out)

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


def _convert_zero_padding1d(layer: Any, _shape: Shape, _out: Shape) -> Ops:
    _require_channels_last(layer)
    return [Pad((_pair(layer.padding), (0, 0)))]


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
    "DepthwiseConv2D": _convert_depthwise,
    "SeparableConv2D": _convert_separable,
    "Conv1D": _convert_conv1d,
    "DepthwiseConv1D": _convert_depthwise1d,
    "SeparableConv1D": _convert_separable1d,
    "Dense": _convert_dense,
    "LayerNormalization": _convert_layernorm,
    "BatchNormalization": _convert_batchnorm,
    "Activation": _convert_activation,
    "ReLU": _convert_relu,
    "LeakyReLU": _convert_leaky_relu,
    "ELU": _convert_elu,
    "PReLU": _convert_prelu,
    "Softmax": _convert_softmax,
    "MaxPooling2D": _pooling("max"),
    "AveragePooling2D": _pooling("average"),
    "GlobalMaxPooling2D": _global_pooling("max"),
    "GlobalAveragePooling2D": _global_pooling("average"),
    "MaxPooling1D": _sequence_pooling("max"),
    "AveragePooling1D": _sequence_pooling("average"),
    "GlobalMaxPooling1D": _global_sequence_pooling("max"),
    "GlobalAveragePooling1D": _global_sequence_pooling("average"),
    "ZeroPadding2D": _convert_zero_padding,
    "ZeroPadding1D": _convert_zero_padding1d,
    "Flatten": _convert_flatten,
    "Reshape": _convert_reshape,
    "Permute": _convert_permute,
    "Rescaling": _convert_rescaling,
    "Normalization": _convert_normalization,
    # Active in training only.
    "Dropout": _identity,
    "SpatialDropout1D": _identity,
    "SpatialDropout2D": _identity,
    "AlphaDropout": _identity,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "ActivityRegularization": _identity,
    "Identity": _identity,
}

#: Names of the Keras layers that :func:`import_keras` reads.
SUPPORTED_LAYERS = ("InputLayer", *_CONVERTERS, *_JOINS)

"""What Keras 1 wrote, in the words of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastdigit.compiler.ir import Array
from fastdigit.errors import UnsupportedError

__all__ = ["modern_class", "modern_options", "modern_weights"]

_CLASSES = {
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "TimeDistributedDense",
}
_MERGES = {
    "ave": "Average",
    "concat": "Concatenate",
    "max": "Maximum",
    "min": "Minimum",
    "mul": "Multiply",
    "sum": "Add",
}
_OPTIONS = {
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
    "border_mode": "padding",
    "concat_axis": "axis",
    "dim_ordering": "data_format",
    "filter_length": "kernel_size",
    "inner_activation": "recurrent_activation",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "p": "rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}
#: What is told from other options, or says nothing of what is computed.
_DROPPED = {
    *("W_regularizer", "b_regularizer", "U_regularizer", "W_constraint", "b_constraint"),
    *("U_constraint", "W_learning_rate_multiplier", "b_learning_rate_multiplier"),
    *("gamma_regularizer", "beta_regularizer", "output_shape", "output_mask", "arguments"),
    *("dot_axes", "output_shape_type", "output_mask_type", "node_indices", "tensor_indices"),
}
_LAYOUTS = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}


def modern_class(name: str, config: Mapping[str, Any]) -> str:
    """Return the class of a layer."""
    if name == "Merge" and not config.get("layers"):
        mode = config.get("mode")
        if mode not in _MERGES:
            raise UnsupportedError(
                f"layer {config.get('name')!r} (Merge): mode={mode!r}; supported are "
                f"{', '.join(_MERGES)}"
            )
        return _MERGES[mode]
    return _CLASSES.get(name, name)


def modern_options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a layer, whose class is called ``name`` in the file."""
    found = {key: value for key, value in config.items() if key not in _DROPPED}
    if "nb_row" in found:
        found["kernel_size"] = [found.pop("nb_row"), found.pop("nb_col", None)]
    if name == "Merge":
        kept = ("name", "trainable", *(["concat_axis"] if config.get("mode") == "concat" else []))
        found = {key: found[key] for key in kept if key in found}
    if name in ("Convolution2D", "Deconvolution2D") and "border_mode" in found:
        found.pop("atrous_rate", None)
    found = {_OPTIONS.get(key, key): value for key, value in found.items()}
    layout = found.get("data_format")
    if isinstance(layout, str) and layout in _LAYOUTS:
        found["data_format"] = _LAYOUTS[layout]
    return found


def modern_weights(kind: str, data_format: str, arrays: list[Array]) -> list[Array]:
    """Return the variables of a layer, in the order and shapes of Keras 2."""
    convert = _WEIGHTS.get(kind)
    return arrays if convert is None or not arrays else convert(arrays, data_format)


def _conv1d(arrays: list[Array], _format: str) -> list[Array]:
    kernel, *rest = arrays
    if kernel.ndim != 4:
        return arrays
    # (steps, 1, inputs, filters), before 1.2 (filters, inputs, steps, 1)
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.shape[1] != 1 else kernel
    return [kernel[:, 0], *rest]


def _conv2d(arrays: list[Array], data_format: str) -> list[Array]:
    kernel, *rest = arrays
    if data_format == "channels_first":  # (filters, inputs, rows, columns)
        kernel = kernel.transpose(2, 3, 1, 0)
    return [kernel, *rest]


def _conv2d_transpose(arrays: list[Array], data_format: str) -> list[Array]:
    kernel, *rest = arrays
    order = (2, 3, 0, 1) if data_format == "channels_first" else (0, 1, 3, 2)
    return [kernel.transpose(order), *rest]


def _gates(*order: int) -> Callable[[list[Array], str], list[Array]]:
    """Join the arrays of each gate, which Keras 1 has as kernel, recurrent kernel and bias."""

    def convert(arrays: list[Array], _format: str) -> list[Array]:
        if len(arrays) != 3 * len(order):
            return arrays
        parts = ([arrays[3 * gate + part] for gate in order] for part in range(3))
        return [np.concatenate(part, axis=-1) for part in parts]

    return convert


_WEIGHTS: dict[str, Callable[[list[Array], str], list[Array]]] = {
    "Conv1D": _conv1d,
    "Conv2D": _conv2d,
    "Conv2DTranspose": _conv2d_transpose,
    "GRU": _gates(0, 1, 2),
    "LSTM": _gates(0, 2, 1, 3),
}

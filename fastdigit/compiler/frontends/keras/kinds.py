"""The kinds of layers: their options with defaults, and their variables.

A default is what a layer does whose file does not have the option, because the version of Keras
that wrote it did not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FUNCTIONS", "IN_TRAINING", "KINDS", "Kind", "is_ignored"]


@dataclass(frozen=True)
class Kind:
    """A row of :data:`KINDS`.

    Parameters
    ----------
    options
        What tells what the layer computes, with defaults; None if nothing does.
    weights
        Its variables, in the order in which Keras keeps them; after a space, the option without
        which there is none.
    renamed
        Options, and last parts of names of variables, that older versions call otherwise.
    fixed
        Options that have to be what they are here.
    """

    options: Mapping[str, Any] | None = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


_LAST = {"data_format": "channels_last"}
_CONV = {
    **_LAST,
    "kernel_size": None,
    "strides": 1,
    "padding": "valid",
    "dilation_rate": 1,
    "activation": None,
    "use_bias": True,
}
_KERNEL = ("kernel", "bias use_bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias use_bias")
_POOL = {"pool_size": 2, "strides": None, "padding": "valid", **_LAST}
_GLOBAL = {"keepdims": False, **_LAST}
_RNN = {
    "units": None,
    "activation": "tanh",
    "use_bias": True,
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
}
_RNN_WEIGHTS = ("kernel", "recurrent_kernel", "bias use_bias")
_RNN_FIXED = {"time_major": False}
_GATED = {**_RNN, "recurrent_activation": "sigmoid"}
_DEPTHWISE = {**_CONV, "depth_multiplier": 1}
#: Layers that do nothing in inference.
IN_TRAINING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "Identity", "RandomFlip", "RandomRotation"),
    *("RandomZoom", "RandomContrast", "RandomBrightness", "RandomTranslation", "RandomShear"),
    *("RandomHue", "RandomSaturation", "RandomGrayscale", "RandomColorJitter"),
    *("RandomColorDegeneration", "RandomSharpness", "RandomPosterization", "RandomInvert"),
    *("RandomErasing", "RandomGaussianBlur", "RandomPerspective", "RandomElasticTransform"),
)

#: By the name of the class in Keras 3.
KINDS: dict[str, Kind] = {
    # ---- convolutions ----
    "Conv1D": Kind({**_CONV, "filters": None, "groups": 1}, _KERNEL),
    "Conv2D": Kind({**_CONV, "filters": None, "groups": 1}, _KERNEL),
    "Conv1DTranspose": Kind(
        {**_CONV, "filters": None, "output_padding": None}, _KERNEL, fixed={"groups": 1}
    ),
    "Conv2DTranspose": Kind(
        {**_CONV, "filters": None, "output_padding": None}, _KERNEL, fixed={"groups": 1}
    ),
    "DepthwiseConv1D": Kind(
        _DEPTHWISE, _KERNEL, {"depthwise_kernel": "kernel"}, {"groups": 1, "filters": None}
    ),
    "DepthwiseConv2D": Kind(
        _DEPTHWISE, _KERNEL, {"depthwise_kernel": "kernel"}, {"groups": 1, "filters": None}
    ),
    "SeparableConv1D": Kind({**_DEPTHWISE, "filters": None}, _SEPARABLE, fixed={"groups": 1}),
    "SeparableConv2D": Kind({**_DEPTHWISE, "filters": None}, _SEPARABLE, fixed={"groups": 1}),
    # ---- dense ----
    "Dense": Kind({"units": None, "activation": None, "use_bias": True}, _KERNEL),
    # ---- recurrent ----
    "SimpleRNN": Kind(_RNN, _RNN_WEIGHTS, fixed=_RNN_FIXED),
    "LSTM": Kind(_GATED, _RNN_WEIGHTS, fixed=_RNN_FIXED),
    "GRU": Kind({**_GATED, "reset_after": False}, _RNN_WEIGHTS, fixed=_RNN_FIXED),
    "Bidirectional": Kind({"merge_mode": "concat"}),
    "TimeDistributed": Kind(),
    # ---- normalization ----
    "BatchNormalization": Kind(
        {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True},
        ("gamma scale", "beta center", "moving_mean", "moving_variance"),
        {"running_mean": "moving_mean", "running_std": "moving_variance"},
        {"renorm": False, "virtual_batch_size": None, "mode": 0},
    ),
    "LayerNormalization": Kind(
        {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True},
        ("gamma scale", "beta center"),
        fixed={"rms_scaling": False},
    ),
    "GroupNormalization": Kind(
        {"groups": 32, "axis": -1, "epsilon": 1e-3, "center": True, "scale": True},
        ("gamma scale", "beta center"),
    ),
    "UnitNormalization": Kind({"axis": -1}),
    "Normalization": Kind(
        {"axis": -1, "mean": None, "variance": None, "invert": False},
        ("mean", "variance", "count"),
    ),
    "Rescaling": Kind({"scale": None, "offset": 0.0}),
    # ---- pooling ----
    "MaxPooling1D": Kind(_POOL),
    "MaxPooling2D": Kind(_POOL),
    "AveragePooling1D": Kind(_POOL),
    "AveragePooling2D": Kind(_POOL),
    "GlobalMaxPooling1D": Kind(_GLOBAL),
    "GlobalMaxPooling2D": Kind(_GLOBAL),
    "GlobalAveragePooling1D": Kind(_GLOBAL),
    "GlobalAveragePooling2D": Kind(_GLOBAL),
    # ---- moves ----
    "Flatten": Kind(_LAST),
    "Reshape": Kind({"target_shape": None}),
    "Permute": Kind({"dims": None}),
    "RepeatVector": Kind({"n": None}),
    "ZeroPadding1D": Kind({"padding": 1, **_LAST}),
    "ZeroPadding2D": Kind({"padding": 1, **_LAST}),
    "Cropping1D": Kind({"cropping": 1, **_LAST}),
    "Cropping2D": Kind({"cropping": 0, **_LAST}),
    "CenterCrop": Kind({"height": None, "width": None, **_LAST}),
    "Resizing": Kind(
        {
            **{"height": None, "width": None, "interpolation": "bilinear", **_LAST},
            **{"fill_mode": "constant", "fill_value": 0.0},  # of padding, which is refused
        },
        fixed={
            "crop_to_aspect_ratio": False,
            "pad_to_aspect_ratio": False,
            "antialias": False,
        },
    ),
    "UpSampling1D": Kind({"size": 2}),
    "UpSampling2D": Kind({"size": 2, "interpolation": "nearest", **_LAST}),
    # ---- joins ----
    "Add": Kind(),
    "Subtract": Kind(),
    "Multiply": Kind(),
    "Average": Kind(),
    "Maximum": Kind(),
    "Minimum": Kind(),
    "Concatenate": Kind({"axis": -1}),
    # ---- activations ----
    "Activation": Kind({"activation": None}),
    "ReLU": Kind(
        {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    ),
    "LeakyReLU": Kind({"negative_slope": 0.3}, renamed={"alpha": "negative_slope"}),
    "ELU": Kind({"alpha": 1.0}),
    "PReLU": Kind({"shared_axes": None}, ("alpha",), {"alphas": "alpha"}),
    "Softmax": Kind({"axis": -1}),
    "ThresholdedReLU": Kind({"theta": 1.0}),
    **{name: Kind(None) for name in IN_TRAINING},
    # ---- functions ----
    "activations.hard_sigmoid": Kind({"slope": 1 / 6}),
    "activations.gelu": Kind({"approximate": False}),
    "activations.leaky_relu": Kind({"negative_slope": 0.2}, renamed={"alpha": "negative_slope"}),
    "activations.elu": Kind({"alpha": 1.0}),
    "activations.relu": Kind({"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
    "activations.softmax": Kind({"axis": -1}),
    "activations.log_softmax": Kind({"axis": -1}),
    "ops.Concatenate": Kind({"axis": -1}),
    "ops.Reshape": Kind({"newshape": None}),
    "ops.Transpose": Kind({"axes": None}),
    "ops.ExpandDims": Kind({"axis": None}),
    "ops.Squeeze": Kind({"axis": None}),
    "ops.GetItem": Kind({"key": None}),
    "ops.Clip": Kind({"x_min": None, "x_max": None}),
    "ops.Mean": Kind({"axis": None, "keepdims": False}),
    "ops.Max": Kind({"axis": None, "keepdims": False}, fixed={"initial": None}),
    "ops.Sum": Kind({"axis": None, "keepdims": False}),
}

#: Functions without options; each is a kind "activations.NAME".
FUNCTIONS = (
    *("linear", "relu6", "selu", "sigmoid", "tanh", "silu", "hard_silu", "softplus", "softsign"),
    *("exponential", "mish"),
)
KINDS.update({f"activations.{name}": Kind() for name in FUNCTIONS})
#: Arithmetic of operands, without options.
KINDS.update(
    {
        f"ops.{name}": Kind()
        for name in (
            *("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Negative"),
            *("Absolute", "Sqrt", "Log"),
            *("Square", "Identity"),
        )
    }
)


def is_ignored(option: str) -> bool:
    """Whether an option says nothing of what a trained layer computes."""
    return option in _IGNORED or option.endswith(
        ("_initializer", "_regularizer", "_constraint", "_init")
    )


_IGNORED = frozenset(
    {
        *("name", "trainable", "dtype", "seed", "autocast", "batch_input_shape", "batch_shape"),
        *("input_dtype", "input_shape", "input_dim", "input_length", "batch_size", "weights"),
        *("init", "sparse", "ragged", "build_config", "synchronized", "fused", "momentum"),
        *("renorm_clipping", "renorm_momentum", "adjustment", "rate", "noise_shape", "stddev"),
        *("l1", "l2", "lora_rank", "lora_alpha", "gptq_unpacked_column_size", "mode_type"),
        *("unroll", "implementation", "dropout", "recurrent_dropout", "zero_output_for_mask"),
        *("unit_forget_bias", "consume_less", "dropout_W", "dropout_U", "stateful"),
        *("kernel_constraint", "supports_masking", "inputs_spec", "cache_dir"),
    }
)

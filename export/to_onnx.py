"""Convert a trained model to ONNX: ``python -m export.to_onnx MODEL.keras OUT.onnx``.

Two graphs of the same network, both opset 18, with a dynamic batch and the tensors ``input`` and
``probabilities``:

``nhwc``
    what tf2onnx makes of the Keras model; takes (N, 28, 28, 1);
``nchw``
    built here, operator by operator, in the layout ONNX is defined in, without a Transpose around
    each convolution; takes (N, 1, 28, 28).

``--compact`` leaves units that make no difference out of either (see :mod:`export.compact`),
``--temperature`` divides what goes into the final softmax (see :mod:`export.calibration`).

Nothing is written unless ONNX Runtime and Keras, run on the model as it is, agree on the label of
all 10,000 test digits, and the temperature changes none of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.batches import network_input
from export.calibration import set_temperature, softmax
from export.compact import compact_model
from export.parity import compare
from fastdigit.datasets import load_mnist, load_mnist_test
from fastdigit.errors import FastDigitError, UnsupportedError, VerificationError, pip_install

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import onnx

    FloatArray = npt.NDArray[np.float32]

__all__ = ["OPSET", "convert_nchw", "convert_nhwc", "main", "verify", "verify_temperature"]

OPSET = 18
INPUT = "input"
OUTPUT = "probabilities"


def convert_nhwc(model: keras.Model) -> onnx.ModelProto:
    """Convert any Keras `model` of one input and one output with tf2onnx.

    Through a ``tf.function`` with an input signature: tf2onnx's ``from_keras`` relies on Keras 2.
    """
    import tensorflow as tf
    import tf2onnx

    shape = [None, *model.input_shape[1:]]
    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT)]

    @tf.function(input_signature=signature)
    def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT: model(images, training=False)}  # the key becomes the tensor's name

    converted, _ = tf2onnx.convert.from_function(infer, input_signature=signature, opset=OPSET)
    # Names that tf2onnx draws from running counters.
    converted.graph.name = model.name
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return converted


def convert_nchw(model: keras.Model) -> onnx.ModelProto:
    """Write the Keras `model`, a plain chain of layers, as an NCHW graph.

    Batch normalization along the rows is a Mul and an Add with (rows, 1) constants, computed in
    float64: ONNX's BatchNormalization knows the channel axis only. A ZeroPadding2D becomes the
    padding of the convolution after it. The Dense after Flatten has its weights permuted from
    (rows, columns, channels) to (channels, rows, columns).

    Raises
    ------
    UnsupportedError
        A layer that has no rule here; the message names it.
    """
    return _NchwBuilder(model).build()


class _NchwBuilder:
    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.tensor = INPUT
        self.padding = (0, 0, 0, 0)  # top, left, bottom, right; not yet emitted
        self.flattened: tuple[int, int, int] | None = None  # NHWC shape before Flatten

    def build(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        rules: dict[str, Callable[[keras.Layer], None]] = {
            "Conv2D": self.conv,
            "MaxPooling2D": self.max_pool,
            "ZeroPadding2D": self.zero_padding,
            "BatchNormalization": self.batch_normalization,
            "Dropout": lambda layer: None,
            "Flatten": self.flatten,
            "Dense": self.dense,
        }
        if type(self.model).__name__ != "Sequential":
            raise UnsupportedError(
                f"model {self.model.name!r} is a {type(self.model).__name__}; "
                f"the NCHW export takes a Sequential"
            )
        for layer in self.model.layers:
            kind = type(layer).__name__
            if kind not in rules:
                raise UnsupportedError(
                    f"layer {layer.name!r} is a {kind}; the NCHW export knows {', '.join(rules)}"
                )
            if any(self.padding) and kind != "Conv2D":
                raise UnsupportedError(
                    f"layer {layer.name!r} is a {kind} after a ZeroPadding2D; "
                    f"the NCHW export pads convolutions only"
                )
            if layer.get_config().get("data_format") == "channels_first":
                raise UnsupportedError(f"layer {layer.name!r} has its channels first already")
            rules[kind](layer)
        self.nodes[-1].output[0] = OUTPUT

        rows, columns, channels = self.model.input_shape[1:]
        classes = self.model.output_shape[-1]
        float32 = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            self.model.name,
            [helper.make_tensor_value_info(INPUT, float32, ["N", channels, rows, columns])],
            [helper.make_tensor_value_info(OUTPUT, float32, ["N", classes])],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph,
            opset_imports=[opset],
            ir_version=helper.find_min_ir_version_for([opset]),
            producer_name="fastdigit export",
        )

    def emit(self, operator: str, name: str, *constants: FloatArray, **attributes: Any) -> None:
        """Append a node that maps the current tensor, and `constants`, to the next."""
        from onnx import helper, numpy_helper

        inputs = [self.tensor]
        for number, value in enumerate(constants):
            key = f"{name}.{number}"
            value = np.ascontiguousarray(value, np.float32)
            self.constants.append(numpy_helper.from_array(value, key))
            inputs.append(key)
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.tensor = name

    def activation(self, layer: keras.Layer) -> None:
        operators = {"relu": "Relu", "selu": "Selu", "softmax": "Softmax", "linear": None}
        activation = layer.get_config()["activation"]
        if activation not in operators:
            raise UnsupportedError(
                f"layer {layer.name!r} has activation {activation!r}; "
                f"the NCHW export knows {', '.join(operators)}"
            )
        if activation == "softmax" and type(layer).__name__ != "Dense":
            raise UnsupportedError(f"layer {layer.name!r} is a softmax over channels of an image")
        operator = operators[activation]
        if operator:
            self.emit(operator, f"{layer.name}.{activation}")

    def conv(self, layer: keras.Layer) -> None:
        config = layer.get_config()
        if config["groups"] != 1:
            raise UnsupportedError(f"layer {layer.name!r} is a grouped convolution")
        if config["padding"] == "same" and any(self.padding):
            raise UnsupportedError(f"layer {layer.name!r} has padding 'same' after ZeroPadding2D")
        kernel = layer.kernel.numpy().transpose(3, 2, 0, 1)  # HWIO -> OIHW
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(len(kernel), np.float32)
        attributes: dict[str, Any] = {"auto_pad": "SAME_UPPER"}
        if config["padding"] == "valid":
            attributes = {"pads": self.padding}
        self.emit(
            "Conv",
            layer.name,
            kernel,
            bias,
            kernel_shape=config["kernel_size"],
            strides=config["strides"],
            dilations=config["dilation_rate"],
            **attributes,
        )
        self.padding = (0, 0, 0, 0)
        self.activation(layer)

    def zero_padding(self, layer: keras.Layer) -> None:
        (top, bottom), (left, right) = layer.get_config()["padding"]
        self.padding = (top, left, bottom, right)

    def max_pool(self, layer: keras.Layer) -> None:
        config = layer.get_config()
        if config["padding"] != "valid":
            raise UnsupportedError(f"layer {layer.name!r} is a max pooling with padding")
        self.emit(
            "MaxPool", layer.name, kernel_shape=config["pool_size"], strides=config["strides"]
        )

    def batch_normalization(self, layer: keras.Layer) -> None:
        config = layer.get_config()
        rank = len(layer.input.shape)
        axis = config["axis"] % rank
        if not config["scale"] or not config["center"]:
            raise UnsupportedError(f"layer {layer.name!r} is without scale or centre")
        gamma, beta, mean, variance = (weight.numpy().astype(np.float64) for weight in (
            layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
        ))  # fmt: skip
        scale = gamma / np.sqrt(variance + config["epsilon"])
        shift = beta - mean * scale
        # Axes of NHWC, less the batch, that broadcast as (C, H, W).
        shape = {1: (1, -1, 1), 2: (1, 1, -1), 3: (-1, 1, 1)}[axis] if rank == 4 else (-1,)
        self.emit("Mul", f"{layer.name}.scale", scale.reshape(shape))
        self.emit("Add", f"{layer.name}.shift", shift.reshape(shape))

    def flatten(self, layer: keras.Layer) -> None:
        self.flattened = layer.input.shape[1:] if len(layer.input.shape) == 4 else None
        self.emit("Flatten", layer.name, axis=1)

    def dense(self, layer: keras.Layer) -> None:
        if len(layer.input.shape) != 2:
            raise UnsupportedError(f"layer {layer.name!r} is a Dense without a Flatten before it")
        kernel = layer.kernel.numpy()
        if self.flattened:
            kernel = kernel.reshape(*self.flattened, -1).transpose(2, 0, 1, 3)
            kernel = kernel.reshape(-1, kernel.shape[-1])
            self.flattened = None
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[1], np.float32)
        self.emit("Gemm", layer.name, kernel, bias)
        self.activation(layer)


def verify(converted: onnx.ModelProto, model: keras.Model, images: npt.NDArray[np.uint8]) -> float:
    """Check `converted` and compare it with `model` on uint8 `images` (N, 28, 28).

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        The checker of ONNX objects, a label differs, or a probability by more than 1e-5.
    """
    got = _run(converted, images)
    return compare(
        "ONNX Runtime and Keras",
        got,
        model.predict(network_input(images), batch_size=500, verbose=0),
    )


def verify_temperature(
    converted: onnx.ModelProto,
    plain: onnx.ModelProto,
    temperature: float,
    images: npt.NDArray[np.uint8],
) -> float:
    """Check `converted`, which is `plain` with a temperature, against the logits of `plain`.

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        The checker of ONNX objects, a label differs, or a probability by more than 1e-5.
    """
    import onnx

    headless = onnx.ModelProto()
    headless.CopyFrom(plain)
    last = next(node for node in reversed(headless.graph.node) if node.op_type == "Softmax")
    headless.graph.output[0].name = last.input[0]
    headless.graph.node.remove(last)
    logits = _run(headless, images)
    return compare(
        "ONNX Runtime and the softmax of its logits",
        _run(converted, images),
        softmax(logits, temperature),
    )


def _run(model: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> FloatArray:
    """Check `model`, and run it in ONNX Runtime on uint8 `images` (N, 28, 28)."""
    import onnx
    import onnxruntime

    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise VerificationError(f"the converted model is no valid ONNX: {error}") from error
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = network_input(images)
    if session.get_inputs()[0].shape[1] == 1:
        x = x.transpose(0, 3, 1, 2)
    # A tail that differs from the other batches also shows that the batch is dynamic.
    parts = np.split(x, range(384, len(x), 384))
    return np.concatenate(
        [session.run(None, {INPUT: np.ascontiguousarray(part)})[0] for part in parts]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.to_onnx",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.keras")
    add("output", type=Path, metavar="OUT.onnx")
    add("--layout", choices=("nhwc", "nchw"), default="nhwc", help="default: nhwc")
    add("--compact", action="store_true", help="leave out units that make no difference")
    add("--temperature", type=float, default=1.0, help="of the softmax; default: 1")
    add("--data", type=Path, help="test digits to compare on; default: those in the package")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    try:
        import keras

        model = keras.saving.load_model(options.model, compile=False)
        images, _ = load_mnist(options.data)[1] if options.data else load_mnist_test()
        small = compact_model(model) if options.compact else model
        converted = {"nhwc": convert_nhwc, "nchw": convert_nchw}[options.layout](small)
        difference = verify(converted, model, images)
        if options.temperature != 1:
            plain, converted = converted, set_temperature(converted, options.temperature)
            verify_temperature(converted, plain, options.temperature, images)
        temporary = options.output.with_name(options.output.name + ".tmp")
        temporary.write_bytes(converted.SerializeToString())
        os.replace(temporary, options.output)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"export.to_onnx: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.to_onnx: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    if options.compact:
        print(
            f"{options.output}: {small.count_params():,} of {model.count_params():,} parameters "
            f"make a difference"
        )
    print(
        f"{options.output}: {options.layout}, opset {OPSET}; labels of {len(images)} test digits "
        f"identical to Keras, largest difference of a probability {difference:.2g}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

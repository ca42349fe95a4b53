"""Convert a trained model to ONNX: ``python -m export.to_onnx MODEL.keras OUT.onnx``.

Two graphs of the same network, both opset 18, with a dynamic batch and the tensors ``input`` and
``probabilities``:

``nhwc``
    what tf2onnx makes of the Keras model; takes (N, 28, 28, 1);
``nchw``
    what fastdigit's compiler makes of it, in the layout ONNX is defined in, without a Transpose
    around each convolution; takes (N, 1, 28, 28).

``--compact`` leaves units that make no difference out of either (see :mod:`export.compact`),
``--temperature`` divides what goes into the final softmax (see :mod:`export.calibration`).

Nothing is written unless ONNX Runtime and Keras, run on the model as it is, agree on the label of
all 10,000 test digits, and the temperature changes none of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.batches import network_input
from export.calibration import set_temperature, softmax
from export.compact import compact_model
from export.parity import compare
from fastdigit.compiler.frontends.runners import import_onnxruntime
from fastdigit.datasets import load_mnist, load_mnist_test
from fastdigit.errors import FastDigitError, VerificationError, pip_install

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
    """Write the Keras `model` as a plain NCHW graph: what the compiler makes of it.

    Raises
    ------
    UnsupportedError
        The compiler does not know a layer; the message names it.
    """
    from fastdigit.compiler.backends.onnx import to_onnx
    from fastdigit.compiler.frontends import import_model
    from fastdigit.compiler.passes import optimize

    graph = optimize(import_model(model).graph, compact=False)
    return to_onnx(graph, name=model.name)


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

    onnxruntime = import_onnxruntime()
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

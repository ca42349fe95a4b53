"""A smaller Keras model that computes the same: without the units that make no difference.

What the compiler does for fastdigit (``remove_dead_units``), done for everybody else: a network
pruned by zeroing weights becomes one that was built small, so that a comparison with other runtimes
shows what the runtimes do, not who skips zeros. Which units those are, the compiler's pass decides.

    python -m export.compact MODEL.keras OUT.keras

writes it for runtimes that read Keras; ``export.to_onnx --compact`` is for the others.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.batches import network_input
from export.calibration import log_probabilities, softmax
from export.parity import TOLERANCE, compare
from export.train import save_model
from fastdigit.datasets import load_mnist, load_mnist_test
from fastdigit.errors import FastDigitError, InputError, UnsupportedError, pip_install

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    from fastdigit.compiler.ops import Conv2D, Dense

__all__ = ["compact_model", "fold_temperature", "main", "verify"]


def compact_model(model: keras.Model) -> keras.Model:
    """Build `model` again with fewer channels and hidden units, and the same function.

    Parameters
    ----------
    model
        Sequential, or functional with one path and no models within it; of layers that the compiler
        reads.

    Returns
    -------
    keras.Model
        With layers of the same kinds and names. It is not compiled for training.

    Raises
    ------
    UnsupportedError
        The model is another one; the message names the layer.
    """
    import keras

    from fastdigit.compiler.frontends import import_model
    from fastdigit.compiler.ir import Graph
    from fastdigit.compiler.ops import Conv2D, Dense
    from fastdigit.compiler.passes.remove_dead_units import live_units, remove_dead_units

    graph: Graph = import_model(model).graph
    _, live = live_units(graph)
    # A node is named after its layer, and the mask of its last one is that of the layer's output.
    kept = {node.name: live[node.output] for node in graph.nodes}
    weighted: dict[str, Conv2D | Dense] = {
        node.name: node.op
        for node in remove_dead_units(graph).nodes
        if isinstance(node.op, Conv2D | Dense)
    }

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            raise UnsupportedError(f"layer {layer.name!r} is a model; compact takes plain layers")
        config, name = layer.get_config(), _node_name(layer)
        match type(layer).__name__:
            case "Conv2D" | "Dense" as kind:
                op = weighted[name]
                config["filters" if kind == "Conv2D" else "units"] = op.weights.shape[-1]
                config["use_bias"] = op.bias is not None
            case "Reshape" if len(config["target_shape"]) == 1:
                config["target_shape"] = (-1,)
            case "Rescaling" if np.ndim(layer.scale) or np.ndim(layer.offset):
                raise UnsupportedError(
                    f"layer {layer.name!r} rescales each channel; compact takes one scale for all"
                )
        return type(layer).from_config(config)

    small = keras.models.clone_model(model, clone_function=clone)
    for layer in small.layers:
        name = _node_name(layer)
        if name in weighted:
            layer.set_weights(_weights(weighted[name]))
        elif type(layer).__name__ == "BatchNormalization":
            source = model.get_layer(layer.name)
            axis = source.axis[0] if isinstance(source.axis, list | tuple) else source.axis
            last = axis in (-1, len(source.output.shape) - 1)
            mask = kept[name] if last else np.s_[:]
            layer.set_weights([weight[mask] for weight in source.get_weights()])
        elif layer.weights:
            raise UnsupportedError(f"layer {layer.name!r} has weights that compact doesn't know")
    return small


def _node_name(layer: keras.Layer) -> str:
    """What the compiler's front end calls the operators of a layer."""
    return f"{layer.name!r} ({type(layer).__name__})"


def _weights(op: Conv2D | Dense) -> list[Any]:
    weights = [op.weights] if op.bias is None else [op.weights, op.bias]
    return [array.astype(np.float32) for array in weights]


def fold_temperature(model: keras.Model, temperature: float) -> keras.Model:
    """Divide the weights of the last layer, a dense one with a softmax, by a temperature, in place.

    Keras has no softmax with a temperature. Rounding the quotients may turn over a label that is
    nearly a tie, which the ``.fdm`` and ONNX files, which keep their weights, don't do.

    Raises
    ------
    UnsupportedError
        The last layer is another one.
    InputError
        The temperature is not a number > 0 that float32 has.
    """
    stored = np.float32(temperature)
    if not (np.isfinite(stored) and stored > 0):
        raise InputError(f"temperature is {temperature}, expected a number > 0 that float32 has")
    last = model.layers[-1]
    if type(last).__name__ != "Dense" or last.get_config()["activation"] != "softmax":
        raise UnsupportedError(
            f"layer {last.name!r} is the last; a temperature needs a Dense with a softmax there"
        )
    last.set_weights([weight / stored for weight in last.get_weights()])
    return model


def verify(
    small: keras.Model, model: keras.Model, temperature: float, images: npt.NDArray[np.uint8]
) -> float:
    """Compare `small`, with its temperature, with `model` on uint8 `images` (N, 28, 28).

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        A label differs, or a probability by more than `TOLERANCE` (times the temperature, where
        that is greater than 1: it magnifies the rounding of small probabilities).
    """
    x = network_input(images)
    plain = model.predict(x, batch_size=500, verbose=0)
    got = small.predict(x, batch_size=500, verbose=0)
    return compare(
        f"the small model and {model.name!r}",
        got,
        softmax(log_probabilities(plain), temperature),
        TOLERANCE * max(1.0, temperature),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.compact",
        description="Leave out of a Keras model the units that make no difference.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.keras")
    add("output", type=Path, metavar="OUT.keras")
    add("--temperature", type=float, default=1.0, help="of the softmax; default: 1")
    add("--data", type=Path, help="test digits to compare on; default: those in the package")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    try:
        import keras

        model = keras.saving.load_model(options.model, compile=False)
        images, _ = load_mnist(options.data)[1] if options.data else load_mnist_test()
        small = compact_model(model)
        if options.temperature != 1:
            fold_temperature(small, options.temperature)
        difference = verify(small, model, options.temperature, images)
        save_model(small, options.output)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"export.compact: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.compact: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    print(
        f"{options.output}: {small.count_params():,} of {model.count_params():,} parameters; "
        f"labels of {len(images)} test digits identical, largest difference of a probability "
        f"{difference:.2g}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

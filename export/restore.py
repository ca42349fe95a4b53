"""A trained network of which nothing but the compiled model is left, as a Keras model again.

    python -m export.restore MODEL.fdm OUT.keras

What it computes is what the ``.fdm`` does before its temperature. Batch normalizations were folded
into scales and shifts, so their statistics are estimated anew on training digits: training can
go on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.batches import network_input
from export.recipes import RECIPES, SEED_WIDTHS, build_model
from fastdigit.datasets import load_mnist
from fastdigit.errors import FastDigitError, UnsupportedError, pip_install

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["main", "restore"]

#: Training digits on which the statistics of the normalizations are estimated.
SAMPLE = 4000

NAMES = ("conv1", "conv2", "conv3", "dense1", "dense2")


def restore(file: Path, images: npt.NDArray[np.uint8]) -> keras.Model:
    """Build the network of a compiled model of one of the recipes, in the full shape.

    Parameters
    ----------
    file
        The ``.fdm``, with float32 weights.
    images
        Training digits, uint8 (N, 28, 28).

    Raises
    ------
    UnsupportedError
        It is another network than that of 2017, whatever its widths.
    """
    import keras

    from export import prune
    from fastdigit.compiler import unpack
    from fastdigit.compiler.ops import Conv2D, Dense

    ops = [node.op for node in unpack(file.read_bytes()).graph.nodes]
    weighted = [op for op in ops if isinstance(op, Conv2D | Dense)]
    if [type(op) for op in weighted] != [Conv2D] * 3 + [Dense] * 2:
        raise UnsupportedError(f"{file} is not the network of 2017, which alone can be restored")
    if any(op.weights.dtype != np.float32 for op in weighted):
        raise UnsupportedError(f"the weights of {file} are not float32, so they cannot be restored")
    c1, c2, c3, d1 = (op.weights.shape[-1] for op in weighted[:-1])
    recipe = dataclasses.replace(RECIPES["digits"], widths=(c1, c2, c3, d1))
    model = build_model(recipe)
    for name, op in zip(NAMES, weighted, strict=True):
        bias = np.zeros(op.weights.shape[-1], np.float32) if op.bias is None else op.bias
        model.get_layer(name).set_weights([op.weights, bias])
    x = network_input(images[:SAMPLE])
    for number in (2, 3):  # the statistics of the second depend on what the first does
        layer, op = model.get_layer(f"bn{number}"), weighted[number - 1]
        before = keras.Model(model.inputs, model.get_layer(f"conv{number}").output)
        seen = before.predict(x, batch_size=250, verbose=0).astype(np.float64)
        mean, variance = seen.mean(axis=(0, 2, 3)), seen.var(axis=(0, 2, 3))
        affine = op.affine if isinstance(op, Conv2D) else None
        if affine is None or affine.axis != 0:
            raise UnsupportedError(f"{file}: conv{number} is not followed by a scale for each row")
        gamma = affine.scale * np.sqrt(variance + layer.epsilon)
        beta = affine.shift + affine.scale * mean
        layer.set_weights([gamma, beta, mean, variance])
    if recipe.widths == SEED_WIDTHS:
        return model
    full = build_model(dataclasses.replace(recipe, widths=SEED_WIDTHS))
    prune.embed(model, full)
    return full


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.restore", description="Make a Keras model of a compiled one."
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.fdm")
    add("output", type=Path, metavar="OUT.keras")
    add("--data", type=Path, help="directory with the IDX files, or mnist.npz; default: find them")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    try:
        (images, _), _ = load_mnist(options.data)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        restore(options.model, images).save(options.output)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"export.restore: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.restore: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

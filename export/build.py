"""From MNIST to the shipped model, one command: ``python -m export.build seed``.

Trains the recipe, or goes on where an interrupted training stopped, converts it to ONNX, compiles
it, holds the compiled model against ONNX Runtime on all test digits, and puts both files where the
package has them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

import fastdigit
from export import to_onnx, train
from export.batches import network_input
from export.recipes import RECIPES
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError, VerificationError

__all__ = ["build_models", "check_parity", "main"]

#: Promised difference of a probability from ONNX Runtime, on the same weights.
TOLERANCE = 1e-5


def check_parity(compiled: Path, onnx: Path) -> float:
    """Compare a compiled model with its ONNX on the 10,000 test digits.

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        A label differs, or a probability by more than `TOLERANCE`.
    """
    import onnxruntime

    images, _ = load_mnist_test()
    x = network_input(images)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    parts = np.split(x, range(500, len(x), 500))
    expected = np.concatenate([session.run(None, {to_onnx.INPUT: part})[0] for part in parts])
    got = fastdigit.load(compiled).predict_proba(x)
    difference = float(np.abs(got - expected).max())
    labels = int((got.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if labels or not difference <= TOLERANCE:
        raise VerificationError(
            f"fastdigit and ONNX Runtime differ on {labels} of {len(x)} labels and by up to "
            f"{difference:.2g} in a probability; expected none and at most {TOLERANCE:.0e}"
        )
    return difference


def build_models(keras_file: Path, models: Path) -> None:
    """Convert and compile a trained `keras_file` into NAME.onnx and NAME.fdm in `models`."""
    onnx, compiled = (models / f"{keras_file.stem}{suffix}" for suffix in (".onnx", ".fdm"))
    if to_onnx.main([str(keras_file), str(onnx)]):
        raise VerificationError("the conversion to ONNX failed")
    result = fastdigit.compile(keras_file, compiled, name=keras_file.stem)
    print(result.listing())
    difference = check_parity(compiled, onnx)
    print(
        f"{compiled}: labels of all test digits as ONNX Runtime has them, largest difference of a "
        f"probability {difference:.2g}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.build", description=__doc__)
    add = parser.add_argument
    add("recipe", nargs="?", choices=sorted(RECIPES), default="seed")
    add("--data", type=Path, help="directory with the IDX files, or mnist.npz; default: find them")
    add("--output", type=Path, help="of the training; default: runs/RECIPE")
    add("--models", type=Path, default=Path("fastdigit/models"), help="default: the package's")
    options = parser.parse_args(arguments)
    output = options.output or Path("runs") / options.recipe
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    training = ["--recipe", options.recipe, "--output", str(output)]
    if options.data:
        training += ["--data", str(options.data)]
    status = train.main(training)
    if status:
        return status
    try:
        build_models(output / f"{options.recipe}.keras", options.models)
    except (FastDigitError, OSError) as error:
        print(f"export.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train a recipe on MNIST: ``python -m export.train --recipe seed``.

A run is a function of its recipe and data: with the same machine and the same versions of
TensorFlow and NumPy, the same seed gives the same weights, bit for bit. An interrupted run
continues after the last whole epoch and ends with the weights it would have had: the order of the
images and the dropout masks of an epoch depend on (seed, epoch) alone, and the weights and the
optimizer's state are in the checkpoint.

The last epoch counts. No epoch is selected, by the validation images or otherwise, and the test
images are used once, after training.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.progress import TrainingProgress
from export.recipes import ACTIVATIONS, LEARNING_RATES, RECIPES, Recipe, build_model
from fastdigit.datasets import MNIST_SHA256, encode_idx, load_mnist
from fastdigit.errors import FastDigitError

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]

__all__ = ["main", "network_input", "train"]

CHECKPOINT = "checkpoint.keras"
RUN = "run.json"
HISTORY = "history.json"
CLASSES = 10


def train(
    recipe: Recipe,
    data: tuple[Split, Split],
    output: Path,
    *,
    fresh: bool = False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> keras.Model:
    """Train `recipe` to its last epoch, from the checkpoint in `output` if there is one.

    Parameters
    ----------
    recipe
        What to train.
    data
        As :func:`fastdigit.datasets.load_mnist` returns it.
    output
        Directory of the checkpoint, ``run.json`` (what is being trained) and ``history.json``
        (metrics of each epoch); made if missing.
    fresh
        Ignore and overwrite what is in `output`.
    after_epoch
        Called with the number of epochs done, when the checkpoint is safely on disk.

    Raises
    ------
    FastDigitError
        `output` holds another run, or a damaged checkpoint.
    """
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    (images, labels), _ = data
    trained = len(images) - int(len(images) * recipe.validation_split)
    x, y = network_input(images), one_hot(labels)

    def batches(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> tf.data.Dataset:
        # Keras would make a data set that TensorFlow complains about when ops are deterministic.
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(recipe.batch_size).prefetch(2)

    held_out = batches(x[trained:], y[trained:])
    steps = -(-trained // recipe.batch_size)

    output.mkdir(parents=True, exist_ok=True)
    run = {"recipe": dataclasses.asdict(recipe), "data_sha256": fingerprint(data)}
    history: list[dict[str, float]] = []
    model = build_model(recipe)
    if fresh:
        (output / CHECKPOINT).unlink(missing_ok=True)
    if not (output / CHECKPOINT).exists():
        write_json(output / RUN, run)
    else:
        model = resume(output, run)
        done = int(model.optimizer.iterations.numpy()) // steps
        # The history is written first; an epoch whose checkpoint was lost is in it once too often.
        history = read_json(output / HISTORY)[:done]
        if len(history) != done:
            raise FastDigitError(
                f"{output / HISTORY} has {len(history)} epochs but the checkpoint has {done}; "
                f"start over with --fresh"
            )

    with TrainingProgress(recipe.epochs, len(history), steps) as progress:
        report = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: progress.batch_ends(batch + 1, logs["loss"])
        )
        for epoch in range(len(history), recipe.epochs):
            begin = time.monotonic()
            progress.epoch_begins()
            random = np.random.default_rng([recipe.seed, epoch])
            order = random.permutation(trained)
            model.get_layer("dropout").seed_generator.state.assign(
                random.integers(2**32, size=2, dtype=np.uint32)
            )
            result = model.fit(
                batches(x[order], y[order]),
                validation_data=held_out,
                shuffle=False,
                callbacks=[report],
                verbose=0,
            )
            metrics = {name: float(values[0]) for name, values in result.history.items()}
            history.append({**metrics, "seconds": round(time.monotonic() - begin, 3)})
            write_json(output / HISTORY, history)
            save_model(model, output / CHECKPOINT)
            progress.epoch_ends(epoch + 1, metrics)
            after_epoch(epoch + 1)
    return model


def resume(output: Path, run: dict[str, Any]) -> keras.Model:
    """Load the checkpoint in `output`, which must belong to `run`."""
    import keras

    found = read_json(output / RUN)
    if found != run:
        raise FastDigitError(
            f"{output} holds a checkpoint of another run\n  found     {json.dumps(found)}\n"
            f"  expected  {json.dumps(run)}\nchoose another --output, or start over with --fresh"
        )
    try:
        return keras.saving.load_model(output / CHECKPOINT)
    except (OSError, ValueError, KeyError) as error:
        raise FastDigitError(
            f"the checkpoint {output / CHECKPOINT} can't be loaded ({error}); "
            f"start over with --fresh"
        ) from error


def network_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn uint8 images (N, 28, 28) into the network's float32 (N, 28, 28, 1) in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def one_hot(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.eye(CLASSES, dtype=np.float32)[labels]


def fingerprint(data: tuple[Split, Split]) -> dict[str, str]:
    """SHA-256 of each array as an IDX file; for MNIST these are the published hashes."""
    arrays = [array for split in data for array in split]
    return {
        name: hashlib.sha256(encode_idx(array)).hexdigest()
        for name, array in zip(MNIST_SHA256, arrays, strict=True)
    }


def write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FastDigitError(f"can't read {path} ({error}); start over with --fresh") from error


def save_model(model: keras.Model, path: Path) -> None:
    """Save with optimizer state; `path` is either the old file or the whole new one."""
    temporary = path.with_name("saving-" + path.name)  # Keras goes by the suffix
    model.save(temporary)
    os.replace(temporary, path)


def finish(recipe: Recipe, data: tuple[Split, Split], model: keras.Model, output: Path) -> bool:
    """Save the trained `model`, reload and evaluate it, and draw the figures.

    Returns whether both saved files gave the results of `model` on every test image.
    """
    import keras
    import tensorflow as tf

    from export import figures

    _, (images, labels) = data
    x, y = network_input(images), one_hot(labels)
    expected = model.predict(x, batch_size=500, verbose=0)
    agree = True
    evaluations: dict[str, dict[str, float]] = {}
    for suffix in (".keras", ".h5"):
        path = output / f"{recipe.name}{suffix}"
        save_model(model, path)
        loaded = keras.saving.load_model(path)
        metrics = loaded.evaluate(x, y, batch_size=500, verbose=0, return_dict=True)
        same = bool(np.array_equal(loaded.predict(x, batch_size=500, verbose=0), expected))
        agree &= same
        evaluations[path.name] = {name: float(value) for name, value in metrics.items()}
        print(
            f"{path.name:12s} test "
            + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            + ("" if same else "  DIFFERS from the model in memory")
        )

    history = read_json(output / HISTORY)
    summary: list[str] = []
    # Of a model without its optimizer, whose variables would be counted among the parameters.
    keras.saving.load_model(output / f"{recipe.name}.keras", compile=False).summary(
        print_fn=summary.append, line_length=80
    )
    (output / "summary.txt").write_text("\n".join(summary) + "\n", encoding="utf-8")
    figures.draw_architecture(model, output / "architecture.svg")
    figures.draw_curves(history, output / "curves.svg")
    figures.draw_curves(history, output / "curves.png")
    figures.draw_predictions(images, labels, expected, output / "predictions.png")
    write_json(
        output / "result.json",
        {
            **read_json(output / RUN),
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
            "machine": platform.machine(),
            "epochs": len(history),
            "seconds": round(sum(epoch["seconds"] for epoch in history), 1),
            "last_epoch": history[-1],
            "test": evaluations,
        },
    )
    return agree


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    changes = {
        name: value
        for name in ("activation", "optimizer", "epochs", "batch_size", "seed")
        if (value := getattr(options, name)) is not None
    }
    if "optimizer" in changes:
        changes["learning_rate"] = LEARNING_RATES[changes["optimizer"]]
    try:
        recipe = dataclasses.replace(RECIPES[options.recipe], **changes)
        data = load_mnist(options.data)
        model = train(recipe, data, options.output, fresh=options.fresh)
        agree = finish(recipe, data, model, options.output)
    except (FastDigitError, ValueError) as error:
        print(f"export.train: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.train: {error}; it needs: pip install 'fastdigit[export]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues after the last whole epoch", file=sys.stderr)
        return 130
    print(f"everything is in {options.output}")
    return 0 if agree else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m export.train", description=__doc__)
    add = parser.add_argument
    add("--recipe", choices=sorted(RECIPES), default="seed")
    add("--activation", choices=ACTIVATIONS, help="default: the recipe's")
    add("--optimizer", choices=sorted(LEARNING_RATES), help="default: the recipe's")
    add("--epochs", type=int, help="default: the recipe's")
    add("--batch-size", type=int, help="default: the recipe's")
    add("--seed", type=int, help="default: the recipe's")
    add("--data", type=Path, help="directory with the IDX files, or mnist.npz; default: find them")
    add("--output", type=Path, help="default: runs/RECIPE")
    add("--fresh", action="store_true", help="start over, overwriting what is in the output")
    options = parser.parse_args(arguments)
    if options.output is None:
        options.output = Path("runs") / options.recipe
    return options


if __name__ == "__main__":
    sys.exit(main())

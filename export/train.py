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
import functools
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastdigit
from export.batches import Batches, Teacher, network_input, one_hot
from export.pictures import collection
from export.progress import TrainingProgress
from export.recipes import (
    ACTIVATIONS,
    LEARNING_RATES,
    RECIPES,
    SEED_WIDTHS,
    Recipe,
    build_model,
)
from export.sharpness import sharpness_aware
from export.split import held_out, read_writers
from fastdigit.datasets import MNIST_SHA256, encode_idx, load_mnist
from fastdigit.errors import FastDigitError, pip_install

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]

__all__ = ["main", "train"]

CHECKPOINT = "checkpoint.keras"
RUN = "run.json"
HISTORY = "history.json"
VALIDATION = "validation.npz"
RESULT = "result.json"

#: Both of Keras' formats are saved.
SUFFIXES = (".keras", ".h5")


def train(
    recipe: Recipe,
    data: tuple[Split, Split],
    output: Path,
    *,
    validation: npt.NDArray[np.bool_] | None = None,
    teachers: Sequence[Path] = (),
    start: Path | None = None,
    pictures: Path | None = None,
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
    validation
        bool for each training image: held out, for the figures of the history alone. By default
        as :func:`export.split.held_out` says; all false trains on everything.
    teachers
        ``.fdm`` files of the teachers, as many as the recipe has.
    start
        ``.keras`` file of a trained network from which the first weights are taken: the strongest
        channels and units, where the recipe has fewer (:mod:`export.prune`). By default they are
        drawn at random.
    pictures
        What :mod:`export.pictures` made for training, if the recipe has a share of it.
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

    from export import prune

    tf.config.experimental.enable_op_determinism()
    if recipe.start is not None and start is None:
        raise FastDigitError(
            f"recipe {recipe.name!r} starts from a network of recipe {recipe.start!r}: say which "
            f"with --start, or let python -m export.build {recipe.name} train both"
        )
    if recipe.pictures and pictures is None:
        raise FastDigitError(
            f"recipe {recipe.name!r} has pictures: make them with python -m export.pictures, and "
            f"say where they are with --pictures"
        )
    (images, labels), _ = data
    if validation is None:
        validation = held_out(recipe, len(images))
    loaded: list[Teacher] = [fastdigit.load(path) for path in teachers]
    batches = Batches(
        recipe,
        images[~validation],
        labels[~validation],
        loaded,
        collection.read(pictures) if pictures else None,
    )
    steps = batches.steps
    held: tf.data.Dataset | None = None
    if validation.any():
        x, y = network_input(images[validation]), one_hot(labels[validation])
        # Keras would make a data set that TensorFlow complains about when ops are deterministic.
        held = tf.data.Dataset.from_tensor_slices((x, y)).batch(500).prefetch(2)

    output.mkdir(parents=True, exist_ok=True)
    run = describe_run(recipe, data, validation, teachers, start, pictures)
    history: list[dict[str, float]] = []
    model = build_model(recipe, steps)
    if start is not None:
        prune.take_strongest(keras.saving.load_model(start, compile=False), model, images)
    first = model.get_weights()
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

    step_on: Callable[..., dict[str, Any]]
    if recipe.sharpness:
        step_on = sharpness_aware(model, recipe.sharpness)
    else:
        step_on = functools.partial(model.train_on_batch, return_dict=True)
    with TrainingProgress(recipe.epochs, len(history), steps) as progress:
        for epoch in range(len(history), recipe.epochs):
            begin = time.monotonic()
            progress.epoch_begins()
            random = np.random.default_rng([recipe.seed, epoch])
            order = random.permutation(int((~validation).sum()))
            for layer in model.layers:
                if isinstance(layer, keras.layers.Dropout):
                    state = random.integers(2**32, size=2, dtype=np.uint32)
                    layer.seed_generator.state.assign(state)
            # Not fit(): it was seen to pass 100 ms or 200 ms between steps of 72 ms.
            metrics: dict[str, float] = {}
            seen = 0  # the images of the data and those without a digit
            for step, (x, y) in enumerate(batches.epoch(epoch, order), 1):
                means = step_on(x, y)  # of this batch
                seen += len(x)
                for name, value in means.items():
                    metrics[name] = metrics.get(name, 0.0) + float(value) * len(x)
                progress.batch_ends(step, float(means["loss"]))
            metrics = {name: value / seen for name, value in metrics.items()}
            if held is not None:
                values = model.evaluate(held, verbose=0, return_dict=True)
                metrics |= {f"val_{name}": float(value) for name, value in values.items()}
            history.append({**metrics, "seconds": round(time.monotonic() - begin, 3)})
            write_json(output / HISTORY, history)
            save_model(model, output / CHECKPOINT)
            progress.epoch_ends(epoch + 1, metrics)
            after_epoch(epoch + 1)
    if recipe.start_share:
        share = np.float32(recipe.start_share)
        last = model.get_weights()
        model.set_weights([b + share * (a - b) for a, b in zip(first, last, strict=True)])
    return model


def describe_run(
    recipe: Recipe,
    data: tuple[Split, Split],
    validation: npt.NDArray[np.bool_],
    teachers: Sequence[Path],
    start: Path | None,
    pictures: Path | None = None,
) -> dict[str, Any]:
    """All that a run is a function of, beside versions and machine."""
    return {
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "data_sha256": fingerprint(data),
        "held_out": {
            "images": int(validation.sum()),
            "sha256": hashlib.sha256(np.packbits(validation).tobytes()).hexdigest(),
        },
        "teachers_sha256": [file_sha256(path) for path in teachers],
        "start_sha256": file_sha256(start) if start else None,
        "pictures_sha256": file_sha256(pictures) if pictures else None,
    }


def is_finished(output: Path, run: dict[str, Any]) -> bool:
    """Whether `run` was trained to its end in `output`, and what it saved is there and right.

    Saving it again would give a file of other bytes (it has the time in it), and whatever was
    trained from that file would count as another run.
    """
    if not (output / RESULT).exists():
        return False
    result = read_json(output / RESULT)
    files = [output / f"{run['recipe']['name']}{suffix}" for suffix in SUFFIXES]
    same = {name: result.get(name) for name in run} == run
    return same and result.get("reloads", False) and all(file.exists() for file in files)


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


def fingerprint(data: tuple[Split, Split]) -> dict[str, str]:
    """SHA-256 of each array as an IDX file; for MNIST these are the published hashes."""
    arrays = [array for split in data for array in split]
    return {
        name: hashlib.sha256(encode_idx(array)).hexdigest()
        for name, array in zip(MNIST_SHA256, arrays, strict=True)
    }


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


def finish(
    recipe: Recipe,
    data: tuple[Split, Split],
    model: keras.Model,
    output: Path,
    validation: npt.NDArray[np.bool_],
) -> bool:
    """Save the trained `model`, reload and evaluate it, and draw the figures.

    What is evaluated: the test images if the recipe is final (``seed``, which always was scored
    like that, or a training on all images), otherwise the held-out ones alone.

    Returns whether both saved files gave the results of `model` on every image.
    """
    import keras

    from export import figures, prune

    trained = model
    if recipe.widths != SEED_WIDTHS:
        model = build_model(dataclasses.replace(recipe, widths=SEED_WIDTHS))
        prune.embed(trained, model)
        model.optimizer.build(model.trainable_variables)  # or loading warns that it has no state
    (images, labels), test = data
    evaluated = "test"
    if validation.any():
        probabilities = model.predict(network_input(images[validation]), batch_size=500, verbose=0)
        np.savez(
            output / VALIDATION,
            probabilities=probabilities,
            labels=labels[validation],
            images=np.flatnonzero(validation),
        )
    if validation.any() and recipe.validation != "end":
        evaluated, images, labels = "validation", images[validation], labels[validation]
    else:
        images, labels = test
    x, y = network_input(images), one_hot(labels)
    expected = model.predict(x, batch_size=500, verbose=0)
    agree = True
    evaluations: dict[str, dict[str, float]] = {}
    for suffix in SUFFIXES:
        path = output / f"{recipe.name}{suffix}"
        save_model(model, path)
        loaded = keras.saving.load_model(path)
        metrics = loaded.evaluate(x, y, batch_size=500, verbose=0, return_dict=True)
        same = bool(np.array_equal(loaded.predict(x, batch_size=500, verbose=0), expected))
        agree &= same
        evaluations[path.name] = {name: float(value) for name, value in metrics.items()}
        print(
            f"{path.name:12s} {evaluated} "
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
        output / RESULT,
        {
            **read_json(output / RUN),
            "versions": versions(),
            "machine": platform.machine(),
            "epochs": len(history),
            "seconds": round(sum(epoch["seconds"] for epoch in history), 1),
            "last_epoch": history[-1],
            evaluated: evaluations,
            "reloads": agree,
        },
    )
    return agree


def versions() -> dict[str, str]:
    """Of everything that the result of a training depends on."""
    import keras
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


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
        validation = choose_validation(recipe, len(data[0][0]), options)
        run = describe_run(
            recipe, data, validation, options.teachers, options.start, options.pictures
        )
        if not options.fresh and is_finished(options.output, run):
            print(f"finished before; everything is in {options.output}")
            return 0
        model = train(
            recipe,
            data,
            options.output,
            validation=validation,
            teachers=options.teachers,
            start=options.start,
            pictures=options.pictures,
            fresh=options.fresh,
        )
        agree = finish(recipe, data, model, options.output, validation)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"export.train: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.train: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues after the last whole epoch", file=sys.stderr)
        return 130
    print(f"everything is in {options.output}")
    return 0 if agree else 1


def choose_validation(
    recipe: Recipe, images: int, options: argparse.Namespace
) -> npt.NDArray[np.bool_]:
    """Which images are held out, by the options; warns of a split that flatters."""
    if options.all:
        return np.zeros(images, bool)
    writers = read_writers(options.writers, images) if options.writers else None
    if recipe.validation == "writers" and writers is None:
        print(
            "export.train: the writers of the digits are not known (--writers FILE), so the held-"
            "out images are drawn at random: the same people wrote both parts, and validation "
            "flatters",
            file=sys.stderr,
        )
    return held_out(recipe, images, writers)


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
    add("--writers", type=Path, help="npz that says who wrote what, to hold out whole writers")
    add(
        "--all", action="store_true", help="hold nothing out; the test images are scored at the end"
    )
    add("--teachers", type=Path, nargs="+", default=[], help=".fdm files, as the recipe asks for")
    add("--start", type=Path, help=".keras file whose strongest units the training starts from")
    add("--pictures", type=Path, help=".npz file of export.pictures, if the recipe has pictures")
    add("--output", type=Path, help="default: runs/RECIPE")
    add("--fresh", action="store_true", help="start over, overwriting what is in the output")
    options = parser.parse_args(arguments)
    if options.output is None:
        options.output = Path("runs") / options.recipe
    return options


if __name__ == "__main__":
    sys.exit(main())

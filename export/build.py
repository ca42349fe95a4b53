"""From MNIST to a shipped model, one command: ``python -m export.build digits``.

Trains the recipe and the networks it starts from and learns from, or goes on where an interrupted
build stopped; converts the result to ONNX, as it is and compacted; compiles it; holds the compiled
model against ONNX Runtime on all test digits; writes the model card. Models go where the package
has them, what was exported to the tests, the card to the documents. What is shipped is the network
of the recipe's own seed: more seeds (``--seeds``) tell how far seeds differ, none is chosen.

The chain is long. ``--restored small-1=FILE.fdm`` takes a network of it from a compiled model.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastdigit
from export import card, restore, robustness, to_onnx, train
from export.batches import network_input
from export.parity import compare
from export.pictures import collection, report
from export.recipes import RECIPES, SEED_WIDTHS, Recipe
from fastdigit.compiler.frontends.runners import import_onnxruntime
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError, VerificationError

__all__ = ["build_models", "check_parity", "main", "needed", "train_chain"]

#: First lines of the cards.
SUMMARIES = {
    "seed": "The network of 2017 as it was trained then: no augmentation, 50 epochs of Adadelta.",
    "digits": "The default model: the network of 2017, trained with augmentation, sharpness-aware "
    "steps and images that show no digit, taught by five networks, pruned to 16, 32 and 64 "
    "channels and 256 hidden units, and then trained on with digits that MNIST lacks, drawn and "
    "printed, and with letters, pieces and pairs as what is no digit. The network from which that "
    "last training started had seen all training digits, so validation below flatters.",
}

#: Pictures in the collection for validation.
VALIDATION_PICTURES = 6_500


def needed(recipe: Recipe) -> tuple[list[Recipe], Recipe | None]:
    """Return the teachers of a recipe, and what it starts from, with their seeds."""
    teachers = []
    for teacher in recipe.teachers:
        name, _, seed = teacher.partition("-")
        teachers.append(dataclasses.replace(RECIPES[name], seed=int(seed)))
    if recipe.start is None:
        return teachers, None
    return teachers, dataclasses.replace(RECIPES[recipe.start], seed=recipe.seed)


def train_chain(
    recipe: Recipe,
    runs: Path,
    options: Sequence[str],
    *,
    pictures: Path | None = None,
    restored: Mapping[str, Path] | None = None,
) -> Path:
    """Train what `recipe` needs, then `recipe`; return the directory of its run.

    Parameters
    ----------
    recipe
        With its seed.
    runs
        Where ``NAME-SEED`` are; a finished run in there is not repeated.
    options
        Of :mod:`export.train`, for all of them, such as ``--all``.
    pictures
        The collection for training, for the recipes that have pictures.
    restored
        Compiled models, by the name of a run, as ``"small-1"``, which are taken for its result.

    Raises
    ------
    FastDigitError
        A training failed; it has said why.
    """
    restored = restored or {}
    output = runs / f"{recipe.name}-{recipe.seed}"
    if output.name in restored:
        trained = output / f"{recipe.name}.keras"
        if not trained.exists():  # another one would be of other bytes: it has the time in it
            data = list(options[options.index("--data") :][:2]) if "--data" in options else []
            if restore.main([str(restored[output.name]), str(trained), *data]):
                raise FastDigitError(f"{restored[output.name]} could not be restored")
        return output
    arguments = ["--recipe", recipe.name, "--seed", str(recipe.seed), "--output", str(output)]
    teachers, start = needed(recipe)
    if teachers:
        arguments.append("--teachers")
        for teacher in teachers:
            run = train_chain(teacher, runs, options, pictures=pictures, restored=restored)
            compiled = run / f"{teacher.name}.fdm"
            if not compiled.exists():
                fastdigit.compile(run / f"{teacher.name}.keras", compiled, name=run.name)
            arguments.append(str(compiled))
    if start is not None:
        run = train_chain(start, runs, options, pictures=pictures, restored=restored)
        arguments += ["--start", str(run / f"{start.name}.keras")]
    if recipe.pictures:
        if pictures is None:
            raise FastDigitError(f"recipe {recipe.name!r} has pictures, but there are none")
        arguments += ["--pictures", str(pictures)]
    print(f"{recipe.name}, seed {recipe.seed}:", flush=True)
    if train.main([*arguments, *options]):
        raise FastDigitError(f"the training in {output} failed")
    return output


def check_parity(compiled: Path, onnx: Path) -> float:
    """Compare a compiled model with its ONNX on the 10,000 test digits.

    Returns
    -------
    float
        Largest absolute difference of a probability.

    Raises
    ------
    VerificationError
        A label differs, or a probability by more than 1e-5.
    """
    onnxruntime = import_onnxruntime()
    images, _ = load_mnist_test()
    x = network_input(images)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    parts = np.split(x, range(500, len(x), 500))
    expected = np.concatenate([session.run(None, {to_onnx.INPUT: part})[0] for part in parts])
    got = fastdigit.load(compiled).predict_proba(x)
    return compare("fastdigit and ONNX Runtime", got, expected)


def build_models(
    recipe: Recipe,
    keras_file: Path,
    models: Path,
    exported: Path,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Convert and compile a trained `keras_file` of `recipe`.

    `models` gets ``NAME.fdm``; `exported` gets ``NAME.onnx`` and, if the recipe prunes,
    ``NAME-compact.onnx``. Returns the first.
    """
    compiled = models / f"{recipe.name}.fdm"
    forms: dict[Path, list[str]] = {exported / f"{recipe.name}.onnx": []}
    if recipe.widths != SEED_WIDTHS:
        forms[exported / f"{recipe.name}-compact.onnx"] = ["--compact"]
    temperature = ["--temperature", str(recipe.temperature)]
    for onnx, options in forms.items():
        if to_onnx.main([str(keras_file), str(onnx), *options, *temperature]):
            raise VerificationError("the conversion to ONNX failed")
    images, labels = load_mnist_test()
    result = fastdigit.compile(
        keras_file,
        compiled,
        name=recipe.name,
        samples=network_input(images),
        labels=labels,
        temperature=recipe.temperature,
        provenance=provenance,
    )
    print(result.listing())
    for onnx in forms:
        difference = check_parity(compiled, onnx)
        print(
            f"{compiled}: labels of all test digits as ONNX Runtime has them with {onnx.name}, "
            f"largest difference of a probability {difference:.2g}"
        )
    return compiled


def provenance(result: Mapping[str, Any], commit: str) -> dict[str, Any]:
    """What META says of a training, from its ``result.json``."""
    kept = ("recipe", "data_sha256", "teachers_sha256", "start_sha256", "pictures_sha256")
    kept += ("versions",)
    return {**{key: result[key] for key in kept}, "commit": commit}


def draw_pictures(options: argparse.Namespace) -> tuple[Path, Path]:
    """The collections for training and validation, made if they are not there."""
    files = (options.runs / "pictures.npz", options.runs / "pictures-validation.npz")
    common = ["--fonts", str(options.fonts)]
    for name in ("data", "writers"):
        if getattr(options, name):
            common += [f"--{name}", str(getattr(options, name))]
    options.runs.mkdir(parents=True, exist_ok=True)
    for file, validation in zip(files, (False, True), strict=True):
        extra = ["--validation", "--count", str(VALIDATION_PICTURES)] if validation else []
        if not file.exists() and collection.main([str(file), *common, *extra]):
            raise FastDigitError(f"{file} could not be made")
    return files


def _restored(text: str) -> tuple[str, Path]:
    run, equals, file = text.partition("=")
    if not (run and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not RUN=FILE.fdm")
    return run, Path(file)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.build", description=__doc__)
    add = parser.add_argument
    add("recipe", nargs="?", choices=sorted(RECIPES), default="digits")
    add("--data", type=Path, help="directory with the IDX files, or mnist.npz; default: find them")
    add("--seeds", type=int, default=1, help="networks to train; the first is built; default: 1")
    add("--runs", type=Path, default=Path("runs"), help="of the trainings; default: runs")
    add("--models", type=Path, default=Path("fastdigit/models"), help="default: the package's")
    exported = Path("tests/support/exported")
    add("--exported", type=Path, default=exported, help="for the ONNX; default: the tests' own")
    add("--docs", type=Path, default=Path("docs"), help="for the card; default: docs")
    add("--fonts", type=Path, default=Path("/usr/share/fonts"), help="default: /usr/share/fonts")
    add("--writers", type=Path, help="npz that says who wrote what, for the pictures")
    add("--hold-out", action="store_true", help="train without the digits of held-out writers")
    add(
        "--restored",
        action="append",
        type=_restored,
        default=[],
        metavar="RUN=FILE.fdm",
        help="a compiled model in place of a training, such as small-1=FILE.fdm",
    )
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}, expected 1 or more")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    recipe = RECIPES[options.recipe]
    # The recipe of 2017 held a part out; the others are validated apart, then take everything.
    training = ["--all"] if recipe.validation == "writers" and not options.hold_out else []
    if options.hold_out and options.writers:
        training += ["--writers", str(options.writers)]
    if options.data:
        training += ["--data", str(options.data)]
    try:
        commit = card.describe_commit()
        pictures = draw_pictures(options) if recipe.pictures else (None, None)
        runs = [
            train_chain(
                dataclasses.replace(recipe, seed=seed),
                options.runs,
                training,
                pictures=pictures[0],
                restored=dict(options.restored),
            )
            for seed in range(recipe.seed, recipe.seed + options.seeds)
        ]
        results = [train.read_json(run / "result.json") for run in runs]
        model = build_models(
            recipe,
            runs[0] / f"{recipe.name}.keras",
            options.models,
            options.exported,
            provenance(results[0], commit),
        )
        images, labels = load_mnist_test()
        beyond = robustness.evaluate(
            fastdigit.load(model, threads="auto").predict_proba, images, labels
        )
        summary = SUMMARIES.get(recipe.name, "")
        path = card.write_card(
            options.docs,
            model,
            (images, labels),
            results,
            commit=commit,
            summary=summary,
            beyond=beyond,
            pictures=report.score_file(model, pictures[1]) if pictures[1] else None,
        )
    except (FastDigitError, OSError) as error:
        print(f"export.build: {error}", file=sys.stderr)
        return 1
    print(f"{model}\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From MNIST to a shipped model, one command: ``python -m export.build digits``.

Trains the recipe and the networks it starts from and learns from, or goes on where an interrupted
build stopped; converts the result to ONNX, as it is and compacted; compiles it; holds the compiled
model against ONNX Runtime on all test digits; writes the model card. Models go where the package
has them, what was exported to the tests, the card to the documents. What is shipped is the network
of the recipe's own seed: more seeds (``--seeds``) tell how far seeds differ, none is chosen.
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
from export import card, robustness, to_onnx, train
from export.batches import network_input
from export.parity import compare
from export.recipes import RECIPES, SEED_WIDTHS, Recipe
from fastdigit.compiler.frontends.runners import import_onnxruntime
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError, VerificationError

__all__ = ["build_models", "check_parity", "main", "needed", "train_chain"]

#: First lines of the cards.
SUMMARIES = {
    "seed": "The network of 2017 as it was trained then: no augmentation, 50 epochs of Adadelta.",
    "digits": "The default model: the network of 2017, trained with augmentation, sharpness-aware "
    "steps and images that show no digit, taught by five networks, and pruned to 16, 32 and 64 "
    "channels and 256 hidden units.",
}


def needed(recipe: Recipe) -> tuple[list[Recipe], Recipe | None]:
    """Return the teachers of a recipe, and what it starts from, with their seeds."""
    teachers = []
    for teacher in recipe.teachers:
        name, _, seed = teacher.partition("-")
        teachers.append(dataclasses.replace(RECIPES[name], seed=int(seed)))
    if recipe.start is None:
        return teachers, None
    return teachers, dataclasses.replace(RECIPES[recipe.start], seed=recipe.seed)


def train_chain(recipe: Recipe, runs: Path, options: Sequence[str]) -> Path:
    """Train what `recipe` needs, then `recipe`; return the directory of its run.

    Parameters
    ----------
    recipe
        With its seed.
    runs
        Where ``NAME-SEED`` are; a finished run in there is not repeated.
    options
        Of :mod:`export.train`, for all of them, such as ``--all``.

    Raises
    ------
    FastDigitError
        A training failed; it has said why.
    """
    output = runs / f"{recipe.name}-{recipe.seed}"
    arguments = ["--recipe", recipe.name, "--seed", str(recipe.seed), "--output", str(output)]
    teachers, start = needed(recipe)
    if teachers:
        arguments.append("--teachers")
        for teacher in teachers:
            run = train_chain(teacher, runs, options)
            compiled = run / f"{teacher.name}.fdm"
            if not compiled.exists():
                fastdigit.compile(run / f"{teacher.name}.keras", compiled, name=run.name)
            arguments.append(str(compiled))
    if start is not None:
        arguments += ["--start", str(train_chain(start, runs, options) / f"{start.name}.keras")]
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
    kept = ("recipe", "data_sha256", "teachers_sha256", "start_sha256", "versions")
    return {**{key: result[key] for key in kept}, "commit": commit}


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
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}, expected 1 or more")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    recipe = RECIPES[options.recipe]
    # The recipe of 2017 held a part out; the others are validated apart, then take everything.
    training = ["--all"] if recipe.validation == "writers" else []
    if options.data:
        training += ["--data", str(options.data)]
    try:
        commit = card.describe_commit()
        runs = [
            train_chain(dataclasses.replace(recipe, seed=seed), options.runs, training)
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
        )
    except (FastDigitError, OSError) as error:
        print(f"export.build: {error}", file=sys.stderr)
        return 1
    print(f"{model}\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What trainings of the reader's networks share: command line, digits, what is kept of a run."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.card import describe_commit
from export.split import read_writers
from export.train import fingerprint, versions, write_json
from fastdigit.datasets import load_mnist
from fastdigit.errors import FastDigitError, pip_install

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fastdigit.compiler.driver import Compiled

    Examples = tuple[NDArray[np.uint8], NDArray[np.uint8]]

__all__ = ["carry_out", "options_of"]


def options_of(name: str, description: str | None, recipe: Any) -> argparse.ArgumentParser:
    """Return the command line of ``export.NAME``, with the numbers of a recipe as defaults."""
    parser = argparse.ArgumentParser(prog=f"python -m export.{name}", description=description)
    add = parser.add_argument
    add("--data", metavar="DIR", help="MNIST's files; default: as fastdigit.datasets finds them")
    add("--writers", metavar="FILE", type=Path, required=True, help="who wrote the digits: .npz")
    add("--output", metavar="DIR", type=Path, default=Path("runs") / name)
    add("--fields", type=int, default=recipe.fields)
    add("--epochs", type=int, default=recipe.epochs)
    add("--seed", type=int, default=recipe.seed)
    return parser


def carry_out(
    name: str,
    options: argparse.Namespace,
    recipe: Any,
    train: Callable[[Examples, Examples], dict[str, Any]],
    compiled: Callable[[Path, Mapping[str, Any]], Compiled],
) -> int:
    """Train on the digits of some writers, validate on those of others, compile; exit status.

    ``train`` takes images and labels of both, and returns the history; ``compiled`` takes the
    directory of the output, and where the weights come from.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    try:
        data = load_mnist(options.data)
        (images, labels), _ = data
        held = read_writers(options.writers, len(images))
        history = train((images[~held], labels[~held]), (images[held], labels[held]))
    except (FastDigitError, OSError) as error:
        print(f"export.{name}: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.{name}: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    made = {
        "recipe": asdict(recipe),
        "data_sha256": fingerprint(data),
        "versions": versions(),
        "commit": describe_commit(),
    }
    write_json(options.output / "run.json", {**made, "history": history})
    print(compiled(options.output, made).listing())
    print(f"everything is in {options.output}; what ships is fastdigit/models/{name}.fdm")
    return 0

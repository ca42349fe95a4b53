"""How a model does on a collection of pictures, kind by kind.

python -m export.pictures.report MODEL.fdm PICTURES.npz [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import fastdigit
from export.pictures import collection
from fastdigit.errors import FastDigitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THRESHOLDS", "main", "score", "score_file", "table"]

#: Confidences below which nothing is labelled.
THRESHOLDS: Final = (0.9, 0.99)


def score(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer[Any]], kinds: NDArray[np.uint8]
) -> dict[str, Any]:
    """Figures of each kind, of all digits and of all that is none.

    Parameters
    ----------
    probabilities
        Of shape (N, 10).
    labels
        :data:`export.pictures.collection.NO_DIGIT` for what is no digit.
    kinds
        Numbers of :data:`export.pictures.collection.KINDS`.

    Returns
    -------
    dict
        For each kind ``images``; for each threshold the share that is ``labelled``; and, if they
        are digits, ``accuracy`` and the share of what is labelled that is ``misread``.
    """
    digits = labels != collection.NO_DIGIT
    groups = {name: kinds == k for k, name in enumerate(collection.KINDS)}
    groups |= {"all digits": digits, "all that is none": ~digits}
    confidence = probabilities.max(axis=1).astype(np.float64)
    wrong = probabilities.argmax(axis=1) != labels
    result: dict[str, Any] = {}
    for name, group in groups.items():
        if not group.any():
            continue
        figures: dict[str, Any] = {"images": int(group.sum())}
        if digits[group].any():
            figures["accuracy"] = 1 - float(wrong[group].mean())
        for threshold in THRESHOLDS:
            kept = group & (confidence >= threshold)
            figures[f"labelled at {threshold:g}"] = float(kept.sum() / group.sum())
            if digits[group].any():
                figures[f"misread at {threshold:g}"] = (
                    float(wrong[kept].mean()) if kept.any() else 0.0
                )
        result[name] = figures
    return result


def score_file(model: Path, pictures: Path) -> dict[str, Any]:
    """Score a compiled model on a collection."""
    images, labels = collection.read(pictures)
    with np.load(pictures, allow_pickle=False) as file:
        kinds = file["kinds"]
    return score(fastdigit.load(model).predict_proba(images), labels, kinds)


def table(result: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as Markdown, in percent."""
    heads = ["accuracy, %"]
    keys = ["accuracy"]
    for threshold in THRESHOLDS:
        keys += [f"labelled at {threshold:g}", f"misread at {threshold:g}"]
        heads += [f"labelled at {threshold:g}, %", "misread of these, %"]
    lines = [
        "| pictures | images | " + " | ".join(heads) + " |",
        "|---|---:|" + "---:|" * len(heads),
    ]
    for name, figures in result.items():
        values = [f"{100 * figures[key]:.1f}" if key in figures else "" for key in keys]
        lines.append(f"| {name} | {figures['images']:,} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.pictures.report", description="Score a model on pictures."
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.fdm")
    add("pictures", type=Path, metavar="PICTURES.npz", help="of export.pictures --validation")
    add("--json", type=Path, metavar="FILE", help="for the figures; default: the table alone")
    options = parser.parse_args(arguments)
    try:
        result = score_file(options.model, options.pictures)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except (FastDigitError, OSError, KeyError, ValueError) as error:
        print(f"export.pictures.report: {error}", file=sys.stderr)
        return 1
    print(table(result), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

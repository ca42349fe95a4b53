"""The command ``fastdigit predict``."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

import fastdigit
from fastdigit.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="PNG or JPEG file, with one digit"
    )
    parser.add_argument("--model", metavar="FILE", help="a .fdm file; default: the shipped model")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print what each image shows; return 1 if one could not be read."""
    model = fastdigit.load(options.model)
    if model.input_shape != (28, 28, 1):
        raise InputError(f"{options.model} takes images of shape {model.input_shape}, not 28x28")
    failed = 0
    for path in options.images:
        try:
            image = fastdigit.normalize(path)
        except (InputError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
            continue
        values = model.predict_proba(image[np.newaxis])[0]
        best = int(values.argmax())
        if options.json:
            record = {
                "image": path,
                "label": best,
                "class": model.classes[best],
                "probabilities": [float(value) for value in values],
            }
            print(json.dumps(record))
        else:
            print(f"{path}: {model.classes[best]} ({values[best]:.1%})")
    return failed

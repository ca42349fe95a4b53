"""The command ``fastdigit predict``: what image files show, by any network that labels images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdigit
from fastdigit.commands import common
from fastdigit.commands.names import read_names
from fastdigit.commands.shell import (
    check_folder,
    ending_on_interrupt,
    without_warnings_of_pillow,
    writing,
)
from fastdigit.commands.steps import save_refusal, save_steps
from fastdigit.errors import InputError, NotOneDigitError, in_words, printable
from fastdigit.images import FITTINGS, MODES, prepare
from fastdigit.model import REJECTED, Model

__all__ = ["add_arguments", "run"]

#: Shape and classes of a network that reads digits as MNIST has them, unless told otherwise.
DIGIT_SHAPE = (28, 28, 1)
DIGITS = tuple("0123456789")

Pixels = NDArray[np.uint8]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG, JPEG, BMP, GIF, PPM, TIFF, WebP, AVIF or HEIF file",
    )
    add(
        "--model",
        metavar="FILE",
        help="a .fdm file; default: the shipped model, which reads digits",
    )
    add("--labels", metavar="FILE", type=Path, help="names of the labels, one a line")
    add("--top", metavar="K", type=_positive, help="print the K most probable labels")
    add(
        "--resize",
        choices=FITTINGS,
        help="pictures of another size are stretched (the default), shown whole with black beside "
        "them, or their middle is cut out",
    )
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="find the digit and make it look like MNIST's, white on black (default: if the model "
        "takes 28x28 grey pixels and its labels are 0 to 9)",
    )
    add(
        "--page",
        metavar="N",
        type=_positive,
        help="of files of several pages (TIFF, animations), from 1; without it they are refused",
    )
    add("--invert", action="store_true", help="255 - x, for networks of white on black")
    add("--threshold", type=float, help="of a single output: greater is label 1 (default: 0.5)")
    add(
        "--ctc",
        action="store_true",
        help="read text: of a network trained with CTC, of captchas or number plates (default: if "
        "the model was compiled with --ctc-blank)",
    )
    add(
        "--ctc-blank",
        metavar="INDEX",
        type=int,
        help="which class stands for nothing, -1 for the last (default: as the model says)",
    )
    add("--reject-below", metavar="P", type=float, help="no label of a probability below P")
    add(
        "--save-steps",
        metavar="DIR",
        type=Path,
        help="draw how the digit was found in each image, or why none was: a PNG file in DIR",
    )
    add("--json", action="store_true", help="one JSON object a line")
    common.add_limits(parser)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print what each image shows; return 1 if one could not be read."""
    with ending_on_interrupt(), without_warnings_of_pillow():
        return _run(options, parser)


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    check_folder("--save-steps", options.save_steps)
    model = fastdigit.load(options.model, limits=common.limits_of(options))
    read = _reader(model, options)
    if options.ctc or options.ctc_blank is not None or model.info()["ctc_blank"] is not None:
        return _each(options.images, read, _text_of(model, options, parser))
    names = _names(model, options.labels)
    threshold = options.threshold
    # What is wrong with the options is said before an image is looked at.
    blank = np.empty((0, *model.input_shape), np.float32)
    numbers = not model.has_labels and threshold is None
    if numbers and model.info()["outputs"] > 1:
        model.predict(blank)  # the error says what it returns, and what to use
    if not numbers:
        model.predict(blank, threshold=threshold, reject_below=options.reject_below)

    def drawing(number: int, path: str) -> Path:
        return Path(options.save_steps) / f"{number:03}-{Path(path).name}.png"

    def say(number: int, path: str, batch: Pixels) -> str:
        values = model.run(batch).ravel()
        if options.save_steps is not None:
            save_steps(drawing(number, path), fastdigit.explain(path, page=options.page), values)
        if numbers:
            record = json.dumps({"image": path, "output": _number(values[0])})
            return record if options.json else f"{printable(path)}: {values[0]:.6g}"
        label = int(model.predict(batch, threshold=threshold, reject_below=options.reject_below)[0])
        found = _Found(model, names, values, label)
        return (
            found.as_json(path, options.top)
            if options.json
            else found.text(printable(path), options.top)
        )

    def draw_refused(number: int, path: str, error: Exception) -> None:
        if options.save_steps is not None and isinstance(error, NotOneDigitError):
            save_refusal(drawing(number, path), error)

    return _each(options.images, read, say, draw_refused)


def _each(
    paths: Sequence[str],
    read: Callable[[str], Pixels],
    say: Callable[[int, str, Pixels], str],
    refused: Callable[[int, str, Exception], None] = lambda *_: None,
) -> int:
    """Print what ``say`` says of each image (its number, path and pixels), and call ``refused`` for
    those that cannot be read; return 1 if there are such."""
    failed = 0
    for number, path in enumerate(paths, 1):
        try:
            pixels = read(path)
        except (InputError, OSError) as error:
            said = in_words(error) if isinstance(error, OSError) else str(error)
            said = said if said.startswith(f"{path}: ") else f"{path}: {said}"
            print(printable(said), file=sys.stderr)
            refused(number, path, error)
            failed = 1
            continue
        said = say(number, path, pixels[np.newaxis])
        with writing():
            print(said)
    return failed


def _text_of(
    model: Model, options: argparse.Namespace, parser: argparse.ArgumentParser
) -> Callable[[int, str, Pixels], str]:
    """What says which text is in an image."""
    for option in ("top", "threshold", "reject_below", "save_steps"):
        if getattr(options, option) is not None:
            parser.error(f"--{option.replace('_', '-')} is for labels, and this model reads text")
    classes = None if options.labels is None else read_names(options.labels)
    # What is wrong with the options is said before an image is looked at.
    empty = np.empty((0, *model.input_shape), np.float32)
    model.predict_text(empty, blank=options.ctc_blank, classes=classes)

    def say(_: int, path: str, batch: Pixels) -> str:
        (text,) = model.predict_text(batch, blank=options.ctc_blank, classes=classes)
        return (
            json.dumps({"image": path, "text": text})
            if options.json
            else f"{printable(path)}: {text}"
        )

    return say


class _Found:
    """What was found in an image.

    Parameters
    ----------
    model, names
        What found it, and the names of its labels.
    values
        What the network returned: probabilities, their logarithms, or logits.
    label
        That these give, or REJECTED.
    """

    def __init__(
        self, model: Model, names: tuple[str, ...], values: NDArray[np.float32], label: int
    ) -> None:
        facts = model.info()
        if facts["has_log_softmax"]:
            values = np.exp(values)
        self.names, self.values, self.label = names, values, label
        ends = ("has_softmax", "has_sigmoid", "has_log_softmax")
        self.probable = any(facts[end] for end in ends)
        self.scores = values.astype(np.float64)
        self.order = np.argsort(-self.scores, kind="stable").tolist()
        if len(values) == 1 and len(names) == 2:
            score = float(values[0])
            self.scores = np.array([1 - score if self.probable else score, score])
            self.order = [0, 1] if score <= 0.5 else [1, 0]
            if not self.probable:  # a number, and what the threshold made of it
                self.order = [label]

    def best(self, count: int) -> list[int]:
        return [int(label) for label in self.order[:count]]

    def text(self, path: str, top: int | None) -> str:
        if top is not None:
            shown = ", ".join(map(self._with_score, self.best(top)))
            return f"{path}: {'rejected; ' if self.label == REJECTED else ''}{shown}"
        if self.label == REJECTED:
            return f"{path}: rejected ({self._with_score(self.best(1)[0])})"
        return f"{path}: {self._with_score(self.label)}"

    def _with_score(self, label: int) -> str:
        score = self.scores[label]
        return f"{self.names[label]} ({f'{score:.1%}' if self.probable else f'{score:.4g}'})"

    def as_json(self, path: str, top: int | None) -> str:
        kind = "probabilities" if self.probable else "logits"
        record: dict[str, Any] = {
            "image": path,
            "label": self.label,
            "class": None if self.label == REJECTED else self.names[self.label],
            kind: [_number(value) for value in self.values],
        }
        if top is not None:
            one = "probability" if self.probable else "logit"
            record["top"] = [
                {"label": label, "class": self.names[label], one: _number(self.scores[label])}
                for label in self.best(top)
            ]
        return json.dumps(record)


def _reader(model: Model, options: argparse.Namespace) -> Callable[[str], Pixels]:
    """What makes the model's input of a file."""
    shape = model.input_shape
    name = options.model or "the shipped model"
    if len(shape) != 3:
        raise InputError(f"{name} takes vectors of {shape[0]} numbers, and no pictures")
    # A network that does not tell rows from channels keeps the order of its source.
    channels_first = shape[2] not in MODES and shape[0] in MODES
    if shape[2] not in MODES and not channels_first:
        raise InputError(
            f"{name} takes shape {shape}; pictures have 1, 3 or 4 channels, and not {shape[2]}"
        )
    if not model.info()["accepts_u8"]:
        raise InputError(
            f"{name} does not say what the bytes of a picture mean to it: compile it with --mean "
            "and --std, or with --input-range 0 255 or 0 1"
        )
    usual = shape == DIGIT_SHAPE and model.classes == DIGITS and options.resize is None
    if usual and not options.invert if options.normalize is None else options.normalize:
        if shape != DIGIT_SHAPE:
            raise InputError(
                f"--normalize makes images of 28x28 grey pixels, and {name} takes shape {shape}"
            )
        if options.resize is not None or options.invert:
            raise InputError("--normalize chooses size and colour itself: no --resize, no --invert")
        if options.save_steps is not None and not model.info()["has_softmax"]:
            raise InputError(f"--save-steps draws probabilities, and {name} has no softmax")
        return lambda path: fastdigit.normalize(path, page=options.page)[..., np.newaxis]
    if options.save_steps is not None:
        raise InputError("--save-steps draws how a digit is found, which --normalize does")
    size = (shape[1], shape[2], shape[0]) if channels_first else (shape[0], shape[1], shape[2])

    def read(path: str) -> Pixels:
        pixels = prepare(path, size, resize=options.resize or "stretch", page=options.page)
        if options.invert:
            pixels = np.concatenate([255 - pixels[..., :3], pixels[..., 3:]], axis=2)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels_first else pixels

    return read


def _names(model: Model, path: Path | None) -> tuple[str, ...]:
    """Names of the labels; of a single output, whatever it is, there are two."""
    one = model.info()["outputs"] == 1 and len(model.classes) == 1
    names = ("0", "1") if one else model.classes
    if path is None:
        return names
    given = read_names(path)
    while given and not given[-1].strip():
        given.pop()
    if len(given) != len(names):
        raise InputError(f"{path} has {len(given)} lines, and the model {len(names)} labels")
    return tuple(name.strip() for name in given)


def _number(value: float) -> float | None:
    """As JSON has it, which knows no infinity and no NaN."""
    return float(value) if np.isfinite(value) else None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number

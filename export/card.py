"""A model card: what a model is, how well it reads, where it ends, and where it came from.

Mitchell et al., "Model Cards for Model Reporting" (2019). :func:`write_card` takes plain data, so
that a build can call it; on the command line,

    python -m export.card MODEL.fdm --runs RUN [RUN ...]

reads ``result.json`` of the directories that the trainings left, that of the model first. The card
is ``docs/models/NAME.md``, its pictures are ``docs/images/NAME-*``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastdigit
from export import calibration, figures, robustness
from export.pictures import report
from fastdigit.datasets import load_mnist, load_mnist_test
from fastdigit.errors import FastDigitError, InputError, pip_install

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["INTENDED_USE", "LIMITS", "Seeds", "main", "over_seeds", "wilson_interval", "write_card"]

#: Misread digits on the contact sheet.
SHEET = 100
#: For which the card says what `reject_below` does.
THRESHOLDS = (0, 0.5, 0.9, 0.99, 0.999)

INTENDED_USE = (
    "Reading single handwritten digits, prepared as MNIST's are: 28x28 pixels, white on black, "
    "brought to 20x20 pixels without changing the proportions, and centred by their mass.",
    "Comparing runtimes, and as an example of a small network that is trained, compiled and "
    "measured in the open.",
)
PICTURES = (
    "What `fastdigit.normalize` makes of pictures drawn for validation: MNIST's training digits of "
    "held-out writers, worn; drawn digits in held-out styles; printed ones of held-out families "
    "of fonts; segments of a font (training draws its own); and what is no digit, with held-out "
    "letters. They are made as those of training are, so strangers' pictures are harder."
)
NO_DIGIT = (
    "It takes every image for a digit. Letters, several digits, noise and empty images get a "
    "label, often with a high probability; `reject_below` turns away digits that are hard to read, "
    "and cannot be relied on to turn away what is none."
)
NO_DIGIT_PICTURED = (
    "Empty fields, lines, noise, letters, pieces of digits and several digits were shown in "
    "training as what is no digit. `reject_below` turns most of them away, not all: the table of "
    "pictures says how many get a label."
)
NO_DIGIT_EXPOSED = (
    "Empty fields, the lines of a form, noise and specks were shown in training as what is no "
    "digit, and `reject_below` turns them away. Letters, several digits and whatever else looks "
    "like strokes still get a label, often with a high probability."
)
LIMITS = (
    "Test and training digits have the same origin: employees of the US Census Bureau and high "
    "school students, around 1990. Other writers, pens, scanners and habits (a crossed 7, an open "
    "4) may be read worse, and by how much the test digits do not tell.",
    "Nothing here was examined for decisions that matter to someone. Have a second reading where "
    "a wrong digit does harm.",
)


@dataclass(frozen=True)
class Seeds:
    """The same measure of several runs that differ in their seed.

    Parameters
    ----------
    mean, least, greatest
        Of the runs.
    deviation
        Sample standard deviation (n - 1); None of a single run.
    """

    mean: float
    deviation: float | None
    least: float
    greatest: float


def over_seeds(values: Sequence[float]) -> Seeds:
    """Summarise one measure of several runs."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Seeds(float(np.mean(values)), deviation, min(values), max(values))


def wilson_interval(right: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the bounds of a 95 % confidence interval of a share.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927): unlike
    the usual one, it holds for shares near 1.
    """
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return centre - half, centre + half


def write_card(
    docs: Path,
    file: Path,
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]],
    runs: Sequence[Mapping[str, Any]],
    *,
    commit: str,
    name: str | None = None,
    summary: str = "",
    beyond: Mapping[str, Any] | None = None,
    pictures: Mapping[str, Any] | None = None,
    intended_use: Sequence[str] = INTENDED_USE,
    limits: Sequence[str] | None = None,
) -> Path:
    """Write the card of a model, and its pictures.

    Parameters
    ----------
    docs
        Directory of the documents; its ``models`` and ``images`` are made if missing.
    file
        The compiled model.
    test
        Test images, uint8 (N, 28, 28), and their labels (N,).
    runs
        What ``result.json`` of each training holds, that of the model first. They are of one
        recipe, and differ in the seed.
    commit
        Of the project, with which it was trained.
    name
        By default that in the model.
    summary
        A sentence or two to begin with.
    beyond
        What :func:`export.robustness.evaluate` returned.
    pictures
        What :func:`export.pictures.report.score` returned.
    intended_use, limits
        Paragraphs; the limits are by default those that the recipe gives.

    Returns
    -------
    Path
        Of the card.

    Raises
    ------
    InputError
        Runs are of different recipes or data, or there are none.
    ModelFormatError, OSError
        The model cannot be read.
    """
    images, labels = test
    data = file.read_bytes()
    model = fastdigit.Model(data)
    info = model.info()
    name = name or str(info["meta"].get("name", "model"))
    recipe = _common_recipe(runs)
    if limits is None:
        exposed = NO_DIGIT_PICTURED if recipe.get("pictures") else NO_DIGIT_EXPOSED
        limits = (exposed if recipe.get("outliers") else NO_DIGIT, *LIMITS)
    probabilities = model.predict_proba(images)
    predictions = model.predict(images)
    curve = calibration.risk_coverage(probabilities, labels)
    groups = calibration.reliability(probabilities, labels)
    files = _draw(docs / "images", name, model, test, probabilities, predictions, curve, groups)

    def picture(key: str, text: str) -> str:
        return f"![{text}](../images/{files[key]})"

    shown = min(SHEET, int((predictions != labels).sum()))
    lines = [f"# {name}", ""]
    if summary:
        lines += [summary, ""]
    lines += [*_facts(data, model), ""]
    lines += [
        "## What it is for",
        "",
        *_bullets(intended_use),
        "",
        "## Limits",
        "",
        *_bullets(limits),
    ]
    lines += [
        "",
        "## Results",
        "",
        *_results(probabilities, predictions, labels, groups, curve),
        "",
    ]
    lines += [
        *_selection(probabilities, predictions != labels),
        "",
        picture("confusion", "labels and what they were read as"),
        "",
    ]
    if shown:
        lines += [f"{_misread_text(shown, predictions, labels)}:", ""]
        lines += [picture("misread", "misread digits"), ""]
    lines += [picture("reliability", "accuracy by confidence"), ""]
    lines += [picture("risk-coverage", "misread against labelled"), ""]
    if beyond is not None:
        lines += ["## Beyond the test digits", "", robustness.table(beyond).rstrip(), ""]
        robustness.draw({name: beyond}, docs / "images" / f"{name}-robustness.svg")
        lines += [f"![accuracy against severity](../images/{name}-robustness.svg)", ""]
    if pictures is not None:
        lines += ["## Pictures", "", PICTURES, "", report.table(pictures).rstrip(), ""]
    lines += ["## Training", "", *_training(recipe, runs, commit), ""]
    path = docs / "models" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _draw(
    directory: Path,
    name: str,
    model: fastdigit.Model,
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]],
    probabilities: npt.NDArray[np.float32],
    predictions: npt.NDArray[np.int64],
    curve: calibration.RiskCoverage,
    groups: calibration.Reliability,
) -> dict[str, str]:
    """Draw the pictures; return the name of each file."""
    images, labels = test
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "confusion": f"{name}-confusion.svg",
        "misread": f"{name}-misread.png",
        "reliability": f"{name}-reliability.svg",
        "risk-coverage": f"{name}-risk-coverage.svg",
    }
    classes = model.classes
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    figures.draw_confusion(matrix, classes, directory / files["confusion"])
    wrong = np.flatnonzero(predictions != labels)
    confidence = probabilities.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHEET]
    if len(worst):
        figures.draw_misread(
            images[worst],
            [classes[label] for label in labels[worst]],
            [classes[prediction] for prediction in predictions[worst]],
            [float(value) for value in confidence[worst]],
            directory / files["misread"],
        )
    figures.draw_reliability(groups, directory / files["reliability"])
    figures.draw_risk_coverage(curve, directory / files["risk-coverage"])
    return files


def _common_recipe(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the recipe of all runs without the seed, in which alone they may differ."""
    if not runs:
        raise InputError("a card needs the result of one training or more")
    first = {key: value for key, value in runs[0]["recipe"].items() if key != "seed"}
    for run in runs[1:]:
        for key in sorted(first.keys() | run["recipe"].keys()):
            ours, theirs = first.get(key), run["recipe"].get(key)
            if key != "seed" and ours != theirs:
                raise InputError(
                    f"runs are of different recipes: {key} is {ours!r} and {theirs!r}; expected "
                    "runs that differ in their seed"
                )
        if run["data_sha256"] != runs[0]["data_sha256"]:
            raise InputError("runs are of different data")
    return first


def _bullets(paragraphs: Sequence[str]) -> list[str]:
    return [f"- {paragraph}" for paragraph in paragraphs]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> list[str]:
    """A Markdown table; the last `right` columns are numbers."""
    rules = ["---"] * (len(head) - right) + ["---:"] * right
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(rules)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _facts(data: bytes, model: fastdigit.Model) -> list[str]:
    from fastdigit.compiler import listing, unpack

    program, info = unpack(data), model.info()
    meta = info["meta"]
    operators = [node.op for node in program.graph.nodes]
    parameters = sum(
        array.size
        for op in operators
        for array in (getattr(op, "weights", None), getattr(op, "bias", None))
        if array is not None
    )
    temperature = meta.get("temperature") or 1.0
    rows = [
        ("input", " x ".join(map(str, model.input_shape)) + ", 0 to 1, or bytes"),
        ("output", f"probabilities of {len(model.classes)} classes: {', '.join(model.classes)}"),
        ("weights and biases", f"{parameters:,}, {meta.get('precision', 'fp32')} in dense layers"),
        ("multiply-adds an image", f"{info['multiply_adds']:,}"),
        ("file", f"{info['file_bytes']:,} bytes, SHA-256 `{hashlib.sha256(data).hexdigest()}`"),
        ("memory of a call", f"{info['context_bytes']:,} bytes a thread"),
        ("temperature", f"{temperature:.4g}"),
    ]
    return [*_table(("", ""), rows), "", "```text", listing(program), "```"]


def _results(
    probabilities: npt.NDArray[np.float32],
    predictions: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer[Any]],
    groups: calibration.Reliability,
    curve: calibration.RiskCoverage,
) -> list[str]:
    n = len(labels)
    wrong = int((predictions != labels).sum())
    low, high = wilson_interval(n - wrong, n)
    nll = calibration.negative_log_likelihood(calibration.log_probabilities(probabilities), labels)
    rows = [
        ("accuracy", f"**{100 * (n - wrong) / n:.2f} %**, {wrong} of {n:,} misread"),
        ("its 95 % confidence interval", f"{100 * low:.2f} to {100 * high:.2f} %"),
        ("negative log-likelihood", f"{nll:.4f}"),
        (f"expected calibration error, {len(groups.counts)} bins", f"{groups.error:.4f}"),
        ("area under the risk-coverage curve", f"{curve.area:.6f}"),
    ]
    return _table(("this model, on the test digits", ""), rows)


def _selection(probabilities: npt.NDArray[np.float32], wrong: npt.NDArray[np.bool_]) -> list[str]:
    """What `reject_below` leaves of the test digits, for a few thresholds."""
    rows = []
    for threshold in THRESHOLDS:
        kept = probabilities.max(axis=1).astype(np.float64) >= threshold
        misread = f"{100 * wrong[kept].mean():.3f}" if kept.any() else ""
        rows.append((f"{threshold:g}", f"{100 * kept.mean():.2f}", misread))
    return _table(("`reject_below`", "labelled, %", "misread of these, %"), rows, right=3)


def _misread_text(
    shown: int, predictions: npt.NDArray[np.int64], labels: npt.NDArray[np.integer[Any]]
) -> str:
    wrong = int((predictions != labels).sum())
    which = "All" if shown == wrong else f"{shown} of the"
    return f"{which} {wrong} misread digits, with label, reading and confidence, surest first"


def _training(
    recipe: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], commit: str
) -> list[str]:
    first = runs[0]
    lines = [*_runs(runs), "", "### Recipe", ""]
    lines += _table(("", ""), [(_words(key), _value(value)) for key, value in recipe.items()])
    versions = ", ".join(f"{key} {value}" for key, value in first.get("versions", {}).items())
    facts = [("commit", f"`{commit}`")]
    if versions:
        facts.append(("versions", f"{versions} ({first.get('machine', 'unknown machine')})"))
    if held_out := first.get("held_out"):
        facts.append(("held out", f"{held_out['images']:,} images, SHA-256 `{held_out['sha256']}`"))
    facts += [(f"`{file}`", f"SHA-256 `{sha}`") for file, sha in first["data_sha256"].items()]
    facts += [
        (f"teacher {index}", f"SHA-256 `{sha}`")
        for index, sha in enumerate(first.get("teachers_sha256") or [], 1)
    ]
    if first.get("pictures_sha256"):
        facts.append(("pictures", f"SHA-256 `{first['pictures_sha256']}`"))
    if first.get("start_sha256"):
        facts.append(("started from", f"SHA-256 `{first['start_sha256']}`"))
    return [*lines, "", "### Provenance", "", *_table(("", ""), facts)]


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each run, then mean and spread of what all of them were evaluated on."""
    kinds = [key for key in ("test", "validation") if all(key in run for run in runs)]
    if not kinds:
        raise InputError("runs were evaluated on different images: on test and on held-out ones")
    kind = kinds[0]
    measures = [next(iter(run[kind].values())) for run in runs]  # the files agree bit for bit
    rows = [
        (
            f"{run['recipe']['seed']}" + (" (this model)" if index == 0 else ""),
            f"{100 * measure['accuracy']:.2f}",
            f"{measure['loss']:.4f}",
            f"{run['epochs']}",
            f"{run['seconds']:,.0f}",
        )
        for index, (run, measure) in enumerate(zip(runs, measures, strict=True))
    ]
    head = ("seed", f"{kind} accuracy, %", f"{kind} loss", "epochs", "seconds")
    lines = _table(head, rows, right=4)
    accuracy = over_seeds([100 * measure["accuracy"] for measure in measures])
    if accuracy.deviation is None:
        return [*lines, "", "One run with one seed: how far seeds differ is not known."]
    return [
        *lines,
        "",
        f"Over {len(runs)} seeds: {kind} accuracy {accuracy.mean:.3f} %, standard deviation "
        f"{accuracy.deviation:.3f}, from {accuracy.least:.2f} to {accuracy.greatest:.2f} %.",
    ]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _value(value: Any) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{_words(key)} {_value(item)}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(map(_value, value))
        case None:
            return "none"
        case float():
            return f"{value:g}"
    return str(value)


def describe_commit() -> str:
    """Return the commit that is checked out, with "-dirty" if files differ from it.

    Raises
    ------
    FastDigitError
        There is no git, or this is no checkout.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise FastDigitError("the commit is not known; say which with --commit") from error
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.card", description="Write a model card."
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.fdm")
    add(
        "--runs", type=Path, nargs="+", required=True, metavar="RUN", help="that of the model first"
    )
    add("--name", help="default: that in the model")
    add("--summary", default="", help="a sentence to begin with")
    add("--docs", type=Path, default=Path("docs"), help="default: docs")
    add("--commit", help="of the training; default: the one that is checked out")
    add(
        "--robustness",
        type=Path,
        metavar="JSON",
        help="what export.robustness wrote; default: none",
    )
    add("--data", type=Path, help="test digits; default: those in the package")
    options = parser.parse_args(arguments)
    try:
        runs = [_read(run / "result.json") for run in options.runs]
        path = write_card(
            options.docs,
            options.model,
            load_mnist(options.data)[1] if options.data else load_mnist_test(),
            runs,
            commit=options.commit or describe_commit(),
            name=options.name,
            summary=options.summary,
            beyond=_read(options.robustness) if options.robustness else None,
        )
    except (FastDigitError, OSError, KeyError, ValueError) as error:
        print(f"export.card: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.card: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    print(path)
    return 0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FastDigitError(f"{path} is no JSON: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

"""The ``fastdigit-bench`` command."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fastdigit
from fastdigit import __version__
from fastdigit.bench import layers, machine, report, scenarios, tables
from fastdigit.bench.adapter import ModelFiles, Runtime, require, shipped_files
from fastdigit.bench.calibration import calibration_digits
from fastdigit.bench.measure import TurnFailed
from fastdigit.bench.quantized import EIGHT_BIT_RUNTIMES, REDUCED, FastDigitInt8Dynamic
from fastdigit.bench.results import EIGHT_BIT as EIGHT_BIT_TOLERANCE
from fastdigit.bench.results import QUICK, SUBJECT, VALUES, Settings
from fastdigit.bench.roofline import Probe
from fastdigit.bench.runtimes import RUNTIMES, OnnxRuntime
from fastdigit.compiler.backends.onnx import write
from fastdigit.compiler.frontends.runners import without_telemetry
from fastdigit.errors import (
    FastDigitError,
    InputError,
    MissingExtraError,
    UnsupportedError,
    pip_install,
)
from fastdigit.model import DEFAULT_MODEL, SHIPPED_MODELS, load, shipped_file

__all__ = ["main"]

PARITY_FAILED = 1
OTHER_ERROR = 2
INTERRUPTED = 130

REFERENCE = OnnxRuntime.name

DIGITS, NOISE = "digits", "noise"

BATCHES, LAYER_BATCHES = (1, 8, 64, 512), (1, 64)
FLOAT32, EIGHT_BIT = "fp32", "8bit"
QUICK_LAYER_ROUNDS = 3


def main(
    arguments: Sequence[str] | None = None,
    known: Mapping[str, type[Runtime]] = RUNTIMES,
    known_8bit: Mapping[str, type[Runtime]] = EIGHT_BIT_RUNTIMES,
) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Command line without the program's name; default: that of the process.
    known
        Runtimes to choose from, by name.
    known_8bit
        The same for ``--precision 8bit``.

    Returns
    -------
    int
        0; 1 if fastdigit's results differ from ONNX Runtime's; 2 for any other error, a runtime
        that failed included; 130 when interrupted.
    """
    parser = _parser(known, known_8bit)
    options = parser.parse_args(arguments)
    without_telemetry()  # in the processes that this one starts, too
    _check(options, parser, known_8bit if options.precision == EIGHT_BIT else known)
    try:
        if options.layers:
            return _run_layers(options)
        with tempfile.TemporaryDirectory(prefix="fastdigit-bench-") as made:
            return _run(options, known, known_8bit, Path(made))
    except (FastDigitError, TurnFailed, OSError) as error:
        print(f"fastdigit-bench: {error}", file=sys.stderr)
        return OTHER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _check(
    options: argparse.Namespace, parser: argparse.ArgumentParser, known: Mapping[str, object]
) -> None:
    """Refuse options that contradict each other."""
    if options.layers:
        for name in ("runtimes", "threads", "onnx", "keras", "tflite", "calibration"):
            if getattr(options, name):
                parser.error(
                    f"--layers and --{name} exclude each other: --layers is about fastdigit alone, "
                    "on one thread"
                )
        if options.precision != FLOAT32:
            parser.error("--layers takes a model of any precision as --model FILE")
        return
    if options.calibration and options.precision != EIGHT_BIT:
        parser.error("--calibration is for --precision 8bit")
    if options.model not in SHIPPED_MODELS and options.onnx is None:
        parser.error("--model FILE needs --onnx: the same network in both forms")
    unknown = [name for name in options.runtimes or () if name not in known]
    if unknown and options.runtimes != ("all",):
        parser.error(
            f"argument --runtimes: unknown runtime {', '.join(unknown)}; with --precision "
            f"{options.precision} known are {', '.join(known)}, and all"
        )


def _run(
    options: argparse.Namespace,
    known: Mapping[str, type[Runtime]],
    known_8bit: Mapping[str, type[Runtime]],
    made: Path,
) -> int:
    """Compare runtimes; `made` is a directory for what has to be made for them."""
    reference = known[REFERENCE]
    eight_bit = options.precision == EIGHT_BIT
    known = known_8bit if eight_bit else known
    versions = {name: runtime.version() for name, runtime in known.items()}
    files, notes = _files(options), []
    _json_target(options)
    require("rich", "bench")
    if not options.no_parity or eight_bit:
        _must_be_installed(reference)
    data = _data(options, files.fdm)
    settings = QUICK if options.quick else Settings()
    settings = replace(
        settings,
        batches=options.batch or BATCHES,
        threads=options.threads or (1,),
        rounds=options.rounds or settings.rounds,
        check=not options.no_parity,
    )
    if not load(files.fdm).has_probabilities:
        settings = replace(settings, tolerance=VALUES)
    if eight_bit:
        settings = replace(settings, tolerance=EIGHT_BIT_TOLERANCE, sample=len(data.images))
        files, note = _reduce(files, options, made)
        notes.append(note)
    default = ("all",) if eight_bit else ("fastdigit", REFERENCE)
    chosen = _choose(options.runtimes or default, known, versions, files)
    if any(runtime.reads_onnx for runtime in chosen) and not options.as_exported:
        files, note = _add_nchw(files, made)
        notes.append(note)
    described = machine.describe()
    with _progress() as on_progress:
        results = scenarios.run(
            chosen,
            files,
            data,
            settings,
            reference=reference,
            subject=FastDigitInt8Dynamic.name if eight_bit else SUBJECT,
            probe=Probe(described["isa"]),
            on_progress=on_progress,
        )
    results.notes += notes
    tables.print_report(results, described, versions, _console(options))
    _write_json(options, report.to_json(results, described, versions))
    if results.parity_failed():
        return PARITY_FAILED
    return OTHER_ERROR if results.runtime_failed else 0


def _run_layers(options: argparse.Namespace) -> int:
    """Show where fastdigit's own time goes."""
    _json_target(options)
    require("rich", "bench")
    path = Path(options.model)
    if options.model in SHIPPED_MODELS:
        path = Path(shipped_file(options.model))
    if not path.is_file():
        raise InputError(f"there is no model file {path}")
    data = _data(options, path)
    described = machine.describe()
    probe = Probe(described["isa"])
    profiles = layers.profile(
        path.read_bytes(),
        data.images,
        options.batch or LAYER_BATCHES,
        probe,
        options.rounds or (QUICK_LAYER_ROUNDS if options.quick else layers.ROUNDS),
    )
    roofline = probe.roofline()
    tables.print_layers(profiles, roofline, described, data.name, _console(options))
    _write_json(options, report.layers_to_json(profiles, roofline, described, data.name))
    return 0


def _data(options: argparse.Namespace, model: Path) -> scenarios.Images:
    """The images to run, as the model takes them."""
    shape = load(model).input_shape
    if options.data == NOISE:
        return scenarios.noise(shape)
    data = scenarios.digits()
    if data.images.shape[1:] != shape:
        raise InputError(
            f"{model.name} takes images of shape {shape}, MNIST digits have "
            f"{data.images.shape[1:]}: use --data noise"
        )
    return data


def _add_nchw(files: ModelFiles, made: Path) -> tuple[ModelFiles, str]:
    """Add a plain ONNX form of the network; say whether there is one."""
    if importlib.util.find_spec("onnx") is None:
        return files, "Without onnx, no plain NCHW form of the network could be made to try."
    path = made / f"{files.fdm.stem}-nchw.onnx"
    try:
        path.write_bytes(write(files.fdm.read_bytes()))
    except UnsupportedError as error:
        return files, f"No plain NCHW form of the network could be made to try: {error}."
    note = f"{path.name} was made from {files.fdm.name}: plain, channels first."
    return replace(files, onnx=(*files.onnx, path)), note


def _reduce(files: ModelFiles, options: argparse.Namespace, made: Path) -> tuple[ModelFiles, str]:
    """Compile the network with reduced precision; choose images to quantise the others with."""
    images, origin = calibration_digits(options.calibration)
    calibration = made / "calibration.npy"
    np.save(calibration, images)
    reduced = {}
    for precision in REDUCED:
        path = made / f"{files.fdm.stem}-{precision}.fdm"
        fastdigit.compile(files.onnx[0], path, precision=precision)
        reduced[precision] = path
    return (
        replace(files, calibration=calibration, reduced=reduced),
        f"Calibrated with {origin}. Accuracy is that of the variant that was timed.",
    )


def _json_target(options: argparse.Namespace) -> None:
    """Find out before the run, not after it, that the figures have nowhere to go."""
    if options.json not in (None, "-") and not Path(options.json).parent.is_dir():
        raise InputError(
            f"--json {options.json}: there is no directory {Path(options.json).parent}"
        )


def _console(options: argparse.Namespace) -> Any:
    # A program that reads the JSON from a pipe gets nothing else on it.
    return tables.console(sys.stderr if options.json == "-" else sys.stdout)


def _write_json(options: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    if not options.json:
        return
    text = json.dumps(figures, indent=1, allow_nan=False)
    if options.json == "-":
        print(text)
    else:
        Path(options.json).write_text(text + "\n")


def _choose(
    names: tuple[str, ...],
    known: Mapping[str, type[Runtime]],
    versions: Mapping[str, str | None],
    files: ModelFiles,
) -> list[type[Runtime]]:
    if names == ("all",):
        return [
            runtime
            for name, runtime in known.items()
            if versions[name] is not None and runtime.lacks(files) is None
        ]
    chosen = [known[name] for name in names]
    for runtime in chosen:
        _must_be_installed(runtime)
        if lacking := runtime.lacks(files):
            raise InputError(f"{runtime.name} needs {lacking}")
    return chosen


def _must_be_installed(runtime: type[Runtime]) -> None:
    if runtime.version() is None:
        raise MissingExtraError(
            f"{runtime.name} is not installed; it comes with: {pip_install(runtime.extra)}"
        )


def _files(options: argparse.Namespace) -> ModelFiles:
    if options.onnx:
        shipped = options.model in SHIPPED_MODELS
        fdm = Path(shipped_file(options.model) if shipped else options.model)
        files = ModelFiles(fdm, tuple(options.onnx))
    else:  # of a shipped model, or the options would have been refused
        files = shipped_files(options.model)
    files = replace(files, keras=options.keras, tflite=options.tflite)
    for path in (files.fdm, *files.onnx, files.keras, files.tflite):
        if path is not None and not path.is_file():
            raise InputError(f"there is no model file {path}")
    return replace(files, classes=len(load(files.fdm).classes))


@contextmanager
def _progress() -> Iterator[scenarios.OnProgress]:
    """Show a progress bar on standard error while it is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    to = tables.console(sys.stderr)
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _parser(
    known: Mapping[str, type[Runtime]], known_8bit: Mapping[str, type[Runtime]]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastdigit-bench",
        description="Time fastdigit beside other CPU runtimes in one interleaved run, and compare "
        "their results.",
        epilog="Exit status: 0; 1 if fastdigit's results differ from ONNX Runtime's; 2 for any "
        "other error.",
    )
    parser.add_argument("--version", action="version", version=f"fastdigit {__version__}")
    parser.add_argument(
        "--runtimes",
        type=lambda text: tuple(dict.fromkeys(text.split(","))),
        metavar="NAME,...",
        help=f"of {', '.join(known)}; with --precision 8bit of {', '.join(known_8bit)}; or all: "
        "every one that can run here (default: fastdigit,onnxruntime; with 8bit: all)",
    )
    parser.add_argument(
        "--precision",
        choices=(FLOAT32, EIGHT_BIT),
        default=FLOAT32,
        help="8bit: networks with 8-bit weights, each with its accuracy",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="fastdigit alone: the time of each layer beside the least that this machine allows",
    )
    for option, what in (
        ("--batch", "batch sizes (default: 1,8,64,512; with --layers: 1,64)"),
        ("--threads", "numbers of threads (default: 1)"),
    ):
        parser.add_argument(option, type=_positive_list, metavar="N,...", help=what)
    parser.add_argument("--rounds", type=_positive, metavar="N", help="turns of each runtime")
    parser.add_argument("--quick", action="store_true", help="a short run, for a first impression")
    parser.add_argument(
        "--data",
        choices=(DIGITS, NOISE),
        default=DIGITS,
        help="real digits, or uniform noise, to see how much speed depends on the data",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE (-: stdout)")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help=f"a shipped model ({', '.join(SHIPPED_MODELS)}) or a .fdm file "
        f"(default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--onnx",
        type=Path,
        action="append",
        metavar="FILE",
        help="the network that --model was compiled from (default: written from the model); "
        "several times: other exports of it, each runtime takes its fastest",
    )
    parser.add_argument(
        "--as-exported",
        action="store_true",
        help="give the others the ONNX files as they are, and no plain form made of the model",
    )
    for option, readers in (("--keras", "tensorflow and litert"), ("--tflite", "litert")):
        parser.add_argument(option, type=Path, metavar="FILE", help=f"the same for {readers}")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIRECTORY",
        help="with --precision 8bit: where MNIST's training digits are, to quantise with",
    )
    parser.add_argument(
        "--no-parity", action="store_true", help="don't compare results with ONNX Runtime"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _positive_list(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


if __name__ == "__main__":
    sys.exit(main())

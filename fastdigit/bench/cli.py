"""The ``fastdigit-bench`` command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fastdigit import __version__
from fastdigit.bench import machine, report, scenarios
from fastdigit.bench.measure import TurnFailed
from fastdigit.bench.runtimes import (
    RUNTIMES,
    ModelFiles,
    OnnxRuntime,
    Runtime,
    default_files,
    require,
)
from fastdigit.errors import FastDigitError, InputError, MissingExtraError

__all__ = ["main"]

PARITY_FAILED = 1
OTHER_ERROR = 2
INTERRUPTED = 130

REFERENCE = OnnxRuntime.name

DATA = {"digits": scenarios.digits, "noise": scenarios.noise}


def main(
    arguments: Sequence[str] | None = None, known: Mapping[str, type[Runtime]] = RUNTIMES
) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Command line without the program's name; default: that of the process.
    known
        Runtimes to choose from, by name.

    Returns
    -------
    int
        0; 1 if fastdigit's results differ from ONNX Runtime's; 2 for any other error, a runtime
        that failed included; 130 when interrupted.
    """
    parser = _parser(known)
    options = parser.parse_args(arguments)
    if (options.model is None) != (options.onnx is None):
        parser.error("--model and --onnx go together: the same network in both forms")
    try:
        return _run(options, known)
    except (FastDigitError, TurnFailed, OSError) as error:
        print(f"fastdigit-bench: {error}", file=sys.stderr)
        return OTHER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(options: argparse.Namespace, known: Mapping[str, type[Runtime]]) -> int:
    versions = {name: runtime.version() for name, runtime in known.items()}
    files = _files(options)
    chosen = _choose(options.runtimes, known, versions, files)
    if options.json not in (None, "-") and not Path(options.json).parent.is_dir():
        raise InputError(
            f"--json {options.json}: there is no directory {Path(options.json).parent}"
        )
    require("rich", "bench")
    if not options.no_parity:
        _must_be_installed(known[REFERENCE])
    settings = scenarios.QUICK if options.quick else scenarios.Settings()
    settings = replace(
        settings,
        batches=options.batch,
        threads=options.threads,
        rounds=options.rounds or settings.rounds,
        check=not options.no_parity,
    )
    described = machine.describe()
    with _progress() as on_progress:
        results = scenarios.run(
            chosen,
            files,
            DATA[options.data](),
            settings,
            reference=known[REFERENCE],
            on_progress=on_progress,
        )
    # A program that reads the JSON from a pipe gets nothing else on it.
    tables = sys.stderr if options.json == "-" else sys.stdout
    report.print_report(results, described, versions, report.console(tables))
    if options.json:
        text = json.dumps(report.to_json(results, described, versions), indent=1, allow_nan=False)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n")
    if results.parity_failed():
        return PARITY_FAILED
    return OTHER_ERROR if results.runtime_failed else 0


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
            f"{runtime.name} is not installed; it comes with: "
            f"pip install 'fastdigit[{runtime.extra}]'"
        )


def _files(options: argparse.Namespace) -> ModelFiles:
    files = default_files()
    if options.model:
        files = replace(files, fdm=options.model, onnx=tuple(options.onnx))
    files = replace(files, keras=options.keras, tflite=options.tflite)
    for path in (files.fdm, *files.onnx, files.keras, files.tflite):
        if path is not None and not path.is_file():
            raise InputError(f"there is no model file {path}")
    return files


@contextmanager
def _progress() -> Iterator[scenarios.OnProgress]:
    """Show a progress bar on standard error while it is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    to = report.console(sys.stderr)
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _parser(known: Mapping[str, type[Runtime]]) -> argparse.ArgumentParser:
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
        type=_names(known),
        default=("fastdigit", "onnxruntime"),
        metavar="NAME,...",
        help=f"of {', '.join(known)}; or all: every one that can run here "
        "(default: fastdigit,onnxruntime)",
    )
    for option, default, what in (
        ("--batch", (1, 8, 64, 512), "batch sizes"),
        ("--threads", (1,), "numbers of threads"),
    ):
        parser.add_argument(
            option,
            type=_positive_list,
            default=default,
            metavar="N,...",
            help=f"{what} (default: {','.join(map(str, default))})",
        )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="turns of each runtime")
    parser.add_argument("--quick", action="store_true", help="a short run, for a first impression")
    parser.add_argument(
        "--data",
        choices=tuple(DATA),
        default="digits",
        help="real digits, or uniform noise, to see how much speed depends on the data",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE (-: stdout)")
    parser.add_argument("--model", type=Path, metavar="FILE", help=".fdm file (default: shipped)")
    parser.add_argument(
        "--onnx",
        type=Path,
        action="append",
        metavar="FILE",
        help="the network that --model was compiled from; several times: other exports of it, "
        "each runtime takes its fastest",
    )
    for option, readers in (("--keras", "tensorflow and litert"), ("--tflite", "litert")):
        parser.add_argument(option, type=Path, metavar="FILE", help=f"the same for {readers}")
    parser.add_argument(
        "--no-parity", action="store_true", help="don't compare results with ONNX Runtime"
    )
    return parser


def _names(known: Mapping[str, type[Runtime]]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        unknown = [name for name in chosen if name not in known]
        if unknown and chosen != ("all",):
            raise argparse.ArgumentTypeError(
                f"unknown runtime {', '.join(unknown)}; known are {', '.join(known)}, and all"
            )
        return chosen

    return names


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _positive_list(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


if __name__ == "__main__":
    sys.exit(main())

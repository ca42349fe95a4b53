"""``fastdigit compile``: from a model of another library to a verified ``.fdm`` file."""

from __future__ import annotations

import argparse
import warnings
from fractions import Fraction
from pathlib import Path

import fastdigit
from fastdigit.commands import common
from fastdigit.commands.names import read_names
from fastdigit.compiler.backends.c import emit_c
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.files import write_whole
from fastdigit.compiler.frontends import FRONT_ENDS, source_files
from fastdigit.compiler.inputs import InputRange
from fastdigit.compiler.ops import PRECISIONS
from fastdigit.errors import pip_install

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _sources()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    # Required: what follows --input-range is sorted out below.
    add("source", type=Path, nargs="?", help=source_files())
    common.add_architecture(parser)
    add("-o", "--output", type=Path, help="default: the source's name with .fdm")
    add("--name", help="stored in the file (default: the source's)")
    add(
        "--classes",
        metavar="A,B,...",
        help="a name for each output, or @FILE: the names in a file, one a line "
        "(default: 0,1,...); with --ctc-blank, letters will do: 0123456789ABC",
    )
    add(
        "--ctc-blank",
        metavar="INDEX",
        type=int,
        help="of a network that reads text (CTC): which class stands for nothing, -1 for the last "
        "(Keras' ctc_batch_cost), 0 for the first (PyTorch's CTCLoss)",
    )
    common.add_choice(parser)
    add(
        "--input-range",
        metavar=("LOW", "HIGH"),
        nargs="+",
        default=["auto"],
        help="of the inputs; or none: all finite values; or auto, the default: 0 255 if the "
        "network begins with x / 255 or the like, else 0 1, and bytes",
    )
    for option, what in (
        ("--mean", "the network was trained on (x * SCALE - MEAN) / STD: the model takes x"),
        ("--std", "one number, or one for each channel, with commas"),
        ("--scale", "numbers may be fractions such as 1/255"),
    ):
        add(option, metavar="A,B,...", type=_numbers, help=what)
    add("--precision", choices=PRECISIONS, default="fp32", help="of wide dense layers")
    add("--emit", choices=("fdm", "c"), default="fdm", help="c: C11 source, OUTPUT and its header")
    add("--temperature", type=float, default=1.0, help="of the softmax: calibrates probabilities")
    add("--no-compact", action="store_true", help="keep units and channels that change nothing")
    common.add_samples(parser)
    common.add_limits(parser)
    add("-v", "--verbose", action="store_true", help="print what each pass did, and the program")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    input_range = _input_range(options, parser)
    output = options.output or _default_output(options.source, f".{options.emit}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is assumed of inputs is printed below
        result = fastdigit.compile(
            options.source,
            output if options.emit == "fdm" else None,
            architecture=options.architecture,
            name=options.name,
            **common.choice_of(options),
            classes=_classes(options),
            ctc_blank=options.ctc_blank,
            input_range=input_range,
            mean=options.mean,
            std=options.std,
            scale=options.scale,
            precision=options.precision,
            temperature=options.temperature,
            compact=not options.no_compact,
            limits=common.limits_of(options),
            **common.samples_of(options),
        )
    if options.verbose:
        for step in result.steps:
            print(f"{step.name}: {step.operators} operators")
            for line in step.changes:
                print(f"  {line}")
        print()
        print(result.listing())
        print()
    for taken in result.takes:
        print(f"inputs: {taken}")
    common.print_verification(result.verification)
    if options.emit == "c":
        emitted = emit_c(unpack(result.data), output.stem)
        write_whole(output, emitted.source.encode("ascii"))
        write_whole(output.with_suffix(".h"), emitted.header.encode("ascii"))
        print(f"{output}, {output.stem}.h: {emitted.scratch:,} floats of scratch memory")
        return 0
    print(f"{output}: {len(result.data):,} bytes")
    return 0


def _sources() -> str:
    lines = ["What is read, and what the result is held against before it is written:"]
    for known in FRONT_ENDS:
        lines += [
            f"  {known.title}: {known.summary}",
            f"    held against {known.verified_by}; needs: {pip_install(known.extra)}",
        ]
    return "\n".join(lines)


def _numbers(text: str) -> list[float]:
    try:
        return [float(Fraction(part)) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers with commas between them"
        ) from None


def _input_range(options: argparse.Namespace, parser: argparse.ArgumentParser) -> InputRange:
    """The range that was given. A source behind it was taken for a part of it, and is put back."""
    given = list(options.input_range)
    if options.source is None:
        if len(given) not in (2, 3):
            parser.error("the following arguments are required: source")
        options.source = Path(given.pop())
    if given == ["auto"]:
        return "auto"
    if given == ["none"]:
        return None
    try:
        low, high = map(float, given)
    except ValueError:
        parser.error(
            f"argument --input-range: {' '.join(given)}, expected two numbers, none or auto"
        )
    return low, high


def _classes(options: argparse.Namespace) -> list[str] | None:
    text: str | None = options.classes
    if not text:
        return None
    if text.startswith("@") and len(text) > 1:
        return read_names(Path(text[1:]))
    # What the steps of a text are classified as is commonly a letter each.
    return list(text) if options.ctc_blank is not None and "," not in text else text.split(",")


def _default_output(source: Path, suffix: str) -> Path:
    if source.is_dir():  # its name may have a dot that begins no suffix
        return source.parent / f"{source.resolve().name}{suffix}"
    return source.with_suffix(suffix)

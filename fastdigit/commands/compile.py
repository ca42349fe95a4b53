"""``fastdigit compile``: from a model of another library to a verified ``.fdm`` file."""

from __future__ import annotations

import argparse
from pathlib import Path

import fastdigit
from fastdigit.commands import common
from fastdigit.compiler.backends.c import emit_c
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.frontends import FRONT_ENDS, source_files
from fastdigit.compiler.ops import PRECISIONS
from fastdigit.errors import pip_install

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _sources()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("source", type=Path, help=source_files())
    add("-o", "--output", type=Path, help="default: the source's name with .fdm")
    add("--name", help="stored in the file (default: the source's)")
    add(
        "--classes",
        metavar="A,B,...",
        help="a name for each output, or @FILE: the names in a file, one a line (default: 0,1,...)",
    )
    add(
        "--input-range",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        default=(0.0, 1.0),
        help="of the inputs (default: 0 1, and bytes)",
    )
    add("--precision", choices=PRECISIONS, default="fp32", help="of wide dense layers")
    add("--emit", choices=("fdm", "c"), default="fdm", help="c: C11 source, OUTPUT and its header")
    add("--temperature", type=float, default=1.0, help="of the softmax: calibrates probabilities")
    add("--no-compact", action="store_true", help="keep units and channels that change nothing")
    common.add_samples(parser)
    add("-v", "--verbose", action="store_true", help="print what each pass did, and the program")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    output = options.output or _default_output(options.source, f".{options.emit}")
    result = fastdigit.compile(
        options.source,
        output if options.emit == "fdm" else None,
        name=options.name,
        classes=_classes(options.classes),
        input_range=tuple(options.input_range),
        precision=options.precision,
        temperature=options.temperature,
        compact=not options.no_compact,
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
    common.print_verification(result.verification)
    if options.emit == "c":
        emitted = emit_c(unpack(result.data), output.stem)
        output.write_text(emitted.source, encoding="ascii")
        output.with_suffix(".h").write_text(emitted.header, encoding="ascii")
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


def _classes(text: str | None) -> list[str] | None:
    if not text:
        return None
    if text.startswith("@"):
        return Path(text[1:]).read_text(encoding="utf-8").splitlines()
    return text.split(",")


def _default_output(source: Path, suffix: str) -> Path:
    if source.is_dir():  # its name may have a dot that begins no suffix
        return source.parent / f"{source.resolve().name}{suffix}"
    return source.with_suffix(suffix)

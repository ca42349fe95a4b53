"""``fastdigit check``: what of a model the compiler supports, and what not, without compiling."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path

from fastdigit.commands import common
from fastdigit.compiler.check import check_source
from fastdigit.compiler.frontends import ImportOptions, source_files

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help=source_files())
    common.add_architecture(parser)
    common.add_choice(parser)
    parser.add_argument("--json", action="store_true", help="names of all layers too, as JSON")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    choice = ImportOptions(**common.choice_of(options))
    found = check_source(options.source, options.architecture, choice)
    if options.json:
        print(json.dumps({**asdict(found), "compilable": found.compilable}, indent=2))
        return int(not found.compilable)
    print(f"{found.name}: {found.front_end or 'no model that can be read'}")
    for what, ports in (("input", found.inputs), ("output", found.outputs)):
        for name, shape in ports.items():
            text = "of a shape that is not known" if shape is None else "x".join(map(str, shape))
            print(f"  {what} {name!r}: {text}")
    if found.kinds:
        counts = (f"{kind} {number}" for kind, number in found.kinds.items())
        print(f"  read: {', '.join(counts)}")
    if found.compilable:
        print("All of it is supported.")
        return 0
    print(f"Not supported ({len(found.reasons)}):")
    for first, *others in _alike(found.reasons):
        more = f" (and {len(others)} more like this, which --json lists)" if others else ""
        print(f"  {first}{more}")
    return 1


def _alike(reasons: tuple[str, ...]) -> list[list[str]]:
    """Reasons in groups that differ in names alone: an unrolled network has hundreds."""
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        groups.setdefault(re.sub("'[^']*'", "", reason), []).append(reason)
    return list(groups.values())

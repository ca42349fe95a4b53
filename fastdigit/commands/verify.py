"""``fastdigit verify``: a ``.fdm`` file against its source, again."""

from __future__ import annotations

import argparse
from pathlib import Path

import fastdigit
from fastdigit.commands import common

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .fdm file")
    parser.add_argument("source", type=Path, help="what it was compiled from")
    common.add_architecture(parser)
    common.add_samples(parser)
    common.add_limits(parser)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    found = fastdigit.verify(
        options.model,
        options.source,
        architecture=options.architecture,
        limits=common.limits_of(options),
        **common.samples_of(options),
    )
    common.print_verification(found)
    print(f"{options.model} computes what {options.source} does")
    return 0

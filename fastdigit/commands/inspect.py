"""``fastdigit inspect``: what a ``.fdm`` file holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import listing, unpack

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .fdm file")
    parser.add_argument("--json", action="store_true", help="META and sizes as JSON")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    program = unpack(options.model.read_bytes())
    info = fastdigit.load(options.model).info()
    sizes = {
        "file_bytes": program.size,
        "weight_bytes": sum(program.weight_bytes),
        "multiply_adds": info["multiply_adds"],
        "context_bytes": info["context_bytes"],
    }
    if options.json:
        print(json.dumps({"meta": program.meta, **sizes}, indent=2))
        return 0
    print(listing(program))
    print()
    print(
        f"{sizes['multiply_adds']:,} multiply-adds an image are computed; "
        f"{sizes['context_bytes']:,} bytes of scratch memory a thread (arena and packing)"
    )
    print()
    for key, value in program.meta.items():
        print(f"{key:14s} {json.dumps(value)}")
    return 0

"""``fastdigit inspect``: what a ``.fdm`` file holds, and how it is computed on this CPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import fastdigit
from fastdigit.commands import common
from fastdigit.compiler import listing, unpack
from fastdigit.model import SHIPPED_MODELS, shipped_file

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=f"a .fdm file, or {' or '.join(SHIPPED_MODELS)}")
    common.add_limits(parser)
    parser.add_argument("--json", action="store_true", help="META, sizes and plan as JSON")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    # The engine reads it first: it is the one that trusts nothing.
    path = shipped_file(options.model) if options.model in SHIPPED_MODELS else options.model
    model = fastdigit.load(path, limits=common.limits_of(options))
    program = unpack(Path(path).read_bytes())
    info, plan = model.info(), model.plan()
    sizes = {
        "file_bytes": program.size,
        "weight_bytes": sum(program.weight_bytes),
        "multiply_adds": info["multiply_adds"],
        "context_bytes": info["context_bytes"],
    }
    if options.json:
        found = {"meta": program.meta, **sizes, "isa": info["isa"], "plan": plan}
        found["usage"] = info["usage"]
        print(json.dumps(found, indent=2))
        return 0
    print(listing(program))
    print()
    print(f"as planned for {info['isa']}:")
    print(_table(plan))
    print()
    print(
        f"{sizes['multiply_adds']:,} multiply-adds an image are computed; "
        f"{sizes['context_bytes']:,} bytes of scratch memory a thread (arena and packing)"
    )
    print()
    for name, value in info["usage"].items():
        print(f"{name:14s} {value:,}")
    print()
    for key, value in program.meta.items():
        print(f"{_plain(key):14s} {json.dumps(value)}")
    return 0


def _plain(key: str) -> str:
    """A key of META, without what a terminal would take for commands."""
    return key if key.isprintable() else json.dumps(key)


def _table(plan: list[dict[str, Any]]) -> str:
    """Return one line an op: kernel, algorithm, multiply-adds executed, bytes of weights read."""
    rows = [("layer", "kernel", "algorithm", "executed", "weights", "scratch")]
    for op in plan:
        numbers = (f"{op[name]:,}" for name in ("executed", "weight_bytes", "scratch_bytes"))
        rows.append((op["label"], op["kernel"], op["algorithm"], *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )

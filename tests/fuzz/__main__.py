"""``python -m tests.fuzz [--minutes N] [TARGET...]``: what ``make fuzz`` runs.

Fails if something was found; the input is kept in build/fuzz/TARGET, as are those of interest.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.corpora import keep
from tests.fuzz.engines import NAMES, chosen, fuzz, has_atheris
from tests.support import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--minutes", type=float, default=2.0, help="of all of them together")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument(
        "--keep", action="store_true", help="write what is of most interest to tests/fuzz/corpora"
    )
    options = parser.parse_args()
    for name in options.targets:
        if name not in NAMES:
            parser.error(f"there is no target {name!r}; there are {', '.join(NAMES)}")
    names = options.targets or NAMES
    seconds = max(1, round(60 * options.minutes / len(names)))
    if not has_atheris():
        print("Atheris is not installed: the targets in Python go by chance, not by coverage")
    failed = False
    for name in names:
        folder = ROOT / "build/fuzz" / name
        outcome = fuzz(name, seconds, folder, options.seed)
        print(
            f"{name:8s} {outcome.executions:10,} inputs in {seconds} s, "
            f"{outcome.executions / seconds:8,.0f} a second, coverage {outcome.coverage or '-'}",
            flush=True,
        )
        if options.keep:
            keep(name, chosen(name, folder))
        if outcome.found:
            failed = True
            print(outcome.said[-6000:])
            print(f"{name}: found {', '.join(str(path) for path in outcome.found)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

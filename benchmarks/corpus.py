"""Model files that people have: which `fastdigit compile` takes, and what it says of the rest.

    python -m benchmarks.corpus DIR --report runs/corpus.json

Every model file below DIR is compiled by a process of its own, into a folder that is thrown away.
``corpus.tsv`` lists such files in public repositories, each with its commit, digest and the options
that it needs; the files themselves belong to others, and are not in this repository. A file of DIR
that has the path of the column ``name`` gets the options of its row.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastdigit
from fastdigit.cli import ERROR, NOT_VERIFIED

__all__ = ["KINDS", "STATES", "Outcome", "classify", "find", "main", "read_list", "reason"]

LIST: Final = Path(__file__).with_name("corpus.tsv")
SAVED_MODEL: Final = "saved_model.pb"

#: Kind of a file by its suffix; a SavedModel is the directory of its `saved_model.pb`.
KINDS: Final = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    SAVED_MODEL: "savedmodel",
}

#: What becomes of a file. `wrong`: the verification failed; `crashed`: a traceback, a signal, or no
#: end within the limit.
STATES: Final = ("taken", "refused", "wrong", "crashed")

#: Characters of a reason that tell it from others, and of a message that are printed: the whole is
#: in the JSON.
REASON: Final = 120
PRINTED: Final = 400


@dataclass(frozen=True)
class Row:
    """What the list has about a file."""

    sha256: str
    options: str


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes
    ----------
    name
        Its path below the corpus.
    message
        What the compiler said: its one line, or all of it where it says more.
    """

    kind: str
    name: str
    state: str
    seconds: float
    message: str


def read_list(path: Path = LIST) -> dict[str, Row]:
    """Read the list: by name, without the files that only lie beside a model."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {
            _model_of(row["name"]): Row(row["sha256"], row["options"])
            for row in rows
            if row["kind"] != "beside"
        }


def find(folder: Path) -> Iterator[tuple[str, Path]]:
    """Find the model files below a folder.

    Yields
    ------
    kind, path
        By kind, then by path; of a SavedModel its directory.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for kind in dict.fromkeys(KINDS.values()):
        for path in files:
            if kind == KINDS.get(path.name) or kind == KINDS.get(path.suffix.lower()):
                yield kind, Path(_model_of(str(path)))


def classify(status: int | None, errors: str) -> str:
    """Name what became of a file: one of `STATES`.

    Parameters
    ----------
    status
        Exit status of the command; None if it did not end in time.
    errors
        What it wrote to stderr. A traceback ends with the status of a failed verification, too.
    """
    if "Traceback (most recent call last)" in errors:
        return "crashed"
    states: dict[int | None, str] = {0: "taken", ERROR: "refused", NOT_VERIFIED: "wrong"}
    return states.get(status, "crashed")


def reason(outcome: Outcome) -> str:
    """Strip the first line of a message of what differs from file to file."""
    text = outcome.message.partition("\n")[0]
    text = re.sub(r"^fastdigit( compile)?: (error: )?", "", text)
    text = re.sub(rf"\S*{re.escape(Path(outcome.name).name)}", "FILE", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    return re.sub(r"(?<![A-Za-z\d])\d[\d.e+-]*\b", "N", text)[:REASON]


def compile_one(kind: str, path: Path, name: str, options: str, limit: float) -> Outcome:
    """Compile a file by a process of its own."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        extra = [word.format(folder=path.parent) for word in shlex.split(options)]
        command = [sys.executable, "-m", "fastdigit.cli", "compile", str(path)]
        status: int | None = None
        try:
            done = subprocess.run(
                [*command, "-o", f"{folder}/out.fdm", *extra],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=limit,
            )
            status, output, errors = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            output, errors = "", f"no end within {limit:g} s"
    state = classify(status, errors)
    message = output if state == "taken" else _said(errors) or f"ended with status {status}"
    return Outcome(kind, name, state, round(time.perf_counter() - start, 2), message.strip())


def report(outcomes: list[Outcome]) -> dict[str, object]:
    """Make the JSON report."""
    counts: dict[str, dict[str, float]] = {}
    for kind, group in _by_kind(outcomes).items():
        counts[kind] = {state: sum(outcome.state == state for outcome in group) for state in STATES}
        counts[kind]["seconds"] = round(sum(outcome.seconds for outcome in group), 2)
    return {
        "fastdigit": fastdigit.__version__,
        "counts": counts,
        "files": [asdict(outcome) for outcome in outcomes],
    }


def print_report(outcomes: list[Outcome], console: Console) -> None:
    """Print a table of the kinds, then what was not taken, by reason."""
    table = Table("kind", "files", *STATES, "median s", "greatest s")
    for column in table.columns[1:]:
        column.justify = "right"
    groups = _by_kind(outcomes)
    for kind, group in {**groups, "all": outcomes}.items():
        seconds = sorted(outcome.seconds for outcome in group)
        states = [str(sum(outcome.state == state for outcome in group)) for state in STATES]
        times = (f"{seconds[len(seconds) // 2]:.1f}", f"{seconds[-1]:.1f}") if seconds else ()
        table.add_row(kind, str(len(group)), *states, *times)
    console.print(table)
    for kind, group in groups.items():
        reasons: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in group:
            if outcome.state != "taken":
                reasons[outcome.state, reason(outcome)].append(outcome)
        for (state, text), found in sorted(reasons.items(), key=lambda item: -len(item[1])):
            console.print(f"\n{kind}, {state}, {len(found)}: {text}", markup=False, soft_wrap=True)
            for outcome in found:
                lines = outcome.message.splitlines()
                more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
                line = f"  {outcome.name}\n    {lines[0][:PRINTED]}{more}"
                console.print(line, markup=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 if a file is wrong or crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("corpus", metavar="DIR", type=Path, help="a folder of model files")
    add("--report", metavar="FILE", type=Path, help="write what became of each file, as JSON")
    add("--list", metavar="TSV", type=Path, default=LIST, help="default: corpus.tsv beside this")
    add("--kinds", default="", help="of these kinds only, such as onnx,h5 (default: all)")
    add("--limit", type=float, default=120.0, help="seconds for a file (default: 120)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    listed = read_list(options.list)
    known = set(KINDS.values())
    kinds = set(options.kinds.split(",")) if options.kinds else known
    if not kinds <= known:
        parser.error(f"--kinds {options.kinds}: expected of {', '.join(sorted(known))}")
    models = [(kind, path) for kind, path in find(options.corpus) if kind in kinds]
    outcomes: list[Outcome] = []
    for kind, path in track(models, "compiling", console=Console(stderr=True)):
        name = path.relative_to(options.corpus).as_posix()
        row = listed.get(name)
        if row and row.sha256 != _digest(path):
            console.print(f"{name} is another file than the listed one", soft_wrap=True)
        outcome = compile_one(kind, path, name, row.options if row else "", options.limit)
        outcomes.append(outcome)
        if options.report:  # after each file: a long run may be interrupted
            options.report.write_text(json.dumps(report(outcomes), indent=1) + "\n")
    print_report(outcomes, console)
    return int(any(outcome.state in ("wrong", "crashed") for outcome in outcomes))


def _model_of(file: str) -> str:
    """The path of a model by that of its file: the directory for a SavedModel."""
    return file.removesuffix(f"/{SAVED_MODEL}")


def _digest(path: Path) -> str:
    file = path / SAVED_MODEL if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _said(errors: str) -> str:
    """What the command itself said on stderr: other libraries write there before it."""
    start = errors.rfind("\nfastdigit compile: ") + 1
    own = errors[start:]
    return own if own.startswith("fastdigit compile: ") else errors.strip().rpartition("\n")[2]


def _by_kind(outcomes: list[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.kind].append(outcome)
    return groups


if __name__ == "__main__":
    sys.exit(main())

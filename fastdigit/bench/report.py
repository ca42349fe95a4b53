"""The results, for people (rich tables) and for programs (JSON, schema in docs/benchmarking.md)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from fastdigit.bench.machine import Machine
from fastdigit.bench.runtimes import require
from fastdigit.bench.scenarios import SUBJECT, TOLERANCE, Measurement, Results

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["SCHEMA", "console", "print_report", "to_json", "verdict"]

SCHEMA = "fastdigit-bench/1"

# Verdicts on a relative interquartile range.
STEADY, SOME_NOISE, NOISY = "steady", "some noise", "noisy"
STEADY_UP_TO = 0.03
SOME_NOISE_UP_TO = 0.10

BUSY = 0.5  # load average a CPU above which the machine was doing something else
BURNT = 0.010  # idle CPU seconds between turns worth a remark


def verdict(relative_spread: float) -> str:
    """Say in a word what an interquartile range (as a fraction of the median) means."""
    if relative_spread <= STEADY_UP_TO:
        return STEADY
    return SOME_NOISE if relative_spread <= SOME_NOISE_UP_TO else NOISY


def to_json(
    results: Results, machine: Machine, versions: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return everything as JSON-serialisable data; `versions` of all known runtimes, by name."""
    settings = results.settings
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "runtimes": {
            name: {"version": version, "installed": version is not None}
            for name, version in versions.items()
        },
        "settings": {
            "batches": list(settings.batches),
            "threads": list(settings.threads),
            "rounds": settings.rounds,
            "warmup_seconds": settings.warmup,
            "budget_seconds": settings.budget,
            "gap_seconds": settings.gap,
            "checked": settings.check,
            "data": results.data,
            "cpus": {str(threads): cpus for threads, cpus in results.cpus.items()},
        },
        "measurements": [_measurement(results, m) for m in results.measurements],
        "parity": {
            "tolerance": TOLERANCE,
            "subject": SUBJECT,
            "passed": not results.parity_failed() if settings.check else None,
            "runtimes": [
                {
                    "runtime": p.runtime,
                    "threads": p.threads,
                    "batch": p.batch,
                    "images": p.agreement.images,
                    "accuracy": p.accuracy,
                    "label_disagreements": p.agreement.disagreements,
                    "max_difference": _finite(p.agreement.max_difference),
                    "passed": p.agreement.passed,
                }
                for p in results.parity
            ],
        },
        "failures": [
            {
                "runtime": f.runtime,
                "threads": f.threads,
                "batch": f.batch,
                "kind": f.kind,
                "final": f.final,
                "message": f.message,
            }
            for f in results.failures
        ],
    }


def _measurement(results: Results, m: Measurement) -> dict[str, Any]:
    summary = m.summary
    ratio = results.ratio(m)
    return {
        "runtime": m.runtime,
        "batch": m.batch,
        "threads": m.threads,
        "variant": m.prepared.variant,
        "variants_ns": m.prepared.nanoseconds,
        "variants_rejected": m.prepared.rejected,
        "threads_placed": m.prepared.threads_placed,
        "median_ns": summary.rounds.median,
        "lower_quartile_ns": summary.rounds.lower,
        "upper_quartile_ns": summary.rounds.upper,
        "min_ns": summary.minimum,
        "p99_ns": summary.p99,
        "calls": summary.calls,
        "images_per_second": _images_per_second(m),
        "spread": summary.rounds.relative,
        "verdict": verdict(summary.rounds.relative),
        "ratio": None
        if ratio is None
        else {"median": ratio.median, "lower_quartile": ratio.lower, "upper_quartile": ratio.upper},
        "check": None
        if m.agreement is None
        else {
            "images": m.agreement.images,
            "label_disagreements": m.agreement.disagreements,
            "max_difference": m.agreement.max_difference,
        },
        "rounds": [
            {
                "median_ns": turn.median,
                "min_ns": int(turn.nanoseconds.min()),
                "max_ns": int(turn.nanoseconds.max()),
                "calls": int(turn.nanoseconds.size),
                "idle_cpu_seconds": turn.idle_cpu,
                "preemptions": turn.preemptions,
            }
            for turn in m.turns
        ],
    }


def console(file: IO[str]) -> Console:
    """Return a rich console that writes to `file`; `MissingExtraError` without rich."""
    made: Console = require("rich.console", "bench").Console(file=file, highlight=False)
    return made


def print_report(
    results: Results, machine: Machine, versions: Mapping[str, str | None], to: Console
) -> None:
    """Print the whole report."""
    _print_machine(machine, versions, results, to)
    for threads in results.settings.threads:
        _print_times(results, threads, to)
    _print_notes(results, machine, to)
    _print_failures(results, to)
    _print_parity(results, to)


def _print_machine(
    machine: Machine, versions: Mapping[str, str | None], results: Results, to: Console
) -> None:
    quota = machine["cpu_quota"]
    load = machine["load_average"]
    to.print(
        f"[bold]{machine['cpu']}[/bold], {machine['cpus']} CPUs"
        + (f" (quota {quota:g})" if quota is not None else "")
        + f", fastdigit uses {machine['isa']}"
        + (f", load average {load:.2f}" if load is not None else "")
    )
    to.print(
        f"{machine['system']} {machine['architecture']}, Python {machine['python']}, "
        f"NumPy {machine['numpy']}"
    )
    asked = {m.runtime for m in results.measurements} | {f.runtime for f in results.failures}
    for heading, names in (
        ("Runtimes", [name for name in versions if name in asked]),
        ("Installed, not asked for", [n for n in versions if versions[n] and n not in asked]),
        ("Not installed", [name for name in versions if versions[name] is None]),
    ):
        if names:
            listed = (f"{name} {versions[name] or ''}".rstrip() for name in names)
            to.print(f"{heading}: {', '.join(listed)}")


def _print_times(results: Results, threads: int, to: Console) -> None:
    from rich import box
    from rich.table import Table

    measured = [m for m in results.measurements if m.threads == threads]
    if not measured:
        return
    cpus = ", ".join(map(str, results.cpus[threads]))
    table = Table(
        title=f"{results.data}, {threads} thread{'s' * (threads > 1)} on CPU {cpus}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    headings = ("batch", "runtime", "µs/call", "min", "p99", "µs/image", "images/s", "spread")
    for heading in (*headings, "ratio"):
        table.add_column(heading, justify="left" if heading == "runtime" else "right", no_wrap=True)
    for m, next_ in zip(measured, [*measured[1:], None], strict=True):
        summary = m.summary
        spread = summary.rounds.relative
        ratio = results.ratio(m)
        table.add_row(
            str(m.batch),
            f"[bold]{m.runtime}[/bold]" if m.runtime == SUBJECT else m.runtime,
            _microseconds(summary.rounds.median),
            _microseconds(summary.minimum),
            _microseconds(summary.p99),
            _microseconds(summary.rounds.median / m.batch),
            f"{_images_per_second(m):,.0f}",
            f"[red]{spread:.0%}[/red]" if verdict(spread) == NOISY else f"{spread:.1%}",
            "" if ratio is None else f"{ratio.median:.2f}x",
            end_section=next_ is not None and next_.batch != m.batch,
        )
    to.print()
    to.print(table)


def _print_notes(results: Results, machine: Machine, to: Console) -> None:
    if not results.measurements:
        return
    to.print()
    to.print(
        f"µs/call: median over {results.settings.rounds} interleaved rounds of the median call; "
        f"min, p99: of all calls; spread: interquartile range of the rounds' medians; ratio: "
        f"median over the rounds of the runtime's time divided by {SUBJECT}'s in the same round."
    )
    worst = max(m.summary.rounds.relative for m in results.measurements)
    advice = {
        STEADY: "the machine was quiet",
        SOME_NOISE: "trust the ratios more than the times",
        NOISY: "something else was using the machine; repeat the run on a quiet one",
    }[verdict(worst)]
    to.print(f"Noise: {verdict(worst)}, spread up to {worst:.1%}: {advice}.")
    load = machine["load_average"]
    if load is not None and load > BUSY * machine["cpus"]:
        to.print(
            f"The machine was already busy before the run: load average {load:.2f} on "
            f"{machine['cpus']} CPUs."
        )
    for line in _remarks(results):
        to.print(line, markup=False)


def _remarks(results: Results) -> list[str]:
    """Say once for each runtime what a reader should know beside its times."""
    chosen: dict[str, dict[str, list[str]]] = {}
    rejected: dict[str, str] = {}
    burnt: dict[str, float] = {}
    unplaced: dict[str, None] = {}
    for m in results.measurements:
        where = f"{m.batch}" if m.threads == 1 else f"{m.batch} on {m.threads} threads"
        if m.prepared.nanoseconds:
            variants = chosen.setdefault(m.runtime, {})
            variants.setdefault(m.prepared.variant, []).append(where)
        for label, why in m.prepared.rejected.items():
            rejected[f"{m.runtime} did not use {label}"] = why
        idle = statistics.median(turn.idle_cpu for turn in m.turns)
        if idle > BURNT:
            key = f"{m.runtime}, {m.threads} threads"
            burnt[key] = max(idle, burnt.get(key, 0.0))
        if m.threads > 1 and not m.prepared.threads_placed:
            unplaced[m.runtime] = None
    remarks = []
    for runtime, variants in chosen.items():
        at = "; ".join(f"{label} at batch {', '.join(w)}" for label, w in variants.items())
        remarks.append(f"{runtime} ran the fastest of its variants: {at}.")
    remarks += [f"{what}: {why}" for what, why in rejected.items()]
    remarks += [
        f"{who} used {seconds * 1e3:.0f} ms of CPU time after a turn, while idle."
        for who, seconds in burnt.items()
    ]
    if unplaced:
        remarks.append(f"Threads left to the scheduler: {', '.join(unplaced)}.")
    return remarks


def _print_failures(results: Results, to: Console) -> None:
    from rich.text import Text

    batches: dict[tuple[str, str, str], list[str]] = {}
    for f in results.failures:
        where = f"batch {f.batch}" + " and from then on" * f.final
        batches.setdefault((f.runtime, f.kind, f.message), []).append(where)
    for (runtime, kind, message), places in batches.items():
        what = {"wrong": "wrong results, so not timed", "failed": "failed"}[kind]
        head = f"{runtime} ({', '.join(dict.fromkeys(places))}): {what}: "
        to.print(Text.assemble((head, "red"), message))


def _print_parity(results: Results, to: Console) -> None:
    from rich.table import Table

    to.print()
    if not results.settings.check:
        to.print("Results were not compared with ONNX Runtime (--no-parity).")
        return
    if results.parity:
        images = results.parity[0].agreement.images
        table = Table(
            title=f"All {images:,} images, compared with ONNX Runtime",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("runtime")
        for heading in ("accuracy", "labels that differ", "largest difference"):
            table.add_column(heading, justify="right")
        for p in results.parity:
            table.add_row(
                p.runtime,
                "-" if p.accuracy is None else f"{p.accuracy:.2%}",
                str(p.agreement.disagreements),
                f"{p.agreement.max_difference:.1e}",
                style="" if p.agreement.passed else "red",
            )
        to.print(table)
    rule = f"same labels, probabilities within {TOLERANCE:g}"
    if results.parity_failed():
        to.print(f"[bold red]Parity FAILED[/bold red]: {SUBJECT} must give the {rule}.")
    elif any(p.runtime == SUBJECT for p in results.parity):
        to.print(f"[bold green]Parity holds[/bold green]: {rule}.")


def _microseconds(nanoseconds: float) -> str:
    microseconds = nanoseconds / 1e3
    return f"{microseconds:,.1f}" if microseconds < 1000 else f"{microseconds:,.0f}"


def _images_per_second(m: Measurement) -> float:
    return m.batch / m.summary.rounds.median * 1e9


def _finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it."""
    return value if value == value and abs(value) != float("inf") else None

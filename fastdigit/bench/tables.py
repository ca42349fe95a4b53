"""The results for people: tables, and what a reader should know beside them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

from fastdigit.bench.adapter import require
from fastdigit.bench.layers import Profile
from fastdigit.bench.machine import Machine
from fastdigit.bench.measure import NOISY, SOME_NOISE, STEADY, verdict
from fastdigit.bench.report import gflops, layer_rows
from fastdigit.bench.results import VALUES, Results
from fastdigit.bench.roofline import QUIET, Roofline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "print_layers", "print_report"]

BUSY = 0.5  # load average a CPU above which the machine was doing something else
BURNT = 0.010  # idle CPU seconds between turns worth a remark


def console(file: IO[str]) -> Console:
    """Return a rich console that writes to `file`; `MissingExtraError` without rich."""
    made: Console = require("rich.console", "bench").Console(file=file, highlight=False)
    return made


def print_report(
    results: Results, machine: Machine, versions: Mapping[str, str | None], to: Console
) -> None:
    """Print the whole report."""
    _print_machine(machine, to)
    _print_runtimes(versions, results, to)
    if results.roofline is not None:
        _print_roofline(results.roofline, to)
    for threads in results.settings.threads:
        _print_times(results, threads, to)
    _print_notes(results, machine, to)
    _print_failures(results, to)
    _print_parity(results, to)


def _print_machine(machine: Machine, to: Console) -> None:
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


def _print_runtimes(versions: Mapping[str, str | None], results: Results, to: Console) -> None:
    asked = {m.runtime for m in results.measurements} | {f.runtime for f in results.failures}
    for heading, names in (
        ("Runtimes", [name for name in versions if name in asked]),
        ("Installed, not asked for", [n for n in versions if versions[n] and n not in asked]),
        ("Not installed", [name for name in versions if versions[name] is None]),
    ):
        if names:
            listed = (f"{name} {versions[name] or ''}".rstrip() for name in names)
            to.print(f"{heading}: {', '.join(listed)}")


def _print_roofline(roofline: Roofline, to: Console) -> None:
    floats, integers, *levels = roofline.ceilings
    reading = ", ".join(f"{level.name} {level.best:.0f}" for level in levels)
    to.print(
        f"One core at its best, {roofline.isa}: {floats.best:.0f} GFLOP/s of multiply-adds, "
        f"{integers.best:.0f} GOP/s of 8-bit ones; reads {reading} GB/s"
        + (" (cache sizes assumed)" if roofline.caches_from == "assumed" else "")
    )
    lost = ", ".join(f"{c.name} {c.loss:.0%}" for c in roofline.ceilings)
    state = roofline.state
    colour = "green" if state == QUIET else "red"
    to.print(
        f"The machine was [bold {colour}]{state}[/bold {colour}]: a quarter of "
        f"{roofline.samples} samples during the run were below the best by {lost} or more"
    )


def _print_times(results: Results, threads: int, to: Console) -> None:
    measured = [m for m in results.measurements if m.threads == threads]
    if not measured:
        return
    cpus = ", ".join(map(str, results.cpus[threads]))
    table = _table(f"{results.data}, {threads} thread{'s' * (threads > 1)} on CPU {cpus}")
    with_accuracy = any(m.accuracy is not None for m in measured)
    # With an accuracy, a narrow terminal has no room for everything.
    headings = ["batch", "runtime", "µs/call", "p99", "µs/image", "spread", "ratio", "accuracy"]
    if not with_accuracy:
        headings = [*headings[:3], "min", *headings[3:5], "images/s", *headings[5:-1]]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "runtime" else "right", no_wrap=True)
    for m, next_ in zip(measured, [*measured[1:], None], strict=True):
        summary = m.summary
        spread = summary.rounds.relative
        ratio = results.ratio(m)
        cells = {
            "batch": str(m.batch),
            "runtime": f"[bold]{m.runtime}[/bold]" if m.runtime == results.subject else m.runtime,
            "µs/call": _microseconds(summary.rounds.median),
            "min": _microseconds(summary.minimum),
            "p99": _microseconds(summary.p99),
            "µs/image": _microseconds(summary.rounds.median / m.batch),
            "images/s": f"{m.images_per_second:,.0f}",
            "spread": f"[red]{spread:.0%}[/red]" if verdict(spread) == NOISY else f"{spread:.1%}",
            "ratio": "" if ratio is None else f"{ratio.median:.2f}x",
            "accuracy": "" if m.accuracy is None else f"{m.accuracy:.2%}",
        }
        table.add_row(
            *(cells[heading] for heading in headings),
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
        f"median over the rounds of its time divided by {results.subject}'s in the same round."
    )
    for note in results.notes:
        to.print(note, markup=False)
    worst = max(m.summary.rounds.relative for m in results.measurements)
    advice = {
        STEADY: "times and ratios can be trusted",
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
    tolerance, subject = results.settings.tolerance, results.subject
    if tolerance == VALUES:
        rule = f"values within {tolerance.difference:g}"
    elif tolerance.labels:
        rule = f"at most {tolerance.labels:.0%} of the labels differ"
    else:
        rule = f"same labels, probabilities within {tolerance.difference:g}"
    if results.parity_failed():
        to.print(f"[bold red]Parity FAILED[/bold red] for {subject}; expected: {rule}.")
    elif any(p.runtime == subject for p in results.parity):
        to.print(f"[bold green]Parity holds[/bold green]: {rule}.")


def print_layers(
    profiles: Sequence[Profile], roofline: Roofline, machine: Machine, data: str, to: Console
) -> None:
    """Print a table of layers for each batch size."""
    _print_machine(machine, to)
    _print_roofline(roofline, to)
    for profile in profiles:
        to.print()
        to.print(_layer_table(profile, roofline, data))
    to.print()
    to.print(
        "F(mxm,rxr) is Winograd's algorithm. µs: median for an image. MMAC: million multiply-adds "
        "of an image by the layer's definition, without outputs that pooling never reads; in "
        "brackets those that the algorithm executes, for Winograd the products without the "
        "transforms. GFLOP/s: by definition. kB: weights read in a call, transformed ones for "
        "Winograd. Limit, µs: the greater of the time for the executed multiply-adds at the peak "
        "rate (FMA of floats, INT8 of bytes), and the time to read the weights once a call from "
        "the nearest level that holds all layers' weights; share: of the limit in the time; "
        "the total of the times is the median of totals, not the total of medians."
    )
    zeros = next((p for p in profiles if any(x.nonzero is not None for x in p.layers)), None)
    if zeros is not None:
        shares = ", ".join(
            f"{layer.nonzero:.0%}" for layer in zeros.layers if layer.nonzero is not None
        )
        to.print(
            f"With a single image, dense layers need only the weights of inputs that are not zero: "
            f"{shares} of them, which is what multiply-adds in brackets, kB and limit count."
        )


def _layer_table(profile: Profile, roofline: Roofline, data: str) -> Table:
    table = _table(f"{data}, batch {profile.batch}, one thread")
    table.add_column("layer", no_wrap=True)
    for heading in ("output", "µs", "MMAC", "GFLOP/s", "kB", "limit", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = layer_rows(profile, roofline)
    for layer, time, least, bound_by in rows:
        rate = gflops(layer, time)
        executed = f" ({layer.executed / 1e6:.2f})" * (layer.executed != layer.multiply_adds)
        table.add_row(
            layer.name.replace(layer.name.split()[-1], layer.algorithm)
            if layer.algorithm.startswith("F")
            else layer.name,
            "x".join(map(str, layer.output_shape)),
            _layer_time(time.median),
            f"{layer.multiply_adds / 1e6:.2f}{executed}" if layer.multiply_adds else "",
            "" if rate is None else f"{rate:.0f}",
            f"{layer.weight_bytes / 1e3:,.0f}" if layer.weight_bytes else "",
            f"{_layer_time(least)} {bound_by}" if bound_by else "",
            f"{least / time.median:.0%}" if bound_by else "",
            end_section=layer is profile.layers[-1],
        )
    least, total = sum(row[2] for row in rows), profile.total.median
    table.add_row(
        "total",
        "",
        _layer_time(total),
        f"{sum(layer.multiply_adds for layer in profile.layers) / 1e6:.2f}",
        f"{sum(2 * layer.multiply_adds for layer in profile.layers) / total:.0f}",
        f"{sum(layer.weight_bytes for layer in profile.layers) / 1e3:,.0f}",
        _layer_time(least) + " " * 4,
        f"{least / total:.0%}",
        style="bold",
    )
    return table


def _layer_time(nanoseconds: float) -> str:
    """Microseconds in three digits, so that slow machines' tables are as narrow as fast ones'."""
    return f"{nanoseconds / 1e3:.{2 if nanoseconds < 9995 else 1}f}"


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )


def _microseconds(nanoseconds: float) -> str:
    microseconds = nanoseconds / 1e3
    return f"{microseconds:,.1f}" if microseconds < 1000 else f"{microseconds:,.0f}"

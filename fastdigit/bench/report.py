"""The results, for people (rich tables) and for programs (JSON, schema in docs/benchmarking.md)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from fastdigit.bench.layers import Layer, Profile, limit
from fastdigit.bench.machine import Machine
from fastdigit.bench.measure import Spread
from fastdigit.bench.roofline import FMA, INT8, QUIET, Roofline
from fastdigit.bench.runtimes import require
from fastdigit.bench.scenarios import Measurement, Results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "SCHEMA",
    "console",
    "layers_to_json",
    "print_layers",
    "print_report",
    "to_json",
    "verdict",
]

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
            "images_checked": settings.sample,
            "data": results.data,
            "cpus": {str(threads): cpus for threads, cpus in results.cpus.items()},
        },
        "notes": results.notes,
        "roofline": _roofline(results.roofline),
        "measurements": [_measurement(results, m) for m in results.measurements],
        "parity": {
            "tolerance": settings.tolerance.difference,
            "tolerance_labels": settings.tolerance.labels,
            "subject": results.subject,
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
        "accuracy": m.accuracy,
        "ratio": None if ratio is None else _spread(ratio),
        "check": None
        if m.agreement is None
        else {
            "images": m.agreement.images,
            "label_disagreements": m.agreement.disagreements,
            "max_difference": _finite(m.agreement.max_difference),
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


def layers_to_json(
    profiles: Sequence[Profile], roofline: Roofline, machine: Machine, data: str
) -> dict[str, Any]:
    """Return the layers' profiles as JSON-serialisable data."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "data": data,
        "roofline": _roofline(roofline),
        "layers": [_profile(profile, roofline) for profile in profiles],
    }


def _profile(profile: Profile, roofline: Roofline) -> dict[str, Any]:
    rows = _rows(profile, roofline)
    return {
        "batch": profile.batch,
        "total_ns": _spread(profile.total),
        "limit_ns": sum(least for _, _, least, _ in rows),
        "ops": [
            {
                "name": layer.name,
                "algorithm": layer.algorithm,
                "input_shape": list(layer.input_shape),
                "output_shape": list(layer.output_shape),
                "time_ns": _spread(time),
                "multiply_adds": layer.multiply_adds,
                "multiply_adds_executed": layer.executed,
                "weight_bytes": layer.weight_bytes,
                "nonzero": layer.nonzero,
                "gflops": _gflops(layer, time),
                "limit_ns": least,
                "bound_by": bound_by,
            }
            for layer, time, least, bound_by in rows
        ],
    }


def _rows(profile: Profile, roofline: Roofline) -> list[tuple[Layer, Spread, float, str]]:
    """List the layers with their time, their limit and what that is due to; times an image."""
    model_bytes = sum(layer.weight_bytes for layer in profile.layers)
    rows = []
    for layer, time in zip(profile.layers, profile.times, strict=True):
        least = limit(layer, profile.batch, model_bytes, roofline)
        rows.append((layer, time, least.nanoseconds, least.bound_by if layer.multiply_adds else ""))
    return rows


def _roofline(roofline: Roofline | None) -> dict[str, Any] | None:
    if roofline is None:
        return None
    return {
        "isa": roofline.isa,
        "state": roofline.state,
        "caches_from": roofline.caches_from,
        "samples": roofline.samples,
        "ceilings": [
            {
                "name": c.name,
                "unit": {FMA: "GFLOP/s", INT8: "GOP/s"}.get(c.name, "GB/s"),
                "cache_bytes": c.size,
                "best": c.best,
                "median": c.median,
                "lower_quartile": c.lower,
            }
            for c in roofline.ceilings
        ],
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "lower_quartile": spread.lower, "upper_quartile": spread.upper}


def _gflops(layer: Layer, time: Spread) -> float | None:
    """Return the rate of operations as the layer defines them, None if it has none."""
    return 2 * layer.multiply_adds / time.median if layer.multiply_adds else None


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
            "images/s": f"{_images_per_second(m):,.0f}",
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
    rule = (
        f"at most {tolerance.labels:.0%} of the labels differ"
        if tolerance.labels
        else f"same labels, probabilities within {tolerance.difference:g}"
    )
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
        "the nearest level that holds all layers' weights; share: of the limit in the time."
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
    rows = _rows(profile, roofline)
    for layer, time, least, bound_by in rows:
        gflops = _gflops(layer, time)
        executed = f" ({layer.executed / 1e6:.2f})" * (layer.executed != layer.multiply_adds)
        table.add_row(
            layer.name.replace(layer.name.split()[-1], layer.algorithm)
            if layer.algorithm.startswith("F")
            else layer.name,
            "x".join(map(str, layer.output_shape)),
            _layer_time(time.median),
            f"{layer.multiply_adds / 1e6:.2f}{executed}" if layer.multiply_adds else "",
            "" if gflops is None else f"{gflops:.0f}",
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


def _images_per_second(m: Measurement) -> float:
    return m.batch / m.summary.rounds.median * 1e9


def _finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it."""
    return value if value == value and abs(value) != float("inf") else None

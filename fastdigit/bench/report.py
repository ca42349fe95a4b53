"""The results for programs: what ``--json`` writes; docs/benchmarking.md has the schema.

For people there are :mod:`~fastdigit.bench.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastdigit.bench.layers import Layer, Profile, limit
from fastdigit.bench.machine import Machine
from fastdigit.bench.measure import Spread, verdict
from fastdigit.bench.results import Measurement, Results
from fastdigit.bench.roofline import FMA, INT8, Roofline

__all__ = ["SCHEMA", "gflops", "layer_rows", "layers_to_json", "to_json"]

SCHEMA = "fastdigit-bench/1"


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
        "images_per_second": m.images_per_second,
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
    rows = layer_rows(profile, roofline)
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
                "gflops": gflops(layer, time),
                "limit_ns": least,
                "bound_by": bound_by,
            }
            for layer, time, least, bound_by in rows
        ],
    }


def layer_rows(profile: Profile, roofline: Roofline) -> list[tuple[Layer, Spread, float, str]]:
    """List the layers with their time, their limit and what that is due to; times an image."""
    model_bytes = sum(layer.weight_bytes for layer in profile.layers)
    rows = []
    for layer, time in zip(profile.layers, profile.times, strict=True):
        least = limit(layer, profile.batch, model_bytes, roofline)
        rows.append((layer, time, least.nanoseconds, least.bound_by if layer.multiply_adds else ""))
    return rows


def gflops(layer: Layer, time: Spread) -> float | None:
    """Return the rate of operations as the layer defines them, None if it has none."""
    return 2 * layer.multiply_adds / time.median if layer.multiply_adds else None


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


def _finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it."""
    return value if value == value and abs(value) != float("inf") else None

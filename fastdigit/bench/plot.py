"""Draws what ``fastdigit-bench --json`` wrote: ``python -m fastdigit.bench.plot run.json run.svg``.

A run becomes bars of the time an image takes, for each runtime and batch size; a run with
``--layers`` becomes bars of each layer's time and limit; several of these, one a network, become
the shares of the limit that each kind of layer reaches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdigit.bench.adapter import require
from fastdigit.bench.report import SCHEMA
from fastdigit.errors import FastDigitError, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["main", "plot", "plot_shares"]

OWN, OTHERS, LIMIT = "#c1440e", "#9aa5b1", "#2f3b47"
WIDTH, PANEL_HEIGHT, BAR_HEIGHT = 8.0, 0.9, 0.26  # inches


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 with a message on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdigit.bench.plot",
        description="Draw the figures that fastdigit-bench --json wrote.",
    )
    parser.add_argument(
        "figures",
        type=Path,
        nargs="+",
        help="JSON file, with or without --layers; or several with --layers",
    )
    parser.add_argument("picture", type=Path, help="file to write; .svg, .png or .pdf")
    options = parser.parse_args(arguments)
    try:
        figures = [_read(path) for path in options.figures]
        # Neither dates nor random identifiers: the same figures give the same file.
        metadata = {"Date": None} if options.picture.suffix == ".svg" else None
        settings = {"svg.hashsalt": "fastdigit", "font.size": 9}
        with require("matplotlib", "bench-peers").rc_context(settings):
            picture = plot(figures[0]) if len(figures) == 1 else plot_shares(figures)
            picture.savefig(options.picture, metadata=metadata)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"fastdigit.bench.plot: {error}", file=sys.stderr)
        return 2
    return 0


def plot(figures: Mapping[str, Any]) -> Figure:
    """Draw a report.

    Parameters
    ----------
    figures
        The JSON report; the schema is in docs/benchmarking.md.

    Raises
    ------
    InputError
        It holds nothing that was measured.
    MissingExtraError
        matplotlib is not installed.
    """
    figure: Figure = require("matplotlib.figure", "bench-peers").Figure(layout="constrained")
    if figures.get("layers"):
        _plot_layers(figure, figures)
    elif figures.get("measurements"):
        _plot_runtimes(figure, figures)
    else:
        raise InputError("the report holds no measurements to draw")
    return figure


def plot_shares(networks: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw which share of their limit the layers of several networks reach, by kind.

    Parameters
    ----------
    networks
        JSON reports with ``--layers``, one a network, of the same machine.

    Raises
    ------
    InputError
        One holds no layers, or was measured with other instructions than the first.
    MissingExtraError
        matplotlib is not installed.
    """
    for figures in networks:
        if not figures.get("layers"):
            raise InputError("of several reports, each must be of --layers")
        if any(figures["machine"][key] != networks[0]["machine"][key] for key in ("cpu", "isa")):
            raise InputError("the reports are not of one CPU, with the same instructions")
    panels: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for figures in networks:
        for profile in figures["layers"]:
            for op in profile["ops"]:
                if not op["bound_by"] or not op["limit_ns"]:
                    continue
                kinds = panels.setdefault(profile["batch"], {})
                kinds.setdefault(_kind(op), []).append((op["limit_ns"], op["time_ns"]["median"]))
    figure: Figure = require("matplotlib.figure", "bench-peers").Figure(layout="constrained")
    bars = sum(map(len, panels.values()))
    figure.set_size_inches(WIDTH, len(panels) * PANEL_HEIGHT + bars * BAR_HEIGHT * 1.2)
    heights = [len(kinds) + PANEL_HEIGHT / BAR_HEIGHT / 2 for kinds in panels.values()]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (batch, kinds) in zip(axes, sorted(panels.items()), strict=True):
        every = sum(time for layers in kinds.values() for _, time in layers)
        names = sorted(kinds, key=lambda kind: -sum(time for _, time in kinds[kind]))
        for place, name in enumerate(names):
            limit, time = map(sum, zip(*kinds[name], strict=True))
            ax.barh(place, limit / time, color=OWN, height=0.7)
            shares = [limit_ / time_ for limit_, time_ in kinds[name]]
            ax.plot(shares, [place] * len(shares), "|", color=LIMIT, markersize=7)
            count = f"{len(shares)} layer{'s' * (len(shares) > 1)}"
            text = f"{limit / time:.0%}  ({count}, {time / every:.0%} of the time)"
            ax.text(1.03, place, text, va="center")
        ax.set_yticks(range(len(names)), names)
        ax.axvline(1, color=LIMIT, linewidth=0.8)
        ax.set_title(f"batch {batch}", loc="left")
        _finish(ax, 1.2)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes[-1].set_xlabel("share of the limit: all layers of a kind (bar), each of them (mark)")
    machine = networks[0]["machine"]
    title = f"{machine['cpu']}, {machine['isa']}; {len(networks)} networks, one thread"
    figure.suptitle(title, fontsize=9)
    return figure


def _kind(op: Mapping[str, Any]) -> str:
    name, algorithm = op["name"], op["algorithm"]
    if algorithm.startswith(("F(", "depthwise", "grouped")):
        return f"conv, {algorithm}"
    if name.startswith("conv 1x1"):
        return "conv 1x1"
    return "conv, direct" if algorithm else str(name).split(",")[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        figures = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(figures, dict) or figures.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is not a report of schema {SCHEMA}; fastdigit-bench --json makes one"
        )
    return figures


def _plot_runtimes(figure: Figure, figures: Mapping[str, Any]) -> None:
    measurements = figures["measurements"]
    subject = figures["parity"]["subject"]
    panels: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for m in measurements:
        panels.setdefault((m["threads"], m["batch"]), []).append(m)
    bars = sum(map(len, panels.values()))
    figure.set_size_inches(WIDTH, len(panels) * PANEL_HEIGHT + bars * BAR_HEIGHT)
    heights = [len(panel) + PANEL_HEIGHT / BAR_HEIGHT / 2 for panel in panels.values()]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, ((threads, batch), panel) in zip(axes, panels.items(), strict=True):
        panel = sorted(panel, key=lambda m: m["median_ns"])
        names = [m["runtime"] for m in panel]
        times = [m["median_ns"] / batch / 1e3 for m in panel]
        errors = [
            [(m["median_ns"] - m["lower_quartile_ns"]) / batch / 1e3 for m in panel],
            [(m["upper_quartile_ns"] - m["median_ns"]) / batch / 1e3 for m in panel],
        ]
        colours = [OWN if name == subject else OTHERS for name in names]
        drawn = ax.barh(names, times, xerr=errors, color=colours, height=0.7, ecolor=LIMIT)
        labels = [
            f"{time:.0f}"
            + ("" if m["ratio"] is None else f"  ({m['ratio']['median']:.2f}x)")
            + ("" if m["accuracy"] is None else f"  {m['accuracy']:.2%}")
            for time, m in zip(times, panel, strict=True)
        ]
        ax.bar_label(drawn, labels, padding=4)
        ax.set_title(f"batch {batch}, {threads} thread{'s' * (threads > 1)}", loc="left")
        _finish(ax, max(times))
    axes[-1].set_xlabel("µs per image, less is better")
    figure.suptitle(_title(figures), fontsize=9)


def _plot_layers(figure: Figure, figures: Mapping[str, Any]) -> None:
    profiles = figures["layers"]
    bars = sum(len(profile["ops"]) for profile in profiles)
    figure.set_size_inches(WIDTH, len(profiles) * PANEL_HEIGHT + bars * BAR_HEIGHT * 1.2)
    heights = [len(p["ops"]) + PANEL_HEIGHT / BAR_HEIGHT / 2 for p in profiles]
    axes = figure.subplots(len(profiles), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, profile in zip(axes, profiles, strict=True):
        ops = profile["ops"]
        places = list(range(len(ops)))
        times = [op["time_ns"]["median"] / 1e3 for op in ops]
        limits = [op["limit_ns"] / 1e3 for op in ops]
        drawn = ax.barh(places, times, color=OWN, height=0.7, label="time")
        ax.barh(places, limits, color=LIMIT, height=0.25, label="limit")
        labels = [
            f"{time:.2f}" + (f"  ({limit / time:.0%}, {op['bound_by']})" if op["bound_by"] else "")
            for time, limit, op in zip(times, limits, ops, strict=True)
        ]
        ax.bar_label(drawn, labels, padding=4)
        ax.set_yticks(places, [f"{op['name']} {op['algorithm']}".rstrip() for op in ops])
        total = profile["total_ns"]["median"] / 1e3
        share = profile["limit_ns"] / 1e3 / total
        ax.set_title(
            f"batch {profile['batch']}: {total:.1f} µs per image, {share:.0%} of the limit",
            loc="left",
        )
        _finish(ax, max(times))
    axes[0].legend(loc="lower right", frameon=False)
    axes[-1].set_xlabel("µs per image, one thread")
    figure.suptitle(_title(figures), fontsize=9)


def _finish(ax: Axes, longest: float) -> None:
    ax.invert_yaxis()
    ax.set_xlim(0, longest * 1.3)  # room for the labels
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _title(figures: Mapping[str, Any]) -> str:
    machine, roofline = figures["machine"], figures["roofline"]
    state = f", the machine was {roofline['state']}" if roofline else ""
    return f"{machine['cpu']}, {machine['isa']}{state}"


if __name__ == "__main__":
    sys.exit(main())

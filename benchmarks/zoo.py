"""Networks of many kinds (networks.py), compiled, verified, and timed beside the other runtimes.

    python -m benchmarks.zoo --output runs/zoo            # all networks, all runtimes installed
    python -m benchmarks.zoo --networks lenet5,mlp --runtimes fastdigit,onnxruntime

Each network is built by Keras with random weights (its time does not depend on what it has
learnt, but for zeros that fastdigit skips in dense layers), converted by tf2onnx, compiled with
verification, and given to ``fastdigit-bench`` with uniform noise. The table at the end has the
ratio of every runtime's time to fastdigit's, and the geometric mean of the best peer's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastdigit
from benchmarks.networks import NETWORKS
from fastdigit.bench import cli as bench
from fastdigit.errors import FastDigitError

__all__ = ["NETWORKS", "main"]

BATCHES = (1, 8, 64)
SUBJECT, REFERENCE = "fastdigit", "onnxruntime"

#: tf2onnx lets the first state of an LSTM depend on the batch, which the ONNX front end refuses.
COMPILED_FROM_KERAS = frozenset({"captcha"})


def build(name: str, folder: Path) -> dict[str, Path]:
    """Make a network: ``NAME.keras``, ``NAME.onnx`` and a verified ``NAME.fdm`` in `folder`."""
    import keras

    from export.to_onnx import convert_nhwc

    keras.utils.set_random_seed(1)
    model = NETWORKS[name]()
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, size),
                    random.normal(0, 0.2, size),
                    random.normal(0, 0.2, size),
                    random.uniform(0.5, 1.5, size),
                ]
            )
    files = {suffix: folder / f"{name}.{suffix}" for suffix in ("keras", "onnx", "fdm")}
    model.save(files["keras"])
    files["onnx"].write_bytes(convert_nhwc(model).SerializeToString())
    source = files["keras" if name in COMPILED_FROM_KERAS else "onnx"]
    result = fastdigit.compile(source, files["fdm"], name=name)
    print(f"{name}: {model.count_params():,} parameters, error {result.verification.max_error:.1e}")
    return files


def measure(files: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Run ``fastdigit-bench`` on a network; its JSON."""
    output = files["fdm"].with_suffix(".json")
    arguments = ["--model", str(files["fdm"]), "--onnx", str(files["onnx"])]
    arguments += ["--keras", str(files["keras"]), "--data", "noise", "--json", str(output)]
    arguments += ["--batch", ",".join(map(str, BATCHES)), "--runtimes", options.runtimes]
    if options.quick:
        arguments.append("--quick")
    status = bench.main(arguments)
    if status not in (0, bench.OTHER_ERROR):  # a peer that failed is listed as such
        raise FastDigitError(f"fastdigit-bench ended with status {status}")
    figures: dict[str, Any] = json.loads(output.read_text())
    return figures


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: time of fastdigit and ratio of every other runtime, by network and batch."""
    peers = sorted(
        {m["runtime"] for figures in results.values() for m in figures["measurements"]} - {SUBJECT}
    )
    lines = [
        "| network | batch | µs an image | " + " | ".join(peers) + " | best peer |",
        "|---|---:|---:|" + "---:|" * (len(peers) + 1),
    ]
    best: dict[int, list[float]] = {}
    for name, figures in results.items():
        for batch in BATCHES:
            found = {m["runtime"]: m for m in figures["measurements"] if m["batch"] == batch}
            if SUBJECT not in found:
                lines.append(f"| {name} | {batch} | failed |" + " |" * (len(peers) + 1))
                continue
            ratios = {peer: found[peer]["ratio"]["median"] for peer in peers if peer in found}
            least = min(ratios.values(), default=math.nan)
            best.setdefault(batch, []).append(least)
            cells = [f"{ratios[peer]:.2f}" if peer in ratios else "failed" for peer in peers]
            time = found[SUBJECT]["median_ns"] / 1000 / batch
            lines.append(
                f"| {name} | {batch} | {time:.1f} | " + " | ".join(cells) + f" | {least:.2f} |"
            )
    for batch, ratios_ in best.items():
        mean = math.exp(sum(map(math.log, ratios_)) / len(ratios_))
        lines.append(f"| geometric mean | {batch} | |" + " |" * len(peers) + f" {mean:.2f} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 after an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--networks", default=",".join(NETWORKS), help="default: all")
    add("--runtimes", default="all", help="as for fastdigit-bench")
    add("--output", type=Path, default=Path("runs/zoo"), help="a folder for its files")
    add("--quick", action="store_true", help="a short run, for a first impression")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    results = {}
    try:
        for name in options.networks.split(","):
            if name not in NETWORKS:
                raise FastDigitError(f"no network {name!r}, expected of {', '.join(NETWORKS)}")
            results[name] = measure(build(name, options.output), options)
    except (FastDigitError, OSError) as error:
        print(f"benchmarks.zoo: {error}", file=sys.stderr)
        return 1
    text = "\n".join(table(results))
    (options.output / "zoo.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

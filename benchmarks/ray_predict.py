"""Images per second of `fastdigit.ray.predict` by workers, and of what comes before it, on one CPU.

    python benchmarks/ray_predict.py --images 200000 --workers 1 2

Everything is measured in turns with the model alone, in this process and one thread, on the same
blocks: ratios are to that, medians over the rounds, with the least and the greatest. The clock of a
run on Ray starts when the first block is there, so that starting processes does not count.
docs/scaling.md works with the figures.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import ray
import ray.data
from PIL import Image
from ray.data import DataContext
from ray.data.extensions import ArrowTensorArray

import fastdigit
import fastdigit.ray
from fastdigit import datasets


def rate_on_ray(dataset: Any, workers: int) -> float:
    labelled = fastdigit.ray.predict(dataset, workers=workers)
    start, rows = 0.0, 0
    for batch in labelled.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        if start:
            rows += len(batch["label"])
        else:
            start = time.perf_counter()
    return rows / (time.perf_counter() - start)


def rate_of(count: int, call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return count / (time.perf_counter() - start)


def before(images: np.ndarray) -> dict[str, Callable[[], object]]:
    """Ways by which the images may come: each reads or decodes all of them."""
    ways: dict[str, Callable[[], object]] = {}
    for kind in ("png", "jpeg"):
        files = []
        for image in images:
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, kind)
            files.append(stream.getvalue())
        size = sum(map(len, files)) / len(files)
        ways[f"{kind}, {size:.0f} bytes"] = partial(decode, files)
    column = pyarrow.array([image.tobytes() for image in images], pyarrow.binary(images[0].size))
    for codec in ("none", "zstd"):
        stream = io.BytesIO()
        table = pyarrow.table({"image": column})
        pyarrow.parquet.write_table(table, stream, compression=codec, use_dictionary=False)
        data = stream.getvalue()
        ways[f"parquet, {codec}, {len(data) / len(images):.0f} bytes"] = partial(read, data)
    return ways


def decode(files: list[bytes]) -> None:
    for file in files:
        np.asarray(Image.open(io.BytesIO(file)))


def read(data: bytes) -> object:
    return pyarrow.parquet.read_table(io.BytesIO(data), use_threads=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--block", type=int, default=2000, help="images a block")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    images = np.resize(datasets.load_mnist_test()[0], (options.images, 28, 28))
    sample = images[:10_000]
    ways = before(sample)
    ray.init(
        num_cpus=max(options.workers),
        object_store_memory=max(4 * images.nbytes, 100 << 20),
        include_dashboard=False,
        log_to_driver=False,
    )
    DataContext.get_current().enable_progress_bars = False
    DataContext.get_current().wait_for_min_actors_s = 300
    blocks = [images[i : i + options.block] for i in range(0, len(images), options.block)]
    dataset = ray.data.from_blocks(
        [pyarrow.table({"image": ArrowTensorArray.from_numpy(block)}) for block in blocks]
    )
    model = fastdigit.load(threads=1)
    alone: list[float] = []
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        alone.append(rate_of(len(images), lambda: [model.predict(block) for block in blocks]))
        for name, way in ways.items():
            rates.setdefault(name, []).append(rate_of(len(sample), way))
        for workers in options.workers:
            rate = rate_on_ray(dataset, workers)
            rates.setdefault(f"Ray, {workers} workers", []).append(rate)
    print(f"{'the model, without Ray':<30} {statistics.median(alone):>10,.0f} images/s")
    for name, found in rates.items():
        ratios = sorted(rate / base for rate, base in zip(found, alone, strict=True))
        print(
            f"{name:<30} {statistics.median(found):>10,.0f} images/s, "
            f"{statistics.median(ratios):5.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    ray.shutdown()


if __name__ == "__main__":
    main()

"""Label every image of Parquet and NumPy files.

    python batch_job.py --out labels digits.parquet more.npy

A .npy file holds an array of shape (N, 28, 28) or (N, 784), uint8 or floats in 0..1; it is mapped,
not read whole. A Parquet file holds a column `image` of lists of 784 numbers, bytes of 784 pixels,
or bytes of PNG or JPEG files. For each input a Parquet file (or .npy, for .npy) of labels and
probabilities appears in the output directory, under its final name only when it is complete.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import fastdigit

BATCH = 4096  # bounds memory; what the engine needs does not grow with it


def numpy_batches(path: Path) -> tuple[int, Iterator[np.ndarray]]:
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return len(images), parts


def parquet_batches(path: Path) -> tuple[int, Iterator[np.ndarray]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    batches = file.iter_batches(BATCH, columns=["image"])
    return file.metadata.num_rows, (images_of(batch.column("image")) for batch in batches)


def images_of(column) -> np.ndarray:
    from pyarrow import types

    if column.null_count:
        raise ValueError("an image is missing")
    if types.is_binary(column.type) or types.is_large_binary(column.type):
        return np.stack([image_of(value.as_py()) for value in column])
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if flat.dtype.kind in "iu":
        if flat.min(initial=0) < 0 or flat.max(initial=0) > 255:
            raise ValueError("a pixel is not in 0..255")
        flat = flat.astype(np.uint8)
    return flat.reshape(len(column), 784)


def image_of(data: bytes) -> np.ndarray:
    if len(data) == 784:
        return np.frombuffer(data, np.uint8).reshape(28, 28)
    return fastdigit.normalize(data)


def write(path: Path, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """All or nothing: a job that is killed leaves no half of a file under the final name."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        if path.suffix == ".npy":
            kind = [("label", "i8"), ("probabilities", "f4", (probabilities.shape[1],))]
            rows = np.empty(len(labels), kind)
            rows["label"], rows["probabilities"] = labels, probabilities
            np.save(file, rows)
        else:
            import pyarrow
            from pyarrow import parquet

            columns = {"label": labels, "probabilities": list(probabilities)}
            parquet.write_table(pyarrow.table(columns), file)
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, help="directory for the labels")
    parser.add_argument("--model", type=Path, help="a .fdm file; default: that of the package")
    parser.add_argument("--threads", default="auto", help="a number, or auto (%(default)s)")
    options = parser.parse_args()
    threads = options.threads if options.threads == "auto" else int(options.threads)
    model = fastdigit.load(options.model, threads=threads)
    options.out.mkdir(parents=True, exist_ok=True)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for path in options.files:
            count, batches = (numpy_batches if path.suffix == ".npy" else parquet_batches)(path)
            task = progress.add_task(path.name, total=count)
            results = [np.empty((0, model.info()["outputs"]), np.float32)]
            for batch in batches:
                results.append(model.predict_proba(batch))
                progress.advance(task, len(batch))
            probabilities = np.concatenate(results)
            write(options.out / path.name, probabilities, model.labels_of(probabilities))


if __name__ == "__main__":
    main()

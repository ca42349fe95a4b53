"""Predictions on a cluster: a Ray Data dataset of images in, one of labels or probabilities out.

>>> import ray
>>> import fastdigit.ray
>>> images = ray.data.read_parquet("s3://bucket/digits")  # a column "image", uint8 (28, 28)
>>> labelled = fastdigit.ray.predict(images)
>>> labelled.write_parquet("s3://bucket/labels")

Needs ``pip install "fastdigit[ray]"`` here and on every node. docs/scaling.md says how far it goes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import InputError, MissingExtraError, pip_install
from fastdigit.model import Model, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ray.data
    from numpy.typing import NDArray

__all__ = ["Predictor", "predict"]

_MISSING: Final = f"Ray Data is not installed: {pip_install('ray')}"


def predict(
    dataset: ray.data.Dataset,
    *,
    column: str = "image",
    label: str | None = "label",
    probabilities: str | None = None,
    keep_images: bool = False,
    model: Model | str | os.PathLike[str] | None = None,
    workers: int | tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> ray.data.Dataset:
    """Run a model on a column of images, in many processes.

    Parameters
    ----------
    dataset
        Its rows have an image each, all of one shape, as :meth:`fastdigit.Model.predict` takes
        them: for the digit classifier ``uint8`` or floats in 0..1 of shape (28, 28), (28, 28, 1) or
        (784,), white on black.
    column
        The name of the column of images.
    label
        The name of the column of labels (int64) to make. None: none.
    probabilities
        The name of the column of probabilities (float32, one a class) to make. None: none.
    keep_images
        Whether the result has the images too. All other columns it has in any case.
    model
        A model, or the path of a ``.fdm`` file on this machine: its bytes travel to the workers.
        None: the classifier that ships with the package, which each worker opens from its own
        installation.
    workers
        How many processes, or the least and the most of them. Each has one CPU and one thread, or
        as many as ``model.threads`` if it is a :class:`fastdigit.Model`. None: from one to as many
        as the cluster has CPUs for.
    batch_size
        Images a call. None: a block of the dataset, which is then read where it lies in Ray's
        shared memory, without a copy.

    Returns
    -------
    ray.data.Dataset
        Lazy, as Ray's are: rows go through it when it is consumed.

    Raises
    ------
    MissingExtraError
        Ray Data is not installed.
    ValueError
        There is nothing to make, or two columns would have one name.
    UnsupportedError
        Probabilities are asked of a network that has none, or labels.

    Notes
    -----
    Images that a worker refuses (:class:`fastdigit.errors.InputError`) fail the execution. A worker
    that dies is started again and the blocks that it had are worked off once more, so that every
    row comes out exactly once. Rows have the same bits wherever they were computed; but machines
    without a fused multiply-add, whose ISA is ``generic``, may differ in the last bits, unless
    ``FASTDIGIT_ISA`` in the ``env_vars`` of Ray's runtime environment makes it ``generic`` for all.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(_MISSING) from error

    columns = [column, *(name for name in (label, probabilities) if name is not None)]
    if len(columns) == 1:
        raise ValueError("label and probabilities are both None: there is nothing to make")
    if len(set(columns)) < len(columns):
        raise ValueError(f"columns would have the same name: {', '.join(columns)}")
    if isinstance(model, str | os.PathLike):
        model = load(model, threads=1)
    if model is not None:
        blank = np.empty((0, *model.input_shape), np.float32)
        if probabilities is not None:
            model.predict_proba(blank)  # an UnsupportedError now, and not in a worker
        if label is not None:
            model.predict(blank)
    threads = 1 if model is None else model.threads
    least, most = _bounds(workers, ray.cluster_resources().get("CPU", 1) // threads)
    return dataset.map_batches(
        Predictor,
        fn_constructor_kwargs={
            "model": model,
            "column": column,
            "label": label,
            "probabilities": probabilities,
            "keep_images": keep_images,
        },
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=threads,
        batch_size=batch_size,
        batch_format="numpy",
        zero_copy_batch=True,
        udf_modifying_row_count=False,
    )


def _bounds(workers: int | tuple[int, int] | None, cpus: float) -> tuple[int, int]:
    if workers is None:
        return 1, max(1, int(cpus))
    least, most = (workers, workers) if isinstance(workers, int) else workers
    if not 1 <= least <= most:
        raise ValueError(f"workers is {workers}, expected at least 1, or (least, most)")
    return least, most


class Predictor:
    """What a worker of :func:`predict` does with a batch: the model stays open between them.

    For ``map_batches`` calls of your own, with ``batch_format="numpy"``. Parameters are those of
    :func:`predict`.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        column: str = "image",
        label: str | None = "label",
        probabilities: str | None = None,
        keep_images: bool = False,
    ) -> None:
        self._model = load(threads=1) if model is None else model
        self._column = column
        self._label = label
        self._probabilities = probabilities
        self._keep_images = keep_images

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the columns asked for.

        Parameters
        ----------
        batch
            Columns by name: ``column`` as (N, ...) images, others as they are.

        Raises
        ------
        InputError
            There is no such column, one that is to be made exists, or the images are not what
            the model takes.
        """
        if self._column not in batch:
            raise InputError(f"there is no column {self._column!r} among {sorted(batch)}")
        images = batch[self._column]
        result = {
            name: values
            for name, values in batch.items()
            if self._keep_images or name != self._column
        }
        made: dict[str, NDArray[Any]] = {}
        if self._probabilities is not None:
            values = self._model.predict_proba(images)
            made[self._probabilities] = values
            if self._label is not None:
                made[self._label] = self._model.labels_of(values)
        elif self._label is not None:
            made[self._label] = self._model.predict(images)
        for name in made:
            if name in batch:
                raise InputError(f"there is a column {name!r} already: give another name")
        return {**result, **made}

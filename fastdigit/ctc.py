"""What networks read that were trained with CTC: captchas, number plates, meters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import InputError

__all__ = ["ctc_names", "decode_ctc"]


@overload
def decode_ctc(
    values: NDArray[Any], *, blank: int, classes: None = None
) -> list[NDArray[np.int64]]: ...
@overload
def decode_ctc(values: NDArray[Any], *, blank: int, classes: Sequence[str]) -> list[str]: ...
def decode_ctc(
    values: NDArray[Any], *, blank: int, classes: Sequence[str] | None = None
) -> list[NDArray[np.int64]] | list[str]:
    """Read what a network says for each step of its images, by the best class of each step.

    Of neighbouring steps with the same class one is kept, and then those of the blank are left out
    (Graves et al., "Connectionist Temporal Classification", 2006, best path decoding).

    Parameters
    ----------
    values
        (N, steps, classes), as :meth:`Model.run <fastdigit.Model.run>` returns it: probabilities,
        their logarithms or logits.
    blank
        Index of the class that stands for nothing: with Keras' ``ctc_batch_cost`` the last, -1;
        with PyTorch's ``CTCLoss``, Keras' ``CTC`` loss and TensorFlow's ``ctc_loss``, by default
        the first, 0.
    classes
        What each class is written as, in order; that of the blank may be missing.

    Returns
    -------
    list
        For each image the classes that are left, as an array, or as text if there are ``classes``.

    Raises
    ------
    InputError
        If ``values`` has another number of axes, holds a NaN, or the blank or the classes do not
        fit it.

    Examples
    --------
    >>> decode_ctc(model.run(images), blank=-1, classes="0123456789")
    ['4711', '0815']
    """
    values = np.asarray(values)
    if values.ndim != 3:
        raise InputError(
            f"values of shape {values.shape}, expected (N, steps, classes), as Model.run returns it"
        )
    count = values.shape[2]
    if not -count <= blank < count:
        raise InputError(f"blank={blank}, expected the index of one of {count} classes")
    if np.isnan(values).any():
        raise InputError("values holds a NaN, which is no best class")
    blank %= count
    names = ctc_names(classes, count, blank)
    best = values.argmax(axis=2)
    kept = best != blank
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    read = [row[keep].astype(np.int64) for row, keep in zip(best, kept, strict=True)]
    return read if names is None else ["".join(names[label] for label in row) for row in read]


def ctc_names(classes: Sequence[str] | None, count: int, blank: int) -> list[str] | None:
    """Return what each of ``count`` classes is written as, the blank as nothing if it has no name.

    Raises
    ------
    InputError
        If there are not as many.
    """
    if classes is None:
        return None
    names = [str(name) for name in classes]
    if len(names) == count - 1:
        names.insert(blank, "")
    if len(names) != count:
        raise InputError(
            f"{len(classes)} classes given, expected {count}, or {count - 1} without the blank"
        )
    return names

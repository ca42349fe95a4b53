"""Which training images are held out for validation.

MNIST's training digits were written by 539 people, none of whom wrote test digits. A random split
puts digits of the same writer on both sides and flatters the validation; where the writers are
known, whole writers are held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.recipes import Recipe
from fastdigit.errors import FastDigitError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["held_out", "read_writers"]

#: Seed of the random split where the writers are not known: the same for every seed of a recipe.
SPLIT_SEED = 28


def read_writers(path: Path, images: int) -> npt.NDArray[np.bool_]:
    """Read which of the training images are held out, by writer.

    Parameters
    ----------
    path
        ``.npz`` file with ``train_writer`` (an integer for each training image) and
        ``suggested_val_mask`` (bool for each training image).
    images
        How many training images there are.

    Raises
    ------
    FastDigitError
        The file can't be read, is of other images, or has a writer on both sides.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            writer, mask = file["train_writer"], file["suggested_val_mask"]
    except (OSError, ValueError, KeyError) as error:
        raise FastDigitError(f"can't read writers from {path}: {error}") from error
    if writer.shape != (images,) or mask.shape != (images,) or mask.dtype != bool:
        raise FastDigitError(
            f"{path} has writers of shape {writer.shape} and a mask of {mask.dtype} "
            f"{mask.shape}, expected one of each for {images} training images"
        )
    both = np.intersect1d(writer[mask], writer[~mask])
    if len(both):
        raise FastDigitError(f"{path}: {len(both)} writers are on both sides of the split")
    return np.asarray(mask)


def held_out(
    recipe: Recipe, images: int, writers: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Say of each training image whether it is held out."""
    mask = np.zeros(images, bool)
    count = int(images * recipe.validation_split)
    if recipe.validation == "end":
        mask[images - count :] = True
    elif writers is not None:
        mask |= writers
    else:
        mask[np.random.default_rng(SPLIT_SEED).permutation(images)[:count]] = True
    return mask

"""Images to quantise with: never those that accuracy is measured on, as they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastdigit.bench.arrays import FloatArray
from fastdigit.datasets import cache_directory, load_mnist, load_mnist_test

__all__ = ["augment", "calibration_digits"]

COUNT = 512
MAX_SHIFT = 3  # pixels
MAX_SHEAR = 0.25  # pixels a row


def calibration_digits(directory: Path | None, count: int = COUNT) -> tuple[FloatArray, str]:
    """Return digits to calibrate with, and where they come from.

    Training digits, if `directory`, the directory in ``FASTDIGIT_DATA`` or the cache holds them;
    nothing is downloaded. Else test digits that were shifted and sheared at random.

    Returns
    -------
    images
        float32 (count, 28, 28, 1) in [0, 1].
    origin
        For people.

    Raises
    ------
    DatasetError
        `directory`, or what ``FASTDIGIT_DATA`` names, has no valid MNIST data.
    """
    cached = (cache_directory() / "mnist.npz").exists()
    random = np.random.default_rng(0)
    if directory or os.environ.get("FASTDIGIT_DATA") or cached:
        (digits, _), _ = load_mnist(directory)
        origin = "training digits"
    else:
        digits, _ = load_mnist_test()
        origin = "test digits, shifted and sheared at random"
    chosen = digits[random.choice(len(digits), count, replace=False)]
    if origin != "training digits":
        chosen = augment(chosen, random)
    return chosen[..., np.newaxis].astype(np.float32) / np.float32(255), f"{count} {origin}"


def augment(images: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Shift each image and shear it sideways, both at random; what leaves it is lost.

    Parameters
    ----------
    images
        uint8 (N, height, width).
    random
        Where chance comes from.
    """
    changed = np.zeros_like(images)
    count, height, width = images.shape
    shifts = random.integers(-MAX_SHIFT, MAX_SHIFT + 1, (count, 2))
    shears = random.uniform(-MAX_SHEAR, MAX_SHEAR, size=(count,))
    for image in range(count):
        down, right = shifts[image]
        for row in range(max(0, down), min(height, height + down)):
            move = int(right + round(shears[image] * (row - height / 2)))
            kept = images[image, row - down, max(0, -move) : width - max(0, move)]
            changed[image, row, max(0, move) : max(0, move) + len(kept)] = kept
    return changed

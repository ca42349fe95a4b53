"""Images that show no digit, to be learned as such.

A classifier that has seen digits alone is sure of anything. Outlier exposure (Hendrycks, Mazeika
and Dietterich 2019) trains it on other images too, with all classes equally probable as the
target. What is drawn here is what a reader of forms meets where nobody has written: empty fields,
their lines, uneven light, the noise of a scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]

__all__ = ["KINDS", "draw_outliers"]

#: Standard deviation of the Gaussian that makes blots of noise, in pixels.
BLOT = (0.7, 4.0)
#: Greatest share of specks among the pixels.
SPECKS = 0.3
#: Greatest distance of a field's line from the edge, and width of the line, in pixels.
MARGIN, LINE = 4, 2


def draw_outliers(n: int, side: int, random: np.random.Generator) -> Images:
    """Draw images of random kinds and random grey levels.

    Parameters
    ----------
    n
        How many.
    side
        Rows and columns.
    random
        Where the randomness comes from; the result is a function of its state.

    Returns
    -------
    ndarray
        float32 of shape (n, side, side), in [0, 1].
    """
    images = np.empty((n, side, side), np.float32)
    kinds = random.integers(len(KINDS), size=n)
    for image, kind in zip(images, kinds, strict=True):
        # What falls outside is black or white, which are more common than any one grey.
        ground, ink = random.uniform(-0.25, 1.25, 2).clip(0, 1)
        image[:] = ground + (ink - ground) * KINDS[kind](side, random)
    return images


def _grey(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.zeros((side, side))


def _ramp(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Light from one side."""
    angle = random.uniform(0, 2 * np.pi)
    position = np.arange(side)
    return _stretched(np.cos(angle) * position[:, None] + np.sin(angle) * position)


def _noise(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    return random.random((side, side))


def _blots(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    from scipy import ndimage

    noise = random.standard_normal((side, side))
    return _stretched(ndimage.gaussian_filter(noise, random.uniform(*BLOT), mode="wrap"))


def _specks(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    return (random.random((side, side)) < random.uniform(0, SPECKS)).astype(np.float64)


def _field(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """The printed lines of a field, some of the four, near the edges."""
    image = np.zeros((side, side))
    width = int(random.integers(1, LINE + 1))
    for turns in np.flatnonzero(random.random(4) < 0.75):
        first = int(random.integers(MARGIN + 1))
        np.rot90(image, turns)[first : first + width] = 1
    return image


def _stretched(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To 0 .. 1."""
    least, greatest = values.min(), values.max()
    return (values - least) / (greatest - least)


KINDS: tuple[Callable[[int, np.random.Generator], npt.NDArray[np.float64]], ...] = (
    _grey,
    _ramp,
    _noise,
    _blots,
    _specks,
    _field,
)

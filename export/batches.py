"""What a training step sees: images, augmented, with soft targets, and some that show no digit.

An epoch's batches are a function of (recipe, data, epoch): batch k draws from a generator seeded
with (seed, epoch, k), so that threads may prepare them in any order and an interrupted run
continues as it would have gone on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from export.augment import augment
from export.outliers import draw_outliers
from export.recipes import Recipe

if TYPE_CHECKING:
    import numpy.typing as npt

    Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

__all__ = ["CLASSES", "Batches", "Teacher", "network_input", "one_hot"]

CLASSES = 10

#: Threads that prepare batches, and how many batches they may be ahead of the training.
THREADS = 2
AHEAD = 4


class Teacher(Protocol):
    """Anything with :meth:`fastdigit.Model.predict_proba`."""

    def predict_proba(self, images: npt.NDArray[np.float32], /) -> npt.NDArray[np.float32]: ...


def network_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn uint8 images (N, 28, 28) into the network's float32 (N, 28, 28, 1) in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def one_hot(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.eye(CLASSES, dtype=np.float32)[labels]


class Batches:
    """The training images of a recipe, epoch by epoch.

    Parameters
    ----------
    recipe
        Says how to augment and what the targets are.
    images, labels
        uint8 of shape (N, 28, 28) and (N,).
    teachers
        Their mean prediction becomes a part of the target; as many as the recipe says.
    pictures
        Images and labels of a collection (:func:`export.pictures.collection.read`), if the recipe
        has them; a label that is no class stands for no digit.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.uint8],
        teachers: Sequence[Teacher] = (),
        pictures: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        if len(teachers) != len(recipe.teachers):
            raise ValueError(f"{len(teachers)} teachers, but the recipe has {len(recipe.teachers)}")
        if (recipe.pictures > 0) != (pictures is not None):
            raise ValueError(
                f"the share of pictures is {recipe.pictures}, but there are "
                f"{'none' if pictures is None else len(pictures[0])}"
            )
        self._recipe = recipe
        self._pictures = pictures
        self._images = images
        self._labels = labels
        self._teachers = tuple(teachers)

    @property
    def steps(self) -> int:
        """Batches an epoch; the last may be smaller."""
        return -(-len(self._images) // self._recipe.batch_size)

    def batch(self, epoch: int, order: npt.NDArray[np.int64], k: int) -> Batch:
        """Batch `k` of an epoch: float32 images (n, 28, 28, 1) and targets (n, 10).

        The images without a digit are the last ones.
        """
        recipe = self._recipe
        chosen = order[k * recipe.batch_size : (k + 1) * recipe.batch_size]
        images, labels = self._images[chosen], self._labels[chosen]
        random = np.random.default_rng([recipe.seed, epoch, k])
        x, y = self._augmented(images, random), self._target(labels)
        if self._teachers:
            taught = np.mean([t.predict_proba(x) for t in self._teachers], axis=0)
            share = np.float32(recipe.distillation)
            y = y * (1 - share) + taught * share
        if self._pictures is not None:
            images, labels = self._pictures
            drawn = random.integers(len(images), size=round(recipe.pictures * len(chosen)))
            x = np.concatenate([x, self._augmented(images[drawn], random)])
            y = np.concatenate([y, self._target(labels[drawn])])
        if others := round(recipe.outliers * len(chosen)):
            shown = draw_outliers(others, x.shape[1], random)[..., np.newaxis]
            x = np.concatenate([x, shown])
            y = np.concatenate([y, np.full((others, CLASSES), 1 / CLASSES, np.float32)])
        return x, y

    def _augmented(
        self, images: npt.NDArray[np.uint8], random: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        if self._recipe.augmentation is None:
            return network_input(images)
        return augment(images, self._recipe.augmentation, random)[..., np.newaxis]

    def _target(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Smoothed labels; all classes alike where the label is none of them."""
        smoothing = np.float32(self._recipe.label_smoothing)
        classes = np.minimum(labels, CLASSES - 1)
        y = one_hot(classes) * (1 - smoothing) + smoothing / np.float32(CLASSES)
        return np.where(labels[:, None] < CLASSES, y, np.float32(1 / CLASSES)).astype(np.float32)

    def epoch(self, epoch: int, order: npt.NDArray[np.int64]) -> Iterator[Batch]:
        """All batches of an epoch, with the images in this order, prepared ahead by threads."""
        with ThreadPoolExecutor(THREADS, "batches") as pool:
            ahead: deque[Future[Batch]] = deque()
            for k in range(self.steps):
                ahead.append(pool.submit(self.batch, epoch, order, k))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

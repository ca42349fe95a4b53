"""Sharpness-aware minimization (Foret et al. 2021): weights whose whole neighbourhood is good.

A step goes up first, by a fixed distance along the gradient, to about the worst point nearby, and
then applies the gradient found *there* to the weights where they were. It costs two passes
instead of one. Batch normalizations see both, and so do their running statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["sharpness_aware"]


def sharpness_aware(
    model: keras.Model, radius: float
) -> Callable[[npt.NDArray[Any], npt.NDArray[Any]], dict[str, float]]:
    """Make a training step of `model` that looks `radius` (in all weights together) around.

    Parameters
    ----------
    model
        Compiled, for the optimizer; the loss is the cross-entropy of its probabilities.
    radius
        Euclidean norm of the step up, over all trainable weights; greater than 0.

    Returns
    -------
    callable
        Takes images and targets, float32, as :meth:`keras.Model.train_on_batch` does. Returns the
        means of ``loss`` and ``accuracy`` over the batch, before the step.
    """
    import keras
    import tensorflow as tf

    weights = [variable.value for variable in model.trainable_variables]

    def gradients(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, predictions))
        return predictions, loss, tape.gradient(loss, weights)

    @tf.function(reduce_retracing=True)
    def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        predictions, loss, slopes = gradients(x, y)
        scale = radius / (tf.linalg.global_norm(slopes) + 1e-12)
        ascents = [slope * scale for slope in slopes]
        for weight, ascent in zip(weights, ascents, strict=True):
            weight.assign_add(ascent)
        _, _, slopes = gradients(x, y)
        for weight, ascent in zip(weights, ascents, strict=True):
            weight.assign_sub(ascent)
        model.optimizer.apply(slopes, model.trainable_variables)
        return loss, tf.reduce_mean(keras.metrics.categorical_accuracy(y, predictions))

    def train(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> dict[str, float]:
        loss, accuracy = step(tf.constant(x), tf.constant(y))
        return {"loss": float(loss), "accuracy": float(accuracy)}

    return train

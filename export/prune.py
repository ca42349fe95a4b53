"""Structured pruning: a network with fewer channels and hidden units, and back to full shape.

:func:`take_strongest` starts a narrow network from the strongest channels and units of a trained
one; it is then trained further. :func:`embed` puts the result back into the full network, with
zeros where nothing is left. Both compute the same function, so the full one is what Keras and ONNX
get, and the compiler removes the zeros again (``remove_dead_units``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.batches import network_input

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["embed", "strongest", "take_strongest"]

#: Layers whose outputs are pruned, each with the layer that reads them.
PRUNED = (("conv1", "conv2"), ("conv2", "conv3"), ("conv3", "dense1"), ("dense1", "dense2"))
NORMALIZATIONS = ("bn2", "bn3")

#: Training images on which the strength of a unit is measured.
SAMPLE = 2000


def strongest(
    model: keras.Model, images: npt.NDArray[np.uint8], widths: tuple[int, ...]
) -> list[npt.NDArray[np.int64]]:
    """Choose the channels and units to keep, by how much their variation can move the next layer.

    The strength of a unit is the standard deviation of its activation over images and positions
    times the Euclidean norm of the weights that read it.

    Parameters
    ----------
    model
        A trained network of :func:`export.recipes.build_model`.
    images
        uint8 of shape (N, 28, 28); the first `SAMPLE` are used.
    widths
        How many to keep after conv1, conv2, conv3 and dense1.

    Returns
    -------
    list of ndarray
        Their indices, ascending, for each of the four layers.
    """
    import keras

    outputs = [model.get_layer(name).output for name, _ in PRUNED]
    probe = keras.Model(model.inputs, outputs)
    activations = probe.predict(network_input(images[:SAMPLE]), batch_size=250, verbose=0)
    kept = []
    for (name, reader), activation, width in zip(PRUNED, activations, widths, strict=True):
        units = activation.shape[-1]
        weights = model.get_layer(reader).kernel.numpy()
        if name == "conv3":  # flattened: a channel is read at every position
            weights = weights.reshape(-1, units, weights.shape[-1])
        axes = (0, 1, 3) if weights.ndim == 4 else (0, 2) if weights.ndim == 3 else (1,)
        norm = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=axes))
        strength = activation.reshape(-1, units).astype(np.float64).std(axis=0) * norm
        kept.append(np.sort(np.argsort(-strength, kind="stable")[:width]))
    return kept


def take_strongest(
    full: keras.Model, narrow: keras.Model, images: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.int64]]:
    """Give `narrow` the weights of the strongest channels and units of `full`; return which."""
    widths = tuple(narrow.get_layer(name).output.shape[-1] for name, _ in PRUNED)
    kept = strongest(full, images, widths)
    for name, weights in _slices(full, kept).items():
        narrow.get_layer(name).set_weights(weights)
    for name in NORMALIZATIONS:
        narrow.get_layer(name).set_weights(full.get_layer(name).get_weights())
    return kept


def _slices(
    model: keras.Model, kept: list[npt.NDArray[np.int64]]
) -> dict[str, list[npt.NDArray[np.float32]]]:
    positions = model.get_layer("dense1").kernel.shape[0] // model.get_layer("conv3").filters
    inputs = [np.array([0]), kept[0], kept[1], _flattened(model, kept[2], positions), kept[3]]
    outputs = [*kept, np.arange(10)]
    names = [name for name, _ in PRUNED] + ["dense2"]
    result = {}
    for name, rows, columns in zip(names, inputs, outputs, strict=True):
        kernel, bias = model.get_layer(name).get_weights()
        result[name] = [kernel[..., rows, :][..., columns], bias[columns]]
    return result


def _flattened(
    model: keras.Model, channels: npt.NDArray[np.int64], positions: int
) -> npt.NDArray[np.int64]:
    """Rows of dense1 that read these channels of conv3."""
    count = model.get_layer("conv3").filters
    return (np.arange(positions)[:, None] * count + channels).ravel()


def embed(narrow: keras.Model, full: keras.Model) -> None:
    """Put the weights of `narrow` into the first channels and units of `full`, zeros elsewhere.

    `full` then computes what `narrow` does: its other units have no weights, neither in nor out,
    and no bias.
    """
    widths = [narrow.get_layer(name).output.shape[-1] for name, _ in PRUNED]
    kept = [np.arange(width) for width in widths]
    positions = full.get_layer("dense1").kernel.shape[0] // full.get_layer("conv3").filters
    inputs = [np.array([0]), kept[0], kept[1], _flattened(full, kept[2], positions), kept[3]]
    outputs = [*kept, np.arange(10)]
    names = [name for name, _ in PRUNED] + ["dense2"]
    for name, rows, columns in zip(names, inputs, outputs, strict=True):
        kernel, bias = (np.zeros_like(weight) for weight in full.get_layer(name).get_weights())
        small_kernel, bias[columns] = narrow.get_layer(name).get_weights()
        kernel[..., rows[:, None], columns] = small_kernel
        full.get_layer(name).set_weights([kernel, bias])
    for name in NORMALIZATIONS:
        full.get_layer(name).set_weights(narrow.get_layer(name).get_weights())

"""Recurrent layers, as every source has them: a product with each step, then the recurrence."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.ir import LINEAR, Activation, Array, Op, Shape
from fastdigit.compiler.ops import Conv2D, Crop, Recurrent, Reshape

__all__ = ["recurrent_layer"]

TANH, SIGMOID = Activation("tanh"), Activation("sigmoid")


def recurrent_layer(
    shape: Shape,
    kind: str,
    kernel: Array,
    weights: Array,
    bias: Array | None = None,
    recurrent_bias: Array | None = None,
    *,
    activation: Activation = TANH,
    gates: Activation = SIGMOID,
    backwards: bool = False,
    sequences: bool = True,
) -> list[Op]:
    """Return the operators of a recurrent layer, of a value (steps, features).

    Parameters
    ----------
    shape
        Of the value.
    kind
        Of :class:`~fastdigit.compiler.ops.Recurrent`, which says what is computed and in which
        order the gates lie, along the last axis of all that follows. It is that of Keras.
    kernel, weights
        (features, gates * units) and (units, gates * units): of the input and of the state.
    bias, recurrent_bias
        (gates * units,): added to the product with the input and to that with the state.
    sequences
        Whether the result is the state of every step, (steps, units), in the order of the input. If
        not, it is the last one, (units,).
    """
    steps, features = shape
    units = len(weights)
    inner = None
    if recurrent_bias is not None:
        # It makes a difference where a gate multiplies what it was added to, and only there.
        moved = np.array(recurrent_bias, np.float64)
        if kind == "gru_reset_after":
            inner = np.where(np.arange(len(moved)) < 2 * units, 0.0, moved)
            moved = moved - inner
        bias = moved if bias is None else bias + moved
    ops: list[Op] = [
        Reshape((1, steps, features)),
        Conv2D(kernel[np.newaxis, np.newaxis], bias),
        Recurrent(
            kind,
            weights,
            inner if inner is not None and inner.any() else None,
            activation,
            LINEAR if kind == "simple" else gates,
            backwards,
        ),
    ]
    if sequences:
        return [*ops, Reshape((steps, units))]
    before, behind = (0, steps - 1) if backwards else (steps - 1, 0)
    return [*ops, Crop(((0, 0), (before, behind), (0, 0))), Reshape((units,))]

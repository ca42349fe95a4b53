"""A smaller Keras model that computes the same: without the units that make no difference.

What the compiler does for fastdigit (``remove_dead_units``), done for everybody else: a network
pruned by zeroing weights becomes one that was built small, so that a comparison with other runtimes
shows what the runtimes do, not who skips zeros. Which units those are, the compiler's pass decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.errors import UnsupportedError

if TYPE_CHECKING:
    import keras

    from fastdigit.compiler.ir import Conv2D, Dense

__all__ = ["compact_model"]


def compact_model(model: keras.Model) -> keras.Model:
    """Build `model` again with fewer channels and hidden units, and the same function.

    Parameters
    ----------
    model
        Sequential, or functional with one path and no models within it; of layers that the compiler
        reads.

    Returns
    -------
    keras.Model
        With layers of the same kinds and names. It is not compiled for training.

    Raises
    ------
    UnsupportedError
        The model is another one; the message names the layer.
    """
    import keras

    from fastdigit.compiler.frontends import import_model
    from fastdigit.compiler.ir import Conv2D, Dense, Graph
    from fastdigit.compiler.passes.remove_dead_units import live_units, remove_dead_units

    graph: Graph = import_model(model).graph
    _, live = live_units(graph)
    # A node is named after its layer, and the mask of its last one is that of the layer's output.
    kept = {node.name: live[node.output] for node in graph.nodes}
    weighted: dict[str, Conv2D | Dense] = {
        node.name: node.op
        for node in remove_dead_units(graph).nodes
        if isinstance(node.op, Conv2D | Dense)
    }

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            raise UnsupportedError(f"layer {layer.name!r} is a model; compact takes plain layers")
        config, name = layer.get_config(), _node_name(layer)
        match type(layer).__name__:
            case "Conv2D" | "Dense" as kind:
                op = weighted[name]
                config["filters" if kind == "Conv2D" else "units"] = op.weights.shape[-1]
                config["use_bias"] = op.bias is not None
            case "Reshape" if len(config["target_shape"]) == 1:
                config["target_shape"] = (-1,)
            case "Rescaling" if np.ndim(layer.scale) or np.ndim(layer.offset):
                raise UnsupportedError(
                    f"layer {layer.name!r} rescales each channel; compact takes one scale for all"
                )
        return type(layer).from_config(config)

    small = keras.models.clone_model(model, clone_function=clone)
    for layer in small.layers:
        name = _node_name(layer)
        if name in weighted:
            layer.set_weights(_weights(weighted[name]))
        elif type(layer).__name__ == "BatchNormalization":
            source = model.get_layer(layer.name)
            axis = source.axis[0] if isinstance(source.axis, list | tuple) else source.axis
            last = axis in (-1, len(source.output.shape) - 1)
            mask = kept[name] if last else np.s_[:]
            layer.set_weights([weight[mask] for weight in source.get_weights()])
        elif layer.weights:
            raise UnsupportedError(f"layer {layer.name!r} has weights that compact doesn't know")
    return small


def _node_name(layer: keras.Layer) -> str:
    """What the compiler's front end calls the operators of a layer."""
    return f"{layer.name!r} ({type(layer).__name__})"


def _weights(op: Conv2D | Dense) -> list[Any]:
    weights = [op.weights] if op.bias is None else [op.weights, op.bias]
    return [array.astype(np.float32) for array in weights]
